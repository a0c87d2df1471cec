"""Steps whose gradient or loss is far above the recent ones left out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
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
from adamx._chain import as_transformation
from adamx._choose import update_if
from adamx._numerics import float64, hyperparameter, increment
from adamx._tree import global_norm, scalar_dtype, zero_count


class SkipSpikesState(NamedTuple):
    """State of `skip_spikes`."""

    values: Array  # f32[window]; the last values of the measure, the newest at the end
    known: Array  # i32[]; how many of them there are so far
    last_skipped: Array  # bool[]; whether the last step was left out
    total_skipped: Array  # i32[]; steps that were left out
    inner_state: OptState  # that of the inner transformation


def skip_spikes(
    inner: GradientTransformation,
    sigmas: Scalar = 6.0,
    window: int = 128,
    *,
    measure: str = "grad_norm",
    min_steps: int | None = None,
) -> GradientTransformation:
    """Leaves out a step whose gradient norm or loss is a spike, whole.

        limit = mean + sigmas·deviation          of the last `window` values before x
        u, inner_state = inner(g)                where x <= limit
        u = 0, inner_state as it was             else
        min(x, limit) becomes the newest value

    So one spike widens the deviation by little, and a level that rises for good is
    followed: in a full window of 128 after 10 steps if it is 20 deviations up, after 22
    if it is 100. A value that is not finite is always a spike and leaves
    the window as it was. Low values are no spikes. While the values known are all 0
    nothing else is, and no deviation counts as less than float32's rounding error of
    the mean.

    Args:
      inner: The transformation.
      sigmas: How many standard deviations above the mean a spike begins, in (0, ∞).
      window: Number of values, ≥ 2.
      measure: What x is: "grad_norm", the norm of the whole tree, or "value", the loss,
        which `update` then takes as `value=loss`.
      min_steps: From how many values on steps are left out, in [2, window]; None is
        half the window. Values before it enter as they are.

    Returns:
      A transformation. State: `SkipSpikesState`.

    Raises:
      ValueError: A number out of its range; an unknown measure; at update, no value.
      TypeError: `inner` is no transformation; a wrong kind of argument.

    Differs from OLMo: one measure, not both; a spike enters clipped, where OLMo's
      blinds it to further ones for a window; a NaN does not enter, where OLMo leaves
      out every step as long as one is in the window.

    Example:
      >>> tx = adamx.skip_spikes(adamx.sgd(1.0), window=4)
      >>> params = jnp.zeros(1)
      >>> state = tx.init(params)
      >>> for g in (1.0, 1.5, 0.5, 100.0):
      ...     updates, state = tx.update(jnp.array([g]), state, params)
      >>> print(updates, state.total_skipped, state.values)
      [0.] 1 [1.  1.5 0.5 4. ]

    Reference: OLMo team, 2025, "2 OLMo 2 Furious", https://arxiv.org/abs/2501.00656;
      the rule of `SkipStepOptimizer` in OLMo-core.
    """
    who = "skip_spikes"
    inner = as_transformation(who, "inner", inner)
    check_in(who, "sigmas", sigmas, "(0, inf)")
    check_size(who, "window", window, "[2, inf)")
    check_choice(who, "measure", measure, ("grad_norm", "value"))
    if min_steps is None:
        min_steps = max(window // 2, 2)
    check_size(who, "min_steps", min_steps, f"[2, {window}]")
    sigmas = hyperparameter(sigmas)

    def init(params: Params) -> SkipSpikesState:
        values = jnp.zeros(window, scalar_dtype(params))
        fine = jnp.zeros([], bool)
        return SkipSpikesState(
            values, zero_count(), fine, zero_count(), inner.init(params)
        )

    @jax.jit
    def limit_of(values: Array, known: Array) -> Array:
        """The largest value that is no spike, infinity as long as none can be."""
        with float64():
            wide = values.astype(jnp.float64)
            mask = jnp.arange(window, dtype=jnp.int32) >= window - known
            n = known.astype(jnp.float64)
            mean = jnp.sum(jnp.where(mask, wide, 0.0)) / jnp.maximum(n, 1.0)
            squares = jnp.where(mask, (wide - mean) ** 2, 0.0)
            deviation = jnp.sqrt(jnp.sum(squares) / jnp.maximum(n - 1.0, 1.0))
            # Values that all but agree say nothing of how far the next one may be.
            floor = jnp.abs(mean) * float(jnp.finfo(jnp.float32).eps)
            deviation = jnp.maximum(deviation, floor)
            enough = (known >= min_steps) & (deviation > 0.0)
            limit = jnp.where(enough, mean + sigmas * deviation, jnp.inf)
            return limit.astype(values.dtype)

    def update(
        updates: Updates,
        state: SkipSpikesState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, SkipSpikesState]:
        check_state(who, state, SkipSpikesState)
        values, known, _, total, inner_state = state
        x = global_norm(updates) if measure == "grad_norm" else loss(extra_args)
        x = lax.stop_gradient(x.astype(values.dtype))
        limit = limit_of(values, known)
        finite = jnp.isfinite(x)
        fine = finite & (x <= limit)
        updates, inner_state = update_if(
            fine, inner, updates, inner_state, params, extra_args
        )
        newest = jnp.append(values[1:], jnp.minimum(x, limit))
        values = jnp.where(finite, newest, values)
        known = jnp.where(finite, jnp.minimum(known + 1, window), known)
        total = jnp.where(fine, total, increment(total))
        return updates, SkipSpikesState(values, known, ~fine, total, inner_state)

    def loss(extra_args: dict[str, Any]) -> Array:
        value = extra_args.get("value")
        if value is None:
            raise ValueError(
                f"{who}: needs the loss; call tx.update(grads, state, params, "
                "value=loss)."
            )
        if not (is_number(value) or is_real_scalar(value)):
            raise TypeError(
                f"{who}: expected value as a real scalar, got {describe(value)}."
            )
        return jnp.asarray(value)

    return GradientTransformation(init, update)


def check_size(who: str, name: str, value: Any, interval: str) -> None:
    """Raises unless `value` is an int in `interval`: it shapes the program."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{who}: expected {name} as an int, got {describe(value)}.")
    check_in(who, name, value, interval)
