"""Hyperparameters in the state: readable, settable, and never compiled in."""

import collections
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Updates,
    check_state,
    describe,
    is_number,
    is_real_scalar,
    storage_dtype,
)
from adamx._chain import as_transformation
from adamx._choose import in_dtypes_of
from adamx._compiled import compiled
from adamx._numerics import increment
from adamx._tree import zero_count


class InjectStatefulHyperparamsState(NamedTuple):
    """State of `inject_hyperparams`."""

    count: Array  # i32[]; updates applied so far
    hyperparams: Any  # dict: name -> f32[], the value of the last or next update
    hyperparams_states: Any  # dict: name of a schedule -> WrappedScheduleState
    inner_state: OptState  # that of the inner transformation


class WrappedScheduleState(NamedTuple):
    """State of a schedule in `inject_hyperparams`."""

    count: Array  # i32[]; updates applied so far


def inject_hyperparams(
    inner_factory: Callable[..., GradientTransformation],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: Any = None,
    *,
    names: str | Iterable[str] | None = None,
) -> Callable[..., GradientTransformation]:
    """Makes a factory whose hyperparameters are arrays in the state.

        tx = inject_hyperparams(adamw)(1e-3, weight_decay=0.1)
        state = tree_set(state, learning_rate=5e-4)     (nothing is compiled again)

    In each update `inner_factory` is called with the values in the state. A float32 in
    it stands for the decimal as which it prints, so that a value of up to six digits
    gives the scalars of a step that the same number gives without injection, to the
    bit; and the updates, but for what XLA contracts where a constant drops out.

    A schedule stays one: `hyperparams` then shows its value in the last update, and
    setting that has no effect. To set the size of a schedule, inject a recipe that
    makes it: `lambda peak: adamw(cosine_decay_schedule(peak, 10_000))`.

    Args:
      inner_factory: A function that makes a transformation of adamx or Optax, or a
        chain of them, from its hyperparameters.
      static_args: Names of arguments that stay as they are given.
      hyperparam_dtype: Dtype of the values; None is float32. Never the parameters'.
      names: Names of the arguments to inject; None are all that are given or default
        to a float, a scalar array or a schedule. A whole number is injected where it
        stands for a float, not where it is a number of steps or dimensions.

    Returns:
      A function with the arguments of `inner_factory` that makes a transformation.
      State: `InjectStatefulHyperparamsState`.

    Raises:
      ValueError: A name that is no argument of `inner_factory`, or that is both static
        and to be injected.
      TypeError: `inner_factory` is not callable; a dtype that is not floating; when
        called, a named argument that is neither a number nor a schedule.

    Differs from Optax: values are float32 whatever the parameters' dtype, where Optax's
      b2 = 0.999 is 1.0 for bfloat16 parameters; a callable is a schedule only where the
      argument may be a number too, so that masks need no `static_args`; whole numbers
      stay static; results are those of the plain transformation.

    Example:
      >>> tx = adamx.inject_hyperparams(adamx.sgd)(0.5)
      >>> state = tx.init(jnp.zeros(1))
      >>> state.hyperparams["learning_rate"] = jnp.float32(0.25)
      >>> print(tx.update(jnp.ones(1), state)[0])
      [-0.25]
    """
    who = "inject_hyperparams"
    if not callable(inner_factory):
        raise TypeError(
            f"{who}: expected inner_factory as a function that makes a transformation, "
            f"got {describe(inner_factory)}; give adamx.adam, not adamx.adam(...)."
        )
    dtype = storage_dtype(who, "hyperparam_dtype", hyperparam_dtype, real=True)
    dtype = jnp.float32 if dtype is None else dtype
    signature = inspect.signature(inner_factory)
    static = known_names(who, "static_args", static_args, inner_factory)
    asked = None if names is None else known_names(who, "names", names, inner_factory)
    if asked and (both := sorted(static & asked)):
        raise ValueError(
            f"{who}: expected {both} in static_args or in names, got both."
        )

    @functools.wraps(inner_factory)
    def factory(*args: Any, **kwargs: Any) -> GradientTransformation:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        numbers, schedules = {}, {}
        for name, value in given.items():
            parameter = signature.parameters[name]
            if name in static or (asked is not None and name not in asked):
                continue
            if is_number(value) or is_real_scalar(value):
                if asked or is_continuous(value, parameter):
                    numbers[name] = value
            elif callable(value) and (asked or may_be_schedule(value, parameter)):
                schedules[name] = value
            elif asked:
                raise TypeError(
                    f"{who}: expected {name} as a number, a scalar array or a "
                    f"schedule, got {describe(value)}; leave it out of names."
                )
        return injected(who, inner_factory, bound, numbers, schedules, dtype)

    return factory


