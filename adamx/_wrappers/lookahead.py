"""Lookahead: Zhang et al., 2019, https://arxiv.org/abs/1907.08610."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from adamx._average import put_averages
from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Scalar,
    Updates,
    check_flag,
    check_in,
    check_state,
    require_params,
)
from adamx._chain import as_transformation
from adamx._choose import choose
from adamx._numerics import hyperparameter, lerp
from adamx._schedules.interpolate import Steps, whole
from adamx._tree import copy_of, landed, map_leaves, zero_count


class LookaheadWithSlowState(NamedTuple):
    """State of `lookahead`."""

    fast_state: OptState  # that of the fast optimizer
    steps_since_sync: Array  # i32[]; updates since the parameters were at slow
    slow: Params  # like params; where they were then

    def eval_params(self, params: Params) -> Params:
        """Returns the slow parameters, in the dtypes of the fast ones."""
        return put_averages(self.slow, params)


def lookahead(
    fast_optimizer: GradientTransformation,
    sync_period: Steps,
    slow_step_size: Scalar,
    reset_state: bool = False,
) -> GradientTransformation:
    """Goes some steps with an optimizer, and then part of the way back.

        u = fast_optimizer(g)
        every sync_period steps:
            slow = slow + slow_step_size·(params + u - slow)
            u    = slow - params

    The parameters are the fast ones, which train; `eval_params` gives the slow ones.

    Args:
      fast_optimizer: A whole optimizer: what follows it in a chain would lead away from
        slow.
      sync_period: Steps from one return to the next, ≥ 1.
      slow_step_size: The part of the way that is kept, in [0, 1].
      reset_state: Whether the fast optimizer starts anew after each return.

    Returns:
      A transformation. State: `LookaheadWithSlowState`, one array for each parameter
      beside the state of the fast optimizer.

    Raises:
      ValueError: A number out of its range; at update, no parameters, or trees that do
        not match.
      TypeError: `fast_optimizer` is no transformation; a wrong kind of argument; a
        parameter not floating or complex.

    Differs from Optax: works on plain parameters, the slow ones being in the state, in
      float32 or wider, and so in any training loop; a reset is at the new parameters;
      extra arguments reach the fast optimizer.

    Example:
      >>> tx = adamx.lookahead(adamx.sgd(1.0), sync_period=2, slow_step_size=0.5)
      >>> params, state = jnp.array([4.0]), tx.init(jnp.array([4.0]))
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.ones(1), state, params)
      ...     params = adamx.apply_updates(params, updates)
      ...     print(params, adamx.eval_params(state, params))
      [3.] [4.]
      [3.] [3.]

    Reference: Zhang et al., 2019, Algorithm 1, https://arxiv.org/abs/1907.08610
    """
    who = "lookahead"
    fast = as_transformation(who, "fast_optimizer", fast_optimizer)
    sync_period = whole(who, "sync_period", sync_period, "[1, inf)")
    check_in(who, "slow_step_size", slow_step_size, "[0, 1]")
    check_flag(who, "reset_state", reset_state)
    slow_step_size = hyperparameter(slow_step_size)

    def init(params: Params) -> LookaheadWithSlowState:
        slow = copy_of(who, params)
        return LookaheadWithSlowState(fast.init(params), zero_count(), slow)

    def leaf(u: Array, slow: Array, p: Array, sync: Array) -> tuple[Array, Array]:
        new = lerp(slow, p + u, slow_step_size)
        return choose(sync, (new - p, new), (u, slow))

    def update(
        updates: Updates,
        state: LookaheadWithSlowState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, LookaheadWithSlowState]:
        params = require_params(who, params)
        check_state(who, state, LookaheadWithSlowState)
        updates, fast_state = fast.update(
            updates, state.fast_state, params, **extra_args
        )
        steps = state.steps_since_sync + 1
        sync = steps >= sync_period
        updates, slow = map_leaves(
            who, leaf, updates, state.slow, read=(params,), scalars=(sync,)
        )
        if reset_state:
            anew = fast.init(landed(who, params, updates))
            fast_state = choose(sync, anew, fast_state)
        steps = jnp.where(sync, 0, steps)
        return updates, LookaheadWithSlowState(fast_state, steps, slow)

    return GradientTransformation(init, update)
