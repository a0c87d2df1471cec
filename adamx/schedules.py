"""Learning-rate schedules: pure functions of the step count, exact to the last step.

In float32, `1 - count/T` and `1 + cos(π·count/T)` have lost every digit when a run of
10⁷ steps ends, and a warm-up that is computed from its end has none when it begins. So
a value is computed from the end that it is nearer to, in float64, and rounded once.

The count is an integer: a number, or an array or tracer of any shape, which the result
shares. The result is float32, or float64 where x64 is on. Values may be numbers, scalar
arrays or tracers; so may numbers of steps, though not the keys of a dict.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adamx._base import (
    Array,
    Scalar,
    Schedule,
    check_flag,
    check_in,
    describe,
    is_number,
)
from adamx._numerics import MAX_COUNT, float64, hyperparameter

Steps = Any  # whole number, or a scalar array of integers
Shape = Callable[[Array, Array], Array]  # (k, n) -> 0 at k = 0 to 1 at k = n


def _linear(k: Array, n: Array) -> Array:
    """The fraction k / n; 0 for n = 0, a transition without steps."""
    return k / jnp.maximum(n, 1)


def _cosine(k: Array, n: Array) -> Array:
    """(1 - cos(π·k/n)) / 2, without its cancellation."""
    return jnp.sin(math.pi / 2 * _linear(k, n)) ** 2


# Both formulas are compiled, lest a call outside jit take twenty dispatches.
@functools.partial(jax.jit, static_argnames="shape", inline=True)
def _interpolate(
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
        w = w**power
        v = jnp.where(v < 0.5, small, 1 - w)
    # A weight of at most 1/2 cancels nothing and at either end is 0, so both are exact;
    # where there are no steps, both weights are 0, and the end it is.
    return jnp.where(w <= v, end + (start - end) * w, start + (end - start) * v)


@functools.partial(jax.jit, static_argnames="staircase", inline=True)
def _decay(
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


def _schedule(formula: Callable[..., Array], *values: Any, **static: Any) -> Schedule:
    """Makes count -> formula(count, *values), in float64: it holds every count."""

    def schedule(count: Any) -> Array:
        count, *rest = _integer(count), *map(_wide, values)
        with float64():
            value = formula(count.astype(jnp.float64), *rest, **static)
        return _narrow(value)

    return schedule


def _transition(
    start: Any,
    end: Any,
    steps: Steps,
    begin: Steps = 0,
    shape: Shape = _linear,
    power: Scalar = 1,
) -> Schedule:
    """Goes from start to end; shape(steps left, steps)^power is the weight of start."""
    exponent = None if is_number(power) and power == 1 else power
    return _schedule(_interpolate, start, end, steps, begin, exponent, shape=shape)


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
    _check_finite("constant_schedule", value=value)
    return lambda count: jnp.full(_integer(count).shape, _narrow(value))


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
    _check_finite(who, init_value=init_value, end_value=end_value)
    steps = _whole(who, "transition_steps", transition_steps, "[1, inf)")
    begin = _whole(who, "transition_begin", transition_begin, "[0, inf)")
    return _transition(init_value, end_value, steps, begin)


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
    _check_finite(who, init_value=init_value, end_value=end_value)
    check_in(who, "power", power, "(0, inf)")
    steps = _whole(who, "transition_steps", transition_steps, "[1, inf)")
    begin = _whole(who, "transition_begin", transition_begin, "[0, inf)")
    return _transition(init_value, end_value, steps, begin, power=power)


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
    _check_finite(who, init_value=init_value)
    steps = _whole(who, "transition_steps", transition_steps, "[1, inf)")
    check_in(who, "decay_rate", decay_rate, "(0, inf)")
    begin = _whole(who, "transition_begin", transition_begin, "[0, inf)")
    check_flag(who, "staircase", staircase)
    if end_value is not None:
        _check_finite(who, end_value=end_value)
    values = init_value, steps, decay_rate, begin, end_value
    return _schedule(_decay, *values, staircase=bool(staircase))


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
      >>> print(schedule(2), schedule(4))
      0.5 0.0

    Reference: Loshchilov & Hutter, 2017, Eq. 5, https://arxiv.org/abs/1608.03983
    """
    who = "cosine_decay_schedule"
    _check_finite(who, init_value=init_value, alpha=alpha)
    steps = _whole(who, "decay_steps", decay_steps, "[1, inf)")
    check_in(who, "exponent", exponent, "(0, inf)")
    with float64():
        end = hyperparameter(alpha) * hyperparameter(init_value)
    return _transition(init_value, end, steps, shape=_cosine, power=exponent)


