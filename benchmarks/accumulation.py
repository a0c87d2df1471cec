"""Measures gradient accumulation around AdamW, and its memory, beside Optax's.

One micro-step is `update` and `apply_updates` with the gradients given, parameters and
state donated; every eighth ends a window. Its time is the mean over a whole window.
Both libraries run in this process, in the order A B B A, on the same buffers; the
quotients are medians over pairs, and on a shared machine only they mean something.

    python benchmarks/accumulation.py [--quick] [--json PATH]

Exits with 1 if adamx breaks one of `LIMITS`.
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
from timing import LIBRARIES, interleave, ratio, seconds
from trees import TREES

LIMITS = {
    "micro_step": 0.35,  # adamx over Optax
    "temporary": 0.01,  # bytes beyond the arguments, over those of the parameters
    "not in place": 0.01,  # bytes of the results in new memory, over the same
}
WINDOW = 8


def make_step(library):
    """A new jitted micro-step of AdamW and the `init` of its state."""
    tx = library.MultiSteps(library.adamw(1e-3, weight_decay=0.1), WINDOW)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return library.apply_updates(params, updates), state

    return step, tx.init


def measure(shapes, rounds):
    """Seconds of micro-steps, and the bytes that XLA plans."""
    keys = jax.random.split(jax.random.key(0), len(shapes))
    grads = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    size = sum(math.prod(shape) for shape in shapes)
    row: dict[str, float] = {"parameters": size}
    steps, trees, leaves = {}, {}, []
    for name, library in LIBRARIES.items():
        step, init = make_step(library)
        params = [jnp.ones_like(g) for g in grads]
        args = params, init(params)
        steps[name] = step.lower(*args, grads).compile()
        plan = steps[name].memory_analysis()
        row[f"{name} temporary"] = plan.temp_size_in_bytes
        row[f"{name} new"] = plan.output_size_in_bytes - plan.alias_size_in_bytes
        leaves, trees[name] = jax.tree.flatten(args)
    between, ends = ({name: [] for name in LIBRARIES} for _ in range(2))

    def measure(name):
        nonlocal leaves
        args, times = jax.tree.unflatten(trees[name], leaves), []
        for _ in range(WINDOW):
            args, time = seconds(steps[name], *args, grads)
            times.append(time)
        leaves = jax.tree.leaves(args)
        between[name] += times[:-1]
        ends[name].append(times[-1])
        return statistics.mean(times)

    interleave(1, measure)
    for times in (*between.values(), *ends.values()):
        times.clear()
    taken = interleave(rounds, measure)
    for name in LIBRARIES:
        row[f"{name} micro_step"] = statistics.median(taken[name])
        row[f"{name} between"] = statistics.median(between[name])
        row[f"{name} end"] = statistics.median(ends[name])
    row["micro_step"] = ratio(taken)
    row["temporary"] = row["adamx temporary"] / (4 * size)
    row["not in place"] = row["adamx new"] / (4 * size)
    return row


def main():
    """Measures, prints, and compares adamx with its limits."""
    parser = argparse.ArgumentParser(description="Measures accumulation with AdamW.")
    parser.add_argument("--quick", action="store_true", help="one small tree")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    head = begin()
    name = "100x100k" if args.quick else "gpt2"
    r = measure(TREES[name], 3 if args.quick else 5)
    rows = [
        {
            "library": library,
            "micro-step, ms": 1e3 * r[f"{library} micro_step"],
            "between, ms": 1e3 * r[f"{library} between"],
            "end of a window, ms": 1e3 * r[f"{library} end"],
            "temporary, B": r[f"{library} temporary"],
        }
        for library in LIBRARIES
    ]
    show(f"{name}: {r['parameters']} parameters, windows of {WINDOW}", rows)
    print(f"\nadamx / optax: {r['micro_step']:.3g}")
    return finish(LIMITS, {name: r}, head | {name: r}, args.json)


if __name__ == "__main__":
    sys.exit(main())
