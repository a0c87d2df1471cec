"""The fields of a state that are trees like the parameters, and which are moments."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from adamx._fields import children, class_name, name_of
from adamx._rules import is_hole


class Field(NamedTuple):
    """What a state has under a name, its arrays and holes in a row."""

    place: str  # the names on the way to it: "0/mu"
    of: tuple[str | None, Any]  # the class that has it, and its name
    leaves: list[Any]
    treedef: Any


# What is known to be no mean of gradients, or of their squares, over a short time is
# left out: copies and averages of parameters, sums, and maxima, which rounding would
# let only grow.
SIGNED, POSITIVE = False, True
MOMENTS: dict[Any, bool | None] = {
    "mu": SIGNED,
    "mu_hat": SIGNED,
    "trace": SIGNED,
    "nu": POSITIVE,
    "nu_root": POSITIVE,
    ("ScaleByAdanState", "m"): SIGNED,
    ("ScaleByAdanState", "v"): SIGNED,
    ("ScaleByAdanState", "n"): POSITIVE,
    ("ScaleByAdemamixState", "m1"): SIGNED,
    ("ProdigyState", "exp_avg"): SIGNED,
    ("ProdigyState", "exp_avg_sq"): POSITIVE,
    ("FactoredState", "v"): POSITIVE,
    ("SophiaState", "nu"): None,  # of a Hessian, of any sign
    ("ScaleBySM3State", "nu"): None,  # the mean of what goes out, and not squared
    ("ScaleBySM3State", "mu"): None,  # maxima
}


def moment_kind(field: Field) -> bool | None:
    """Whether a moment is `POSITIVE` or `SIGNED`; None where it is no moment."""
    return MOMENTS.get(field.of, MOMENTS.get(field.of[1]))


def fields_of(state: Any) -> list[Field]:
    """The fields of the NamedTuples in a state and what else there is, in order."""

    def walk(node: Any, names: tuple[str, ...], of: Any) -> Iterator[Field]:
        if not has_fields(node):
            leaves, treedef = jax.tree.flatten(node, is_leaf=is_hole)
            yield Field("/".join(names), of, leaves, treedef)
            return
        for key, child in children(node):
            name = name_of(key)
            inner = (class_name(node), name) if class_name(node) else of
            place = jax.tree_util.keystr((key,), simple=True) if name is None else name
            yield from walk(child, (*names, str(place)), inner)

    return list(walk(state, (), (None, None)))


def has_fields(node: Any) -> bool:
    """Whether there are fields of NamedTuples in a node."""
    nodes = jax.tree.leaves(node, is_leaf=is_named)
    return any(map(is_named, nodes))


def is_named(x: Any) -> bool:
    """Whether x is a NamedTuple with fields."""
    return bool(getattr(x, "_fields", ()))
