"""Schedules in pieces."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import jax.numpy as jnp

from adamx._base import Array, Scalar, Schedule, check_in, describe, is_number
from adamx._numerics import float64, hyperparameter
from adamx._schedules.decay import constant_schedule
from adamx._schedules.interpolate import (
    Shape,
    Steps,
    check_finite,
    cosine,
    integer,
    linear,
    narrow,
    transition,
    whole,
)


def join_schedules(
    schedules: Sequence[Schedule], boundaries: Sequence[Steps]
) -> Schedule:
    """Runs schedules one after the other, each with a count of its own.

        value = schedules[i](count - start[i])    for start[i] ≤ count < start[i+1]
        start = [0, *boundaries, infinity]

    Args:
      schedules: Any functions of a count, at least one.
      boundaries: Count at which each schedule but the first begins, ≥ 0, ascending.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: Not one boundary between each two schedules, or not in order.
      TypeError: A schedule is not callable.

    Example:
      >>> schedule = adamx.join_schedules([lambda _: 1.0, lambda n: 1 / (n + 1)], [2])
      >>> print(schedule(jnp.array([1, 2, 3])))
      [1.  1.  0.5]
    """
    who = "join_schedules"
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"{who}: expected {len(boundaries) + 1} schedules for {len(boundaries)} "
            f"boundaries, got {len(schedules)}."
        )
    for i, part in enumerate(schedules):
        if not callable(part):
            raise TypeError(
                f"{who}: expected schedules[{i}] as a function of the count, got "
                f"{describe(part)}."
            )
    starts: list[Steps] = [0]
    for i, boundary in enumerate(boundaries):
        previous = starts[-1] if is_number(starts[-1]) else 0
        after = f"[{previous}, inf)"
        starts.append(whole(who, f"boundaries[{i}]", boundary, after))

    def schedule(count: Any) -> Array:
        count = integer(count)
        value = narrow(schedules[0](count))
        for start, part in zip(starts[1:], schedules[1:], strict=True):
            # A schedule is called before its turn too, but never with a negative count.
            later = narrow(part(jnp.maximum(count - start, 0)))
            value = jnp.where(count < start, value, later)
        return value

    return schedule


def through(knots: Sequence[tuple[Steps, Any]], shape: Shape) -> Schedule:
    """Interpolates between knots (count, value), the first at 0; constant after."""
    if len(knots) == 1:
        return constant_schedule(knots[0][1])
    pieces = [transition(a, b, t - s, 0, shape) for (s, a), (t, b) in pairwise(knots)]
    return join_schedules(pieces, [count for count, _ in knots[1:-1]])


def cumulative_knots(
    who: str, init_value: Scalar, boundaries_and_scales: Mapping[int, Scalar] | None
) -> list[tuple[int, Any]]:
    """[(0, init_value), (first boundary, init_value·scale), ...]."""
    check_finite(who, init_value=init_value)
    knots = [(0, hyperparameter(init_value))]
    for boundary, scale in sorted((boundaries_and_scales or {}).items()):
        step = whole(who, "every boundary", boundary, "[0, inf)")
        check_in(who, f"the scale at {boundary}", scale, "[0, inf)")
        with float64():
            knots.append((step, knots[-1][1] * hyperparameter(scale)))
    return knots


def piecewise_constant_schedule(
    init_value: Scalar, boundaries_and_scales: Mapping[int, Scalar] | None = None
) -> Schedule:
    """Multiplies by a scale at each boundary: step decay.

        value = init_value·(product of the scales at boundaries ≤ count)

    Args:
      init_value: First value; any finite number.
      boundaries_and_scales: {count: scale}, both ≥ 0, in any order; None is empty.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Example:
      >>> schedule = adamx.piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.5})
      >>> print(schedule(jnp.arange(6)))
      [1.   1.   0.5  0.5  0.25 0.25]
    """
    knots = cumulative_knots(
        "piecewise_constant_schedule", init_value, boundaries_and_scales
    )
    boundaries, values = zip(*knots, strict=True)
    return join_schedules(list(map(constant_schedule, values)), boundaries[1:])


def piecewise_interpolate_schedule(
    interpolate_type: str,
    init_value: Scalar,
    boundaries_and_scales: Mapping[int, Scalar] | None = None,
) -> Schedule:
    """Interpolates between the values that `piecewise_constant_schedule` jumps to.

        count        value
        0            init_value
        boundary i   init_value·(product of the scales up to boundary i)

    Args:
      interpolate_type: "linear", or "cosine" for half a wave in each piece.
      init_value: Value at count 0; any finite number.
      boundaries_and_scales: {count: scale}, both ≥ 0, in any order; None is empty.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: An unknown `interpolate_type`, or a number out of its range.

    Example:
      >>> schedule = adamx.piecewise_interpolate_schedule("linear", 1.0, {2: 0.5, 4: 0})
      >>> print(schedule(jnp.arange(6)))
      [1.   0.75 0.5  0.25 0.   0.  ]
    """
    who = "piecewise_interpolate_schedule"
    shapes = {"linear": linear, "cosine": cosine}
    if interpolate_type not in shapes:
        raise ValueError(
            f"{who}: expected interpolate_type as 'linear' or 'cosine', got "
            f"{interpolate_type!r}."
        )
    knots = cumulative_knots(who, init_value, boundaries_and_scales)
    return through(knots, shapes[interpolate_type])
