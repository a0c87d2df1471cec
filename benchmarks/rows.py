"""Measures Adam on rows of a table beside Optax's dense step and PyTorch's SparseAdam.

A step of adamx sums the gradients of equal ids, updates and applies, in one jitted
program with table and state donated: "adamx" is that of `fused_adam`, "on_rows" that of
`on_rows(adam(...))`, which any optimizer has. Optax's is given a dense gradient;
PyTorch's makes its sparse tensor and calls `torch.optim.SparseAdam`, on as many
threads. "touch" only adds to the rows of three tables, with ids that are sorted
already: what XLA's reading and writing of them costs. All run in this process, in turn
and back, on ids that change from step to step; quotients are medians over pairs.

    python benchmarks/rows.py [--quick] [--json PATH]

Exits with 1 if adamx breaks one of `LIMITS` on the first table.
"""

import argparse
import functools
import itertools
import os
import statistics
import sys
import warnings
from pathlib import Path

# PyTorch's threads wait for each other in loops, which take from JAX's, and theirs,
# the processor: asleep they are up to 40 times as fast in one process with JAX.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from report import begin, finish, show
from timing import interleave, ratio, seconds

import adamx

LIMITS = {
    "optax": 0.05,  # time of a step over that of Optax's dense one
    "torch": 0.5,  # over that of SparseAdam
    "temporary": 0.01,  # bytes beyond the arguments, over those of the table
    "copied": 0.0,  # of table and state, what is not updated in place
}
RATE = 1e-3
BATCHES = 8
TABLES = {  # rows of the table, their width, ids in a step
    "1M x 64, 4096 ids": (1_000_000, 64, 4096),
    "1M x 64, 65536 ids": (1_000_000, 64, 65_536),
    "4M x 16, 4096 ids": (4_000_000, 16, 4096),
}


def batches(rows, width, ids):
    """Ids, of which some come twice or more, and the gradients of their rows."""
    rng = np.random.default_rng(0)
    for _ in range(BATCHES):
        found = rng.integers(0, rows, ids)
        found[: ids // 8] = found[ids // 8 : ids // 4]
        yield found, rng.standard_normal((ids, width), dtype=np.float32)


def fused(shape, data):
    """A function that makes step i, and what XLA plans for one."""
    tx = adamx.fused_adam(RATE)
    return sparse_steps(tx.init, tx.step, shape, data)


def on_rows(shape, data):
    """The same of the transformation that any optimizer has."""
    tx = adamx.on_rows(adamx.adam(RATE))

    def step(table, rows, state):
        updates, state = tx.update(rows, state, table)
        return adamx.apply_updates(table, updates), state

    return sparse_steps(tx.init, step, shape, data)


def sparse_steps(init, step, shape, data):
    """The same of a step that takes `SparseRows`."""
    table = jnp.zeros(shape)
    state = init(table)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def jitted(table, state, ids, values):
        return step(table, adamx.sum_rows(ids, values, shape[0]), state)

    arrays = [(jnp.asarray(i, jnp.int32), jnp.asarray(v)) for i, v in data]
    plan = jitted.lower(table, state, *arrays[0]).compile().memory_analysis()

    def run(i):
        nonlocal table, state
        table, state = jax.block_until_ready(jitted(table, state, *arrays[i]))

    return run, plan


def dense(shape, data):
    """The same of Optax's Adam, whose gradient is of the size of the table."""
    del data
    tx = optax.adam(RATE)
    table, grads = jnp.zeros(shape), jnp.ones(shape)
    state = tx.init(table)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(table, state, grads):
        updates, state = tx.update(grads, state, table)
        return optax.apply_updates(table, updates), state

    plan = step.lower(table, state, grads).compile().memory_analysis()

    def run(i):
        nonlocal table, state
        table, state = jax.block_until_ready(step(table, state, grads))

    return run, plan


def sparse_adam(shape, data):
    """The same of PyTorch's SparseAdam."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    table = torch.zeros(shape, requires_grad=True)
    optimizer = torch.optim.SparseAdam([table], lr=RATE)
    arrays = [(torch.from_numpy(i)[None], torch.from_numpy(v)) for i, v in data]

    def run(i):
        ids, values = arrays[i]
        table.grad = torch.sparse_coo_tensor(ids, values, shape)
        optimizer.step()

    return run, None


def touch(shape, data):
    """The rows of three tables, read and written."""
    tables = [jnp.zeros(shape) for _ in range(3)]

    @functools.partial(jax.jit, donate_argnums=0)
    def step(tables, rows):
        return [table + rows for table in tables]

    rows = [adamx.sum_rows(ids, values, shape[0]) for ids, values in data]

    def run(i):
        nonlocal tables
        tables = jax.block_until_ready(step(tables, rows[i]))

    return run, None


PEERS = {"adamx": fused, "on_rows": on_rows, "optax": dense, "torch": sparse_adam}
PEERS |= {"touch": touch}


def measure(rows, width, ids, rounds):
    """Times of all, their quotients, and the plan of adamx's step."""
    data = list(batches(rows, width, ids))
    made = {name: make((rows, width), data) for name, make in PEERS.items()}
    batch = {name: itertools.cycle(range(BATCHES)) for name in PEERS}

    def measure_step(name):
        return seconds(made[name][0], next(batch[name]))[1]

    interleave(2, measure_step, tuple(PEERS))
    taken = interleave(rounds, measure_step, tuple(PEERS))
    row = {f"{name}, ms": 1e3 * statistics.median(t) for name, t in taken.items()}
    row |= {name: ratio(taken, theirs=name) for name in [*PEERS][1:]}
    plan, table = made["adamx"][1], 4 * rows * width
    row["bytes temporary"] = plan.temp_size_in_bytes
    row["temporary"] = plan.temp_size_in_bytes / table
    row["copied"] = 1 - min(1.0, plan.alias_size_in_bytes / (3 * table))
    return row


def main():
    """Measures, prints, and compares adamx with its limits."""
    parser = argparse.ArgumentParser(description="Measures steps on rows of a table.")
    parser.add_argument("--quick", action="store_true", help="one table, few steps")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "Sparse invariant checks")
    head = begin()
    names = list(TABLES)[:1] if args.quick else list(TABLES)
    rounds = 10 if args.quick else 40
    result = {name: measure(*TABLES[name], rounds) for name in names}
    rows = []
    for name, r in result.items():
        rows.append({"table": name} | {k: v for k, v in r.items() if "ms" in k})
        rows[-1] |= {f"adamx / {peer}": r[peer] for peer in [*PEERS][1:]}
        rows[-1]["MB beside the table"] = r["bytes temporary"] / 1e6
    show("A step of Adam on rows of a table", rows)
    return finish(LIMITS, {names[0]: result[names[0]]}, head | result, args.json)


if __name__ == "__main__":
    sys.exit(main())
