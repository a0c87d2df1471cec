"""Masks and labels: what a tree, a function or a rule on paths says of each leaf."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from adamx._align import at_path
from adamx._base import Params, describe


def by_path(rule: Callable[[str], Any] | Mapping[str, Any]) -> Callable[[Params], Any]:
    """Makes a mask, labels or numbers from the names of parameters.

    For every argument that takes a function from parameters.

    Args:
      rule: From a path such as "dense/kernel" to True or False, to a label or to a
        number; or a dictionary from regular expressions to such answers. Of these the
        first that is found anywhere in the path answers, so r"" last is for all others.
        The `.value` of a Flax variable is not part of the path.

    Returns:
      A function from parameters to a tree of answers like them.

    Raises:
      TypeError: `rule` is neither; a key that is no string.
      ValueError: No regular expression, or r"" before others; when called, a parameter
        that none of them matches, or one of them that matches no parameter, be it one
        left out by `masked`.

    Example:
      >>> mask = adamx.by_path(lambda path: not path.endswith("bias"))
      >>> params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
      >>> mask(params)
      {'dense': {'bias': False, 'kernel': True}}
      >>> adamx.by_path({r"bias$": "slow", r"": "fast"})(params)
      {'dense': {'bias': 'slow', 'kernel': 'fast'}}
    """
    if isinstance(rule, Mapping):
        found = first_match("by_path", rule)
        return lambda params: jax.tree.structure(params).unflatten(found(params))
    if not callable(rule):
        raise TypeError(
            "by_path: expected rule as a function or a dictionary from regular "
            f"expressions, got {describe(rule)}."
        )
    return by_leaf(lambda names, shape: rule("/".join(names)))


def first_match(who: str, rule: Mapping[str, Any]) -> Callable[[Params], list[Any]]:
    """Gives the function from a tree to the answer of the first match for each leaf."""
    patterns = [(compiled(who, pattern), answer) for pattern, answer in rule.items()]
    have = ", ".join(map(repr, rule))
    if not patterns:
        raise ValueError(f"{who}: expected regular expressions, got none.")
    if "" in [pattern.pattern for pattern, _ in patterns[:-1]]:
        raise ValueError(
            f"{who}: expected '' as the last regular expression, got {have}; it "
            "matches everything."
        )

    def answers(params: Params) -> list[Any]:
        found, used = [], set()
        everything = places(params)
        for _, names, leaf in everything:
            path = "/".join(names)
            hits = [i for i, (x, _) in enumerate(patterns) if x.search(path)]
            used.update(hits)
            if is_hole(leaf):
                continue
            if not hits:
                raise ValueError(
                    f"{who}: no regular expression matches {path!r}; have {have}; add "
                    "'' last, for all others."
                )
            found.append(patterns[hits[0]][1])
        # Nothing can be said of a tree without leaves, nor of what a hole of another
        # library stands for, which may be many leaves.
        certain = found and all(map(hides_at_most_a_leaf, everything))
        for i, (pattern, _) in enumerate(patterns):
            if certain and pattern.pattern and i not in used:
                paths = ", ".join(repr("/".join(names)) for _, names, _ in everything)
                raise ValueError(
                    f"{who}: {pattern.pattern!r} matches no parameter; have {paths}."
                )
        return found

    return answers


def compiled(who: str, pattern: Any) -> re.Pattern[str]:
    """A regular expression, checked."""
    try:
        found = re.compile(pattern)
        found.search("")
    except re.error as error:
        raise ValueError(
            f"{who}: expected a regular expression, got {pattern!r}: {error}."
        ) from None
    except TypeError:
        raise TypeError(
            f"{who}: expected a regular expression as a string, got {pattern!r}."
        ) from None
    return found


def hides_at_most_a_leaf(place: tuple[Any, tuple[str, ...], Any]) -> bool:
    """Whether a place is no hole of another library, which may hide a whole tree."""
    return type(place[2]).__module__ in ("builtins", "adamx._masking") or not is_hole(
        place[2]
    )


def by_leaf(
    rule: Callable[[tuple[str, ...], tuple[int, ...]], Any],
) -> Callable[[Params], Any]:
    """Makes a mask or labels from the names on the path to each leaf and its shape."""

    def answers(params: Params) -> Any:
        found = [
            rule(names, np.shape(leaf))
            for _, names, leaf in places(params)
            if not is_hole(leaf)
        ]
        return jax.tree.structure(params).unflatten(found)

    return answers


def rule_for(
    who: str,
    name: str,
    rule: Any,
    check: Callable[[str, Any, str], Any],
    is_answer: Callable[[Any], bool] | None = None,
) -> Callable[[Any], list[Any]]:
    """Gives the function from a tree to the rule's answer for each of its leaves.

    `check(who, answer, where)` returns an answer or raises. A tree is checked here and
    now; a function is asked, in `init` and in `update`, about shapes without
    values, dtypes or boxes, so that both times it gives the same answers. `is_answer`
    tells answers from nodes of the tree where they are tuples.
    """
    fixed = None
    if not (callable(rule) and jax.tree_util.all_leaves([rule])):
        fixed = entries(who, rule, check, is_answer)

    def answers(tree: Any) -> list[Any]:
        given = fixed
        if given is None:
            given = entries(who, rule(shapes_of(tree)), check, is_answer)
        found, used = [], set()
        everything = places(tree)
        for path, place, leaf in everything:
            if is_hole(leaf):
                continue
            covers = [place[:n] for n in range(len(place) + 1) if place[:n] in given]
            if not covers:
                names = ", ".join(map("/".join, given))
                raise ValueError(
                    f"{who}: expected {name} to cover the parameters, got nothing"
                    f"{at_path(path)}; have {names or 'nothing'}."
                )
            used.add(covers[0])
            found.append(given[covers[0]])
        empty = [place for _, place, leaf in everything if is_hole(leaf)]
        unused = [
            place
            for place in given
            if place not in used and not any(overlap(place, hole) for hole in empty)
        ]
        # Nothing can be said of a tree without leaves, such as Optax's placeholders.
        if unused and found:
            raise ValueError(
                f"{who}: expected {name} like the parameters, got an answer for "
                f"{'/'.join(unused[0])!r}, which they do not have."
            )
        return found

    return answers


def entries(
    who: str,
    rule: Any,
    check: Callable[[str, Any, str], Any],
    is_answer: Callable[[Any], bool] | None,
) -> dict[Any, Any]:
    """The answers of a tree by path, checked."""
    known = is_answer or (lambda x: False)
    return {
        place: check(who, answer, at_path(path))
        for path, place, answer in places(rule, known)
        if known(answer) or not is_hole(answer)
    }


def as_bool(who: str, answer: Any, where: str) -> bool:
    """An answer of a mask, checked."""
    concrete = not isinstance(answer, Tracer)
    if concrete and np.ndim(answer) == 0 and np.asarray(answer).dtype == bool:
        return bool(answer)
    raise TypeError(
        f"{who}: expected True or False in the mask, got {describe(answer)}{where}."
    )


VALUE = jax.tree_util.GetAttrKey("value")


def places(
    tree: Any, is_leaf: Callable[[Any], bool] = lambda x: False
) -> list[tuple[Any, tuple[str, ...], Any]]:
    """The path, the names on it and the leaf (or hole) of each place in a tree.

    An only child called `value` is what a Flax variable boxes: it has no name.
    """
    leaves = jax.tree_util.tree_leaves_with_path(
        tree, is_leaf=lambda x: is_leaf(x) or is_hole(x)
    )
    siblings: dict[Any, set[Any]] = {}
    for path, _ in leaves:
        for n, key in enumerate(path):
            siblings.setdefault(path[:n], set()).add(key)

    def names(path: Any) -> tuple[str, ...]:
        return tuple(
            jax.tree_util.keystr((key,), simple=True)
            for n, key in enumerate(path)
            if siblings[path[:n]] != {VALUE}
        )

    return [(path, names(path), leaf) for path, leaf in leaves]


def overlap(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether one place is inside the other, or the same."""
    return all(x == y for x, y in zip(a, b, strict=False))


def is_hole(x: Any) -> bool:
    """Whether x is `None` or an empty tuple, such as MaskedNode() or Optax's."""
    return x is None or (isinstance(x, tuple) and not x)


def shapes_of(tree: Any) -> Any:
    """The tree with every leaf, or variable that boxes one, replaced by its shape."""

    def shape(x: Any) -> Any:
        (x,) = jax.tree.leaves(x)
        return jax.ShapeDtypeStruct(np.shape(x), jnp.float32)

    return jax.tree.map(shape, tree, is_leaf=is_box)


def is_box(x: Any) -> bool:
    """Whether x is a node around one array, as Flax's variables are."""
    content = contents_of(x)
    return len(content) == 1 and jax.tree_util.all_leaves(content)


def is_boxed_hole(x: Any) -> bool:
    """Whether x is such a node around a hole."""
    return any(map(is_hole, contents_of(x)))


def contents_of(x: Any) -> list[Any]:
    """The one child of a node that has only this, called `value`."""
    children = jax.tree_util.tree_leaves_with_path(x, is_leaf=lambda y: y is not x)
    only_value = [path for path, _ in children] == [(VALUE,)]
    return [child for _, child in children] if only_value else []
