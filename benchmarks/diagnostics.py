"""Measures what `record` adds to the jitted AdamW step: time, memory, compilation.

One step is `update` and `apply_updates` with the gradients given, parameters and state
donated, with and without `record`, on the same buffers in the order A B B A; a quotient
is the median over pairs, and on a shared machine only it means something. Three steps
are compared: of `every=1`; of `every=100` where it measures, and where it does not.
From these two comes the quotient of 100 steps.

    python benchmarks/diagnostics.py [--quick] [--tree NAME] [--json PATH]

Exits with 1 if a quotient breaks one of `LIMITS`.
"""

import argparse
import functools
import math
import statistics
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from report import begin, finish, show
from timing import CPU, seconds
from trees import TREES

import adamx

EVERY = 100
LIMITS = {
    "every step": 10.0,  # with every=1
    "not measured": 1.05,
    "100 steps": 1.1,  # of which one is measured
    "temporary, every=1": 0.1,  # bytes over those of the parameters
    "temporary, every=100": 0.1,
}
ADAMW = adamx.adamw(1e-3, weight_decay=0.1)
KINDS = {
    "plain": (ADAMW, None),
    "every=1": (adamx.record(ADAMW), 0),
    "measured": (adamx.record(ADAMW, every=EVERY), 0),
    "not measured": (adamx.record(ADAMW, every=EVERY), 1),
}


def make_step(tx):
    """A new jitted step."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    return step


def compile_steps(shapes):
    """The compiled step of each kind, and what its compilation took and plans."""
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    steps, rows = {}, {}
    for kind, (tx, _) in KINDS.items():
        state = jax.eval_shape(tx.init, params)
        jax.clear_caches()
        lowered, trace = seconds(make_step(tx).lower, params, state, params, clock=CPU)
        steps[kind], compilation = seconds(lowered.compile, clock=CPU)
        plan = steps[kind].memory_analysis()
        rows[kind] = {"trace": trace, "compile": compilation}
        rows[kind]["temporary"] = plan.temp_size_in_bytes
        rows[kind]["aliased"] = plan.alias_size_in_bytes
    return steps, rows


def measure_steps(shapes, steps, rounds):
    """The times of the step of each kind, in turn."""
    keys = jax.random.split(jax.random.key(0), len(shapes))
    grads = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    params = [jnp.ones_like(g) for g in grads]
    inner = ADAMW.init(params)
    shape_of_metrics = jax.eval_shape(KINDS["every=1"][0].init, params).metrics
    taken = {kind: [] for kind in KINDS}
    for i in range(rounds + 1):
        for kind in [*KINDS, *reversed(KINDS)]:
            _, count = KINDS[kind]
            state = inner
            if count is not None:
                metrics = jax.tree.map(jnp.zeros_like, shape_of_metrics)
                state = adamx.RecordState(jnp.asarray(count), metrics, inner)
            (params, state), time = seconds(steps[kind], params, state, grads)
            inner = state if count is None else state.inner_state
            if i:  # the first round warms up
                taken[kind].append(time)
    return taken


def quotient(taken, kind):
    """The median over pairs of a kind divided by the plain step."""
    pairs = zip(taken[kind], taken["plain"], strict=True)
    return statistics.median(a / b for a, b in pairs)


def main():
    """Measures, prints, and compares with the limits."""
    parser = argparse.ArgumentParser(description="Measures what record costs.")
    parser.add_argument("--quick", action="store_true", help="a small tree")
    parser.add_argument("--tree", choices=TREES, default="gpt2")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    shapes = [(1_024, 768)] * 8 if args.quick else TREES[args.tree]
    size = sum(math.prod(shape) for shape in shapes)
    head = begin()
    print(f"{size:,} parameters")
    steps, rows = compile_steps(shapes)
    taken = measure_steps(shapes, steps, 3 if args.quick else 6)
    table = []
    for kind, row in rows.items():
        row["step"] = statistics.median(taken[kind])
        row["quotient"] = quotient(taken, kind)
        table.append(
            {"step": kind, "ms": 1e3 * row["step"], "/ plain": row["quotient"]}
        )
        table[-1]["temporary / parameters"] = row["temporary"] / (4 * size)
        table[-1]["in place"] = row["aliased"] / (12 * size)
        table[-1]["trace, s of CPU"] = row["trace"]
        table[-1]["compile, s of CPU"] = row["compile"]
    show("AdamW with record", table)
    figures = {
        "every step": rows["every=1"]["quotient"],
        "not measured": rows["not measured"]["quotient"],
        "temporary, every=1": rows["every=1"]["temporary"] / (4 * size),
        "temporary, every=100": rows["measured"]["temporary"] / (4 * size),
    }
    others = (EVERY - 1) * figures["not measured"]
    figures["100 steps"] = (rows["measured"]["quotient"] + others) / EVERY
    print(f"\n100 steps with every=100, over plain ones: {figures['100 steps']:.3f}")
    result = head | {"parameters": size} | rows | figures
    return finish(LIMITS, {"record": figures}, result, args.json)


if __name__ == "__main__":
    sys.exit(main())
