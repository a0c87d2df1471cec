"""Measures the jitted AdamW step, its compilation and its memory beside Optax's.

One step is `update` and `apply_updates` with the gradients given, parameters and state
donated. Both libraries run in this process, in the order A B B A; the quotients are
medians over pairs, and on a shared machine only they mean something. A float32 step has
to move 28 bytes a parameter (it reads g, p, mu, nu and writes p, mu, nu): the bandwidth
is held against that of `a = a + 3·b` on as much memory, taken in between.

    python benchmarks/step_time.py [--quick] [--trees NAME ...] [--json PATH]

Exits with 1 if adamx breaks one of `LIMITS`.
"""

import argparse
import functools
import math
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from report import begin, finish, show

import adamx

LIMITS = {
    "step": 1.03,  # adamx over Optax
    "compilation": 1.05,  # adamx, less the fixed part, over Optax
    "temporary": 0.01,  # bytes beyond the arguments, over those of the parameters
}
FIXED = 0.02  # seconds a program, whatever its size, for scalars in float64
CPU = time.process_time  # of all threads, whatever else the machine is doing
LIBRARIES = {"adamx": adamx, "optax": optax}


def gpt2():
    """The 148 shapes of GPT-2's 124 million parameters (Radford et al., 2019)."""
    n = 768
    attention = [(n, 3 * n), (3 * n,), (n, n), (n,)]
    dense = [(n, 4 * n), (4 * n,), (4 * n, n), (n,)]
    return [(50_257, n), (1_024, n), (n,), (n,)] + 12 * ([(n,)] * 4 + attention + dense)


TREES = {
    "50M": [(50_000_000,)],
    "gpt2": gpt2(),
    "100x100k": [(100_000,)] * 100,
    "1000x1k": [(1_000,)] * 1_000,
}


def make_step(library):
    """A new jitted AdamW step and the `init` of its state."""
    tx = library.adamw(1e-3, weight_decay=0.1)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return library.apply_updates(params, updates), state

    return step, tx.init


@functools.partial(jax.jit, donate_argnums=0)
def triad(a, b):
    """Moves 12 bytes for each element of a."""
    return a + 3 * b


def seconds(function, *args, clock=time.perf_counter):
    """The result of a call and its time, until every array is there."""
    start = clock()
    result = jax.block_until_ready(function(*args))
    return result, clock() - start


def interleave(rounds, measure):
    """What `measure` gives for each library, `rounds` times in the order A B B A."""
    taken = {name: [] for name in LIBRARIES}
    for _ in range(rounds):
        for name in [*LIBRARIES, *reversed(LIBRARIES)]:
            taken[name].append(measure(name))
    return taken


def ratio(taken):
    """The median over pairs of adamx divided by Optax."""
    pairs = zip(taken["adamx"], taken["optax"], strict=True)
    return statistics.median(a / b for a, b in pairs)


def measure_compilation(shapes, rounds):
    """CPU seconds of tracing and compiling with empty caches; the bytes XLA plans."""
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    plans, traces, compilations = {}, {}, {}

    def measure(name):
        step, init = make_step(LIBRARIES[name])
        state = jax.eval_shape(init, params)
        jax.clear_caches()
        lowered, trace = seconds(step.lower, params, state, params, clock=CPU)
        compiled, compilation = seconds(lowered.compile, clock=CPU)
        plans[name] = compiled.memory_analysis()
        traces.setdefault(name, []).append(trace)
        compilations.setdefault(name, []).append(compilation)
        return trace + compilation - FIXED * (name == "adamx")

    measure("adamx")
    row = {"compilation": ratio(interleave(rounds, measure))}
    for name, plan in plans.items():
        row[f"{name} trace"] = statistics.median(traces[name])
        row[f"{name} compile"] = statistics.median(compilations[name])
        row[f"{name} temporary"] = plan.temp_size_in_bytes
        row[f"{name} aliased"] = plan.alias_size_in_bytes
    size = sum(math.prod(shape) for shape in shapes)
    return row | {"temporary": row["adamx temporary"] / (4 * size)}


def measure_steps(shapes, rounds):
    """Times of the step and the share of the bandwidth that it reaches.

    Both libraries work on the same buffers, in turn: with buffers of their own, Optax
    measured against itself came out 3 % apart at 50 million parameters.
    """
    keys = jax.random.split(jax.random.key(0), len(shapes))
    grads = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    size = sum(g.size for g in grads)
    a, b = jnp.zeros(2 * size), jnp.ones(2 * size)
    steps, trees, leaves, copies = {}, {}, [], []
    for name, library in LIBRARIES.items():
        steps[name], init = make_step(library)
        params = [jnp.ones_like(g) for g in grads]
        leaves, trees[name] = jax.tree.flatten((params, init(params)))

    def measure(name):
        nonlocal a, leaves
        a, copy = seconds(triad, a, b)
        copies.append(copy)
        params, state = jax.tree.unflatten(trees[name], leaves)
        result, time = seconds(steps[name], params, state, grads)
        leaves = jax.tree.leaves(result)
        return time

    interleave(1, measure)
    copies.clear()
    taken = interleave(rounds, measure)
    row = {"parameters": size, "step": ratio(taken)}
    row["copy bandwidth"] = 24 * size / statistics.median(copies)
    for name, times in taken.items():
        row[f"{name} step"] = statistics.median(times)
        row[f"{name} bandwidth"] = 28 * size / row[f"{name} step"]
    return row


def main():
    """Measures, prints, and compares adamx with its limits."""
    parser = argparse.ArgumentParser(description="Measures steps of AdamW.")
    parser.add_argument("--quick", action="store_true", help="one small tree")
    parser.add_argument("--trees", nargs="+", choices=TREES, default=list(TREES))
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    names = ["100x100k"] if args.quick else args.trees
    head = begin()
    result = {}
    for name in names:
        shapes = TREES[name]
        rounds = 3 if args.quick or len(shapes) > 500 else 5
        result[name] = measure_compilation(shapes, rounds)
        result[name] |= measure_steps(shapes, 10 if args.quick else 30)
    steps, compilations = [], []
    for name, r in result.items():
        steps.append({"tree": name, "parameters": r["parameters"]})
        compilations.append({"tree": name})
        for library in LIBRARIES:
            steps[-1][f"{library}, ms"] = 1e3 * r[f"{library} step"]
            share = r[f"{library} bandwidth"] / r["copy bandwidth"]
            steps[-1][f"{library}, of bandwidth"] = share
            for kind in ("trace", "compile"):
                compilations[-1][f"{library} {kind}, ms"] = 1e3 * r[f"{library} {kind}"]
            compilations[-1][f"{library} temporary, B"] = r[f"{library} temporary"]
        steps[-1]["adamx / optax"] = r["step"]
        compilations[-1]["adamx / optax"] = r["compilation"]
        in_place = r["adamx aliased"] / (12 * r["parameters"])
        compilations[-1]["adamx in place"] = in_place
    show("Step of AdamW", steps)
    show("Tracing and compiling the step, CPU time", compilations)
    return finish(LIMITS, result, head | result, args.json)


if __name__ == "__main__":
    sys.exit(main())