def injected(
    who: str,
    inner_factory: Callable[..., GradientTransformation],
    bound: inspect.BoundArguments,
    numbers: dict[str, Any],
    schedules: dict[str, Any],
    dtype: Any,
) -> GradientTransformation:
    """The transformation that takes `numbers` and `schedules` from its state."""
    made = f"the result of {getattr(inner_factory, '__name__', 'inner_factory')}"

    def inner(hyperparams: dict[str, Array]) -> GradientTransformation:
        now = inspect.BoundArguments(bound.signature, bound.arguments | hyperparams)
        return as_transformation(who, made, inner_factory(*now.args, **now.kwargs))

    @compiled
    def step(
        hyperparams: dict[str, Array],
        updates: Updates,
        state: OptState,
        params: Params,
        extra_args: dict[str, Any],
    ) -> tuple[Updates, OptState]:
        return inner(hyperparams).update(updates, state, params, **extra_args)

    def value_of(name: str, x: Any, where: str) -> Array:
        if not (is_number(x) or is_real_scalar(x)):
            raise ValueError(
                f"{who}: expected a scalar as {name} {where}, got {describe(x)}."
            )
        return jnp.asarray(x).astype(dtype)

    def scheduled(counts: dict[str, Any]) -> dict[str, Array]:
        return {
            name: value_of(name, schedules[name](count), "from its schedule")
            for name, count in counts.items()
        }

    def init(params: Params) -> InjectStatefulHyperparamsState:
        values = {name: value_of(name, x, "to start") for name, x in numbers.items()}
        values |= scheduled(dict.fromkeys(schedules, np.int32(0)))
        counts = {name: WrappedScheduleState(zero_count()) for name in schedules}
        inner_state = inner(values).init(params)
        return InjectStatefulHyperparamsState(zero_count(), values, counts, inner_state)

    def update(
        updates: Updates,
        state: InjectStatefulHyperparamsState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, InjectStatefulHyperparamsState]:
        check_state(who, state, InjectStatefulHyperparamsState)
        if set(state.hyperparams) != {*numbers, *schedules}:
            raise ValueError(
                f"{who}: expected hyperparams {[*numbers, *schedules]} in the state, "
                f"got {list(state.hyperparams)}; make it with this transformation's "
                "init."
            )
        counts = {name: part.count for name, part in state.hyperparams_states.items()}
        values = {
            name: value_of(name, x, "in the state")
            for name, x in state.hyperparams.items()
        } | scheduled(counts)
        new = step(values, updates, state.inner_state, params, extra_args)
        # Another library's may promote what meets a float32.
        new, inner_state = in_dtypes_of((updates, state.inner_state), new)
        counts = {n: WrappedScheduleState(increment(c)) for n, c in counts.items()}
        return new, InjectStatefulHyperparamsState(
            increment(state.count), values, counts, inner_state
        )

    return GradientTransformation(init, update)


def known_names(
    who: str, what: str, names: str | Iterable[str], factory: Callable[..., Any]
) -> set[str]:
    """The names as a set, if all are arguments of the factory."""
    names = [names] if isinstance(names, str) else list(names)
    known = list(inspect.signature(factory).parameters)
    for name in names:
        if name not in known:
            made = getattr(factory, "__name__", "the factory")
            raise ValueError(
                f"{who}: expected {what} among the arguments of {made}, "
                f"({', '.join(known)}), got {name!r}."
            )
    return set(names)


def is_continuous(value: Any, parameter: inspect.Parameter) -> bool:
    """Whether a number stands for a float rather than a number of things."""
    if not isinstance(value, int) and jnp.issubdtype(value_dtype(value), jnp.floating):
        return True
    return isinstance(parameter.default, float) or takes_float(parameter.annotation)


def value_dtype(value: Any) -> Any:
    """The dtype of a number or an array."""
    return getattr(value, "dtype", jnp.result_type(type(value)))


def may_be_schedule(function: Callable[..., Any], parameter: inspect.Parameter) -> bool:
    """Whether a function stands for a number that changes."""
    if parameter.annotation is not inspect.Parameter.empty:
        return takes_float(parameter.annotation)
    try:
        with jax.numpy_dtype_promotion("standard"):
            value = jax.eval_shape(function, jax.ShapeDtypeStruct((), jnp.int32))
    except Exception:  # a mask, say, that wants a tree
        return False
    return getattr(value, "shape", None) == () and jnp.issubdtype(
        value.dtype, jnp.floating
    )


def takes_float(annotation: Any) -> bool:
    """Whether an annotation allows a float."""
    if isinstance(annotation, str):
        return re.search("float|Scalar", annotation) is not None
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(map(takes_float, typing.get_args(annotation)))
    return annotation is float


def get_hyperparams(state: OptState) -> dict[str, Array]:
    """Finds the hyperparameters that `inject_hyperparams` keeps, wherever they are.

    In chains, groups and wrappers, of adamx or Optax. To set one use `tree_set`.

    Args:
      state: A state that holds one of `inject_hyperparams`.

    Returns:
      A dictionary from names to scalars, f32[]: a schedule's value is that of the last
      update. Where two parts of the state have the same name, such as two groups, it
      stands behind the path to each, as in "inner_states/body/learning_rate".

    Raises:
      ValueError: No such state; the hyperparameters are then constants of the program.

    Example:
      >>> injected = adamx.inject_hyperparams(adamx.adam, names="learning_rate")
      >>> tx = adamx.chain(adamx.clip(1.0), injected(0.5))
      >>> print(adamx.get_hyperparams(tx.init(jnp.zeros(1)))["learning_rate"])
      0.5
    """
    found = []
    for path, value in jax.tree_util.tree_leaves_with_path(state):
        keys = [jax.tree_util.keystr((key,), simple=True) for key in path]
        if "hyperparams" in keys:
            i = keys.index("hyperparams")
            found.append((keys[i + 1], "/".join([*keys[:i], keys[i + 1]]), value))
    if not found:
        raise ValueError(
            "get_hyperparams: expected a state of inject_hyperparams, got none in a "
            f"{type(state).__name__}; make the optimizer by "
            "inject_hyperparams(adamw)(...)."
        )
    seen = collections.Counter(name for name, _, _ in found)
    return {name if seen[name] == 1 else path: value for name, path, value in found}
