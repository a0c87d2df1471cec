"""Scaling by a number, a learning rate or a schedule."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    Schedule,
    Updates,
    check_flag,
    check_in,
    check_scalar_or_schedule,
    check_state,
    describe,
    init_empty_state,
    is_number,
    is_real_scalar,
)
from adamx._numerics import float64, hyperparameter, increment, times
from adamx._tree import map_leaves, zero_count


class ScaleByScheduleState(NamedTuple):
    """State of `scale_by_schedule`."""

    count: Array  # i32[]; updates applied so far


def scale(step_size: Scalar) -> GradientTransformation:
    """Multiplies updates by a number: u = step_size·g.

    Args:
      step_size: Any finite number, or a scalar array.

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      ValueError: A number that is not finite.
      TypeError: No number and no scalar array.

    Differs from Optax: an array does not change the dtype of the updates.

    Example:
      >>> tx = adamx.scale(-0.5)
      >>> print(tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0])
      [-0.5 -0.5]
    """
    check_in("scale", "step_size", step_size, "(-inf, inf)")
    return scale_by(step_size, "scale")


def scale_by_learning_rate(
    learning_rate: ScalarOrSchedule | None = None, *, flip_sign: bool = True
) -> GradientTransformation:
    """Multiplies updates by the learning rate and turns them downhill.

        u = -learning_rate·g        (a schedule: -learning_rate(count)·g)

    The last block of an optimizer.

    Args:
      learning_rate: In [0, ∞), in units of params per unit of update; a scalar array;
        a schedule, called with the number of updates applied before this one; or None,
        which is 1.
      flip_sign: Whether to turn the sign.

    Returns:
      A transformation. State: `EmptyState`, with a schedule `ScaleByScheduleState`.

    Raises:
      ValueError: A number outside [0, ∞); at init, a schedule that gives no scalar.
      TypeError: No number, scalar array or schedule.

    Differs from Optax: None still turns the sign; Optax then ascends.

    Example:
      >>> tx = adamx.scale_by_learning_rate(0.1)
      >>> print(tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0])
      [-0.1 -0.1]
    """
    who = "scale_by_learning_rate"
    rate = 1.0 if learning_rate is None else learning_rate
    check_scalar_or_schedule(who, "learning_rate", rate, "[0, inf)")
    check_flag(who, "flip_sign", flip_sign)
    return scale_by(rate, who, negate=flip_sign)


def scale_by_schedule(step_size_fn: Schedule) -> GradientTransformation:
    """Multiplies updates by a schedule: u = step_size_fn(count)·g.

    Args:
      step_size_fn: From the number of updates applied before this one, i32[] from 0, to
        a scalar.

    Returns:
      A transformation. State: `ScaleByScheduleState`.

    Raises:
      TypeError: `step_size_fn` is no function.
      ValueError: At init, a value that is no scalar.

    Example:
      >>> tx = adamx.scale_by_schedule(lambda count: 0.5 ** (count + 1))
      >>> updates, state = tx.update(jnp.ones(1), tx.init(jnp.ones(1)))
      >>> print(updates, tx.update(jnp.ones(1), state)[0])
      [0.5] [0.25]
    """
    if not callable(step_size_fn):
        raise TypeError(
            "scale_by_schedule: expected step_size_fn as a function of the count, got "
            f"{describe(step_size_fn)}."
        )
    return scale_by(step_size_fn, "scale_by_schedule")


def scale_by(
    factor: ScalarOrSchedule, who: str, negate: bool = False
) -> GradientTransformation:
    """The one way to multiply by a number or a schedule."""
    constant: Any = None if callable(factor) else signed(factor, negate)

    def fixed(g: Array) -> Array:
        return times(g, constant)

    def init(params: Params) -> OptState:
        if callable(factor):
            schedule_value(who, factor, np.int32(0))
            return ScaleByScheduleState(zero_count())
        return init_empty_state(params)

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        del params, extra_args
        if not callable(factor):
            return map_leaves(who, fixed, updates)[0], state
        check_state(who, state, ScaleByScheduleState)
        value = signed(schedule_value(who, factor, state.count), negate)
        (updates,) = map_leaves(who, times, updates, scalars=(value,))
        return updates, ScaleByScheduleState(increment(state.count))

    return GradientTransformation(init, update)


def signed(factor: Scalar, negate: bool) -> Any:
    """The factor or, where it points downhill, minus it."""
    with float64():
        factor = hyperparameter(factor)
        return -factor if negate else factor


def schedule_value(who: str, schedule: Schedule, count: Any) -> Array:
    """What a schedule says at `count`: a scalar array."""
    value = schedule(count)
    if not (is_number(value) or is_real_scalar(value)):
        raise ValueError(
            f"{who}: expected a scalar from the schedule, got {describe(value)}."
        )
    if getattr(value, "dtype", None) == jnp.float64:
        return value
    return jnp.asarray(value).astype(jnp.result_type(float))


def value_at(who: str, x: ScalarOrSchedule, count: Any) -> Any:
    """What a number or a schedule says at `count`."""
    return hyperparameter(schedule_value(who, x, count) if callable(x) else x)
