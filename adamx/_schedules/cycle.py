"""Schedules of one cycle or more."""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

import jax.numpy as jnp

from adamx._base import Scalar, Schedule, check_in, is_number
from adamx._numerics import float64, hyperparameter
from adamx._schedules.interpolate import (
    Steps,
    check_finite,
    cosine,
    linear,
    whole,
    wide,
)
from adamx._schedules.join import join_schedules, through
from adamx._schedules.warmup import warmup_cosine_decay_schedule


def cosine_onecycle_schedule(
    transition_steps: Steps,
    peak_value: Scalar,
    pct_start: float = 0.3,
    div_factor: Scalar = 25.0,
    final_div_factor: Scalar = 1e4,
) -> Schedule:
    """Rises and falls once, each on half a wave of the cosine.

        count                             value
        0                                 peak_value / div_factor
        int(pct_start·transition_steps)   peak_value
        transition_steps                  peak_value / (div_factor·final_div_factor)

    Args:
      transition_steps: Length of the cycle in steps, ≥ 1.
      peak_value: Largest value; any finite number.
      pct_start: Fraction of the steps in which the value rises, in [0, 1].
      div_factor: Peak over first value, > 0.
      final_div_factor: First over last value, > 0.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Differs from Optax: a rise that takes all the steps still reaches the peak.
    Differs from PyTorch: `OneCycleLR` turns at fractional steps, one step earlier.

    Example:
      >>> schedule = adamx.cosine_onecycle_schedule(10, 1.0, div_factor=4)
      >>> print(schedule(0), schedule(3))
      0.25 1.0

    Reference: Smith & Topin, 2018, https://arxiv.org/abs/1708.07120
    """
    who = "cosine_onecycle_schedule"
    steps = whole(who, "transition_steps", transition_steps, "[1, inf)")
    check_in(who, "pct_start", pct_start, "[0, 1]")
    peak, first, last = cycle_values(who, peak_value, div_factor, final_div_factor)
    turn = portion(pct_start, steps)
    return through([(0, first), (turn, peak), (steps, last)], cosine)


def linear_onecycle_schedule(
    transition_steps: Steps,
    peak_value: Scalar,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: Scalar = 25.0,
    final_div_factor: Scalar = 1e4,
) -> Schedule:
    """Rises, falls back as far, and falls further, each on a straight line.

        count                             value
        0                                 peak_value / div_factor
        int(pct_start·transition_steps)   peak_value
        int(pct_final·transition_steps)   peak_value / div_factor
        transition_steps                  peak_value / (div_factor·final_div_factor)

    Args:
      transition_steps: Length of the cycle in steps, ≥ 1.
      peak_value: Largest value; any finite number.
      pct_start: Fraction of the steps in which the value rises, in [0, 1].
      pct_final: Fraction of the steps until it is back, in [`pct_start`, 1].
      div_factor: Peak over first value, > 0.
      final_div_factor: First over last value, > 0.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Differs from Optax: where turning points coincide, as in a cycle of a few steps, the
      values are still those above.

    Example:
      >>> schedule = adamx.linear_onecycle_schedule(20, 1.0, div_factor=4)
      >>> print(schedule(jnp.array([0, 3, 6, 17])))
      [0.25  0.625 1.    0.25 ]

    Reference: Smith & Topin, 2018, https://arxiv.org/abs/1708.07120
    """
    who = "linear_onecycle_schedule"
    steps = whole(who, "transition_steps", transition_steps, "[1, inf)")
    check_in(who, "pct_start", pct_start, "[0, 1]")
    after = f"[{pct_start if is_number(pct_start) else 0}, 1]"
    check_in(who, "pct_final", pct_final, after)
    peak, first, last = cycle_values(who, peak_value, div_factor, final_div_factor)
    turn, back = portion(pct_start, steps), portion(pct_final, steps)
    return through([(0, first), (turn, peak), (back, first), (steps, last)], linear)


def cycle_values(
    who: str, peak: Scalar, div: Scalar, final_div: Scalar
) -> tuple[Any, ...]:
    """The largest, first and last value of a cycle."""
    check_finite(who, peak_value=peak)
    check_in(who, "div_factor", div, "(0, inf)")
    check_in(who, "final_div_factor", final_div, "(0, inf)")
    with float64():
        first = hyperparameter(peak) / hyperparameter(div)
        return peak, first, first / hyperparameter(final_div)


def portion(fraction: Any, steps: Steps) -> Steps:
    """int(fraction·steps)."""
    if is_number(fraction) and is_number(steps):
        return int(fraction * steps)
    with float64():
        return jnp.asarray(wide(fraction) * wide(steps), jnp.int32)


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """Runs cosine cycles one after the other, each with its own warm-up.

        value = cycle i at the count since cycle i began

    Args:
      cosine_kwargs: For each cycle the arguments of `warmup_cosine_decay_schedule`; a
        cycle takes `decay_steps` steps.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: No cycles, or a number out of its range.

    Example:
      >>> cycle = dict(init_value=0.0, peak_value=1.0, warmup_steps=1, decay_steps=3)
      >>> schedule = adamx.sgdr_schedule([cycle, cycle | {"peak_value": 0.5}])
      >>> print(*[f"{schedule(count):.2f}" for count in range(7)])
      0.00 1.00 0.50 0.00 0.50 0.25 0.00

    Reference: Loshchilov & Hutter, 2017, https://arxiv.org/abs/1608.03983
    """
    cycles = list(cosine_kwargs)
    if not cycles:
        raise ValueError("sgdr_schedule: expected one cycle or more, got none.")
    schedules = [warmup_cosine_decay_schedule(**cycle) for cycle in cycles]
    ends = list(accumulate(cycle["decay_steps"] for cycle in cycles))
    return join_schedules(schedules, ends[:-1])
