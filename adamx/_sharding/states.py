"""Shardings for the arrays of a state."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from adamx._align import path_name
from adamx._base import Params, check_choice
from adamx._chain import as_transformation
from adamx._sharding.layout import Axes, spec_of
from adamx._sharding.plan import Plan, planned
from adamx._sharding.specs import axes_of_params, check_mesh, mesh_of

HOST = "pinned_host"
KINDS = ("device", HOST)


class WholeArray(NamedTuple):
    """An array of a state that is not split as it should be."""

    path: str
    shape: tuple[int, ...]
    reason: str


class ShardingReport(NamedTuple):
    """What a state costs, in all and on each device, and what of it is not split."""

    nbytes: int
    nbytes_per_device: int
    whole: list[WholeArray]


def state_shardings(
    tx: Any,
    params: Params,
    mesh: Mesh | None = None,
    *,
    specs: Any = None,
    zero1: str | None = None,
    memory_kind: str = "device",
) -> Any:
    """Makes the shardings of a state from those of the parameters.

    An array of the shape of its parameter lies as this does; means over rows or columns
    and scales of codes as what they are of; everything else, such as counters, is whole
    on each device. With `zero1` what belongs to a parameter is split over one mesh axis
    more, on the first axis of the parameter that is free and a multiple of it: ZeRO-1.
    What cannot be split so stays whole: `sharding_report` lists it. Groups of codes
    that share a scale stay together: of 768 entries in groups of 128 eight devices have
    none whole, of those in groups of 96 one each.

        state = jax.jit(tx.init, out_shardings=shardings)(params)
        step = adamx.jit_step(step, params, shardings)

    and to restore a checkpoint onto the mesh, whatever mesh it is from, with
    `jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=...)` for each array.

    Args:
      tx: The transformation, of adamx or Optax.
      params: Arrays that lie on a mesh, or shapes with such shardings; or, with `mesh`,
        any arrays or shapes, where those without a NamedSharding are whole on each
        device.
      mesh: The mesh; None takes that of the parameters.
      specs: How the parameters lie, if not as they say themselves: a tree of
        `PartitionSpec` like the parameters, a prefix of one, a function from shapes to
        such a tree, or `by_path(rule)`.
      zero1: The mesh axis of the data, for ZeRO-1; None splits no further.
      memory_kind: "device", or "pinned_host", for a state that `jit_step` streams:
        then all but scalars is in the memory of the host.

    Returns:
      A tree like the state, of `NamedSharding`.

    Raises:
      ValueError: No mesh, or an axis that it has not; parameters on several meshes;
        specs that do not fit the parameters; a memory that the devices do not have.
      TypeError: `tx` is no transformation, `mesh` no mesh; specs of another kind.

    Example:
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> params = {"w": jnp.ones((8, 4)), "b": jnp.ones(4)}
      >>> shardings = adamx.state_shardings(adamx.adam(0.1), params, mesh, zero1="data")
      >>> print(*shardings[0].mu["w"].spec, *shardings[0].count.spec)
      data

    Reference: Rajbhandari et al., 2020, section 5, https://arxiv.org/abs/1910.02054
    """
    who = "state_shardings"
    state, mesh, plan = plan_for(who, tx, params, mesh, specs, zero1)
    check_choice(who, "memory_kind", memory_kind, KINDS)
    if memory_kind == HOST and HOST not in memory_kinds(mesh):
        raise ValueError(
            f"{who}: expected devices with {HOST} memory, got devices with "
            f"{', '.join(memory_kinds(mesh))}; leave out memory_kind."
        )
    return jax.tree.structure(state).unflatten(
        [
            placed(mesh, axes, memory_kind if x.ndim else "device")
            for x, axes in zip(jax.tree.leaves(state), plan.state, strict=True)
        ]
    )


def sharding_report(
    tx: Any,
    params: Params,
    mesh: Mesh | None = None,
    *,
    specs: Any = None,
    zero1: str | None = None,
) -> ShardingReport:
    """Computes what a state costs on each device, and what of it could not be split.

    From shapes alone: nothing is allocated.

    Args:
      tx: The transformation, of adamx or Optax.
      params: As in `state_shardings`.
      mesh: As in `state_shardings`.
      specs: As in `state_shardings`.
      zero1: As in `state_shardings`.

    Returns:
      A `ShardingReport`: `nbytes`, `nbytes_per_device`, and `whole`, with the path, the
      shape and the reason for each array that is not split as its parameter is or, with
      `zero1`, not over that axis. Scalars are not listed.

    Raises:
      ValueError: As in `state_shardings`.
      TypeError: As in `state_shardings`.

    Example:
      >>> params = {"w": jnp.ones((8, 4), jnp.float32), "b": jnp.ones(3, jnp.float32)}
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> adamx.sharding_report(adamx.sgd(0.1, 0.9), params, mesh, zero1="data")
      ShardingReport(nbytes=140, nbytes_per_device=140, whole=[])
    """
    state, mesh, plan = plan_for("sharding_report", tx, params, mesh, specs, zero1)
    rows = jax.tree_util.tree_leaves_with_path(state)
    total, each, whole = 0, 0, []
    for (path, x), axes, reason in zip(rows, plan.state, plan.reasons, strict=True):
        size = bytes_of(x)
        total += size
        n = math.prod(mesh.shape[name] for names in axes for name in names)
        each += size // n
        if reason:
            whole.append(WholeArray(path_name(path), x.shape, reason))
    return ShardingReport(total, each, whole)


def plan_for(
    who: str, tx: Any, params: Params, mesh: Any, specs: Any, zero1: str | None
) -> tuple[Any, Mesh, Plan]:
    """The shapes of a state, the mesh, and the plan."""
    tx = as_transformation(who, "tx", tx)
    mesh = mesh_of(who, mesh, params)
    if zero1 is not None:
        check_mesh(who, mesh, zero1)
    own = axes_of_params(who, params, mesh, specs)
    # Without their shardings, which would ask for a mesh to compute on.
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)), params
    )
    state = jax.eval_shape(tx.init, shapes)
    return state, mesh, planned(who, tx.init, state, params, mesh, own, zero1)


def placed(mesh: Mesh, axes: Axes, memory_kind: str | None = None) -> NamedSharding:
    """The sharding for a layout."""
    return NamedSharding(mesh, spec_of(axes), memory_kind=memory_kind)


def memory_kinds(mesh: Mesh) -> list[str]:
    """The memories of the devices of a mesh, as far as this process sees them."""
    seen = [x.kind for d in mesh.local_devices[:1] for x in d.addressable_memories()]
    return seen or list(KINDS)


def bytes_of(x: Any) -> int:
    """The bytes of an array of a state."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.eval_shape(jax.random.key_data, x)
    return math.prod(x.shape) * x.dtype.itemsize
