"""What a comparison will do: its defaults filled in, everything checked."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax

from adamx.lab.optimizers import SCHEDULES, Recipe, choose
from adamx.lab.task import Task

# Wide enough that the best rate of each default one lies inside, on both tasks.
LEARNING_RATES = (
    1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip


class Plan(NamedTuple):
    """A comparison that has passed all checks."""

    task: Task
    optimizers: dict[str, Recipe]
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...] | None
    schedule: str
    seeds: tuple[int, ...]
    steps: int
    batch_size: int
    target_loss: float | None
    evaluate_every: int | None
    cache: Path | None


def make_plan(
    task: Task,
    optimizers=None,
    learning_rates=None,
    seeds: int | Iterable[int] = 3,
    *,
    weight_decays=None,
    schedule: str | Callable = "constant",
    steps=None,
    batch_size=None,
    target_loss=None,
    evaluate_every=None,
    cache=None,
) -> Plan:
    """Fills in the defaults and checks everything, before anything is trained."""
    if learning_rates is None:
        learning_rates = task.learning_rates or LEARNING_RATES
    if isinstance(schedule, str) and schedule not in SCHEDULES:
        raise ValueError(
            f"compare: unknown schedule {schedule!r}; have {', '.join(SCHEDULES)}."
        )
    steps = int(task.steps if steps is None else steps)
    if steps < 1:
        raise ValueError(f"compare: expected steps ≥ 1, got {steps}.")
    target_loss = task.target_loss if target_loss is None else target_loss
    own = not isinstance(schedule, str)
    plan = Plan(
        task=task,
        optimizers=choose(
            "compare",
            task,
            optimizers,
            schedule if own else SCHEDULES[schedule],
            steps,
        ),
        learning_rates=ascending(learning_rates),
        weight_decays=None if weight_decays is None else ascending(weight_decays),
        schedule="own" if own else schedule,
        seeds=tuple_of(seeds),
        steps=steps,
        batch_size=int(task.batch_size if batch_size is None else batch_size),
        target_loss=None if target_loss is None else float(target_loss),
        evaluate_every=None if evaluate_every is None else int(evaluate_every),
        cache=None if cache is None else Path(cache),
    )
    check(plan)
    return plan


def ascending(numbers: Iterable[float]) -> tuple[float, ...]:
    """Sorts numbers and drops doubles."""
    return tuple(sorted({float(number) for number in numbers}))


def check(plan: Plan) -> None:
    """Raises a ValueError that says what is out of its range."""
    if not plan.learning_rates:
        raise ValueError("compare: expected at least one learning rate, got none.")
    for rate in plan.learning_rates:
        if not 0 < rate < 1e37:
            raise ValueError(
                f"compare: expected learning rates between 0 and 1e37, got {rate:g}."
            )
    if plan.weight_decays == ():
        raise ValueError("compare: expected at least one weight decay, got none.")
    for decay in plan.weight_decays or ():
        if not 0 <= decay < 1e37:
            raise ValueError(
                f"compare: expected weight decays from 0 to 1e37, got {decay:g}."
            )
    check_runs("compare", plan.task, plan.seeds, plan.batch_size)
    if not math.isfinite(plan.target_loss or 0):
        raise ValueError(
            f"compare: expected a finite target loss, got {plan.target_loss}."
        )
    task = plan.task
    if plan.evaluate_every is not None:
        if plan.evaluate_every < 1:
            raise ValueError(
                f"compare: expected evaluate_every ≥ 1, got {plan.evaluate_every}."
            )
        if task.validation is None and task.accuracy is None:
            raise ValueError(
                f"compare: evaluate_every={plan.evaluate_every} needs a task with "
                f"validation or accuracy; {task.name} has neither."
            )


def check_runs(who: str, task: Task, seeds, batch_size: int) -> None:
    """Raises a ValueError unless a task can be run from these seeds."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{who}: expected at least one seed, each once, got {len(seeds)}."
        )
    if min(seeds) < 0:
        raise ValueError(f"{who}: expected seeds ≥ 0, got {min(seeds)}.")
    if callable(task.data):
        return
    counts = {len(leaf) for leaf in jax.tree.leaves(task.data)}
    if len(counts) != 1:
        raise ValueError(
            f"{who}: expected task.data as arrays of one length, got lengths "
            f"{', '.join(map(str, sorted(counts)))}."
        )
    if not 1 <= batch_size <= min(counts):
        raise ValueError(
            f"{who}: expected a batch size from 1 to {min(counts)}, got {batch_size}."
        )


def tuple_of(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """Counts out so many seeds, or takes them as they are given."""
    return tuple(
        int(n) for n in (seeds if isinstance(seeds, Iterable) else range(seeds))
    )
