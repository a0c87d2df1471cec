"""Trees in which the touched rows stand for a table."""

from typing import Any

import jax
import numpy as np

from adamx._align import at_path, counterparts, mismatch
from adamx._base import Params, Updates, describe
from adamx._rows import is_rows


def has_rows(updates: Updates) -> bool:
    """Whether updates hold rows of a table."""
    return any(map(is_rows, jax.tree.leaves(updates, is_leaf=is_rows)))


def arrays_of(updates: Updates) -> Updates:
    """The updates with the values of rows in their place."""
    return jax.tree.map(
        lambda x: x.values if is_rows(x) else x, updates, is_leaf=is_rows
    )


def pairs_of(who: str, updates: Updates, params: Params) -> list[tuple[Any, Any]]:
    """The updates, or None, each with its parameter.

    Raises unless the table of each `SparseRows` has its number of rows, of its shape.
    """
    others = iter(counterparts(who, arrays_of(updates), params, "params"))
    places, treedef = jax.tree_util.tree_flatten_with_path(updates, is_leaf=is_end)
    pairs = []
    for (path, u), p in zip(places, treedef.flatten_up_to(params), strict=True):
        x = p if u is None else next(others)
        if is_rows(u):
            want = (u.num_rows, *u.values.shape[1:])
            if np.shape(x) != want:
                got = f"SparseRows for a table of shape {want}"
                raise mismatch(who, "params", at_path(path), got, describe(x))
        pairs.append((u, x))
    return pairs


def rows_of(who: str, updates: Updates, params: Params) -> Params:
    """The parameters with the rows of each table that `updates` has, in its place."""
    pairs = pairs_of(who, updates, params)
    treedef = jax.tree.structure(updates, is_leaf=is_end)
    return treedef.unflatten([u.of(p) if is_rows(u) else p for u, p in pairs])


def is_end(x: Any) -> bool:
    """Whether x stands for a whole parameter: rows of it, or None."""
    return x is None or is_rows(x)
