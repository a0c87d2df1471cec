"""The protocol: what a transformation is, and the checks that each of them makes."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# A pytree cannot be expressed to a type checker; these names say what it holds.
Params = Any  # pytree of arrays
Updates = Any  # pytree like params
OptState = Any  # pytree of arrays, fixed by `init`

Scalar = float | np.number | Array  # a number, or a scalar array (traced or not)
Schedule = Callable[[Any], Any]  # count i32[] -> f32[]
ScalarOrSchedule = Scalar | Schedule
MaskOrFn = Any  # pytree (or prefix) of bools, or a function params -> such a pytree


class InitFn(Protocol):
    """Makes the state for parameters, of which only shapes and dtypes count."""

    def __call__(self, params: Params, /) -> OptState: ...


class UpdateFn(Protocol):
    """Maps updates and state to new updates and new state."""

    def __call__(
        self,
        updates: Updates,
        state: OptState,
        params: Params | None = None,
        **extra_args: Any,
    ) -> tuple[Updates, OptState]: ...


class _Functions(NamedTuple):
    init: InitFn
    update: UpdateFn


class GradientTransformation(_Functions):
    """A pair of pure functions, `init(params)` and `update(updates, state, params)`.

    `update` ignores extra keyword arguments that it does not know. Works wherever
    Optax's own transformations do, `flax.training.train_state.TrainState` and
    `flax.nnx.Optimizer` included.

    Args:
      init: `params -> state`; runs on arrays, tracers and `jax.ShapeDtypeStruct`s.
      update: `(updates, state, params=None, **extra_args) -> (updates, state)`; keeps
        the structure, shapes and dtypes of both.

    Example:
      >>> tx = adamx.sgd(0.5)
      >>> params = {"w": jnp.ones(2)}
      >>> updates, state = tx.update({"w": jnp.ones(2)}, tx.init(params), params)
      >>> print(updates["w"])
      [-0.5 -0.5]
    """

    __slots__ = ()

    # Optax hands extra arguments only to instances of its own class, and asks with
    # isinstance, which consults `__class__` after the type: answering with Optax's
    # class, once somebody has imported it, lets them through without our importing it.
    @property
    def __class__(self) -> type:
        optax = sys.modules.get("optax")
        return getattr(optax, "GradientTransformationExtraArgs", GradientTransformation)

    # Pickling compares the two classes and would find that they differ.
    def __reduce__(self) -> Any:
        return GradientTransformation, tuple(self)


GradientTransformationExtraArgs = GradientTransformation


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


def init_empty_state(params: Params) -> EmptyState:
    """Makes the state of a transformation that remembers nothing."""
    del params
    return EmptyState()


def is_number(value: Any) -> bool:
    """Whether `value` is a real number of Python or NumPy, which can be validated."""
    kinds = int | float | np.integer | np.floating
    return isinstance(value, kinds) and not isinstance(value, bool)


def check_in(who: str, name: str, value: Any, interval: str) -> None:
    """Raises unless `value` is in `interval`, such as "[0, 1)"; scalar arrays pass."""
    if is_number(value):
        low, high = map(float, interval[1:-1].split(","))
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):
            raise ValueError(f"{who}: expected {name} in {interval}, got {value}.")
    elif not is_real_scalar(value):
        raise TypeError(
            f"{who}: expected {name} as a number in {interval} or a scalar array, got "
            f"{describe(value)}."
        )


def check_all(who: str, interval: str, **values: Any) -> None:
    """Raises unless each of the values is in `interval`, as `check_in` does."""
    for name, value in values.items():
        check_in(who, name, value, interval)


def is_real_scalar(value: Any) -> bool:
    """Whether `value` is a scalar array, traced or not, of a real dtype."""
    return (
        isinstance(value, jax.Array | np.ndarray)
        and np.ndim(value) == 0
        and jnp.issubdtype(value.dtype, jnp.number)
        and not jnp.issubdtype(value.dtype, jnp.complexfloating)
    )


def check_scalar_or_schedule(who: str, name: str, value: Any, interval: str) -> None:
    """Raises unless `value` is a schedule or lies in `interval`."""
    if not callable(value):
        check_in(who, name, value, interval)
    elif isinstance(value, type):
        raise TypeError(f"{who}: expected {name} as a schedule, got the class {value}.")


def check_flag(who: str, name: str, value: Any) -> None:
    """Raises unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{who}: expected {name} as True or False, got {value!r}.")


