"""Chains that round once."""

from typing import Any

import jax

from adamx._align import inexact
from adamx._base import GradientTransformation, OptState, Params, Updates
from adamx._choose import in_dtypes_of
from adamx._dtypes import compute_dtypes, convert


def rounded_once(tx: GradientTransformation) -> GradientTransformation:
    """A chain whose 16-bit updates are rounded at its end, not after each block.

    Between blocks a float16 loses what is below 6e-8, a bfloat16 a bit per block.
    """

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        wide, state = tx.update(widened(updates), state, params, **extra_args)
        return in_dtypes_of(updates, wide), state

    return GradientTransformation(tx.init, update)


def widened(tree: Any) -> Any:
    """The tree with its floating and complex arrays in float32 or wider."""

    def leaf(given: Any) -> Any:
        x = inexact(given)
        return given if x is None else convert(x, *compute_dtypes(x.dtype))

    return jax.tree.map(leaf, tree)
