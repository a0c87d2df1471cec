"""Chains that round once."""

from typing import Any

import jax
import jax.numpy as jnp

from adamx._base import GradientTransformation, OptState, Params, Updates
from adamx._numerics import is_narrow


def rounded_once(tx: GradientTransformation) -> GradientTransformation:
    """A chain whose 16-bit updates are rounded at its end, not after each block.

    Between blocks a float16 loses what is below 6e-8, a bfloat16 a bit per block.
    """

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        wide, state = tx.update(widened(updates), state, params, **extra_args)
        updates = jax.tree.map(
            lambda u, g: u.astype(g.dtype) if rounds(g) else u, wide, updates
        )
        return updates, state

    return GradientTransformation(tx.init, update)


def widened(updates: Updates) -> Updates:
    """The updates in float32 where they are narrower."""
    return jax.tree.map(lambda g: g.astype(jnp.float32) if rounds(g) else g, updates)


def rounds(x: Any) -> bool:
    """Whether x is an array narrower than float32."""
    return is_narrow(getattr(x, "dtype", jnp.float32))
