"""Train one task with several optimizers, one after another; Ctrl-C keeps the rest."""

import contextlib
import hashlib
import itertools
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

import adamx
from adamx.lab.optimizers import Constructor, Recipe
from adamx.lab.plan import Plan, make_plan
from adamx.lab.problem import prepare
from adamx.lab.records import FORMAT
from adamx.lab.results import Results
from adamx.lab.sweep import Program, Setting, fingerprint, lower, train
from adamx.lab.task import Task
from adamx.lab.trial import Trial, make_trial


def compare(
    task: Task,
    optimizers: Mapping[str, Constructor] | Iterable[str] | None = None,
    learning_rates: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 3,
    *,
    weight_decays: Sequence[float] | None = None,
    schedule: str | Callable[[Any, int], Any] = "constant",
    steps: int | None = None,
    batch_size: int | None = None,
    target_loss: float | None = None,
    evaluate_every: int | None = None,
    cache: str | os.PathLike | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Results:
    """Trains a task with each optimizer at each setting from each seed.

    A setting is a learning rate, with a weight decay where several are tried. A seed
    fixes the first parameters and the order of the batches, the same for all optimizers
    and settings. All runs of one optimizer are one compiled program, in which its
    setting is a traced f32[]. Ctrl-C stops early and returns what is done,
    `interrupted`; the optimizer in progress keeps the steps that it made.

    Args:
      task: What to train.
      optimizers: Constructors `learning_rate -> transformation` by name, of adamx or of
        any library whose transformations have `init` and `update`; or names out of
        `OPTIMIZERS`, where "all" is all of these; None is the eight that people start
        with.
      learning_rates: The grid, each in (0, 1e37); None is the task's, else
        `LEARNING_RATES`.
      seeds: How many seeds, ≥ 1 (0, 1, ...), or the seeds themselves, each ≥ 0.
      weight_decays: A second grid, each in [0, 1e37), for the constructors that have an
        argument `weight_decay`; None leaves them to their defaults.
      schedule: How the learning rate, its peak, goes on: a name out of `SCHEDULES`, or
        `(peak, steps) -> schedule`.
      steps: Steps of each run, ≥ 1; None is the task's.
      batch_size: Examples in a batch, ≥ 1; None is the task's.
      target_loss: The training loss to which steps are counted; None is the task's.
      evaluate_every: Measures validation loss and accuracy after every so many steps
        too, ≥ 1; None only at the end.
      cache: A folder. Runs that the very same program made from the same data are taken
        from it, others are put there as soon as an optimizer is done.
      progress: Called as `progress(optimizer, steps done, steps)` some ten times a
        second, such as a `Progress()`; None is silence.

    Returns:
      The results; `print(results.table())` says which optimizer to use.

    Raises:
      ValueError: An argument is out of its range, or a name unknown.
      TypeError: A constructor returned no transformation.

    Example:
      >>> def batch(key, step):
      ...     return jax.random.normal(jax.random.fold_in(key, step), (8,))
      >>> def loss(mean, batch):
      ...     return jnp.mean((batch - mean) ** 2)
      >>> task = adamx.lab.Task("mean", jax.random.normal, loss, batch)
      >>> results = adamx.lab.compare(task, ["adam"], [0.1, 1e9], seeds=2, steps=20)
      >>> results.trials["adam"].best_rate
      0.1
    """
    plan = make_plan(
        task,
        optimizers,
        learning_rates,
        seeds,
        weight_decays=weight_decays,
        schedule=schedule,
        steps=steps,
        batch_size=batch_size,
        target_loss=target_loss,
        evaluate_every=evaluate_every,
        cache=cache,
    )
    return run_plan(plan, progress)


def run_plan(plan: Plan, progress=None) -> Results:
    """Trains the optimizers one after another until done or interrupted."""
    problem = prepare(plan.task, plan.seeds, plan.steps, plan.batch_size)
    trials: dict[str, Trial] = {}

    def report(name, done):
        if progress is not None:
            progress(name, done, plan.steps)

    with stop_on_interrupt() as stop:
        for name, recipe in plan.optimizers.items():
            settings = make_settings(plan, recipe)
            program = lower(problem, recipe.make, settings)
            kept = kept_trial(plan, name, problem, program)
            if trial := load_kept(kept):
                trials[name] = trial
                report(name, plan.steps)
                continue
            sweep = train(
                problem, program, plan.evaluate_every, stop, partial(report, name)
            )
            if sweep.losses.shape[-1]:
                trials[name] = make_trial(sweep, settings, plan.steps)
            if stop():
                break
            if kept is not None:
                trials[name].save(kept)
    config = {
        "description": plan.task.description,
        "optimizers": list(plan.optimizers),
        "learning_rates": list(plan.learning_rates),
        "weight_decays": plan.weight_decays and list(plan.weight_decays),
        "schedule": plan.schedule,
        "seeds": list(plan.seeds),
        "steps": plan.steps,
        "batch_size": None if callable(plan.task.data) else plan.batch_size,
        "evaluate_every": plan.evaluate_every,
        "target_loss": plan.target_loss,
        "loss_unit": plan.task.loss_unit,
        "criterion": "training" if plan.task.validation is None else "validation",
    }
    return Results(plan.task.name, config, versions(), trials)


def make_settings(plan: Plan, recipe: Recipe) -> list[Setting]:
    """Lists what an optimizer is tried with."""
    if plan.weight_decays is None or not recipe.decays:
        return [(rate,) for rate in plan.learning_rates]
    return list(itertools.product(plan.learning_rates, plan.weight_decays))


def kept_trial(plan: Plan, name: str, problem, program: Program) -> Path | None:
    """Names the file in which the runs of this very program are kept."""
    if plan.cache is None:
        return None
    parts = (FORMAT, fingerprint(problem, program), str(plan.evaluate_every))
    digest = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    return plan.cache / f"{name}-{digest[:16]}.json"


def load_kept(file: Path | None) -> Trial | None:
    """Reads kept runs; where the file is damaged they are made again."""
    if file is None or not file.is_file():
        return None
    try:
        return Trial.load(file)
    except (ValueError, TypeError, KeyError):
        return None


@contextlib.contextmanager
def stop_on_interrupt():
    """Yields a function: was Ctrl-C pressed? Pressed again, it acts as outside."""
    pressed = threading.Event()
    # Python delivers signals to the main thread, and only it may set handlers.
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    outside = signal.getsignal(signal.SIGINT) or signal.SIG_DFL

    def handler(number, frame):
        del number, frame
        pressed.set()
        signal.signal(signal.SIGINT, outside)

    signal.signal(signal.SIGINT, handler)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, outside)


def versions() -> dict[str, str]:
    """Names the software and the machine that made the results."""
    device = jax.devices()[0]
    return {
        "adamx": adamx.__version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform} {device.device_kind}",
        "cores": str(os.cpu_count()),
    }