def check_flags(who: str, **values: Any) -> None:
    """Raises unless each of the values is True or False."""
    for name, value in values.items():
        check_flag(who, name, value)


def check_choice(who: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{who}: expected {name} in {choices}, got {value!r}.")


def storage_dtype(who: str, name: str, dtype: Any, real: bool = False) -> Any:
    """The dtype to keep an array in, or None; raises unless it is floating."""
    if dtype is None:
        return None
    try:
        kept = jax.dtypes.canonicalize_dtype(dtype)
    except TypeError:
        kept = jnp.dtype(bool)
    kind = jnp.floating if real else jnp.inexact
    if not jnp.issubdtype(kept, kind):
        what = "floating" if real else "floating or complex"
        raise TypeError(f"{who}: expected {name} as a {what} dtype, got {dtype!r}.")
    return kept


def check_state(who: str, state: Any, kind: type) -> None:
    """Raises unless `state` has the fields of `kind`; Optax's twin of it has them."""
    if getattr(type(state), "_fields", None) != getattr(kind, "_fields", None):
        raise ValueError(
            f"{who}: expected a {getattr(kind, '__name__', kind)}, got a "
            f"{type(state).__name__}; make it with this transformation's init and call "
            "tx.update(grads, state, params)."
        )


def require_params(who: str, params: Params | None) -> Params:
    """Returns `params`, or raises if the caller left them out."""
    if params is None:
        raise ValueError(
            f"{who}: needs the parameters; call tx.update(grads, state, params)."
        )
    return params


def describe(value: Any) -> str:
    """A value as it stands in an error message: arrays in JAX's notation, f32[3,4]."""
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return repr(value)
    name = "key" if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else None
    name = name or np.dtype(value.dtype).name
    if value.dtype == jax.dtypes.float0:
        name = "float0"
    else:
        for long, short in [("bfloat", "bf"), ("float", "f"), ("complex", "c")]:
            name = name.replace(long, short)
        name = name.replace("uint", "u").replace("int", "i")
    return f"{name}[{','.join(map(str, value.shape))}]"


def identity() -> GradientTransformation:
    """Returns updates as they are: u = g.

    Returns:
      A transformation. State: `EmptyState`.

    Example:
      >>> tx = adamx.identity()
      >>> print(tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0])
      [1. 1.]
    """
    return stateless(lambda updates, params: updates)


def set_to_zero() -> GradientTransformation:
    """Returns zeros in place of updates: u = 0; see `freeze`.

    Returns:
      A transformation. State: `EmptyState`.

    Example:
      >>> tx = adamx.set_to_zero()
      >>> print(tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0])
      [0. 0.]
    """

    # The gradient of an integer is a float0, which has no zeros and needs none.
    def zeros(x: Any) -> Any:
        return x if is_float0(x) else jnp.zeros_like(x)

    return stateless(lambda updates, params: jax.tree.map(zeros, updates))


def stateless(f: Callable[[Updates, Params | None], Updates]) -> GradientTransformation:
    """Makes a transformation without state from a function of updates and parameters.

    Args:
      f: `(updates, params) -> updates`; `params` is None where the caller gives none.

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      TypeError: `f` is not callable.

    Example:
      >>> tx = adamx.stateless(lambda updates, params: jax.tree.map(jnp.sign, updates))
      >>> print(tx.update(jnp.array([-2.0, 3.0]), tx.init(None))[0])
      [-1.  1.]
    """
    if not callable(f):
        raise TypeError(f"stateless: expected f as a function, got {describe(f)}.")

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        del extra_args
        return f(updates, params), state

    return GradientTransformation(init_empty_state, update)


def is_float0(x: Any) -> bool:
    """Whether x is what JAX gives for the gradient of an integer."""
    return getattr(x, "dtype", None) == jax.dtypes.float0
