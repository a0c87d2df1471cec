"""Running sums and means of updates."""

from typing import Any, NamedTuple

import jax

from adamx._base import (
    Array,
    GradientTransformation,
    Params,
    Scalar,
    Updates,
    check_flag,
    check_in,
    check_state,
    storage_dtype,
)
from adamx._numerics import (
    complement,
    float64,
    increment,
    lerp,
    one_minus_power,
    split,
    times,
)
from adamx._tree import map_leaves, zero_count, zeros_like


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
      accumulator_dtype: Dtype in which the sum is kept; None is float32 or wider.

    Returns:
      A transformation. State: `TraceState`, one array for each parameter.

    Raises:
      ValueError: A decay outside [0, 1]; at update, trees that do not match.
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
    accumulator_dtype = storage_dtype(who, "accumulator_dtype", accumulator_dtype)

    def leaf(g: Array, total: Array) -> tuple[Array, Array]:
        total = g + times(total, decay)
        return g + times(total, decay) if nesterov else total, total

    def init(params: Params) -> TraceState:
        return TraceState(zeros_like(who, params, accumulator_dtype))

    def update(
        updates: Updates, state: TraceState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, TraceState]:
        del params, extra_args
        check_state(who, state, TraceState)
        updates, total = map_leaves(who, leaf, updates, state.trace)
        return updates, TraceState(total)

    return GradientTransformation(init, update)


def ema(
    decay: Scalar, debias: bool = True, accumulator_dtype: Any = None
) -> GradientTransformation:
    """Replaces updates by their running mean.

        ema = ema + (1 - decay)·(g - ema)
        u = ema / (1 - decay^t)        (without debias: ema),   t = count + 1

    Args:
      decay: Per step, in [0, 1); the horizon is about 1 / (1 - decay) steps.
      debias: Whether to correct for the start at zero.
      accumulator_dtype: Dtype in which the mean is kept; None is float32 or wider.

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
    accumulator_dtype = storage_dtype(who, "accumulator_dtype", accumulator_dtype)
    w = complement(decay)

    @jax.jit
    def correction(count: Array) -> tuple[Any, ...]:
        with float64():
            return split(1.0 / one_minus_power(w, count))

    def leaf(g: Array, mean: Array, factor: Any) -> tuple[Array, Array]:
        mean = lerp(mean, g, w)
        return times(mean, factor) if debias else mean, mean

    def init(params: Params) -> EmaState:
        return EmaState(zero_count(), zeros_like(who, params, accumulator_dtype))

    def update(
        updates: Updates, state: EmaState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, EmaState]:
        del params, extra_args
        check_state(who, state, EmaState)
        count = increment(state.count)
        updates, mean = map_leaves(
            who, leaf, updates, state.ema, scalars=correction(count)
        )
        return updates, EmaState(count, mean)

    return GradientTransformation(init, update)
