"""A factor that falls when a measure has stopped getting better."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from adamx._base import (
    Array,
    GradientTransformation,
    Params,
    Scalar,
    Updates,
    check_choice,
    check_in,
    check_state,
    describe,
    is_number,
    is_real_scalar,
)
from adamx._choose import choose
from adamx._numerics import as_float64, float64, hyperparameter, increment, times
from adamx._schedules.interpolate import Steps, whole
from adamx._tree import map_leaves, scalar_dtype, zero_count


class ReduceLROnPlateauState(NamedTuple):
    """State of `reduce_on_plateau`."""

    scale: Array  # f32[]; the factor of the updates
    best_value: Array  # f32[]; the best mean so far, at first infinitely bad
    plateau_count: Array  # i32[]; means since the best one, or since the cooldown
    cooldown_count: Array  # i32[]; means to come that are not counted
    count: Array  # i32[]; values in avg_value
    avg_value: Array  # f32[]; mean of the values since the last test


def reduce_on_plateau(
    factor: Scalar = 0.1,
    patience: Steps = 10,
    rtol: Scalar = 1e-4,
    atol: Scalar = 0.0,
    cooldown: Steps = 0,
    accumulation_size: Steps = 1,
    min_scale: Scalar = 0.0,
    *,
    mode: str = "min",
) -> GradientTransformation:
    """Multiplies updates by a factor that falls when a measure stops getting better.

        better = value < best - (rtol·|best| + atol)     ("max": value > best + ...)
        if better:            best, bad = value, 0,      else bad = bad + 1
        if cooling > 0:       cooling, bad = cooling - 1, 0
        if bad > patience:    scale = max(factor·scale, min_scale)
                              cooling, bad = cooldown, 0
        u = scale·g

    `update` takes the measure as the extra argument `value`, a loss for example, and
    the updates of the same call get the new factor. At the end of a chain.

    A value that is NaN is an error where it is known, as outside of `jit`; where it is
    traced it changes nothing: the step is made with the factor of before.

    Args:
      factor: In (0, 1).
      patience: Tests without a better value that are waited through, ≥ 0; the one after
        reduces the scale.
      rtol: How much better a value must be, as a part of the best, in [0, 1].
      atol: The same, in units of the value, in [0, ∞); both parts add up.
      cooldown: Tests after a reduction in which none is counted as bad, ≥ 0.
      accumulation_size: Updates per test, ≥ 1: the mean of so many values is tested.
      min_scale: Smallest scale, in [0, 1].
      mode: "min" where less is better, "max" where more is.

    Returns:
      A transformation. State: `ReduceLROnPlateauState`, six scalars.

    Raises:
      ValueError: A number out of its range; at update, no value, or one that is NaN.
      TypeError: A wrong kind of argument; at update, a value that is no scalar.

    Differs from Optax: `patience` tests are waited through as in PyTorch, where Optax
      reduces at the last of them; negative values have a margin of |best|, where for
      Optax each is an improvement; the scale is float32 or wider, not of the dtype of
      the parameters.
    Differs from PyTorch: negative values as above; margins relative and absolute at
      once; no `eps`, below which `ReduceLROnPlateau` changes nothing; NaN, which there
      counts as no improvement.

    Example:
      >>> tx = adamx.chain(adamx.sgd(1.0), adamx.reduce_on_plateau(0.5, patience=1))
      >>> state = tx.init(jnp.zeros(1))
      >>> for loss in (3.0, 2.0, 2.0, 2.0):
      ...     updates, state = tx.update(jnp.ones(1), state, value=loss)
      >>> print(updates)
      [-0.5]

    Reference: PyTorch's `torch.optim.lr_scheduler.ReduceLROnPlateau`.
    """
    who = "reduce_on_plateau"
    check_in(who, "factor", factor, "(0, 1)")
    patience = whole(who, "patience", patience, "[0, inf)")
    check_in(who, "rtol", rtol, "[0, 1]")
    check_in(who, "atol", atol, "[0, inf)")
    cooldown = whole(who, "cooldown", cooldown, "[0, inf)")
    size = whole(who, "accumulation_size", accumulation_size, "[1, inf)")
    check_in(who, "min_scale", min_scale, "[0, 1]")
    check_choice(who, "mode", mode, ("min", "max"))
    factor, min_scale = hyperparameter(factor), hyperparameter(min_scale)
    rtol, atol = hyperparameter(rtol), hyperparameter(atol)
    sign = 1.0 if mode == "min" else -1.0

    def init(params: Params) -> ReduceLROnPlateauState:
        dtype = scalar_dtype(params)
        zeros = zero_count(), zero_count(), zero_count(), jnp.zeros([], dtype)
        best = jnp.full([], sign * jnp.inf, dtype)
        return ReduceLROnPlateauState(jnp.ones([], dtype), best, *zeros)

    def is_better(value: Array, best: Array) -> Array:
        value, best = as_float64(value), as_float64(best)
        # No part of the infinity at which it starts.
        margin = jnp.where(jnp.isfinite(best), rtol * jnp.abs(best) + atol, 0.0)
        return sign * (best - value) > margin

    def tested(state: ReduceLROnPlateauState) -> ReduceLROnPlateauState:
        better = is_better(state.avg_value, state.best_value)
        best = jnp.where(better, state.avg_value, state.best_value)
        cooling = state.cooldown_count > 0
        bad = jnp.where(better | cooling, 0, increment(state.plateau_count))
        reduce = bad > patience
        smaller = jnp.maximum(factor * as_float64(state.scale), min_scale)
        scale = jnp.where(reduce, smaller.astype(state.scale.dtype), state.scale)
        waits = jnp.maximum(state.cooldown_count - 1, 0)
        return ReduceLROnPlateauState(
            scale,
            best,
            jnp.where(reduce, 0, bad),
            jnp.where(reduce, cooldown, waits).astype(jnp.int32),
            zero_count(),
            jnp.zeros_like(best),
        )

    @jax.jit
    def observed(state: ReduceLROnPlateauState, value: Array) -> ReduceLROnPlateauState:
        with float64():
            before, mean = map(as_float64, (state.count, state.avg_value))
            # A sum, which infinity survives.
            mean = (before * mean + as_float64(value)) / (before + 1.0)
            mean = mean.astype(state.avg_value.dtype)
            new = state._replace(count=increment(state.count), avg_value=mean)
            new = choose(new.count >= size, tested(new), new)
            return choose(jnp.isnan(mean), state, new)

    def leaf(g: Array, scale: Array) -> Array:
        return times(g, scale)

    def update(
        updates: Updates,
        state: ReduceLROnPlateauState,
        params: Params = None,
        *,
        value: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, ReduceLROnPlateauState]:
        del params, extra_args
        check_state(who, state, ReduceLROnPlateauState)
        state = observed(ReduceLROnPlateauState(*state), checked(who, value))
        (updates,) = map_leaves(who, leaf, updates, scalars=(state.scale,))
        return updates, state

    return GradientTransformation(init, update)


def checked(who: str, value: Any) -> Any:
    """The value, if it is a scalar and not known to be NaN."""
    if value is None:
        raise ValueError(
            f"{who}: needs the value to watch; call tx.update(grads, state, params, "
            "value=loss)."
        )
    if not (is_number(value) or is_real_scalar(value)):
        raise TypeError(f"{who}: expected value as a scalar, got {describe(value)}.")
    if not isinstance(value, Tracer) and np.isnan(value):
        raise ValueError(f"{who}: expected value as a number, got nan.")
    return jnp.asarray(value, jnp.result_type(float)) if is_number(value) else value
