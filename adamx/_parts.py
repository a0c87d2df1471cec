"""What in a state belongs to which parameter.

A transformation tells by its `init`: made for a tree without leaves, a state has such a
tree wherever it has one like the parameters.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from adamx._align import at_path, described
from adamx._align import is_leaf as is_array
from adamx._fields import children
from adamx._masking import MaskedState, PartitionState
from adamx._rules import is_box, is_hole


@jax.tree_util.register_pytree_node_class
class Placeholder:
    """A tree without leaves, to be found again in a state."""

    def tree_flatten(self) -> tuple[tuple[()], None]:
        """No children."""
        return (), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[()]) -> "Placeholder":
        """A new one."""
        return cls()


def is_placeholder(x: Any) -> bool:
    """Whether x is what a state has in the place of a tree like the parameters."""
    return isinstance(x, Placeholder)


def nodes_of(skeleton: Any) -> list[Any]:
    """The leaves and the placeholders of a state."""
    return jax.tree.leaves(skeleton, is_leaf=is_placeholder)


class Part(NamedTuple):
    """A part of a state that belongs to one parameter, or is alike for some of them."""

    place: Any  # of a parameter among the leaves of the parameters; None: of several
    whole: bool  # whether it is the one array of its tree for a parameter
    counts_for: frozenset[int]  # the places of the parameters that it may count for
    rest: tuple[Any, ...]  # what other trees like the parameters hold there


def parts_of(
    who: str,
    init: Callable[..., Any],
    treedef: Any,
    guide: Any,
    rest: Any = (),
    is_end: Callable[[Any], bool] = is_box,
) -> list[Part]:
    """What each leaf of a state belongs to.

    `guide` is a tree like the parameters, with the leaves that `is_end` knows; or None,
    where each leaf of what is like them is one of them.
    """
    ids = treedef.unflatten(range(treedef.num_leaves))
    rest = [jax.tree.map(only, tree, is_leaf=is_box) for tree in rest]
    if guide is not None:
        like = jax.tree.structure(guide, is_leaf=is_end)
        guide = like.unflatten(range(like.num_leaves))
    parts: dict[int, Part] = {}

    def settle(loose: dict[int, set[Any]], visited: set[Any]) -> None:
        for i, others in loose.items():
            # A group without parameters starts anew with all of the others.
            parts[i] = Part(None, False, frozenset(visited - others or visited), ())

    def walk(skeleton: Any, tree: Any, path: str) -> tuple[set[Any], dict[int, Any]]:
        """The parameters that a part has arrays for, and its leaves that have none."""
        if is_placeholder(skeleton):
            visited = set()
            shape = tree if guide is None else guide
            for place, sub, found in along(who, shape, tree, rest, path):
                visited.add(place)
                whole = is_array(sub) or is_box(sub)
                for i in jax.tree.leaves(sub):
                    parts[i] = Part(place, whole, frozenset(), found)
            if not parts.keys() >= set(jax.tree.leaves(tree)):
                raise unlike(who, path)
            return visited, {}
        if not any(map(is_placeholder, nodes_of(skeleton))):
            return set(), {i: set() for i in jax.tree.leaves(tree)}
        visited, loose = set(), {}
        for key, (inner, sub) in side_by_side(who, path, skeleton, tree):
            more, unknown = walk(inner, sub, path + key)
            visited, loose = visited | more, loose | unknown
        fields = getattr(skeleton, "_fields", None)
        if fields == MaskedState._fields and visited:
            settle(loose, visited)
            loose = {}
        if fields == PartitionState._fields:
            # A group without arrays has none of the parameters of the others.
            loose = {i: others | visited for i, others in loose.items()}
        return visited, loose

    visited, loose = walk(init(Placeholder()), ids, "")
    settle(loose, visited if guide is None else set(jax.tree.leaves(guide)))
    return [parts[i] for i in range(treedef.num_leaves)]


def along(
    who: str, guide: Any, tree: Any, rest: Any, path: str
) -> Iterator[tuple[Any, Any, tuple[Any, ...]]]:
    """What a tree and others hold at each leaf of `guide`, but for the tree's holes."""
    if is_hole(tree):
        return
    if is_array(guide) or is_box(guide):
        yield only(guide), tree, tuple(rest)
        return
    for key, (inner, sub, *others) in side_by_side(who, path, guide, tree, *rest):
        yield from along(who, inner, sub, others, path + key)


def side_by_side(
    who: str, path: str, *trees: Any
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The children of nodes that have the same keys, whatever their types."""
    rows = [{str(key): child for key, child in children(tree)} for tree in trees]
    for row in rows[1:]:
        different = [
            key for key in {**rows[0], **row} if (key in rows[0]) != (key in row)
        ]
        if different:
            raise unlike(who, path + different[0])
    for key in rows[0]:
        yield key, tuple(row[key] for row in rows)


def unlike(who: str, path: str) -> ValueError:
    """The error for a state that does not show what belongs to which parameter."""
    return ValueError(
        f"{who}: the state does not match the parameters at {path or 'the root'}; was "
        "it made by this transformation for these params?"
    )


def only(x: Any) -> Any:
    """What a box holds, or x itself."""
    return jax.tree.leaves(x)[0] if is_box(x) else x


def beside(who: str, state: Any, fresh: Any) -> list[tuple[Any, Any, Any]]:
    """The path and the leaf of each place in one tree, and the leaf of another."""
    ours, theirs = (jax.tree.map(only, x, is_leaf=is_box) for x in (state, fresh))
    if jax.tree.structure(ours) != jax.tree.structure(theirs):
        found, expected = described(ours), described(theirs)
        for path in [*expected, *found]:
            if (path in found) != (path in expected):
                got, want = found.get(path, "nothing"), expected.get(path, "nothing")
                raise misfit(who, path, want, got)
        got, want = str(jax.tree.structure(ours)), str(jax.tree.structure(theirs))
        raise misfit(who, (), want, got)
    rows = jax.tree_util.tree_leaves_with_path(ours)
    return [
        (path, x, y) for (path, x), y in zip(rows, jax.tree.leaves(theirs), strict=True)
    ]


def misfit(who: str, path: Any, want: str, got: str) -> ValueError:
    """The error for a state that is not of the parameters."""
    place = f" at {path}" if isinstance(path, str) else at_path(path)
    return ValueError(
        f"{who}: expected {want}, got {got}{place}; was the state made by this "
        "transformation for these params?"
    )
