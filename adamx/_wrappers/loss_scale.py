"""A loss multiplied before its gradient is taken, which float16 needs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Scalar,
    Updates,
    check_in,
    check_state,
    is_number,
)
from adamx._chain import as_transformation
from adamx._choose import all_finite, answer_to, in_dtypes_of, update_if
from adamx._numerics import cast, increment, quotient
from adamx._schedules.interpolate import Steps, whole
from adamx._transforms.wide import widened
from adamx._tree import map_leaves, zero_count


class LossScaleState(NamedTuple):
    """State of `dynamic_loss_scale`."""

    loss_scale: Array  # f32[]; what the next loss is to be multiplied by
    growth_count: Array  # i32[]; finite steps in a row since the scale last changed
    total_notfinite: Array  # i32[]; steps that were left out
    inner_state: OptState  # that of the inner transformation


def dynamic_loss_scale(
    inner: GradientTransformation,
    initial_scale: Scalar = 2.0**16,
    growth_interval: Steps = 2000,
    growth_factor: Scalar = 2.0,
    backoff_factor: Scalar = 0.5,
    min_scale: Scalar = 1.0,
    max_scale: Scalar = 2.0**24,
) -> GradientTransformation:
    """Divides gradients by the scale of their loss, and adapts the scale.

        u, inner_state = inner(g / scale)        where that is finite
        u = 0, inner_state as it was             else
        scale = min(scale·growth_factor, max_scale)      after growth_interval finite
                                                         steps in a row
        scale = max(scale·backoff_factor, min_scale)     after one that is not

    A float16 has nothing between 0 and 6e-8, which many a gradient is below. The loop
    multiplies the loss, in float32, by the scale that the state holds:

        scale = adamx.loss_scale(opt_state)
        grads = jax.grad(lambda p: loss(p) * scale)(params)
        updates, opt_state = tx.update(grads, opt_state, params)

    Too large a scale overflows; the step is left out whole, as by `apply_if_finite`.
    Scales that are powers of 2 change no bit of a gradient. It goes around everything
    that should see the true gradients, clipping above all.

    Args:
      inner: The transformation; it sees 16-bit gradients as float32.
      initial_scale: The first scale, in [min_scale, max_scale].
      growth_interval: Finite steps in a row before the scale grows, ≥ 1.
      growth_factor: By how much it grows, in [1, ∞).
      backoff_factor: By how much it shrinks, in (0, 1].
      min_scale: The least scale, in (0, ∞).
      max_scale: The largest one, in [min_scale, ∞).

    Returns:
      A transformation whose updates have the dtype of the gradients. State:
      `LossScaleState`.

    Raises:
      ValueError: A number out of its range.
      TypeError: `inner` is no transformation; a wrong kind of argument; at update, a
        leaf not floating or complex.

    Differs from PyTorch: the scale has limits, where `torch.amp.GradScaler` has none;
      Apex's were these by default.

    Example:
      >>> tx = adamx.dynamic_loss_scale(adamx.sgd(1.0), 1024.0)
      >>> grads = jnp.array([1e-8 * 1024.0, jnp.inf], jnp.float16)
      >>> updates, state = tx.update(grads, tx.init(jnp.zeros(2, jnp.float16)))
      >>> print(updates, adamx.loss_scale(state))
      [0. 0.] 512.0

    Reference: Micikevicius et al., 2018, section 3.2, https://arxiv.org/abs/1710.03740
    """
    who = "dynamic_loss_scale"
    inner = as_transformation(who, "inner", inner)
    check_in(who, "min_scale", min_scale, "(0, inf)")
    least = min_scale if is_number(min_scale) else 0
    check_in(who, "max_scale", max_scale, f"[{least}, inf)")
    most = max_scale if is_number(max_scale) else "inf"
    check_in(who, "initial_scale", initial_scale, f"[{least}, {most}]")
    interval = whole(who, "growth_interval", growth_interval, "[1, inf)")
    check_in(who, "growth_factor", growth_factor, "[1, inf)")
    check_in(who, "backoff_factor", backoff_factor, "(0, 1]")

    def init(params: Params) -> LossScaleState:
        scale = jnp.array(initial_scale, jnp.float32)
        return LossScaleState(scale, zero_count(), zero_count(), inner.init(params))

    def unscaled(g: Array, scale: Array) -> Array:
        return quotient(g, cast(scale, g))

    def update(
        updates: Updates,
        state: LossScaleState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, LossScaleState]:
        check_state(who, state, LossScaleState)
        scale, good, total, inner_state = state
        given = updates
        (updates,) = map_leaves(who, unscaled, widened(given), scalars=(scale,))
        finite = all_finite(updates)
        updates, inner_state = update_if(
            finite, inner, updates, inner_state, params, extra_args
        )
        grow = increment(good) >= interval
        larger = jnp.minimum(scale * cast(growth_factor, scale), cast(max_scale, scale))
        lower = jnp.maximum(scale * cast(backoff_factor, scale), cast(min_scale, scale))
        scale = jnp.where(finite, jnp.where(grow, larger, scale), lower)
        good = jnp.where(finite & ~grow, increment(good), 0)
        total = jnp.where(finite, total, increment(total))
        like = answer_to(inner, given, inner_state, params, extra_args)
        updates = in_dtypes_of(like, updates)
        return updates, LossScaleState(scale, good, total, inner_state)

    return GradientTransformation(init, update)


def loss_scale(state: OptState) -> Array:
    """Finds what the loss is to be multiplied by in the state of an optimizer.

    Args:
      state: A state, wherever in it that of `dynamic_loss_scale` is: in chains, masks,
        wrappers of Optax.

    Returns:
      f32[]; 1 where there is no such state, so that one loop serves every optimizer.

    Raises:
      ValueError: More than one such state, of which a loss cannot have all scales.

    Example:
      >>> tx = adamx.dynamic_loss_scale(adamx.adam(1e-3), 1024.0)
      >>> params = jnp.ones(2)
      >>> print(adamx.loss_scale(adamx.chain(tx, adamx.scale(0.5)).init(params)))
      1024.0
      >>> print(adamx.loss_scale(adamx.adam(1e-3).init(params)))
      1.0
    """

    def known(x: Any) -> bool:
        return isinstance(x, LossScaleState)

    found, parts = [], [state]
    for part in parts:
        here = list(filter(known, jax.tree.leaves(part, is_leaf=known)))
        found += here
        parts += [x.inner_state for x in here]
    if len(found) > 1:
        raise ValueError(
            f"loss_scale: expected one state of dynamic_loss_scale, got {len(found)}; "
            "put one around all transformations."
        )
    # Of a Flax variable, the array in it.
    (scale,) = jax.tree.leaves(found[0].loss_scale) if found else [jnp.ones([])]
    return jnp.asarray(scale, jnp.float32)
