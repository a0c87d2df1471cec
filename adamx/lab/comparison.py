"""Train one task with several optimizers, one after another; Ctrl-C keeps the rest."""

import contextlib
import math
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax
import jax
import numpy as np

import adamx
from adamx.lab.results import Results, Trial, make_trial
from adamx.lab.sweep import prepare, train
from adamx.lab.task import Task

# `learning_rate -> transformation`; a transformation has `init` and `update`.
Constructor = Callable[[Any], Any]

OPTIMIZERS: dict[str, Constructor] = {
    "sgd": partial(adamx.sgd, momentum=0.9),
    "adagrad": adamx.adagrad,
    "rmsprop": adamx.rmsprop,
    "adam": adamx.adam,
    "adamw": adamx.adamw,
    "amsgrad": adamx.amsgrad,
    "nadam": adamx.nadam,
    "nadamw": adamx.nadamw,
    "adamax": adamx.adamax,
    "adamaxw": adamx.adamaxw,
    "radam": adamx.radam,
    "adabelief": adamx.adabelief,
    "yogi": adamx.yogi,
    "adan": adamx.adan,
    "ademamix": adamx.ademamix,
    "adopt": adamx.adopt,
    "laprop": adamx.laprop,
    "mars": adamx.mars,
    "adam_atan2": adamx.adam_atan2,
    "stable_adamw": adamx.stable_adamw,
    "adam_mini": partial(adamx.adam_mini, v_axes=adamx.adam_mini_axes()),
    "adafactor": adamx.adafactor,
    "sm3": adamx.sm3,
    "lion": adamx.lion,
    "signum": adamx.signum,
    "sign_sgd": adamx.sign_sgd,
    "rprop": adamx.rprop,
    "adadelta": adamx.adadelta,
    "lamb": adamx.lamb,
    "lars": adamx.lars,
    "novograd": adamx.novograd,
    "fromage": adamx.fromage,
    "muon": adamx.muon,
    "sophia": adamx.sophia,
    "prodigy": adamx.prodigy,
    "schedule_free_sgd": adamx.schedule_free_sgd,
    "schedule_free_adamw": adamx.schedule_free_adamw,
}
# What is compared unless others are asked for: those that people start with.
DEFAULT = "sgd", "adagrad", "rmsprop", "adam", "adamw", "amsgrad", "nadam", "nadamw"
# Wide enough that the best rate of each default one lies inside, on both tasks.
LEARNING_RATES = (
    1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip


class Plan(NamedTuple):
    """A comparison that has passed all checks."""

    task: Task
    optimizers: dict[str, Constructor]
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    batch_size: int
    target_loss: float | None


def compare(
    task: Task,
    optimizers: Mapping[str, Constructor] | Iterable[str] | None = None,
    learning_rates: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 3,
    *,
    steps: int | None = None,
    batch_size: int | None = None,
    target_loss: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Results:
    """Trains a task with each optimizer at each learning rate from each seed.

    A seed fixes the first parameters and the order of the batches, the same for all
    optimizers and learning rates. All runs of one optimizer are one compiled program,
    in which its learning rate is a traced f32[]. Ctrl-C stops early and returns what is
    done, `interrupted`; the optimizer in progress keeps the steps that it made.

    Args:
      task: What to train.
      optimizers: Constructors `learning_rate -> transformation` by name, of adamx or of
        any library whose transformations have `init` and `update`; or names out of
        `OPTIMIZERS`, where "all" is all of these; None is the eight that people start
        with.
      learning_rates: The grid, each in (0, 1e37); None is `LEARNING_RATES`.
      seeds: How many seeds, ≥ 1 (0, 1, ...), or the seeds themselves, each ≥ 0.
      steps: Steps of each run, ≥ 1; None is the task's.
      batch_size: Examples in a batch, ≥ 1; None is the task's.
      target_loss: The training loss to which steps are counted; None is the task's.
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
        task, optimizers, learning_rates, seeds, steps, batch_size, target_loss
    )
    return run_plan(plan, progress)


def make_plan(
    task, optimizers, learning_rates, seeds, steps, batch_size, target_loss
) -> Plan:
    """Fills in the defaults and checks everything, before anything is trained."""
    rates = LEARNING_RATES if learning_rates is None else learning_rates
    seeds = seeds if isinstance(seeds, Iterable) else range(seeds)
    target_loss = task.target_loss if target_loss is None else target_loss
    plan = Plan(
        task=task,
        optimizers=choose(optimizers),
        learning_rates=tuple(sorted({float(rate) for rate in rates})),
        seeds=tuple(int(seed) for seed in seeds),
        steps=int(task.steps if steps is None else steps),
        batch_size=int(task.batch_size if batch_size is None else batch_size),
        target_loss=None if target_loss is None else float(target_loss),
    )
    if not plan.learning_rates:
        raise ValueError("compare: expected at least one learning rate, got none.")
    for rate in plan.learning_rates:
        if not 0 < rate < 1e37:
            raise ValueError(
                f"compare: expected learning rates between 0 and 1e37, got {rate:g}."
            )
    if not plan.seeds or len(set(plan.seeds)) < len(plan.seeds):
        raise ValueError(
            f"compare: expected at least one seed, each once, got {len(plan.seeds)}."
        )
    if min(plan.seeds) < 0:
        raise ValueError(f"compare: expected seeds ≥ 0, got {min(plan.seeds)}.")
    if plan.steps < 1:
        raise ValueError(f"compare: expected steps ≥ 1, got {plan.steps}.")
    if not math.isfinite(plan.target_loss or 0):
        raise ValueError(
            f"compare: expected a finite target loss, got {plan.target_loss}."
        )
    if callable(task.data):
        return plan
    counts = {len(leaf) for leaf in jax.tree.leaves(task.data)}
    if len(counts) != 1:
        raise ValueError(
            "compare: expected task.data as arrays of one length, got lengths "
            f"{', '.join(map(str, sorted(counts)))}."
        )
    if not 1 <= plan.batch_size <= min(counts):
        raise ValueError(
            f"compare: expected a batch size from 1 to {min(counts)}, got "
            f"{plan.batch_size}."
        )
    return plan


def choose(optimizers) -> dict[str, Constructor]:
    """Looks up optimizers that are given by name."""
    if not isinstance(optimizers, Mapping):
        optimizers = [optimizers] if isinstance(optimizers, str) else optimizers
        names = list(DEFAULT if optimizers is None else optimizers)
        names = list(OPTIMIZERS) if names == ["all"] else names
        have = ", ".join(OPTIMIZERS)
        for name in names:
            if name not in OPTIMIZERS:
                raise ValueError(f"compare: unknown optimizer {name!r}; have {have}.")
        optimizers = {name: OPTIMIZERS[name] for name in names}
    if not optimizers:
        raise ValueError("compare: expected at least one optimizer, got none.")
    checked = {name: partial(build, name, make) for name, make in optimizers.items()}
    for make in checked.values():
        make(1e-3)
    return checked


def build(name: str, make: Constructor, learning_rate) -> adamx.GradientTransformation:
    """Makes a transformation, of any library, that takes extra arguments."""
    tx = make(learning_rate)
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise TypeError(
            f"compare: expected optimizers[{name!r}] to make a transformation with "
            f"init and update, got {type(tx).__name__}."
        )
    return adamx.chain(tx)


def run_plan(plan: Plan, progress=None) -> Results:
    """Trains the optimizers one after another until done or interrupted."""
    problem = prepare(plan.task, plan.seeds, plan.steps, plan.batch_size)
    trials: dict[str, Trial] = {}

    def report(name, done):
        if progress is not None:
            progress(name, done, plan.steps)

    with stop_on_interrupt() as stop:
        for name, make in plan.optimizers.items():
            tell = partial(report, name)
            sweep = train(problem, make, plan.learning_rates, stop, tell)
            if sweep.losses.shape[-1]:
                trials[name] = make_trial(sweep, plan.learning_rates, plan.steps)
            if stop():
                break
    config = {
        "description": plan.task.description,
        "optimizers": list(plan.optimizers),
        "learning_rates": list(plan.learning_rates),
        "seeds": list(plan.seeds),
        "steps": plan.steps,
        "batch_size": None if callable(plan.task.data) else plan.batch_size,
        "target_loss": plan.target_loss,
        "loss_unit": plan.task.loss_unit,
        "criterion": "training" if plan.task.validation is None else "validation",
    }
    return Results(plan.task.name, config, versions(), trials)


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
