"""Measures the bytes of weights, gradients and states of AdamW, and what a step adds.

    python benchmarks/memory.py [--quick] [--time] [--json PATH]

For the tree of GPT-2's 124 million parameters, of which nothing is allocated: the
bytes of each part by `eval_shape`, and XLA's plan for the jitted step, `update` and
`apply_updates` with the gradients given and the rest donated. On a CPU that plan works
on all leaves at once, and has the temporary arrays of all; "in turn" is that of the
same program one leaf after the other. `--time` also runs the step, in turn with Optax's
in float32 (A B B A); the quotients are medians over pairs. `--quick` takes one layer of
twelve. Exits with 1 if adamx breaks a limit.
"""

import argparse
import functools
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import recipes as r
from report import begin, finish, show
from timing import seconds
from trees import gpt2

import adamx

RECIPES = [
    r.OPTAX,
    r.FLOAT32,
    r.BF16_STATES,
    r.MIXED_STATES,
    r.BYTE_STATES,
    r.COPY,
    r.ALL_BF16,
    r.WEIGHTS_32,
    r.WEIGHTS_32_BF16,
    r.WEIGHTS_24_BF16,
    r.SAFE,
    r.SMALL,
]
STATE = {  # bytes a parameter, of the moments alone where weights are float32
    r.BF16_STATES.name: 4.01,
    r.MIXED_STATES.name: 3.05,
    r.BYTE_STATES.name: 2.2,
}
TOTAL = {  # of weights, gradients and states
    r.WEIGHTS_32_BF16.name: 10.01,
    r.WEIGHTS_24_BF16.name: 9.01,
    r.SAFE.name: 8.1,
    r.SMALL.name: 7.2,
}
# Of the largest leaf in float32, one leaf after the other: XLA's CPU backend makes one
# output at a time, and has an update in float32, which two are made of, and copies of
# narrow arrays that it is to overwrite.
TEMPORARY = 2.0
STEP = {r.BF16_STATES.name: 1.05, r.BYTE_STATES.name: 3.5}  # over Optax in float32
LIMITS = {"of the limit": 1.0}
IN_TURN = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def make_step(recipe):
    """A new jitted step of a recipe, and the `init` of its state."""
    tx = recipe.make(1e-3)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    return step, tx.init


def size_of(tree):
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def measure_memory(recipe, shapes):
    """Bytes a parameter of each part, and those that XLA plans for the step."""
    params = [jax.ShapeDtypeStruct(shape, recipe.dtype) for shape in shapes]
    step, init = make_step(recipe)
    state = jax.eval_shape(init, params)
    lowered = step.lower(params, state, params)
    plan: Any = lowered.compile().memory_analysis()
    options: Any = IN_TURN if jax.default_backend() == "cpu" else None
    in_turn: Any = lowered.compile(compiler_options=options).memory_analysis()
    n = sum(math.prod(shape) for shape in shapes)
    largest = 4 * max(math.prod(shape) for shape in shapes)
    weights, states = size_of(params), size_of(state)
    return {
        "recipe": recipe.name,
        "weights": weights / n,
        "gradients": weights / n,
        "state": states / n,
        "sum": (2 * weights + states) / n,
        "arguments": plan.argument_size_in_bytes / n,
        "in place": plan.alias_size_in_bytes / (weights + states),
        "temporary": plan.temp_size_in_bytes / n,
        "in turn": in_turn.temp_size_in_bytes / n,
        "in turn / largest leaf": in_turn.temp_size_in_bytes / largest,
    }


def measure_time(recipe, shapes, rounds):
    """Seconds of the step, and the median over pairs with Optax's in float32."""
    makers, carried, taken = {"recipe": recipe, "optax": r.OPTAX}, {}, {}
    steps, grads = {}, {}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    wide = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    for name, maker in makers.items():
        steps[name], init = make_step(maker)
        grads[name] = [g.astype(maker.dtype) for g in wide]
        params = [jnp.ones_like(g) for g in grads[name]]
        carried[name], taken[name] = (params, init(params)), []
    for i in range(rounds + 1):
        for name in ["recipe", "optax", "optax", "recipe"]:
            carried[name], time = seconds(steps[name], *carried[name], grads[name])
            if i:  # the first round compiles
                taken[name].append(time)
    pairs = zip(taken["recipe"], taken["optax"], strict=True)
    return {
        "recipe": recipe.name,
        "step, ms": 1e3 * statistics.median(taken["recipe"]),
        "Optax, ms": 1e3 * statistics.median(taken["optax"]),
        "quotient": statistics.median(a / b for a, b in pairs),
    }


def main():
    """Measures, prints, and compares adamx with its limits."""
    parser = argparse.ArgumentParser(description="Measures memory.")
    parser.add_argument("--quick", action="store_true", help="one layer of twelve")
    parser.add_argument("--time", action="store_true", help="run the steps, too")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    shapes, judged = gpt2(), {}
    if args.quick:
        shapes = shapes[:16]
    head = begin()
    rows = [measure_memory(recipe, shapes) for recipe in RECIPES]
    show("Bytes a parameter", rows)
    for recipe, row in zip(RECIPES, rows, strict=True):
        used = [
            row["state"] / STATE.get(recipe.name, math.inf),
            row["sum"] / TOTAL.get(recipe.name, math.inf),
            row["in turn / largest leaf"] / TEMPORARY,
        ]
        if recipe.ours:
            judged[recipe.name] = {"of the limit": max(used)}
    result = {"memory": rows}
    if args.time:
        rounds = 5 if args.quick else 15
        times = [measure_time(recipe, shapes, rounds) for recipe in RECIPES]
        show("Step of AdamW", times)
        for row in times:
            if limit := STEP.get(row["recipe"]):
                used = {"of the limit": row["quotient"] / limit}
                judged[f"step, {row['recipe']}"] = used
        result["time"] = times
    return finish(LIMITS, judged, head | result, args.json)


if __name__ == "__main__":
    sys.exit(main())
