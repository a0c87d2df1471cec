"""How parameters lie on a mesh: as their arrays do, or as specs say."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from adamx._align import at
from adamx._base import Params, describe
from adamx._rules import rule_for
from adamx._sharding.layout import Axes, axes_of, divides, pieces


def check_mesh(who: str, mesh: Any, axis: str | None = None) -> Mesh:
    """Returns the mesh; raises unless it is one of devices and has the axis."""
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"{who}: expected mesh as a jax.sharding.Mesh, got {describe(mesh)}; make "
            "it with jax.make_mesh."
        )
    if axis is not None and axis not in mesh.shape:
        have = ", ".join(map(repr, mesh.shape))
        raise ValueError(
            f"{who}: expected an axis of the mesh, got {axis!r}; have {have}."
        )
    return mesh


def mesh_of(who: str, mesh: Any, params: Params) -> Mesh:
    """The mesh, or that of the first parameter that lies on one."""
    if mesh is not None:
        return check_mesh(who, mesh)
    for x in jax.tree.leaves(params):
        sharding = named_sharding(x)
        if sharding is not None and isinstance(sharding.mesh, Mesh):
            return sharding.mesh
    raise ValueError(
        f"{who}: expected a mesh, got parameters without NamedShardings; give mesh, or "
        "place them with jax.device_put."
    )


def named_sharding(x: Any) -> NamedSharding | None:
    """How an array, or a shape with a sharding, lies on a mesh, if on one."""
    # Inside of a jit the types know it, of a mesh with Explicit axes.
    found = jax.typeof(x).sharding if isinstance(x, Tracer) else None
    found = getattr(x, "sharding", None) if found is None else found
    known = isinstance(found, NamedSharding) and not found.mesh.empty
    return found if known else None


def axes_of_params(who: str, params: Params, mesh: Mesh, specs: Any) -> list[Axes]:
    """The layout of each parameter: from specs, or else its own."""
    leaves = jax.tree.leaves(params)
    if specs is None:
        found = [own_spec(who, x, mesh, at(params, i)) for i, x in enumerate(leaves)]
    else:
        found = rule_for(who, "specs", specs, as_spec, is_spec)(params)
    return [
        checked(who, spec, np.shape(x), mesh, at(params, i))
        for i, (x, spec) in enumerate(zip(leaves, found, strict=True))
    ]


def own_spec(who: str, x: Any, mesh: Mesh, where: str) -> PartitionSpec:
    """The spec of an array; of one that is on no mesh that of a whole copy each."""
    sharding = named_sharding(x)
    if sharding is None:
        return PartitionSpec()
    if sharding.mesh.abstract_mesh != mesh.abstract_mesh or (
        isinstance(sharding.mesh, Mesh) and sharding.mesh != mesh
    ):
        raise ValueError(
            f"{who}: expected parameters on one mesh, {on(mesh)}, got "
            f"{on(sharding.mesh)}{where}; place them with jax.device_put, or give "
            "their shapes and specs."
        )
    return sharding.spec


def on(mesh: Any) -> str:
    """A mesh as it stands in a message."""
    names = [f"{name}={n}" for name, n in mesh.shape.items()]
    kinds = {AxisType.Auto: "Auto", AxisType.Explicit: "Explicit"}
    types = sorted({kinds.get(x, "Manual") for x in mesh.axis_types})
    devices = ""
    if isinstance(mesh, Mesh):
        ids = [device.id for device in mesh.devices.flat]
        devices = f" on devices {ids[0]} to {ids[-1]}"
    return f"({', '.join(names)}: {', '.join(types)}{devices})"


def is_spec(x: Any) -> bool:
    """Whether x is a PartitionSpec."""
    return isinstance(x, PartitionSpec)


def as_spec(who: str, answer: Any, where: str) -> PartitionSpec:
    """An answer of specs, checked."""
    if is_spec(answer):
        return answer
    raise TypeError(
        f"{who}: expected specs as jax.sharding.PartitionSpec, got "
        f"{describe(answer)}{where}."
    )


def checked(who: str, spec: Any, shape: Any, mesh: Mesh, where: str) -> Axes:
    """The layout that a spec says, of an array that can have it."""
    if len(spec) > len(shape):
        raise ValueError(
            f"{who}: expected a spec for {len(shape)} axes, got {spec}{where}."
        )
    axes = axes_of(spec, len(shape))
    for size, names in zip(shape, axes, strict=True):
        for name in names:
            check_mesh(who, mesh, name)
        if not divides(mesh, names, size):
            raise ValueError(
                f"{who}: expected axes that their mesh axes divide, got {spec} for "
                f"{list(shape)}{where}: {size} is no multiple of "
                f"{pieces(mesh, names)}."
            )
    return axes