def warmup_constant_schedule(
    init_value: Scalar, peak_value: Scalar, warmup_steps: Steps
) -> Schedule:
    """Rises on a straight line, then stays.

        value = init_value + (peak_value - init_value)·min(count / warmup_steps, 1)

    Args:
      init_value: Value at count 0; any finite number. 0 wastes the first step.
      peak_value: Value from `warmup_steps` on; any finite number.
      warmup_steps: Length of the warm-up in steps, ≥ 0; 0 is none.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Differs from Optax: without a warm-up the value is `peak_value`, not `init_value`.

    Example:
      >>> schedule = adamx.warmup_constant_schedule(0.0, 1.0, warmup_steps=4)
      >>> print(schedule(jnp.arange(6)))
      [0.   0.25 0.5  0.75 1.   1.  ]

    Reference: Goyal et al., 2017, Sec. 2.2, https://arxiv.org/abs/1706.02677
    """
    who = "warmup_constant_schedule"
    _check_finite(who, init_value=init_value, peak_value=peak_value)
    warmup = _whole(who, "warmup_steps", warmup_steps, "[0, inf)")
    return _transition(init_value, peak_value, warmup)


def warmup_cosine_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: Steps,
    decay_steps: Steps,
    end_value: Scalar = 0.0,
    exponent: Scalar = 1.0,
) -> Schedule:
    """Rises on a straight line, then decays on half a wave of the cosine.

        count ≤ warmup_steps   as `warmup_constant_schedule`
        after                  as `cosine_decay_schedule`, at count - warmup_steps, in
                               decay_steps - warmup_steps steps, alpha = end / peak

    Args:
      init_value: Value at count 0; any finite number. 0 wastes the first step.
      peak_value: Value at `warmup_steps`; any finite number.
      warmup_steps: Length of the warm-up in steps, ≥ 0; 0 is none.
      decay_steps: Length of the whole in steps, **warm-up included**; > `warmup_steps`.
      end_value: Value from `decay_steps` on; any finite number.
      exponent: Exponent of the wave, > 0.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Differs from Optax: `end_value` is reached also where `peak_value` is 0.

    Example:
      >>> schedule = adamx.warmup_cosine_decay_schedule(0.0, 1.0, 2, decay_steps=6)
      >>> print([float(schedule(count)) for count in (0, 1, 2, 4, 6)])
      [0.0, 0.5, 1.0, 0.5, 0.0]

    Reference: Goyal et al., 2017, Sec. 2.2, https://arxiv.org/abs/1706.02677;
      Loshchilov & Hutter, 2017, Eq. 5, https://arxiv.org/abs/1608.03983
    """
    who = "warmup_cosine_decay_schedule"
    _check_finite(
        who, init_value=init_value, peak_value=peak_value, end_value=end_value
    )
    warmup = _whole(who, "warmup_steps", warmup_steps, "[0, inf)")
    longer = f"({warmup if is_number(warmup) else 0}, inf)"
    steps = _whole(who, "decay_steps", decay_steps, longer) - warmup
    check_in(who, "exponent", exponent, "(0, inf)")
    rise = _transition(init_value, peak_value, warmup)
    decay = _transition(peak_value, end_value, steps, shape=_cosine, power=exponent)
    return join_schedules([rise, decay], [warmup])


