"""Weight decay: one block, whose place in the chain is its meaning.

    chain(add_decayed_weights(wd), scale_by_adam(), scale_by_learning_rate(lr))
        L2 regularization ("L2-Adam"): the decay passes through the moments.
    chain(scale_by_adam(), add_decayed_weights(wd), scale_by_learning_rate(lr))
        Decoupled, scaled by the learning rate (`adamw`; PyTorch's AdamW).
    chain(scale_by_adam(), scale(lr), add_decayed_weights(wd),
          scale_by_learning_rate(multiplier))
        Decoupled, independent of the learning rate: the paper's own rule, in which only
        the schedule's multiplier, 1.0 or falling from it, scales the decay.

Loshchilov & Hutter, 2019, Algorithm 2, https://arxiv.org/abs/1711.05101
"""

from typing import Any, NamedTuple

import numpy as np

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    OptState,
    Params,
    ScalarOrSchedule,
    Updates,
    check_scalar_or_schedule,
    check_state,
    init_empty_state,
    require_params,
)
from adamx._masking import masked_as
from adamx._numerics import cast, increment, is_zero, product
from adamx._transforms.scale import schedule_value
from adamx._tree import map_leaves, zero_count


class WeightDecaySchedule(NamedTuple):
    """State of `add_decayed_weights` with a schedule."""

    count: Array  # i32[]; updates applied so far


def add_decayed_weights(
    weight_decay: ScalarOrSchedule = 0.0, mask: MaskOrFn | None = None
) -> GradientTransformation:
    """Adds the parameters times a number to the updates: u = g + weight_decay·p.

    Its place in a chain decides what it means: before `scale_by_adam` L2
    regularization, between that and the learning rate AdamW's decoupled decay, before a
    multiplier alone a decay independent of the learning rate.

    Args:
      weight_decay: In [0, ∞), per step and unit of what follows in the chain; a scalar
        array; or a schedule of the number of updates applied before this one.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `EmptyState`, with a schedule `WeightDecaySchedule`;
      inside `MaskedState` with a mask.

    Raises:
      ValueError: A number outside [0, ∞); at init, a schedule that gives no scalar; at
        update, no parameters, or trees that do not match.
      TypeError: No number, scalar array or schedule.

    Example:
      >>> tx = adamx.add_decayed_weights(0.1)
      >>> params = jnp.array([2.0])
      >>> print(tx.update(jnp.array([1.0]), tx.init(params), params)[0])
      [1.2]

    Reference: Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101
    """
    who = "add_decayed_weights"
    check_scalar_or_schedule(who, "weight_decay", weight_decay, "[0, inf)")

    def fixed(g: Array, p: Array) -> Array:
        return g + product(p, cast(weight_decay, p))

    def scheduled(g: Array, p: Array, value: Array) -> Array:
        return g + product(p, cast(value, p))

    def init(params: Params) -> OptState:
        if callable(weight_decay):
            schedule_value(who, weight_decay, np.int32(0))
            return WeightDecaySchedule(zero_count())
        return init_empty_state(params)

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        del extra_args
        read = (require_params(who, params),)
        if is_zero(weight_decay):
            return updates, state
        if not callable(weight_decay):
            return map_leaves(who, fixed, updates, read=read)[0], state
        check_state(who, state, WeightDecaySchedule)
        value = schedule_value(who, weight_decay, state.count)
        (updates,) = map_leaves(who, scheduled, updates, read=read, scalars=(value,))
        return updates, WeightDecaySchedule(increment(state.count))

    tx = GradientTransformation(init, update)
    return tx if mask is None else masked_as(who, tx, mask)
