"""Sixteen learning rates: one compiled step whose rate is in the state, or sixteen.

Each rate trains for `STEPS` AdamW steps on the 148 leaves of a GPT-2 that is 64 wide.
adamx sets the rate in the state of `inject_hyperparams`; Optax's rate is a constant of
the program, so that each rate is built, traced and compiled anew. Wall time of all, in
turn, in the order A B B A, each with empty caches; that the step is traced once is
asserted.

    python benchmarks/hyperparameters.py [--quick] [--json PATH]

Exits with 1 if adamx breaks one of `LIMITS`.
"""

import argparse
import functools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from report import begin, finish, show
from timing import interleave, ratio
from trees import gpt2

import adamx

LIMITS = {"sixteen rates": 0.2}  # adamx over Optax
RATES = np.logspace(-5, -1, 16)
STEPS = 20


def narrow_gpt2():
    """The shapes of a GPT-2 with a twelfth of the width and a tenth of the words."""
    return [tuple(-(-n // 12) if n != 50_257 else 5_026 for n in s) for s in gpt2()]


def run_adamx(params, grads, rates):
    """The last parameters of each rate, through one program."""
    traces = []
    make = adamx.inject_hyperparams(adamx.adamw, names="learning_rate")
    tx = make(float(rates[0]), weight_decay=0.1)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        traces.append(None)
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    results, start = [], tx.init(params)
    for rate in rates:
        p, state = jax.tree.map(jnp.copy, (params, start))
        state = adamx.tree_set(state, learning_rate=float(rate))
        for _ in range(STEPS):
            p, state = step(p, state, grads)
        results.append(jax.block_until_ready(p))
    assert len(traces) == 1, f"traced {len(traces)} times"
    return results


def run_optax(params, grads, rates):
    """The last parameters of each rate, each through a program of its own."""
    results = []
    for rate in rates:
        tx = optax.adamw(float(rate), weight_decay=0.1)

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def step(params, state, grads, tx=tx):
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        p, state = jax.tree.map(jnp.copy, params), tx.init(params)
        for _ in range(STEPS):
            p, state = step(p, state, grads)
        results.append(jax.block_until_ready(p))
    return results


def main():
    parser = argparse.ArgumentParser(description="Measures sixteen learning rates.")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    head = begin()
    keys = jax.random.split(jax.random.key(0), len(gpt2()))
    shapes = narrow_gpt2()
    params = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    grads = [0.1 * p for p in params]
    runs, results = {"adamx": run_adamx, "optax": run_optax}, {}

    def measure(name):
        jax.clear_caches()
        start = time.perf_counter()
        results[name] = runs[name](params, grads, RATES)
        return time.perf_counter() - start

    taken = interleave(1 if args.quick else 2, measure)
    apart = max(
        float(jnp.max(jnp.abs(a - b)))
        for a, b in zip(*map(jax.tree.leaves, results.values()), strict=True)
    )
    row = {"sixteen rates": ratio(taken)}
    row |= {f"{name}, s": float(np.median(times)) for name, times in taken.items()}
    row |= {"parameters apart": apart}
    show("Sixteen learning rates", [row])
    return finish(LIMITS, {"AdamW": row}, head | row, args.json)


if __name__ == "__main__":
    sys.exit(main())