def warmup_exponential_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: Steps,
    transition_steps: Steps,
    decay_rate: Scalar,
    transition_begin: Steps = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> Schedule:
    """Rises on a straight line, then decays exponentially.

        count ≤ warmup_steps   as `warmup_constant_schedule`
        after                  as `exponential_decay`, at count - warmup_steps

    Args:
      init_value: Value at count 0; any finite number. 0 wastes the first step.
      peak_value: Value at `warmup_steps`; any finite number.
      warmup_steps: Length of the warm-up in steps, ≥ 0; 0 is none.
      transition_steps: Steps in which the value is multiplied by the rate once, ≥ 1.
      decay_rate: Factor, > 0; the value grows where it is above 1.
      transition_begin: Steps between the warm-up and the decay, ≥ 0.
      staircase: Whether to multiply every `transition_steps` steps, at once.
      end_value: Limit, from below if `decay_rate` < 1, else from above; None is none.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.
      TypeError: `staircase` is not a bool.

    Example:
      >>> schedule = adamx.warmup_exponential_decay_schedule(0.0, 1.0, 2, 1, 0.5)
      >>> print(schedule(jnp.arange(5)))
      [0.   0.5  1.   0.5  0.25]

    Reference: Goyal et al., 2017, Sec. 2.2, https://arxiv.org/abs/1706.02677
    """
    who = "warmup_exponential_decay_schedule"
    _check_finite(who, init_value=init_value, peak_value=peak_value)
    warmup = _whole(who, "warmup_steps", warmup_steps, "[0, inf)")
    rise = _transition(init_value, peak_value, warmup)
    decay = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return join_schedules([rise, decay], [warmup])


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
    knots = _knots("piecewise_constant_schedule", init_value, boundaries_and_scales)
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
    shapes = {"linear": _linear, "cosine": _cosine}
    if interpolate_type not in shapes:
        raise ValueError(
            f"{who}: expected interpolate_type as 'linear' or 'cosine', got "
            f"{interpolate_type!r}."
        )
    knots = _knots(who, init_value, boundaries_and_scales)
    return _through(knots, shapes[interpolate_type])


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
    steps = _whole(who, "transition_steps", transition_steps, "[1, inf)")
    check_in(who, "pct_start", pct_start, "[0, 1]")
    peak, first, last = _cycle(who, peak_value, div_factor, final_div_factor)
    turn = _portion(pct_start, steps)
    return _through([(0, first), (turn, peak), (steps, last)], _cosine)


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
    steps = _whole(who, "transition_steps", transition_steps, "[1, inf)")
    check_in(who, "pct_start", pct_start, "[0, 1]")
    after = f"[{pct_start if is_number(pct_start) else 0}, 1]"
    check_in(who, "pct_final", pct_final, after)
    peak, first, last = _cycle(who, peak_value, div_factor, final_div_factor)
    turn, back = _portion(pct_start, steps), _portion(pct_final, steps)
    return _through([(0, first), (turn, peak), (back, first), (steps, last)], _linear)


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
      >>> print([round(float(schedule(count)), 3) for count in range(7)])
      [0.0, 1.0, 0.5, 0.0, 0.5, 0.25, 0.0]

    Reference: Loshchilov & Hutter, 2017, https://arxiv.org/abs/1608.03983
    """
    cycles = list(cosine_kwargs)
    if not cycles:
        raise ValueError("sgdr_schedule: expected one cycle or more, got none.")
    schedules = [warmup_cosine_decay_schedule(**cycle) for cycle in cycles]
    ends = list(accumulate(cycle["decay_steps"] for cycle in cycles))
    return join_schedules(schedules, ends[:-1])


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
        starts.append(_whole(who, f"boundaries[{i}]", boundary, after))

    def schedule(count: Any) -> Array:
        count = _integer(count)
        value = _narrow(schedules[0](count))
        for start, part in zip(starts[1:], schedules[1:], strict=True):
            # A schedule is called before its turn too, but never with a negative count.
            later = _narrow(part(jnp.maximum(count - start, 0)))
            value = jnp.where(count < start, value, later)
        return value

    return schedule


def _through(knots: Sequence[tuple[Steps, Any]], shape: Shape) -> Schedule:
    """Interpolates between knots (count, value), the first at 0; constant after."""
    if len(knots) == 1:
        return constant_schedule(knots[0][1])
    pieces = [_transition(a, b, t - s, 0, shape) for (s, a), (t, b) in pairwise(knots)]
    return join_schedules(pieces, [count for count, _ in knots[1:-1]])


def _knots(
    who: str, init_value: Scalar, boundaries_and_scales: Mapping[int, Scalar] | None
) -> list[tuple[int, Any]]:
    """[(0, init_value), (first boundary, init_value·scale), ...]."""
    _check_finite(who, init_value=init_value)
    knots = [(0, hyperparameter(init_value))]
    for boundary, scale in sorted((boundaries_and_scales or {}).items()):
        step = _whole(who, "every boundary", boundary, "[0, inf)")
        check_in(who, f"the scale at {boundary}", scale, "[0, inf)")
        with float64():
            knots.append((step, knots[-1][1] * hyperparameter(scale)))
    return knots


def _cycle(who: str, peak: Scalar, div: Scalar, final_div: Scalar) -> tuple[Any, ...]:
    """The largest, first and last value of a cycle."""
    _check_finite(who, peak_value=peak)
    check_in(who, "div_factor", div, "(0, inf)")
    check_in(who, "final_div_factor", final_div, "(0, inf)")
    with float64():
        first = hyperparameter(peak) / hyperparameter(div)
        return peak, first, first / hyperparameter(final_div)


def _portion(fraction: Any, steps: Steps) -> Steps:
    """int(fraction·steps)."""
    if is_number(fraction) and is_number(steps):
        return int(fraction * steps)
    with float64():
        return jnp.asarray(_wide(fraction) * _wide(steps), jnp.int32)


def _integer(count: Any) -> Array:
    count = jnp.asarray(count)
    if not jnp.issubdtype(count.dtype, jnp.integer):
        raise TypeError(
            f"schedule: expected count as an integer, got {describe(count)}."
        )
    return count.astype(jnp.int32)


def _whole(who: str, name: str, value: Any, interval: str) -> Steps:
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


def _check_finite(who: str, **values: Any) -> None:
    for name, value in values.items():
        check_in(who, name, value, "(-inf, inf)")


def _wide(value: Any) -> Any:
    """`value` in float64; None is None."""
    if value is None:
        return None
    value = hyperparameter(value)
    return np.float64(value) if is_number(value) else value


def _narrow(value: Any) -> Array:
    """`value` in the dtype that schedules return: float32, or float64 with x64 on."""
    return jnp.asarray(value, jnp.result_type(float))
