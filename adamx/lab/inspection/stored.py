"""Arrays with names, loaded a few at a time, from wherever they are kept."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Stored(NamedTuple):
    """Arrays by name, such as "opt_state/0/mu/dense/kernel"."""

    source: str
    shapes: dict[str, jax.ShapeDtypeStruct]
    load: Callable[[Iterable[str]], dict[str, np.ndarray]]


def stored(source: str, arrays: dict[str, np.ndarray]) -> Stored:
    """Arrays that are in memory, or mapped into it."""
    shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in arrays.items()}
    return Stored(source, shapes, lambda names: {n: arrays[n] for n in names})


def from_tree(source: str, tree: Any) -> Stored:
    """Names the arrays and numbers of a tree; what is neither is left out."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and is_key(leaf.dtype):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        if array.dtype.kind not in "OSU":
            arrays[name_of(path)] = array
    return stored(source, arrays)


def is_key(dtype: Any) -> bool:
    """Whether a dtype is that of random keys."""
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def name_of(path: Any) -> str:
    """The name of an array; nnx puts its values into boxes, which have none."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return name.removesuffix("/value")


def unreadable(path: Path, what: str, why: Any) -> ValueError:
    """The error for what is damaged, or something else."""
    why = " ".join(str(why).split())
    why = why if len(why) <= 80 else f"{why[:80]}…"
    return ValueError(
        f"inspect: expected {what}, got {path}, which is damaged or something else "
        f"({why}); write it again."
    )
