"""Schedules of long runs: three phases, a root without an end, one value an epoch."""

import functools

import jax
import jax.numpy as jnp

from adamx._base import (
    Array,
    Scalar,
    Schedule,
    check_choice,
    check_in,
    describe,
)
from adamx._schedules.interpolate import (
    Steps,
    between,
    check_finite,
    cosine,
    integer,
    linear,
    make_schedule,
    narrow,
    transition,
    whole,
)
from adamx._schedules.join import join_schedules


def warmup_stable_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: Steps,
    stable_steps: Steps,
    decay_steps: Steps,
    end_value: Scalar = 0.0,
    *,
    shape: str = "linear",
) -> Schedule:
    """Rises on a straight line, stays, then decays: a trapezoid (WSD).

        n     = clip(count - warmup_steps - stable_steps, 0, decay_steps) / decay_steps
        w     = 1 - n                      (cosine: (1 + cos(π·n)) / 2, sqrt: 1 - √n)
        value = end_value + (peak_value - end_value)·w
                before warmup_steps as `warmup_constant_schedule`

    A run that has come to the stable phase can be made longer, or be decayed from any
    of its checkpoints, without a length that is known from the beginning.

    Args:
      init_value: Value at count 0; any finite number. 0 wastes the first step.
      peak_value: Value of the stable phase; any finite number.
      warmup_steps: Length of the warm-up in steps, ≥ 0; 0 is none.
      stable_steps: Length of the stable phase in steps, ≥ 0.
      decay_steps: Length of the decay alone in steps, ≥ 1.
      end_value: Value after the three phases; any finite number.
      shape: Of the decay: "linear", "cosine", or "sqrt", which falls fastest first.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range, or an unknown shape.

    Example:
      >>> schedule = adamx.warmup_stable_decay_schedule(0.0, 1.0, 2, 2, 4)
      >>> print(schedule(jnp.arange(9)))
      [0.   0.5  1.   1.   1.   0.75 0.5  0.25 0.  ]

    Reference: Hu et al., 2024, section 4, https://arxiv.org/abs/2404.06395; the shape
      1 - √n: Hägele et al., 2024, section 3, https://arxiv.org/abs/2405.18392
    """
    who = "warmup_stable_decay_schedule"
    check_finite(who, init_value=init_value, peak_value=peak_value, end_value=end_value)
    warmup = whole(who, "warmup_steps", warmup_steps, "[0, inf)")
    stable = whole(who, "stable_steps", stable_steps, "[0, inf)")
    steps = whole(who, "decay_steps", decay_steps, "[1, inf)")
    check_choice(who, "shape", shape, ("linear", "cosine", "sqrt"))
    if shape == "sqrt":
        decay = make_schedule(falling_root, peak_value, end_value, steps, stable)
    else:
        wave = cosine if shape == "cosine" else linear
        decay = transition(peak_value, end_value, steps, stable, shape=wave)
    return join_schedules([transition(init_value, peak_value, warmup), decay], [warmup])


@functools.partial(jax.jit, inline=True)
def falling_root(
    count: Array, start: Array, end: Array, steps: Array, begin: Array
) -> Array:
    """(1 - √n)·start + √n·end for the fraction n of the steps done."""
    done = jnp.clip(count - begin, 0, steps)
    v = jnp.sqrt(linear(done, steps))
    return between(start, end, linear(steps - done, steps) / (1 + v), v)


def inverse_sqrt_schedule(
    peak_value: Scalar,
    warmup_steps: Steps,
    *,
    init_value: Scalar = 0.0,
    timescale: Scalar | None = None,
) -> Schedule:
    """Rises on a straight line, then falls as the inverse square root, without an end.

        value = peak_value·√(timescale / (timescale + count - warmup_steps))
                before warmup_steps as `warmup_constant_schedule`

    Args:
      peak_value: Value at `warmup_steps`; any finite number. For Vaswani et al. it is
        (width·warmup_steps)^-0.5, and their first step is count 1.
      warmup_steps: Length of the warm-up in steps, ≥ 0; 0 is none.
      init_value: Value at count 0; any finite number. 0 wastes the first step.
      timescale: Steps in which the value falls by √2, > 0; None is `warmup_steps`, or 1
        without a warm-up, so that it falls as 1 / √count.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Example:
      >>> schedule = adamx.inverse_sqrt_schedule(1.0, warmup_steps=4)
      >>> print(schedule(jnp.array([0, 2, 4, 16, 64])))
      [0.   0.5  1.   0.5  0.25]

    Reference: Vaswani et al., 2017, section 5.3, https://arxiv.org/abs/1706.03762
    """
    who = "inverse_sqrt_schedule"
    check_finite(who, peak_value=peak_value, init_value=init_value)
    warmup = whole(who, "warmup_steps", warmup_steps, "[0, inf)")
    if timescale is None:
        timescale = (
            max(warmup, 1) if isinstance(warmup, int) else jnp.maximum(warmup, 1)
        )
    check_in(who, "timescale", timescale, "(0, inf)")
    fall = make_schedule(inverse_root, peak_value, timescale)
    return join_schedules([transition(init_value, peak_value, warmup), fall], [warmup])


@functools.partial(jax.jit, inline=True)
def inverse_root(count: Array, peak: Array, timescale: Array) -> Array:
    """The peak over √(1 + count / timescale)."""
    return peak / jnp.sqrt((timescale + count) / timescale)


def over_epochs(schedule: Schedule, steps_per_epoch: Steps) -> Schedule:
    """Runs a schedule whose unit is an epoch: schedule(floor(count / steps_per_epoch)).

    Its value changes between epochs only, as in PyTorch, where a scheduler is stepped
    after each.

    Args:
      schedule: A function of the number of epochs that are over.
      steps_per_epoch: Updates in an epoch, ≥ 1.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.
      TypeError: A schedule that is not callable.

    Example:
      >>> schedule = adamx.over_epochs(adamx.linear_schedule(1.0, 0.0, 4), 2)
      >>> print(schedule(jnp.arange(6)))
      [1.   1.   0.75 0.75 0.5  0.5 ]
    """
    who = "over_epochs"
    if not callable(schedule):
        raise TypeError(
            f"{who}: expected schedule as a function of the count, got "
            f"{describe(schedule)}."
        )
    steps = whole(who, "steps_per_epoch", steps_per_epoch, "[1, inf)")
    return lambda count: narrow(schedule(integer(count) // steps))
