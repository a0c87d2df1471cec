"""Parameters to evaluate with, where a state holds an average of the trained ones.

A state that does has a method `eval_params(params)`, which puts its averages where it
has any and leaves the other parameters as they are.
"""

from collections.abc import Callable
from typing import Any

import jax

from adamx._base import OptState, Params
from adamx._rules import is_box, is_boxed_hole, is_hole


def eval_params(state: OptState, params: Params) -> Params:
    """Finds the averaged parameters in a state, with which to evaluate and to export.

    Wherever they are: in chains, masks, groups, wrappers of Optax, in Flax's `nnx`. Of
    averages in averages the outermost counts, of those in a chain the last; parameters
    without an average stay as they are, so that a loop can evaluate with whatever
    optimizer it has.

    Args:
      state: The state after an update, of `schedule_free_adamw` for example.
      params: The parameters after the same update.

    Returns:
      A tree with the structure, shapes and dtypes of `params`. Statistics that a model
      gathers in training, such as those of batch normalization, belong to `params`:
      gather them again.

    Raises:
      ValueError: An average of other parameters.

    Example:
      >>> tx = adamx.chain(adamx.clip(1.0), adamx.schedule_free_sgd(0.5, b1=0.5))
      >>> params = jnp.array([2.0])
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.ones(1), state, params)
      ...     params = adamx.apply_updates(params, updates)
      >>> print(params, adamx.eval_params(state, params))
      [1.125] [1.25]
    """

    def is_average(x: Any) -> bool:
        return hasattr(x, "eval_params")

    parts = jax.tree.leaves(unboxed(state), is_leaf=is_average)
    parts = [part for part in parts if is_average(part)]
    if not parts:
        return params
    # Flax's `nnx` boxes each array, those of a state otherwise than parameters.
    averages = unboxed(params)
    for part in parts:
        averages = part.eval_params(averages)
    return jax.tree.structure(params).unflatten(jax.tree.leaves(averages))


def unboxed(tree: Any) -> Any:
    """The tree with arrays, or holes, in the place of variables that box them."""

    def content(x: Any) -> Any:
        return jax.tree.leaves(x, is_leaf=is_hole)[0]

    return jax.tree.map(content, tree, is_leaf=lambda x: is_box(x) or is_boxed_hole(x))


def put_averages(averages: Any, params: Params) -> Params:
    """The averages, in the dtypes of the parameters, where there are any."""
    return put("eval_params", lambda x, p: x.astype(p.dtype), averages, params)


def put(
    who: str, value: Callable[[Any, Any], Any], averages: Any, params: Params
) -> Params:
    """The parameters with `value(average, p)` where there is an average."""

    def leaf(average: Any, p: Any) -> Any:
        return p if is_hole(average) else value(average, p)

    try:
        return jax.tree.map(leaf, averages, params, is_leaf=is_hole)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{who}: the parameters do not match the state; were both made from the "
            "same params?"
        ) from error
