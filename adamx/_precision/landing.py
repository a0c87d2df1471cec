"""Updates that lead from one 16-bit number to another one.

What is added to a parameter is rounded on arrival. So these updates are differences of
16-bit numbers, in float32, which holds nearly all of them, and what is kept of a step
is measured from where it arrives, not from where it should.
"""

from typing import Any

import jax
import jax.numpy as jnp

from adamx._align import align, at, counterparts, inexact, mismatch, not_inexact
from adamx._base import Array, Params, Updates, describe, require_params
from adamx._masking import MaskedNode, keep
from adamx._numerics import is_narrow
from adamx._precision.residual import value
from adamx._tree import landed


def is_16_bit(who: str, tree: Any, i: int, x: Any) -> bool:
    """Whether leaf i is a bfloat16 or a float16; raises if it is narrower."""
    if x.dtype in (jnp.bfloat16, jnp.float16):
        return True
    if is_narrow(x.dtype):
        raise TypeError(
            f"{who}: expected params in bfloat16, float16, float32 or wider, got "
            f"{describe(x)}{at(tree, i)}; keep it in bfloat16."
        )
    return False


def zeros_of_16_bit(who: str, params: Params, dtype: Any = None) -> Any:
    """Zeros for 16-bit parameters, in `dtype` or theirs, and holes for the others."""
    leaves, treedef = jax.tree.flatten(params)
    new = []
    for i, given in enumerate(leaves):
        x = inexact(given)
        if x is None:
            raise not_inexact(who, "params", given, at(params, i))
        chosen = is_16_bit(who, params, i, x)
        new.append(jnp.zeros_like(x, dtype=dtype) if chosen else MaskedNode())
    return treedef.unflatten(new)


def rows_of(
    who: str, updates: Updates, params: Params | None, *states: Any
) -> tuple[list[tuple[Any, ...]], Any]:
    """Each update with its parameter and what states hold for it, and the structure.

    States are as `zeros_of_16_bit` makes them; None stands for a hole.
    """
    pairs, treedef = align(who, updates, read=(require_params(who, params),))
    chosen = [is_16_bit(who, updates, i, p) for i, (_, p) in enumerate(pairs)]
    columns = []
    for tree in states:
        found = iter(counterparts(who, keep(updates, chosen), tree, "state"))
        columns.append([next(found) if c else None for c in chosen])
    rows = [(*pair, *rest) for pair, *rest in zip(pairs, *columns, strict=True)]
    for i, (u, _, *rest) in enumerate(rows):
        for x in rest:
            if x is not None and x.shape != u.shape:
                where, got, other = at(updates, i), describe(u), describe(x)
                raise mismatch(who, "state", where, got, other)
    return rows, treedef


def lead_to(target: Array, p: Array) -> tuple[Array, Array]:
    """The update from one 16-bit number to another, f32, and where it arrives."""
    d = value(target) - value(p)
    return d, landed("lead_to", p, d)
