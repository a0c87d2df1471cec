"""A training program for one process or several, each with a part of the devices.

    python tests/processes.py FOLDER PROCESSES NUMBER PORT

Trains a network on the digits with ZeRO-1 over four devices, in both forms; in four
processes in one. Each reads its own rows of a batch. The first writes what came out.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # read when jax is imported
    FOLDER, PROCESSES, NUMBER = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    count = 4 // PROCESSES
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits

import adamx
from adamx.interop.orbax import restore, save_args

DEVICES, STEPS, BATCH = 4, 12, 32
FORMS = ("shardings", "wrapper")


def init(rng):
    """Parameters: the same in all processes, since the seed is."""
    return {
        "w1": np.float32(rng.normal(size=(64, 48)) / 8),
        "b1": np.zeros(48, np.float32),
        "w2": np.float32(rng.normal(size=(48, 10)) / 7),
        "b2": np.zeros(10, np.float32),
    }


def optimizer():
    schedule = adamx.cosine_decay_schedule(3e-2, STEPS)
    return adamx.chain(adamx.clip_by_global_norm(1.0), adamx.adamw(schedule))


def loss(params, batch):
    x, y = batch
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
    logits = jax.nn.log_softmax(hidden @ params["w2"] + params["b2"])
    return -jnp.mean(jnp.sum(logits * jax.nn.one_hot(y, 10), axis=1))


def train(mesh, form):
    images, labels = load_digits(return_X_y=True)
    images, labels = np.float32(images / 16), np.int32(labels)
    by_rows = NamedSharding(mesh, P("data"))
    rng = np.random.default_rng(0)
    params = jax.device_put(init(rng), NamedSharding(mesh, P()))
    tx = inner = optimizer()
    if form == "wrapper":
        tx = adamx.zero1(inner, mesh)

    def step(params, state, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state, value

    if form == "wrapper":
        state, step = tx.init(params), jax.jit(step, donate_argnums=(0, 1))
    else:
        shardings = adamx.state_shardings(inner, params, zero1="data")
        state = jax.jit(inner.init, out_shardings=shardings)(params)
        step = adamx.jit_step(step, params, shardings)
    losses = []
    for _ in range(STEPS):
        rows = rng.choice(len(labels), BATCH, replace=False)
        rows = np.array_split(rows, PROCESSES)[NUMBER]
        batch = tuple(
            jax.make_array_from_process_local_data(by_rows, x[rows])
            for x in (images, labels)
        )
        params, state, value = step(params, state, batch)
        losses.append(float(value))
    held = sum(s.data.nbytes for s in state[1][0].mu["w1"].addressable_shards)
    assert held * PROCESSES == 64 * 48 * 4, "the state is not split"
    if form == "shardings" and PROCESSES == 2:
        check_saved(params, state, inner, shardings)
    return losses, params, multihost_utils.process_allgather(state, tiled=True)


def check_saved(params, state, tx, shardings):
    """Saves together with the other processes; each restores its own part."""
    with ocp.CheckpointManager(FOLDER / f"saved-{PROCESSES}") as manager:
        manager.save(STEPS, args=save_args(params, state))
        new = restore(manager, tx, params, shardings=shardings)
    for x, y in zip(*map(jax.tree.leaves, (new, (params, state))), strict=True):
        assert x.sharding == y.sharding, "restored to another place"
        for a, b in zip(x.addressable_shards, y.addressable_shards, strict=True):
            np.testing.assert_array_equal(a.data, b.data)


def main():
    if PROCESSES > 1:
        address = f"localhost:{sys.argv[4]}"
        jax.distributed.initialize(
            address, PROCESSES, NUMBER, initialization_timeout=60
        )
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
    for form in FORMS[: 1 if PROCESSES == 4 else 2]:
        losses, params, state = train(mesh, form)
        if NUMBER == 0:
            leaves = map(np.asarray, jax.tree.leaves((params, state)))
            np.savez(FOLDER / f"{form}-{PROCESSES}.npz", losses, *leaves)
    if PROCESSES > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main()
