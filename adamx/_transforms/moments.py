"""Running sums and means of updates."""

from typing import Any, NamedTuple

from adamx._base import (
    Array,
    GradientTransformation,
    Scalar,
    Updates,
    check_flag,
    check_in,
)
from adamx._numerics import (
    complement,
    hyperparameter,
    increment,
    lerp,
    one_minus_power,
    split,
    times,
)
from adamx._rounding import storage_of
from adamx._stateful import Moment, stateful

NO_COUNT = "take ema, whose state has one"


class TraceState(NamedTuple):
    """State of `trace`."""

    trace: Updates  # like params; decaying sum of g


class EmaState(NamedTuple):
    """State of `ema`."""

    count: Array  # i32[]; updates applied so far
    ema: Updates  # like params; running mean of g


def trace(
    decay: Scalar, nesterov: bool = False, accumulator_dtype: Any = None
) -> GradientTransformation:
    """Replaces updates by their decaying sum (momentum).

        trace = g + decay·trace
        u = trace        (nesterov: g + decay·trace)

    Args:
      decay: Per step, in [0, 1]; a constant g grows by 1 / (1 - decay).
      nesterov: Whether to look ahead.
      accumulator_dtype: Dtype in which the sum is kept, or a `Storage`; None is float32
        or wider. Rounded to the nearest, since the state has no count: in bfloat16 from
        a decay of 0.98 on it does not follow.

    Returns:
      A transformation. State: `TraceState`, one array for each parameter.

    Raises:
      ValueError: A decay outside [0, 1], stochastic rounding; at update, trees that do
        not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: 16-bit parameters get a float32 sum.

    Example:
      >>> tx = adamx.trace(0.9)
      >>> u, state = tx.update(jnp.ones(1), tx.init(jnp.zeros(1)))
      >>> print(tx.update(jnp.ones(1), state)[0])
      [1.9]

    Reference: Polyak, 1964; Sutskever et al., 2013, section 2.
    """
    who = "trace"
    check_in(who, "decay", decay, "[0, 1]")
    check_flag(who, "nesterov", nesterov)
    storage = storage_of(
        who, "accumulator_dtype", accumulator_dtype, counted=False, instead=NO_COUNT
    )
    decay = hyperparameter(decay)

    def leaf(g: Array, total: Array) -> tuple[Any, Array]:
        def u(total: Array) -> Array:
            return g + times(total, decay) if nesterov else total

        return u, g + times(total, decay)

    return stateful(who, TraceState, leaf, trace=Moment(storage))


def ema(
    decay: Scalar, debias: bool = True, accumulator_dtype: Any = None
) -> GradientTransformation:
    """Replaces updates by their running mean.

        ema = ema + (1 - decay)·(g - ema)
        u = ema / (1 - decay^t)        (without debias: ema),   t = count + 1

    Args:
      decay: Per step, in [0, 1); the horizon is about 1 / (1 - decay) steps.
      debias: Whether to correct for the start at zero.
      accumulator_dtype: Dtype in which the mean is kept, or a `Storage`; None is
        float32 or wider.

    Returns:
      A transformation. State: `EmaState`, one array for each parameter.

    Raises:
      ValueError: A decay outside [0, 1); at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: 16-bit parameters get a float32 mean; exact correction.

    Example:
      >>> tx = adamx.ema(0.9)
      >>> print(tx.update(jnp.ones(1), tx.init(jnp.zeros(1)))[0])
      [1.]
    """
    who = "ema"
    check_in(who, "decay", decay, "[0, 1)")
    check_flag(who, "debias", debias)
    w = complement(decay)
    storage = storage_of(who, "accumulator_dtype", accumulator_dtype, w)

    def correction(count: Array) -> tuple[Any, ...]:
        return split(1.0 / one_minus_power(w, increment(count)))

    def leaf(g: Array, mean: Array, factor: Any) -> tuple[Any, Array]:
        def u(mean: Array) -> Array:
            return times(mean, factor) if debias else mean

        return u, lerp(mean, g, w)

    return stateful(who, EmaState, leaf, correction, ema=Moment(storage))
