"""Where an array lies on a mesh: for each of its axes, the mesh axes that split it."""

import math
from typing import Any

import numpy as np
from jax.sharding import Mesh, PartitionSpec

Axes = tuple[tuple[str, ...], ...]
Sources = tuple[int | None, ...]


def axes_of(spec: Any, ndim: int) -> Axes:
    """The mesh axes that split each of `ndim` axes."""
    entries = [*spec, *[None] * (ndim - len(spec))]
    return tuple(() if x is None else x if type(x) is tuple else (x,) for x in entries)


def spec_of(axes: Axes) -> PartitionSpec:
    """The spec, without the end that says nothing: that of what a program returns."""
    entries = [x[0] if len(x) == 1 else x or None for x in axes]
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries)


def pieces(mesh: Mesh, names: tuple[str, ...]) -> int:
    """Into how many pieces mesh axes split one axis."""
    return math.prod(mesh.shape[name] for name in names)


def divides(mesh: Mesh, names: tuple[str, ...], size: int) -> bool:
    """Whether mesh axes split an axis into pieces of one size."""
    return size % pieces(mesh, names) == 0


def sources(path: Any, shape: Any, whole: bool, like: Any) -> Sources:
    """For each axis of an array in a state the axis of its parameter it runs along.

    Known are arrays of the parameter's shape; means over some axes, which have size 1
    or are left out; and numbers for groups along the last axis. `whole` says that it
    is the one array of its tree for the parameter, whose shape is `like`.
    """
    if len(shape) == len(like):
        last = len(like) - 1
        return tuple(
            i if n == m or (i == last and 1 < n < m) else None
            for i, (n, m) in enumerate(zip(shape, like, strict=True))
        )
    place = getattr(path[-1], "idx", None) if path else None
    if not whole and len(shape) == 1 and place is not None:
        return (place,) if like[place : place + 1] == shape else (None,)
    left_out = [i for i in range(len(like)) if like[:i] + like[i + 1 :] == shape]
    if not left_out:
        return (None,) * len(shape)
    # Where axes have one size the order by size says which: a row lacks the largest.
    order = np.argsort(like, kind="stable")
    names = {getattr(key, "name", None) for key in path}
    likely = int(order[-1] if "v_row" in names else order[-2:][0])
    lacks = likely if likely in left_out else left_out[-1]
    return tuple(i for i in range(len(like)) if i != lacks)


def along(mesh: Mesh, axes: Axes, runs: Sources, shape: Any) -> tuple[Axes, str]:
    """The layout of an array beside its parameter's, and why it is not split so."""
    found, reason = [], ""
    for i, (source, size) in enumerate(zip(runs, shape, strict=True)):
        names = () if source is None else axes[source]
        if not divides(mesh, names, size):
            reason = f"axis {i} of {size} is no multiple of {pieces(mesh, names)}"
            names = ()
        found.append(names)
    return tuple(found), reason


def with_axis(
    mesh: Mesh, axes: Axes, name: str, shape: Any, groups: list[tuple[Sources, Any]]
) -> Axes | None:
    """The layout with one more mesh axis, on the first free axis that it divides.

    It must divide what runs along that axis in the state, too: groups that share a
    scale stay together. None where there is no such axis.
    """
    if any(name in names for names in axes):
        return axes
    for i, size in enumerate(shape):
        counts = [s[runs.index(i)] for runs, s in groups if i in runs]
        fits = all(divides(mesh, (name,), n) for n in [size, *counts])
        if size and not axes[i] and fits:
            return (*axes[:i], (name,), *axes[i + 1 :])
    return None
