"""Steps with a NaN or an infinity in their gradients left out."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Updates,
    check_state,
)
from adamx._chain import as_transformation
from adamx._choose import all_finite, update_if
from adamx._numerics import increment
from adamx._schedules.interpolate import Steps, whole
from adamx._tree import zero_count


class ApplyIfFiniteState(NamedTuple):
    """State of `apply_if_finite`."""

    notfinite_count: Array  # i32[]; the last steps in a row that were not finite
    last_finite: Array  # bool[]; whether the last step was finite
    total_notfinite: Array  # i32[]; steps that were not finite
    inner_state: OptState  # that of the inner transformation


def apply_if_finite(
    inner: GradientTransformation, max_consecutive_errors: Steps | None
) -> GradientTransformation:
    """Leaves out a step whose gradients hold a NaN or an infinity, whole.

        u, inner_state = inner(g)        where g is finite, or the limit is exceeded
        u = 0, inner_state as it was     else

    Moments, counters, schedules and random keys in the inner state stay as they were,
    to the bit: the run is the one in which that step did not happen.

    Args:
      inner: The transformation.
      max_consecutive_errors: A whole number ≥ 0 of steps in a row that are left out.
        After them a step is applied as it is, NaN and all, and so is each further one
        until a finite one comes, so that a run that is lost shows it. None leaves out
        every such step; watch `notfinite_count`.

    Returns:
      A transformation. State: `ApplyIfFiniteState`. Its counters count what was not
      finite, applied or not, and stay at 2³¹ - 1; a finite step sets `notfinite_count`
      to 0.

    Raises:
      ValueError: A limit that is no whole number ≥ 0.
      TypeError: `inner` is no transformation; no number, integer array or None.

    Differs from Optax: the limit may be None; the gradient of an integer is finite;
      derivatives of a step that is left out are zeros, not NaN.

    Example:
      >>> tx = adamx.apply_if_finite(adamx.sgd(0.5), max_consecutive_errors=5)
      >>> u, state = tx.update(jnp.array([jnp.nan, 1.0]), tx.init(jnp.zeros(2)))
      >>> print(u, state.total_notfinite)
      [0. 0.] 1
    """
    who = "apply_if_finite"
    inner = as_transformation(who, "inner", inner)
    limit = max_consecutive_errors
    if limit is not None:
        limit = whole(who, "max_consecutive_errors", limit, "[0, inf)")

    def init(params: Params) -> ApplyIfFiniteState:
        good = jnp.ones([], bool)
        return ApplyIfFiniteState(zero_count(), good, zero_count(), inner.init(params))

    def update(
        updates: Updates,
        state: ApplyIfFiniteState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, ApplyIfFiniteState]:
        check_state(who, state, ApplyIfFiniteState)
        in_a_row, _, total, inner_state = state
        finite = all_finite(updates)
        in_a_row = jnp.where(finite, 0, increment(in_a_row))
        total = jnp.where(finite, total, increment(total))
        apply = finite if limit is None else finite | (in_a_row > limit)
        updates, inner_state = update_if(
            apply, inner, updates, inner_state, params, extra_args
        )
        return updates, ApplyIfFiniteState(in_a_row, finite, total, inner_state)

    return GradientTransformation(init, update)
