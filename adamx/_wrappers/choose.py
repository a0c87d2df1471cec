"""Steps that may be left out: what finite means, and one tree or another."""

from typing import Any

import jax
import jax.numpy as jnp

from adamx._align import inexact
from adamx._base import Array


def all_finite(tree: Any) -> Array:
    """Whether no floating or complex array of a tree holds a NaN or an infinity."""
    arrays = [x for x in map(inexact, jax.tree.leaves(tree)) if x is not None]
    if not arrays:
        return jnp.ones([], bool)
    return jnp.stack([jnp.isfinite(x).all() for x in arrays]).all()


def choose(condition: Array, new: Any, old: Any) -> Any:
    """The tree `new` where the scalar `condition` holds, else `old`, whole.

    A select, not a `lax.cond`: it fuses with the kernel that makes `new`, where the
    branches of a cond would have to write every array to memory.
    """
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), new, old)
