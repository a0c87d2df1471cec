"""A schedule over what has been seen, tokens for example, where batches differ."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._base import (
    Array,
    GradientTransformation,
    Params,
    Schedule,
    Updates,
    check_flag,
    check_state,
    describe,
)
from adamx._numerics import MAX_COUNT, times
from adamx._schedules.interpolate import Steps, whole
from adamx._transforms.scale import schedule_value, signed
from adamx._tree import map_leaves, zero_count


class ScaleByTokenScheduleState(NamedTuple):
    """State of `scale_by_token_schedule`."""

    count: Array  # i32[]; whole units of tokens seen so far
    remainder: Array  # i32[]; tokens beyond them, less than a unit


def scale_by_token_schedule(
    step_size_fn: Schedule,
    tokens_per_count: Steps,
    *,
    argument: str = "tokens",
    flip_sign: bool = True,
) -> GradientTransformation:
    """Multiplies updates by a schedule over the tokens seen, and turns them downhill.

        count = floor(tokens seen before this update / tokens_per_count)
        u = -step_size_fn(count)·g

    Where batches differ in size, in place of `scale_by_learning_rate` at the end:
    `chain(scale_by_adam(), scale_by_token_schedule(schedule, 1_000_000))`. Tokens are
    whole numbers throughout, so that 10¹³ of them are counted to the last one.

    Args:
      step_size_fn: A schedule, of which the unit is `tokens_per_count` tokens.
      tokens_per_count: Tokens in a unit, from 1 to 2³¹ - 1.
      argument: Name of the extra argument of `update` that says how many tokens (or
        examples, or whatever counts) its gradients are of: a whole number or a scalar
        array of integers, from 0 to 2³¹ - 1.
      flip_sign: Whether to turn the sign.

    Returns:
      A transformation. State: `ScaleByTokenScheduleState`, two scalars.

    Raises:
      ValueError: A number out of its range; at init, a schedule that gives no scalar;
        at update, no tokens.
      TypeError: A wrong kind of argument.

    Example:
      >>> schedule = adamx.linear_schedule(1.0, 0.0, transition_steps=4)
      >>> tx = adamx.scale_by_token_schedule(schedule, tokens_per_count=100)
      >>> state = tx.init(jnp.zeros(1))
      >>> for tokens in (150, 50, 170):
      ...     updates, state = tx.update(jnp.ones(1), state, tokens=tokens)
      ...     print(updates, state.count, state.remainder)
      [-1.] 1 50
      [-0.75] 2 0
      [-0.5] 3 70
    """
    who = "scale_by_token_schedule"
    if not callable(step_size_fn):
        raise TypeError(
            f"{who}: expected step_size_fn as a function of the count, got "
            f"{describe(step_size_fn)}."
        )
    unit = whole(who, "tokens_per_count", tokens_per_count, "[1, inf)")
    if not (isinstance(argument, str) and argument.isidentifier()):
        raise TypeError(
            f"{who}: expected argument as the name of an extra argument, got "
            f"{argument!r}."
        )
    check_flag(who, "flip_sign", flip_sign)

    def init(params: Params) -> ScaleByTokenScheduleState:
        del params
        schedule_value(who, step_size_fn, np.int32(0))
        return ScaleByTokenScheduleState(zero_count(), zero_count())

    @jax.jit
    def seen(
        state: ScaleByTokenScheduleState, tokens: Array
    ) -> ScaleByTokenScheduleState:
        tokens = lax.max(tokens, jnp.int32(0))
        # remainder + more may be beyond 2³¹; neither difference is.
        more, missing = tokens % unit, unit - state.remainder
        full = more >= missing
        remainder = jnp.where(full, more - missing, state.remainder + more)
        count = tokens // unit + full.astype(jnp.int32)
        count = state.count + lax.min(count, MAX_COUNT - state.count)
        return ScaleByTokenScheduleState(count, remainder)

    def update(
        updates: Updates,
        state: ScaleByTokenScheduleState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, ScaleByTokenScheduleState]:
        del params
        check_state(who, state, ScaleByTokenScheduleState)
        tokens = extra_args.get(argument)
        if tokens is None:
            raise ValueError(
                f"{who}: needs the number of {argument}; call tx.update(grads, state, "
                f"params, {argument}=n)."
            )
        tokens = jnp.asarray(whole(who, argument, tokens, "[0, inf)"), jnp.int32)
        value = signed(schedule_value(who, step_size_fn, state.count), flip_sign)
        (updates,) = map_leaves(who, times, updates, scalars=(value,))
        return updates, seen(state, tokens)

    return GradientTransformation(init, update)
