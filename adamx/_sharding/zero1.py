"""ZeRO-1 as a wrapper around a transformation."""

from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding

from adamx._align import counterparts
from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Updates,
    is_float0,
)
from adamx._chain import as_transformation
from adamx._compiled import is_array
from adamx._sharding.layout import Axes
from adamx._sharding.plan import Plan, planned
from adamx._sharding.specs import axes_of_params, check_mesh, on
from adamx._sharding.states import placed


def zero1(
    inner: GradientTransformation, mesh: Mesh, axis: str = "data", *, specs: Any = None
) -> GradientTransformation:
    """Splits the state and the work of a transformation over the devices of an axis.

        g, p, state = each device's part of them
        u, state    = inner(g, state, p)
        u           = gathered, as p lies

    The drop-in form of ZeRO-1, around a whole optimizer: the training loop stays as it
    is. Devices that hold the same parameters compute each a part of the updates, of the
    same values, and keep that part of the state. Under `jax.jit`, XLA sums gradients
    and gathers updates, an all-gather for each parameter; element by element nothing
    else is sent. Norms cost a sum over devices; products of matrices, as of `muon`,
    gather their operands.

    `state_shardings(..., zero1=axis)` has the shardings of its states, and with
    `jit_step` does the same without a wrapper.

    Args:
      inner: The transformation, of adamx or Optax.
      mesh: The mesh, with axes that are all Auto or all Explicit.
      axis: The mesh axis to split over, that of the data.
      specs: As in `state_shardings`: how parameters lie that are not whole on each
        device. Inside of a jit nothing else says it, unless the axes are Explicit.

    Returns:
      A transformation. State: that of `inner`. Updates lie as the parameters do.

    Raises:
      ValueError: An axis that the mesh has not, or axes of both kinds; specs that do
        not fit the parameters; at update, a state that is not of `inner`.
      TypeError: `inner` is no transformation, `mesh` no mesh; specs of another kind.

    Example:
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> tx = adamx.zero1(adamx.adam(0.1), mesh)
      >>> params = {"w": jnp.ones((8, 4))}
      >>> state = tx.init(params)
      >>> print(*state[0].mu["w"].sharding.spec)
      data
      >>> updates, state = tx.update(params, state, params)
      >>> print(updates["w"].sharding.is_fully_replicated)
      True

    Reference: Rajbhandari et al., 2020, section 5, https://arxiv.org/abs/1910.02054
    """
    who = "zero1"
    inner = as_transformation(who, "inner", inner)
    check_mesh(who, mesh, axis)
    types = set(mesh.axis_types)
    if types not in ({AxisType.Auto}, {AxisType.Explicit}):
        raise ValueError(
            f"{who}: expected a mesh whose axes are all Auto or all Explicit, got "
            f"{on(mesh)}."
        )

    # On one whose axes are Explicit, the transformation runs as on this.
    auto = Mesh(mesh.devices, mesh.axis_names, (AxisType.Auto,) * len(mesh.shape))
    explicit = AxisType.Explicit in types

    def plan_of(state: OptState, like: Params) -> tuple[list[Axes], Plan]:
        own = axes_of_params(who, like, mesh, specs)
        return own, planned(who, inner.init, state, like, mesh, own, axis)

    def put(tree: Any, layouts: list[Axes], where: Mesh = auto) -> Any:
        leaves, treedef = jax.tree.flatten(tree)
        pairs = zip(leaves, layouts, strict=True)
        return treedef.unflatten([put_leaf(x, placed(where, a)) for x, a in pairs])

    def init(params: Params) -> OptState:
        state = inner.init(params)
        if not jax.tree.leaves(params):
            return state
        return put(state, plan_of(state, params)[1].state, mesh)

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        like = updates if params is None else params
        if not jax.tree.leaves(like):
            return inner.update(updates, state, params, **extra_args)
        own, plan = plan_of(state, like)
        ids = jax.tree.unflatten(jax.tree.structure(like), range(len(own)))
        moved = counterparts(who, updates, ids, "params")
        inside, outside = ([a[i] for i in moved] for a in (plan.params, own))

        def split(
            updates: Updates, state: OptState, params: Params, extra_args: Any
        ) -> tuple[Updates, OptState]:
            updates, state = inner.update(
                put(updates, inside),
                put(state, plan.state),
                None if params is None else put(params, plan.params),
                **extra_args,
            )
            # Split first: else XLA may gather what the updates are made of.
            return put(put(updates, inside), outside), put(state, plan.state)

        if not explicit:
            return split(updates, state, params, extra_args)
        updates = put(updates, inside, mesh)
        params = None if params is None else put(params, plan.params, mesh)
        places = [placed(mesh, axes) for axes in [*outside, *plan.state]]
        results = as_auto(split, places, updates, state, params, extra_args)
        return jax.tree.unflatten(jax.tree.structure((updates, state)), results)

    return GradientTransformation(init, update)


def put_leaf(x: Any, sharding: NamedSharding) -> Any:
    """An array where it should lie, inside of a jit or outside."""
    if is_float0(x):
        return x
    if not isinstance(x, Tracer):
        return jax.device_put(x, sharding)
    if AxisType.Explicit in sharding.mesh.axis_types:
        return jax.sharding.reshard(x, sharding)
    return jax.lax.with_sharding_constraint(x, sharding)


def as_auto(function: Any, places: list[NamedSharding], *args: Any) -> list[Any]:
    """The leaves of what a function returns that knows nothing of Explicit axes."""
    leaves, treedef = jax.tree.flatten(args)
    others = [Array if is_array(x) else x for x in leaves]

    def run(*arrays: Any) -> list[Any]:
        found = iter(arrays)
        full = [next(found) if x is Array else x for x in others]
        return jax.tree.leaves(function(*treedef.unflatten(full)))

    results: Any = jax.sharding.auto_axes(run, out_sharding=places)(
        *filter(is_array, leaves)
    )
    return results
