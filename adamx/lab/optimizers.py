"""What can be compared: optimizers and schedules, by the names that people know."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import adamx
from adamx.lab.task import Task

# `learning_rate -> transformation`; a transformation has `init` and `update`.
Constructor = Callable[..., Any]

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

# `(peak, steps) -> schedule`, a step's learning rate as the optimizers take it.
SCHEDULES: dict[str, Callable[[Any, int], Any]] = {
    "constant": lambda peak, steps: peak,
    "linear": lambda peak, steps: adamx.linear_schedule(peak, 0.0, steps),
    "cosine": adamx.cosine_decay_schedule,
    "warmup-cosine": lambda peak, steps: adamx.warmup_cosine_decay_schedule(
        0.0, peak, steps // 10, steps
    ),
    # Of Kingma & Ba 2015, section 6.1: peak / √t.
    "inverse-sqrt": lambda peak, steps: adamx.inverse_sqrt_schedule(
        peak, 0, timescale=1.0
    ),
}


class Recipe(NamedTuple):
    """An optimizer of a comparison."""

    make: Callable[..., adamx.GradientTransformation]  # make(rate) or make(rate, decay)
    decays: bool  # whether it takes a weight decay


def choose(
    who: str,
    task: Task,
    optimizers: Mapping[str, Constructor] | Iterable[str] | str | None,
    schedule: Callable[[Any, int], Any] = SCHEDULES["constant"],
    steps: int = 1,
) -> dict[str, Recipe]:
    """Looks up optimizers and puts the task's wrapper around them.

    Raises:
      ValueError: An unknown name, or none.
      TypeError: A constructor that makes no transformation.
    """
    if not isinstance(optimizers, Mapping):
        optimizers = [optimizers] if isinstance(optimizers, str) else optimizers
        names = list(DEFAULT if optimizers is None else optimizers)
        names = list(OPTIMIZERS) if names == ["all"] else names
        have = ", ".join(OPTIMIZERS)
        for name in names:
            if name not in OPTIMIZERS:
                raise ValueError(f"{who}: unknown optimizer {name!r}; have {have}.")
        optimizers = {name: OPTIMIZERS[name] for name in names}
    if not optimizers:
        raise ValueError(f"{who}: expected at least one optimizer, got none.")

    def build(name, constructor, learning_rate, weight_decay=None):
        decay = {} if weight_decay is None else {"weight_decay": weight_decay}
        tx = constructor(schedule(learning_rate, steps), **decay)
        if not (hasattr(tx, "init") and hasattr(tx, "update")):
            raise TypeError(
                f"{who}: expected optimizers[{name!r}] to make a transformation with "
                f"init and update, got {type(tx).__name__}."
            )
        tx = adamx.chain(tx)  # of any library; it takes extra arguments
        return tx if task.wrap is None else task.wrap(tx)

    recipes = {}
    for name, constructor in optimizers.items():
        decay = inspect.signature(constructor).parameters.get("weight_decay")
        if decay is not None and decay.default is decay.empty:
            constructor = partial(constructor, weight_decay=0.0)
        make = partial(build, name, constructor)
        recipes[name] = Recipe(make, decays=decay is not None)
        make(1e-3)
    return recipes
