"""Transformations and states from Optax, and to it, in the middle of a run.

Example:
  >>> from adamx.interop.optax import convert_state
  >>> params = {"w": jnp.ones(2)}
  >>> theirs = optax.sgd(0.1, momentum=0.5)
  >>> _, state = theirs.update({"w": jnp.ones(2)}, theirs.init(params), params)
  >>> tx = adamx.sgd(0.1, momentum=0.5)
  >>> state = convert_state(tx, state, params)
  >>> updates, state = tx.update({"w": jnp.ones(2)}, state, params)
  >>> print(state[0].trace["w"])
  [1.5 1.5]
"""

from typing import Any

import jax

from adamx._base import GradientTransformation, OptState, Params
from adamx._chain import as_transformation
from adamx.interop._states import fitted, leaves_of, other_class, refuse, unlike, where

try:
    import optax
except ModuleNotFoundError as error:
    if error.name != "optax":
        raise
    raise ImportError("adamx.interop.optax needs optax; install optax.") from error


def to_optax(tx: GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Makes a transformation of Optax's own class.

    For what asks for that class by name, or by its type; in a chain of Optax, in Flax
    and in wrappers of both libraries a transformation of adamx works as it is.

    Args:
      tx: A transformation.

    Returns:
      The same `init` and `update`, extra arguments included. State: that of `tx`.

    Raises:
      TypeError: `tx` is no transformation.

    Example:
      >>> from adamx.interop.optax import to_optax
      >>> type(to_optax(adamx.adam(0.1))).__name__
      'GradientTransformationExtraArgs'
    """
    made: Any = as_transformation("to_optax", "tx", tx)
    return optax.GradientTransformationExtraArgs(made.init, made.update)


def from_optax(tx: Any) -> GradientTransformation:
    """Makes a transformation of adamx's class, as every chain and wrapper here does.

    Args:
      tx: A transformation of Optax, old ones that take no extra arguments included.

    Returns:
      The same `init`, and an `update` that takes all extra arguments and hands on those
      that `tx` knows. State: that of `tx`.

    Raises:
      TypeError: `tx` is no transformation.

    Example:
      >>> from adamx.interop.optax import from_optax
      >>> tx = from_optax(optax.trace(0.9))
      >>> updates, _ = tx.update(jnp.ones(1), tx.init(jnp.zeros(1)), value=3.0)
      >>> print(updates)
      [1.]
    """
    return as_transformation("from_optax", "tx", tx)


def convert_state(tx: Any, state: OptState, params: Params) -> OptState:
    """Makes the state of a transformation from that of its twin in the other library.

    In both directions: `tx` is the transformation to go on with, of adamx or Optax.
    Chains, groups and wrappers are those of both; each array goes to where `tx` has a
    state of the same name with a field of the same name, at the same place. Arrays are
    not copied. A float becomes a wider one where `tx` keeps a wider one, so that
    bfloat16 moments of Optax become the float32 ones here, exactly. Everything else is
    an error, and so is an array that has no place; `lookahead` is one, whose slow
    parameters Optax keeps outside of the state.

    A state does not show settings: give `tx` those that the run had. Two twins agree in
    structure and mean something else: `amsgrad(variant="torch")`, whose maxima are not
    bias-corrected, and `rmsprop` or `trace` in another order with the learning rate.

    Args:
      tx: The transformation to go on with.
      state: The state so far, of its twin; NumPy arrays, as from a checkpoint, will do.
      params: The parameters, or their shapes. Their dtypes are those for which `tx`
        makes its state: to keep float32 moments in Optax for bfloat16 parameters give
        shapes in float32.

    Returns:
      A state of the structure, shapes and dtypes of `tx.init(params)`.

    Raises:
      ValueError: Parts of the state that are missing, left over or different, all of
        them in one message.
      TypeError: `tx` is no transformation.

    Example:
      >>> from adamx.interop.optax import convert_state
      >>> state = adamx.adam(0.1).init(jnp.zeros(2))
      >>> print(convert_state(optax.adam(0.1), state, jnp.zeros(2))[0].mu)
      [0. 0.]
    """
    who = "convert_state"
    tx = as_transformation(who, "tx", tx)
    with jax.numpy_dtype_promotion("standard"):  # which Optax needs
        target = jax.eval_shape(tx.init, params)
    found = {where(path): (path, leaf) for path, leaf in leaves_of(state)}
    problems, leaves = [], []
    for path, want in leaves_of(target):
        place = where(path)
        old_path, got = found.pop(place, (path, None))
        new = None if got is None else fitted(want, got)
        if got is None:
            problems.append(unlike(want, "nothing", place))
        elif differ := other_class(path, old_path):
            problems.append(differ)
        elif new is None:
            problems.append(unlike(want, got, place))
        leaves.append(new)
    problems += [unlike("nothing", got, place) for place, (_, got) in found.items()]
    refuse(
        who,
        list(dict.fromkeys(problems)),
        "give the settings, and params of the dtypes, with which the state was made",
    )
    return jax.tree.structure(target).unflatten(leaves)
