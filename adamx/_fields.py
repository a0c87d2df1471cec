"""Fields of a state by name: to read them, and to set them."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adamx._align import described, is_leaf
from adamx._base import describe, is_number
from adamx._rules import is_box

Path = tuple[Any, ...]
Filter = Callable[[Path, Any], bool]


@dataclasses.dataclass(frozen=True)
class NamedTupleKey:
    """The key of a field of a NamedTuple or dataclass, for `filtering`.

    Has the name of the class, too: in a chain two states may have a `count`.
    """

    tuple_name: str
    name: str

    def __str__(self) -> str:
        return f".{self.name}"


def tree_get_all_with_path(
    tree: Any, key: Any, filtering: Filter | None = None
) -> list[tuple[Path, Any]]:
    """Finds all fields of a name in a state, with the paths to them.

    Args:
      tree: A state, or any tree.
      key: The name of a field of a NamedTuple or dataclass, a key of a dictionary, or
        the name of the class of a NamedTuple or dataclass.
      filtering: Which to leave: from the path, a tuple of keys of JAX and of
        `NamedTupleKey`, and the value to True or False. None leaves all.

    Returns:
      A list of pairs (path, value), outer ones before what is inside them.

    Differs from Optax: looks into every node that JAX knows, as dataclasses and those
      of Flax, where Optax finds nothing; their fields are `NamedTupleKey`s, too.

    Example:
      >>> state = adamx.adam(0.1).init(jnp.zeros(2))
      >>> for path, value in adamx.tree_get_all_with_path(state, "mu"):
      ...     print(jax.tree_util.keystr(path), value)
      [0].mu [0. 0.]
    """
    return [
        (path, value)
        for path, value in hits(tree, key, ())
        if filtering is None or filtering(path, value)
    ]


def tree_get(
    tree: Any, key: Any, default: Any | None = None, filtering: Filter | None = None
) -> Any:
    """Finds the field of a name in a state.

    Args:
      tree: A state, or any tree.
      key: As in `tree_get_all_with_path`.
      default: What to return where there is no such field.
      filtering: As in `tree_get_all_with_path`.

    Returns:
      The value of the field.

    Raises:
      KeyError: There are several.

    Differs from Optax: as `tree_get_all_with_path`; the error has the paths, not the
      whole state.

    Example:
      >>> state = adamx.adamw(adamx.linear_schedule(0.1, 0.0, 10)).init(jnp.zeros(2))
      >>> def of_adam(path, value):
      ...     return path[-1].tuple_name == "ScaleByAdamState"
      >>> print(adamx.tree_get(state, "nu"), adamx.tree_get(state, "count", 0, of_adam))
      [0. 0.] 0
    """
    found = tree_get_all_with_path(tree, key, filtering)
    if len(found) > 1:
        got = ", ".join(in_class(path) for path, _ in found)
        raise KeyError(
            f"tree_get: expected one {key!r}, got {len(found)}: {got}; choose with "
            "filtering."
        )
    return found[0][1] if found else default


def tree_set(tree: Any, filtering: Filter | None = None, /, **kwargs: Any) -> Any:
    """Makes a state with other values in the fields of some names.

    Args:
      tree: A state, or any tree; it stays as it is.
      filtering: As in `tree_get_all_with_path`; of the fields that it leaves all are
        set.
      **kwargs: The new values by name, each with the structure, the shapes and the
        dtypes of the old one; a number for an array without axes takes its dtype.

    Returns:
      A tree with the structure, shapes and dtypes of `tree`.

    Raises:
      KeyError: There is no such field.
      ValueError: A value of another structure, shape or dtype.

    Differs from Optax: nothing changes its type, so that no program is traced anew,
      where Optax puts in whatever it is given.

    Example:
      >>> state = adamx.adam(0.1).init(jnp.zeros(2))
      >>> adamx.tree_set(state, count=7)[0].count
      Array(7, dtype=int32)
    """
    done = set()

    def take(name: Any, path: Path, old: Any) -> bool:
        taken = name in kwargs and (filtering is None or filtering(path, old))
        done.update([name] if taken else [])
        return taken

    def replaced(node: Any, path: Path) -> Any:
        kind = class_name(node)
        if kind and take(kind, path, node):
            return fitting(path, node, kwargs[kind])
        old, new = children(node), []
        for key, child in old:
            name, inner = name_of(key), (*path, key)
            if take(name, inner, child):
                new.append(fitting(inner, child, kwargs[name]))
            else:
                new.append(replaced(child, inner))
        if all(x is y for x, (_, y) in zip(new, old, strict=True)):
            return node
        return jax.tree.structure(node, is_leaf=lambda x: x is not node).unflatten(new)

    result = replaced(tree, ())
    missing = [name for name in kwargs if name not in done]
    if missing:
        have = dict.fromkeys(name for name in names(tree) if name is not None)
        suffix = " that filtering leaves" if filtering else ""
        raise KeyError(
            f"tree_set: no field {missing[0]!r}{suffix}; have "
            f"{', '.join(map(str, have))}."
        )
    return result


def fitting(path: Path, old: Any, value: Any) -> Any:
    """A value in the structure, shapes and dtypes of an old one."""
    leaves, treedef = jax.tree.flatten(old)
    boxed = is_box(old) and is_leaf(value)
    if not boxed and jax.tree.structure(value) != treedef:
        ours, theirs = described(old), described(value)
        for inner in [*ours, *theirs]:
            if (inner in ours) != (inner in theirs):
                got, want = theirs.get(inner, "nothing"), ours.get(inner, "nothing")
                raise misfit(path, inner, want, got)
        raise misfit(path, "", str(treedef), str(jax.tree.structure(value)))
    new = [value] if boxed else jax.tree.leaves(value)
    inside = [] if boxed else list(described(old))
    for i, (x, y) in enumerate(zip(leaves, new, strict=True)):
        where = "" if boxed else inside[i]
        new[i] = cast_like(x, y)
        if new[i] is None:
            raise misfit(path, where, describe(x), describe(y))
    return treedef.unflatten(new)


def cast_like(x: Any, y: Any) -> Any:
    """The new value y with the type of the old one x, or None."""
    if not hasattr(x, "dtype"):
        return y if type(x) is type(y) else None
    if is_number(y) and np.shape(x) == ():
        exact = not jnp.issubdtype(x.dtype, jnp.integer) or (
            int(y) == y and jnp.iinfo(x.dtype).min <= y <= jnp.iinfo(x.dtype).max
        )
        kind = jnp.issubdtype(x.dtype, jnp.number)
        return jnp.full_like(x, y) if kind and exact else None
    y = jnp.asarray(y) if isinstance(y, np.ndarray | np.generic | bool) else y
    if getattr(y, "shape", None) != x.shape or y.dtype != x.dtype:
        return None
    # What is weakly typed in a state would be traced anew.
    return y.astype(x.dtype) if getattr(y, "weak_type", False) else y


def misfit(path: Path, inner: str, want: str, got: str) -> ValueError:
    """The error for a value that cannot take the place of an old one."""
    return ValueError(
        f"tree_set: expected {want}, got {got} at {jax.tree_util.keystr(path)}{inner}."
    )


def hits(tree: Any, key: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """The nodes and fields of a name, with their paths."""
    if class_name(tree) == key:
        yield path, tree
    for entry, child in children(tree):
        if name_of(entry) == key:
            yield (*path, entry), child
        yield from hits(child, key, (*path, entry))


def names(tree: Any) -> Iterator[Any]:
    """The names of all fields in a tree."""
    for entry, child in children(tree):
        yield name_of(entry)
        yield from names(child)


def children(node: Any) -> list[tuple[Any, Any]]:
    """The children of a node with their keys; a box, as Flax's variables, has none."""
    if is_box(node):
        return []
    pairs = jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda x: x is not node)
    name = class_name(node)
    return [
        (NamedTupleKey(name, name_of(path[0])) if name else path[0], child)
        for path, child in pairs
        if path
    ]


def class_name(node: Any) -> str | None:
    """The name of the class of a NamedTuple or dataclass."""
    named = hasattr(node, "_fields") or dataclasses.is_dataclass(node)
    return type(node).__name__ if named and not isinstance(node, type) else None


def name_of(key: Any) -> Any:
    """What a key of a path is called; None where it is a place in a sequence."""
    return getattr(key, "name", None) or (
        key.key if isinstance(key, jax.tree_util.DictKey) else None
    )


def in_class(path: Path) -> str:
    """A path and the class of its last field, for a message."""
    of = (
        f" of {path[-1].tuple_name}" if path and hasattr(path[-1], "tuple_name") else ""
    )
    return f"{jax.tree_util.keystr(path)}{of}"
