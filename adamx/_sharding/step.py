"""A training step as one program that leaves everything where it lies."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding

from adamx._align import described, path_name
from adamx._base import Params, describe
from adamx._sharding.specs import named_sharding, on


def jit_step(step: Callable[..., Any], params: Params, shardings: Any) -> Any:
    """Compiles a training step after which everything lies where it was.

        params, state, aux = step(params, state, batch)

    With `jax.jit` alone parameters take over the sharding of a state that is split, and
    the next step is compiled anew for them. Here both stay where they are, and new ones
    take the memory of the old ones, which must not be used again. What of the state is
    in `pinned_host` memory is on the device during the step only.

    Args:
      step: From parameters, a state on the devices and a batch, any tree of arrays, to
        new parameters, a new state, of the same shapes and dtypes, and a tree of
        anything else, such as a loss.
      params: The parameters, or shapes with shardings, on the mesh of `shardings`.
      shardings: From `state_shardings`.

    Returns:
      The step as `jax.jit` returns it. It takes a state like `shardings` that lies
      where these say, and raises ValueError otherwise.

    Raises:
      ValueError: Parameters that do not lie on the mesh; when traced, results of
        another kind.
      TypeError: `step` is no function, `shardings` no shardings.

    A host state that is donated by hand to a program for one device may end the whole
    process without an exception, where results on the device have the shapes of the
    state. Here all results have a place that is known, so that none takes the memory of
    another kind.

    Example:
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> whole = jax.NamedSharding(mesh, jax.P())
      >>> params = jax.device_put({"w": jnp.ones((8, 4))}, whole)
      >>> tx = adamx.adam(0.1)
      >>> shardings = adamx.state_shardings(tx, params, memory_kind="pinned_host")
      >>> state = jax.jit(tx.init, out_shardings=shardings)(params)
      >>> def step(params, state, batch):
      ...     loss = lambda p: jnp.mean((p["w"] - batch) ** 2)
      ...     value, grads = jax.value_and_grad(loss)(params)
      ...     updates, state = tx.update(grads, state, params)
      ...     return adamx.apply_updates(params, updates), state, value
      >>> step = adamx.jit_step(step, params, shardings)
      >>> params, state, value = step(params, state, jnp.zeros((8, 4)))
      >>> print(value, state[0].mu["w"].sharding.memory_kind)
      1.0 pinned_host
    """
    who = "jit_step"
    if not callable(step):
        raise TypeError(f"{who}: expected step as a function, got {describe(step)}.")
    for path, x in jax.tree_util.tree_leaves_with_path(shardings):
        if not isinstance(x, NamedSharding):
            raise TypeError(
                f"{who}: expected a tree of NamedSharding, got {describe(x)} at "
                f"{path_name(path)}; make it with adamx.state_shardings."
            )
    own = places_of(who, params, shardings)

    def run(params: Params, state: Any, batch: Any) -> tuple[Params, Any, Any]:
        results = step(params, jax.tree.map(to_device, state, shardings), batch)
        if not isinstance(results, tuple) or len(results) != 3:
            got = f"{len(results)} results" if isinstance(results, tuple) else "one"
            raise ValueError(
                f"{who}: expected step to return (params, state, aux), got {got}; put "
                "into aux what else there is."
            )
        new_params, new_state, aux = results
        check_types(who, "params", new_params, params)
        check_types(who, "state", new_state, state)
        return new_params, jax.tree.map(to_place, new_state, shardings), aux

    return jax.jit(
        run,
        donate_argnums=(0, 1),
        in_shardings=(own, shardings, None),
        out_shardings=(own, shardings, None),
        # A state that is not read would leave its results the memory of others.
        keep_unused=True,
    )


def places_of(who: str, params: Params, shardings: Any) -> Any:
    """The shardings of the parameters, on the mesh of those of the state."""
    meshes = {x.mesh for x in jax.tree.leaves(shardings)}

    def place(path: Any, x: Any) -> NamedSharding:
        found = named_sharding(x)
        if found is None or not meshes <= {found.mesh}:
            want = " or ".join(map(on, meshes)) or "a mesh"
            got = "none" if found is None else on(found.mesh)
            raise ValueError(
                f"{who}: expected parameters on {want}, got {got} at "
                f"{path_name(path)}; place them with jax.device_put."
            )
        return found

    return jax.tree_util.tree_map_with_path(place, params)


def is_away(sharding: NamedSharding) -> bool:
    """Whether a sharding is in another memory than that of the device."""
    return sharding.memory_kind not in (None, "device")


def to_device(x: Any, sharding: NamedSharding) -> Any:
    """An array of the state for the step."""
    if not is_away(sharding):
        return x
    return jax.device_put(x, sharding.with_memory_kind("device"))


def to_place(x: Any, sharding: NamedSharding) -> Any:
    """An array of the new state after it."""
    return jax.device_put(x, sharding) if is_away(sharding) else x


def check_types(who: str, name: str, new: Any, old: Any) -> None:
    """Raises unless what a step returns has the types of what it took."""
    ours, theirs = described(new), described(old)
    for path in [*theirs, *ours]:
        got, want = ours.get(path, "nothing"), theirs.get(path, "nothing")
        if got != want:
            raise ValueError(
                f"{who}: expected step to keep the types of {name}, {want}, got {got} "
                f"at {path}."
            )
