"""A grid of runs as few compiled programs, beside a plain loop around Optax.

Reads scikit-learn's digits (`adamx.lab.digits()`, 500 steps): three optimizers at 13
learning rates from 3 seeds, and from 8. `adamx.lab.compare` trains all runs of an
optimizer in one program. "separate runs" build, compile and train one run after
another, as a script does that is called for each; without the start of its Python. "one
step" is the best that a plain loop can do: one compiled step for all runs of an
optimizer, with the rate in `optax.inject_hyperparams`. The same batches and starts;
wall time with compilation and the final losses, from empty caches, in turn. That the
losses agree is asserted.

    python benchmarks/sweep_time.py [--quick] [--json PATH]

Exits with 1 if adamx breaks one of `LIMITS`.
"""

import argparse
import functools
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
from report import begin, finish, show

from adamx import lab
from adamx.lab.problem import prepare

LIMITS = {"separate runs": 1 / 5}  # the lab over the loop
OPTIMIZERS = {
    "sgd": functools.partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "adamw": functools.partial(optax.adamw, weight_decay=1e-4),
}
SEEDS = 3, 8


def make_step(task, tx):
    """The jitted step that stands in every introduction to Optax."""

    @jax.jit
    def step(params, state, batch):
        loss, grads = jax.value_and_grad(task.loss)(params, batch)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    return step


def train(step, tx, start, batches):
    """One run: a Python loop."""
    params, state = start, tx.init(start)
    for batch in batches:
        params, state, _ = step(params, state, batch)
    return params


def grid(task, seeds):
    """Three ways to the final training losses, f32[optimizers,rates,seeds]."""
    rates = lab.LEARNING_RATES
    problem = prepare(task, range(seeds), task.steps, task.batch_size)
    runs = []
    for seed in range(seeds):
        start = jax.tree.map(lambda x, seed=seed: x[seed], problem.params)
        rows = np.asarray(problem.source.order[seed])
        batches = [jax.tree.map(lambda x, r=r: x[r], task.data) for r in rows]
        runs.append((start, batches))
    measure = jax.jit(task.loss)

    def in_lab():
        results = lab.compare(task, list(OPTIMIZERS), rates, seeds)
        return [trial.final["training"] for trial in results.trials.values()]

    def separate_runs():
        for make in OPTIMIZERS.values():
            for rate in rates:
                for run in runs:
                    tx = make(rate)
                    params = train(make_step(task, tx), tx, *run)
                    yield measure(params, task.data)

    def one_step():
        for make in map(optax.inject_hyperparams, OPTIMIZERS.values()):
            step = make_step(task, make(rates[0]))
            for rate in rates:
                for run in runs:
                    yield measure(train(step, make(rate), *run), task.data)

    def shaped(losses):
        return np.reshape(list(losses), (len(OPTIMIZERS), len(rates), seeds))

    return {
        "adamx.lab": lambda: shaped(in_lab()),
        "separate runs": lambda: shaped(separate_runs()),
        "one step": lambda: shaped(one_step()),
    }


def main():
    parser = argparse.ArgumentParser(description="Measures grids of runs.")
    parser.add_argument("--quick", action="store_true", help="3 seeds, once")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    head, task, figures = begin(), lab.digits(), {}

    for seeds in SEEDS[:1] if arguments.quick else SEEDS:
        ways = grid(task, seeds)
        seconds, losses = {way: [] for way in ways}, {}
        for way in [*ways] if arguments.quick else [*ways, *reversed(ways)]:
            jax.clear_caches()
            began = time.perf_counter()
            losses[way] = ways[way]()
            seconds[way].append(time.perf_counter() - began)
        ours = losses["adamx.lab"]
        for theirs in losses.values():  # at rates where no last bit is magnified
            end, expected = theirs[:, :4].mean(2), ours[:, :4].mean(2)
            np.testing.assert_allclose(end, expected, rtol=0.05)
        taken = {way: statistics.median(times) for way, times in seconds.items()}
        figures[f"{ours.size} runs"] = {
            way: taken["adamx.lab"] / taken[way] for way in ways if way != "adamx.lab"
        } | {f"{way}, s": time for way, time in taken.items()}
    show(
        f"grids of {task.steps} steps, adamx.lab over the other",
        [{"grid": name} | row for name, row in figures.items()],
    )
    return finish(LIMITS, figures, head | {"grids": figures}, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
