"""Trees side by side, leaf by leaf; what does not match is named by its path."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adamx._base import Updates, describe
from adamx._rows import is_rows


def align(
    who: str,
    updates: Updates,
    states: tuple[Any, ...] = (),
    read: tuple[Any, ...] = (),
    shapes: Sequence[Any] | None = None,
) -> tuple[list[tuple[Any, ...]], Any]:
    """Puts the leaves of `updates` in rows with their counterparts, and the structure.

    All in a row have one shape, unless `shapes` has for each leaf those of its states.
    Where `updates` holds `None`, a state must hold nothing, a `read` tree may hold
    anything (an Equinox model has functions there).
    """
    leaves, treedef = jax.tree.flatten(updates)
    columns = [leaves]
    for name, trees in (("state", states), ("params", read)):
        for tree in trees:
            others, structure = jax.tree.flatten(tree)
            if structure != treedef:
                others = counterparts(who, updates, tree, name)
            columns.append(others)
    rows = []
    for i, given in enumerate(zip(*columns, strict=True)):
        row = tuple(map(inexact, given))
        if row[0] is None:
            refuse_rows(who, updates)
            raise not_inexact(who, "updates", given[0], at(updates, i))
        for j, x in enumerate(row):
            name = "state" if j <= len(states) else "params"
            if x is None:
                raise not_inexact(who, name, given[j], at(updates, i))
            shape = row[0].shape
            if shapes is not None and 1 <= j <= len(states):
                shape = shapes[i][j - 1]
            if x.shape != shape:
                got, other = describe(row[0]), describe(given[j])
                raise mismatch(who, name, at(updates, i), got, other)
        rows.append(row)
    return rows, treedef


def counterparts(who: str, updates: Updates, tree: Any, name: str) -> list[Any]:
    """What `tree` holds at each leaf of `updates`, whatever it holds beside them."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(updates, is_leaf=is_none)
    try:
        others = treedef.flatten_up_to(tree)
    except (ValueError, TypeError):
        refuse_rows(who, updates)
        raise first_difference(who, updates, tree, name) from None
    for (path, leaf), other in zip(leaves, others, strict=True):
        if leaf is None:
            fits = name == "params" or not jax.tree.leaves(other)
        else:
            fits = is_leaf(other)
        if not fits:
            refuse_rows(who, updates)
            found = "a tree" if jax.tree.leaves(other) else "None"
            found = describe(other) if is_leaf(other) else found
            raise mismatch(who, name, at_path(path), describe(leaf), found)
    return [x for x, (_, leaf) in zip(others, leaves, strict=True) if leaf is not None]


def first_difference(who: str, updates: Updates, tree: Any, name: str) -> ValueError:
    """The error for two trees of different structure."""
    ours, theirs = described(updates), described(tree)
    for path in [*ours, *theirs]:
        if (path in ours) != (path in theirs):
            got, other = ours.get(path, "nothing"), theirs.get(path, "nothing")
            return mismatch(who, name, f" at {path}", got, other)
    got, other = jax.tree.structure(updates), jax.tree.structure(tree)
    return mismatch(who, name, "", str(got), str(other))


def refuse_rows(who: str, updates: Updates) -> None:
    """Raises if updates hold rows of a table, which this transformation cannot take."""
    leaves = jax.tree_util.tree_leaves_with_path(updates, is_leaf=is_rows)
    for path, x in leaves:
        if is_rows(x):
            raise TypeError(
                f"{who}: expected an array, got SparseRows{at_path(path)}; put "
                "adamx.on_rows around the whole optimizer."
            )


def mismatch(who: str, name: str, where: str, got: str, other: str) -> ValueError:
    """The error for updates that do not match another tree."""
    return ValueError(
        f"{who}: updates do not match the {name}{where}: {got} against {other}; were "
        "both made from the same params?"
    )


def not_inexact(who: str, what: str, x: Any, where: str) -> TypeError:
    """The error for a leaf that no gradient can have."""
    return TypeError(
        f"{who}: expected {what} of a floating or complex dtype, got {describe(x)}"
        f"{where}; leave it out with adamx.masked or adamx.partition."
    )


def inexact(x: Any) -> Any:
    """An array of a floating or complex dtype as it is, a number as one; else None."""
    # NumPy's float64 is JAX's float32 as long as x64 is off.
    if isinstance(x, float | complex) or (
        isinstance(x, np.ndarray | np.generic) and x.dtype.char in "dD"
    ):
        x = jnp.asarray(x)
    dtype = getattr(x, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        return None
    return x


def is_none(x: Any) -> bool:
    """Whether x is None, which JAX takes for a tree without leaves."""
    return x is None


def is_leaf(x: Any) -> bool:
    """Whether x is a leaf of a tree rather than a tree."""
    return x is not None and jax.tree_util.all_leaves([x])


def described(tree: Any) -> dict[str, str]:
    """The leaves of a tree as they stand in messages."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): describe(leaf) for path, leaf in leaves}


def at(tree: Any, i: int) -> str:
    """Where leaf i of `tree` stands, for a message."""
    return at_path(jax.tree_util.tree_leaves_with_path(tree)[i][0])


def at_path(path: Any) -> str:
    """Where a path leads, for a message."""
    return f" at {path_name(path)}" if path_name(path) else ""


def path_name(path: Any) -> str:
    """A path such as ['dense']['kernel'], without the `.value` of a boxed variable."""
    return jax.tree_util.keystr(path).removesuffix(".value")
