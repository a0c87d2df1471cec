"""A grid of runs as one compiled program, beside a plain loop around Optax.

Reads scikit-learn's digits (`adamx.lab.digits()`, 500 steps) at 13 learning rates from
three seeds. `adamx.lab` trains all runs of an optimizer in one program. "separate runs"
build, compile and train one run after another, as a script does that is called for
each; without the start of its Python. "one step" is the best that a plain loop can do:
one compiled step for all runs of an optimizer, with the rate in
`optax.inject_hyperparams`. The same batches and starts; wall time with compilation and
the final losses, from empty caches, in turn. That the losses agree is asserted.

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

LIMITS = {"separate runs": 1 / 5}  # adamx over the loop
OPTIMIZERS = {
    "sgd": functools.partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "adamw": functools.partial(optax.adamw, weight_decay=1e-4),
}
SEEDS = 3


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


def main():
    parser = argparse.ArgumentParser(description="Measures grids of runs.")
    parser.add_argument("--quick", action="store_true", help="adam alone, once")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    head = begin()

    task, rates = lab.digits(), lab.LEARNING_RATES
    problem = prepare(task, range(SEEDS), task.steps, task.batch_size)
    runs = []
    for seed in range(SEEDS):
        start = jax.tree.map(lambda x, seed=seed: x[seed], problem.params)
        rows = np.asarray(problem.source.order[seed])
        runs.append(
            (start, [jax.tree.map(lambda x, r=r: x[r], task.data) for r in rows])
        )
    measure = jax.jit(task.loss)

    def sweep(name):
        return lab.compare(task, [name], rates, SEEDS).trials[name].final["training"]

    def separate_runs(name):
        losses = []
        for rate in rates:
            for run in runs:
                tx = OPTIMIZERS[name](rate)
                params = train(make_step(task, tx), tx, *run)
                losses.append(measure(params, task.data))
        return np.reshape(losses, (len(rates), SEEDS))

    def one_step(name):
        make = optax.inject_hyperparams(OPTIMIZERS[name])
        step = make_step(task, make(rates[0]))
        losses = [
            measure(train(step, make(rate), *run), task.data)
            for rate in rates
            for run in runs
        ]
        return np.reshape(losses, (len(rates), SEEDS))

    ways = {"adamx.lab": sweep, "separate runs": separate_runs, "one step": one_step}
    figures = {}
    for name in ["adam"] if arguments.quick else OPTIMIZERS:
        seconds, losses = {way: [] for way in ways}, {}
        for way in [*ways] if arguments.quick else [*ways, *reversed(ways)]:
            jax.clear_caches()
            began = time.perf_counter()
            losses[way] = ways[way](name)
            seconds[way].append(time.perf_counter() - began)
        for way in ways:  # at the smaller rates, where no last bit is magnified
            end, ours = losses[way][:4], losses["adamx.lab"][:4]
            np.testing.assert_allclose(end.mean(1), ours.mean(1), rtol=0.05)
        taken = {way: statistics.median(times) for way, times in seconds.items()}
        figures[name] = {
            way: taken["adamx.lab"] / taken[way] for way in ways if way != "adamx.lab"
        } | {f"{way}, s": time for way, time in taken.items()}
    show(
        f"{len(rates) * SEEDS} runs of {task.steps} steps, adamx.lab over the other",
        [{"optimizer": name} | row for name, row in figures.items()],
    )
    return finish(LIMITS, figures, head | {"grids": figures}, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
