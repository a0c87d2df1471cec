"""States in the memory of the host, in a process that a mistake may end.

    python tests/offloaded.py DEVICES [by-hand]

Trains the same model with its state on the device and in pinned_host memory, and prints
what it saw as JSON. `by-hand` donates such a state without `jit_step`.
"""

import json
import os
import resource
import sys

if __name__ == "__main__":  # read when jax is imported
    DEVICES = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # nothing is left of an abort
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"

import jax
import jax.numpy as jnp
import numpy as np
from meshes import AUTO, EXPLICIT, axes, collectives, make_mesh, on

import adamx

STEPS = 4
PARAMS = {
    "w": np.linspace(-1, 1, 128, dtype="f4").reshape(16, 8),
    "b": np.ones(8, "f4"),
}
BATCH = np.linspace(0, 1, 128, dtype="f4").reshape(8, 16)


def step_of(tx):
    """A step that also returns the updates, which have the shapes of the state."""

    def step(params, state, batch):
        def loss(params):
            return jnp.mean((jnp.tanh(batch @ params["w"]) + params["b"]) ** 2)

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state, (value, updates)

    return step


def idle():
    """A transformation that reads nothing of its state."""

    def update(updates, state, params=None, **extra_args):
        return updates, jax.tree.map(lambda g: 2 * g, updates)

    init = adamx.trace(0.9).init
    return adamx.GradientTransformation(lambda params: init(params)[0], update)


def trained(tx, mesh, memory_kind, commit):
    """Parameters, the last state, whether the old ones are gone, and what is sent."""
    params = jax.device_put(PARAMS, on(mesh))
    shardings = adamx.state_shardings(tx, params, zero1="data", memory_kind=memory_kind)
    state = jax.jit(tx.init, out_shardings=shardings)(params)
    batch = jax.device_put(BATCH, on(mesh)) if commit else jnp.asarray(BATCH)
    step = adamx.jit_step(step_of(tx), params, shardings)
    sent = collectives(step.lower(params, state, batch).compile())
    for _ in range(STEPS):
        old = params, state
        params, state, aux = step(params, state, batch)
        jax.block_until_ready(aux)
    gone = all(x.is_deleted() for x in jax.tree.leaves(old))
    return params, state, gone, sent


def kinds(tree):
    return sorted({x.sharding.memory_kind for x in jax.tree.leaves(tree)})


def same(a, b):
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def main():
    seen = []
    for kind in (AUTO, EXPLICIT):
        mesh = make_mesh(kind, (DEVICES,))
        for tx in (adamx.adamw(0.1), idle()):
            for commit in (True, False) if kind is AUTO else (True,):
                params, state, _, sent = trained(tx, mesh, "device", commit)
                got = trained(tx, mesh, "pinned_host", commit)
                arrays = [x for x in jax.tree.leaves(got[1]) if x.ndim]
                scalars = [x for x in jax.tree.leaves(got[1]) if not x.ndim]
                seen.append(
                    {
                        "same": same((params, state), got[:2]),
                        "params": kinds(got[0]),
                        "state": kinds(arrays),
                        "scalars": kinds(scalars),
                        "split": [axes(x.sharding, x.ndim)[0] for x in arrays],
                        "gone": got[2],
                        "sent": sent == got[3],
                    }
                )
    print(json.dumps(seen))


def by_hand():
    """What jit_step is for: the state alone donated, and updates returned."""
    tx, mesh = adamx.adamw(0.1), make_mesh(AUTO, (DEVICES,))
    params = jax.device_put(PARAMS, on(mesh))
    host = adamx.state_shardings(tx, params, memory_kind="pinned_host")
    device = adamx.state_shardings(tx, params)
    state = jax.jit(tx.init, out_shardings=host)(params)

    def update(grads, state, params):
        updates, state = tx.update(grads, jax.device_put(state, device), params)
        return updates, jax.device_put(state, host)

    jax.block_until_ready(jax.jit(update, donate_argnums=1)(params, state, params))


if __name__ == "__main__":
    by_hand() if sys.argv[2:] == ["by-hand"] else main()
