"""What schedules are made of: values that go from one to another, exact at both ends.

In float32, `1 - count/T` and `1 + cos(π·count/T)` have lost every digit when a run of
10⁷ steps ends, and a warm-up that is computed from its end has none when it begins. So
a value is computed from the end that it is nearer to, in float64, and rounded once.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adamx._base import Array, Scalar, Schedule, check_in, describe, is_number
from adamx._numerics import MAX_COUNT, float64, hyperparameter

Steps = Any  # whole number, or a scalar array of integers
Shape = Callable[[Array, Array], Array]  # (k, n) -> 0 at k = 0 to 1 at k = n


def linear(k: Array, n: Array) -> Array:
    """The fraction k / n; 0 for n = 0, a transition without steps."""
    return k / jnp.maximum(n, 1)


def cosine(k: Array, n: Array) -> Array:
    """(1 - cos(π·k/n)) / 2, without its cancellation."""
    return jnp.sin(math.pi / 2 * linear(k, n)) ** 2


def between(start: Array, end: Array, w: Array, v: Array) -> Array:
    """w·start + v·end for weights of which the sum is 1.

    A weight of at most 1/2 cancels nothing and at either end is 0, so both are exact;
    where there are no steps, both weights are 0, and the end it is.
    """
    return jnp.where(w <= v, end + (start - end) * w, start + (end - start) * v)


# Both formulas are compiled, lest a call outside jit take twenty dispatches.
@functools.partial(jax.jit, static_argnames="shape", inline=True)
def interpolate(
    count: Array,
    start: Array,
    end: Array,
    steps: Array,
    begin: Array,
    power: Array | None,
    shape: Shape,
) -> Array:
    """w·start + v·end, where w = 1 - v is a power of the shape of the steps left."""
    done = jnp.clip(count - begin, 0, steps)
    w, v = shape(steps - done, steps), shape(done, steps)
    if power is not None:
        small = -jnp.expm1(power * jnp.log1p(-jnp.minimum(v, 0.5)))
        w = jnp.where(w > 0, jnp.exp(power * jnp.log(jnp.where(w > 0, w, 1))), 0)
        v = jnp.where(v < 0.5, small, 1 - w)
    return between(start, end, w, v)


@functools.partial(jax.jit, static_argnames="staircase", inline=True)
def decay(
    count: Array,
    init: Array,
    steps: Array,
    rate: Array,
    begin: Array,
    end: Array | None,
    staircase: bool,
) -> Array:
    """init·rate^(periods done), up to the limit."""
    x = jnp.maximum(count - begin, 0) / jnp.maximum(steps, 1)
    x = jnp.floor(x) if staircase else x
    # Short of infinity, which times 0 would be NaN.
    value = init * jnp.exp(jnp.minimum(x * jnp.log(rate), 88))
    if end is None:
        return value
    return jnp.where(rate < 1, jnp.maximum(value, end), jnp.minimum(value, end))


def make_schedule(
    formula: Callable[..., Array], *values: Any, **static: Any
) -> Schedule:
    """Makes count -> formula(count, *values), in float64: it holds every count."""

    def schedule(count: Any) -> Array:
        count, *rest = integer(count), *map(wide, values)
        with float64():
            value = formula(count.astype(jnp.float64), *rest, **static)
        return narrow(value)

    return schedule


def transition(
    start: Any,
    end: Any,
    steps: Steps,
    begin: Steps = 0,
    shape: Shape = linear,
    power: Scalar = 1,
) -> Schedule:
    """Goes from start to end; shape(steps left, steps)^power is the weight of start."""
    exponent = None if is_number(power) and power == 1 else power
    return make_schedule(interpolate, start, end, steps, begin, exponent, shape=shape)


def integer(count: Any) -> Array:
    count = jnp.asarray(count)
    if not jnp.issubdtype(count.dtype, jnp.integer):
        raise TypeError(
            f"schedule: expected count as an integer, got {describe(count)}."
        )
    return count.astype(jnp.int32)


def whole(who: str, name: str, value: Any, interval: str) -> Steps:
    """`value` as an int or i32[], if it is a whole number in `interval`."""
    check_in(who, name, value, interval)
    if not is_number(value):
        if not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(
                f"{who}: expected {name} as an integer, got {describe(value)}."
            )
        return jnp.asarray(value, jnp.int32)
    if value != int(value) or value > MAX_COUNT:
        raise ValueError(
            f"{who}: expected {name} as a whole number below 2**31, got {value}."
        )
    return int(value)


def check_finite(who: str, **values: Any) -> None:
    for name, value in values.items():
        check_in(who, name, value, "(-inf, inf)")


def wide(value: Any) -> Any:
    """`value` in float64; None is None."""
    if value is None:
        return None
    value = hyperparameter(value)
    return np.float64(value) if is_number(value) else value


def narrow(value: Any) -> Array:
    """`value` in the dtype that schedules return: float32, or float64 with x64 on."""
    return jnp.asarray(value, jnp.result_type(float))
