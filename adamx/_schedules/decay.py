"""Schedules that go from one value to another."""

import jax.numpy as jnp

from adamx._base import Scalar, Schedule, check_flag, check_in
from adamx._numerics import float64, hyperparameter
from adamx._schedules.interpolate import (
    Steps,
    check_finite,
    cosine,
    decay,
    integer,
    make_schedule,
    narrow,
    transition,
    whole,
)


def constant_schedule(value: Scalar) -> Schedule:
    """Stays at one value.

    Args:
      value: Any finite number.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: `value` is not finite.

    Example:
      >>> print(adamx.constant_schedule(0.5)(7))
      0.5
    """
    check_finite("constant_schedule", value=value)
    return lambda count: jnp.full(integer(count).shape, narrow(value))


def linear_schedule(
    init_value: Scalar,
    end_value: Scalar,
    transition_steps: Steps,
    transition_begin: Steps = 0,
) -> Schedule:
    """Goes from one value to another on a straight line.

        left  = transition_steps - clip(count - transition_begin, 0, transition_steps)
        value = end_value + (init_value - end_value)·left / transition_steps

    Args:
      init_value: Value until `transition_begin`; any finite number.
      end_value: Value after the transition; any finite number.
      transition_steps: Length of the transition in steps, ≥ 1.
      transition_begin: Steps before the transition, ≥ 0.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Differs from Optax: `transition_steps` ≤ 0 is an error, not a constant.

    Example:
      >>> schedule = adamx.linear_schedule(1.0, 0.0, transition_steps=4)
      >>> print(schedule(jnp.arange(6)))
      [1.   0.75 0.5  0.25 0.   0.  ]
    """
    who = "linear_schedule"
    check_finite(who, init_value=init_value, end_value=end_value)
    steps = whole(who, "transition_steps", transition_steps, "[1, inf)")
    begin = whole(who, "transition_begin", transition_begin, "[0, inf)")
    return transition(init_value, end_value, steps, begin)


def polynomial_schedule(
    init_value: Scalar,
    end_value: Scalar,
    power: Scalar,
    transition_steps: Steps,
    transition_begin: Steps = 0,
) -> Schedule:
    """Goes from one value to another as a power of the steps left.

        left  = transition_steps - clip(count - transition_begin, 0, transition_steps)
        value = end_value + (init_value - end_value)·(left / transition_steps)^power

    Args:
      init_value: Value until `transition_begin`; any finite number.
      end_value: Value after the transition; any finite number.
      power: Exponent, > 0; above 1 the change is fastest at the beginning.
      transition_steps: Length of the transition in steps, ≥ 1.
      transition_begin: Steps before the transition, ≥ 0.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Differs from Optax: `transition_steps` ≤ 0 is an error, not a constant.

    Example:
      >>> schedule = adamx.polynomial_schedule(1.0, 0.0, power=2, transition_steps=4)
      >>> print(schedule(jnp.arange(5)))
      [1.     0.5625 0.25   0.0625 0.    ]
    """
    who = "polynomial_schedule"
    check_finite(who, init_value=init_value, end_value=end_value)
    check_in(who, "power", power, "(0, inf)")
    steps = whole(who, "transition_steps", transition_steps, "[1, inf)")
    begin = whole(who, "transition_begin", transition_begin, "[0, inf)")
    return transition(init_value, end_value, steps, begin, power=power)


def exponential_decay(
    init_value: Scalar,
    transition_steps: Steps,
    decay_rate: Scalar,
    transition_begin: Steps = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> Schedule:
    """Multiplies by a constant rate every so many steps.

        x     = max(count - transition_begin, 0) / transition_steps
        value = init_value·decay_rate^x           floor(x) if staircase

    Args:
      init_value: Value until `transition_begin`; any finite number.
      transition_steps: Steps in which the value is multiplied by the rate once, ≥ 1.
      decay_rate: Factor, > 0; the value grows where it is above 1, at most 1e38-fold.
      transition_begin: Steps before the decay, ≥ 0.
      staircase: Whether to multiply every `transition_steps` steps, at once.
      end_value: Limit, from below if `decay_rate` < 1, else from above; None is none.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.
      TypeError: `staircase` is not a bool.

    Differs from Optax: `transition_steps` ≤ 0 and `decay_rate` = 0 are errors, not
      constants.

    Example:
      >>> schedule = adamx.exponential_decay(1.0, 2, decay_rate=0.25, end_value=0.1)
      >>> print(schedule(jnp.arange(5)))
      [1.    0.5   0.25  0.125 0.1  ]
    """
    who = "exponential_decay"
    check_finite(who, init_value=init_value)
    steps = whole(who, "transition_steps", transition_steps, "[1, inf)")
    check_in(who, "decay_rate", decay_rate, "(0, inf)")
    begin = whole(who, "transition_begin", transition_begin, "[0, inf)")
    check_flag(who, "staircase", staircase)
    if end_value is not None:
        check_finite(who, end_value=end_value)
    values = init_value, steps, decay_rate, begin, end_value
    return make_schedule(decay, *values, staircase=bool(staircase))


def cosine_decay_schedule(
    init_value: Scalar,
    decay_steps: Steps,
    alpha: Scalar = 0.0,
    exponent: Scalar = 1.0,
) -> Schedule:
    """Decays on half a wave of the cosine.

        left  = decay_steps - min(count, decay_steps)
        q     = sin²(π/2·left / decay_steps)      = (1 + cos(π·count / decay_steps)) / 2
        value = init_value·((1 - alpha)·q^exponent + alpha)

    Args:
      init_value: Value at count 0; any finite number.
      decay_steps: Length of the decay in steps, ≥ 1.
      alpha: Last value as a fraction of the first; any finite number.
      exponent: Exponent of the wave, > 0.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Differs from PyTorch: stays at the end, where `CosineAnnealingLR` rises again.

    Example:
      >>> schedule = adamx.cosine_decay_schedule(1.0, decay_steps=4)
      >>> print(*[f"{schedule(count):.2f}" for count in range(6)])
      1.00 0.85 0.50 0.15 0.00 0.00

    Reference: Loshchilov & Hutter, 2017, Eq. 5, https://arxiv.org/abs/1608.03983
    """
    who = "cosine_decay_schedule"
    check_finite(who, init_value=init_value, alpha=alpha)
    steps = whole(who, "decay_steps", decay_steps, "[1, inf)")
    check_in(who, "exponent", exponent, "(0, inf)")
    with float64():
        end = hyperparameter(alpha) * hyperparameter(init_value)
    return transition(init_value, end, steps, shape=cosine, power=exponent)
