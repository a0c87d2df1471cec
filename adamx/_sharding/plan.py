"""Where every array of a state lies, from where the parameters do."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from adamx._base import Params
from adamx._parts import parts_of
from adamx._sharding.layout import Axes, along, sources, with_axis


class Plan(NamedTuple):
    """The layout of parameters and of a state, as lists of that of their leaves."""

    params: list[Axes]
    state: list[Axes]
    reasons: list[str]  # why an array of the state is not split as it should be


def planned(
    who: str,
    init: Callable[..., Any],
    state: Any,
    params: Params,
    mesh: Mesh,
    own: list[Axes],
    zero1: str | None,
) -> Plan:
    """The plan for a state that `init` made, with `zero1` split over one axis more."""
    rows = jax.tree_util.tree_leaves_with_path(state)
    parts = parts_of(who, init, jax.tree.structure(state), params)
    shapes = [np.shape(x) for x in jax.tree.leaves(params)]
    runs = [
        ()
        if part.place is None
        else sources(path, np.shape(x), part.whole, shapes[part.place])
        for (path, x), part in zip(rows, parts, strict=True)
    ]
    wide, unsplit = own, {}
    if zero1 is not None:
        beside: list[list[Any]] = [[] for _ in own]
        for (_, x), run, part in zip(rows, runs, parts, strict=True):
            if part.place is not None:
                beside[part.place].append((run, np.shape(x)))
        wide, unsplit = split_further(mesh, own, zero1, shapes, beside)
    layouts, reasons = [], []
    for (_, x), run, part in zip(rows, runs, parts, strict=True):
        shape = np.shape(x)
        if part.place is None:
            axes, reason = ((),) * len(shape), "belongs to no one parameter"
            reason = reason if zero1 else ""
        else:
            axes, reason = along(mesh, wide[part.place], run, shape)
            if zero1 and zero1 not in sum(axes, ()):
                lacks = f"has not the axis that {zero1!r} splits"
                reason = reason or unsplit.get(part.place, lacks)
        layouts.append(axes)
        reasons.append(reason if math.prod(shape) > 1 else "")
    return Plan(wide, layouts, reasons)


def split_further(
    mesh: Mesh, own: list[Axes], name: str, shapes: list[Any], beside: list[list[Any]]
) -> tuple[list[Axes], dict[int, str]]:
    """Layouts with one mesh axis more, and why some parameters have none."""
    wide, unsplit = [], {}
    for i, (axes, shape, arrays) in enumerate(zip(own, shapes, beside, strict=True)):
        split = with_axis(mesh, axes, name, shape, arrays)
        if split is None and with_axis(mesh, axes, name, shape, []):
            unsplit[i] = "groups that share a scale would cross devices"
        elif split is None:
            unsplit[i] = f"no free axis is a multiple of {mesh.shape[name]}"
        wide.append(split or axes)
    return wide, unsplit
