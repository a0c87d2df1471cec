"""Weight decay: one block, whose place in the chain is its meaning.

    chain(add_decayed_weights(wd), scale_by_adam(), scale_by_learning_rate(lr))
        L2 regularization ("L2-Adam"): the decay passes through the moments.
    chain(scale_by_adam(), add_decayed_weights(wd), scale_by_learning_rate(lr))
        Decoupled, scaled by the learning rate (`adamw`; PyTorch's AdamW).
    chain(scale_by_adam(), scale(lr), add_decayed_weights(wd),
          scale_by_learning_rate(multiplier))
        Decoupled, independent of the learning rate: the paper's own rule, in which only
        the schedule's multiplier, 1.0 or falling from it, scales the decay.

The second is how every optimizer ends, and its `weight_decay` says the other rules:
`independent_weight_decay` is the third, `corrected_weight_decay` goes with the square
of the learning rate.

Loshchilov & Hutter, 2019, Algorithm 2, https://arxiv.org/abs/1711.05101
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    Schedule,
    Updates,
    check_flag,
    check_in,
    check_scalar_or_schedule,
    check_state,
    init_empty_state,
    is_number,
    require_params,
)
from adamx._masking import masked_as
from adamx._numerics import (
    agreement,
    cast,
    float64,
    hyperparameter,
    increment,
    is_zero,
    product,
)
from adamx._rules import by_leaf
from adamx._transforms.scale import scale_by_learning_rate, schedule_value
from adamx._tree import map_leaves, zero_count


class WeightDecaySchedule(NamedTuple):
    """State of `add_decayed_weights` with a schedule."""

    count: Array  # i32[]; updates applied so far


def add_decayed_weights(
    weight_decay: ScalarOrSchedule = 0.0,
    mask: MaskOrFn | None = None,
    *,
    cautious: bool = False,
) -> GradientTransformation:
    """Adds the parameters times a number to the updates: u = g + weight_decay·p.

    Its place in a chain decides what it means: before `scale_by_adam` L2
    regularization, between that and the learning rate AdamW's decoupled decay, before a
    multiplier alone a decay independent of the learning rate.

    Args:
      weight_decay: In [0, ∞), per step and unit of what follows in the chain; a scalar
        array; or a schedule of the number of updates applied before this one.
      mask: Where to decay, as in `masked`, such as `decay_mask()`; None is everywhere.
      cautious: Whether to decay only where g takes p towards 0, so where g·p ≥ 0 (of
        complex numbers its real part): the decay then hinders no step. For a g without
        sign and learning rate, as `scale_by_adam` gives it.

    Returns:
      A transformation. State: `EmptyState`, with a schedule `WeightDecaySchedule`;
      inside `MaskedState` with a mask.

    Raises:
      ValueError: A number outside [0, ∞); at init, a schedule that gives no scalar; at
        update, no parameters, or trees that do not match.
      TypeError: No number, scalar array or schedule; no flag.

    Example:
      >>> tx = adamx.add_decayed_weights(0.1)
      >>> params = jnp.array([2.0])
      >>> print(tx.update(jnp.array([1.0]), tx.init(params), params)[0])
      [1.2]

    Reference: Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101;
      cautious: Chen et al., 2025, https://arxiv.org/abs/2510.12402
    """
    who = "add_decayed_weights"
    check_scalar_or_schedule(who, "weight_decay", weight_decay, "[0, inf)")
    check_flag(who, "cautious", cautious)

    def decayed(g: Array, p: Array, value: Any) -> Array:
        decay = product(p, cast(value, p))
        if cautious:
            decay = jnp.where(agreement(g, p) >= 0, decay, 0)
        return g + decay

    def fixed(g: Array, p: Array) -> Array:
        return decayed(g, p, weight_decay)

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
        (updates,) = map_leaves(who, decayed, updates, read=read, scalars=(value,))
        return updates, WeightDecaySchedule(increment(state.count))

    tx = GradientTransformation(init, update)
    return tx if mask is None else masked_as(who, tx, mask)


def descent(
    who: str,
    learning_rate: ScalarOrSchedule | None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> list[GradientTransformation]:
    """How a recipe ends: decoupled weight decay, where there is any, and the step."""
    step = scale_by_learning_rate(learning_rate)
    if weight_decay is not None:
        return [add_decayed_weights(weight_decay, mask), step]
    if mask is not None:
        raise ValueError(
            f"{who}: expected no mask without weight_decay; give weight_decay too."
        )
    return [step]


def independent_weight_decay(weight_decay: Scalar, peak_value: Scalar) -> Scalar:
    """Makes a weight decay that does not depend on how large the learning rate is.

        weight_decay / peak_value:  p = p - learning_rate·u - multiplier·weight_decay·p

    as the `weight_decay` of any optimizer, where multiplier = learning_rate /
    peak_value is the schedule without its size. The share of a parameter that decays in
    a step at the peak is weight_decay itself, about 1e-5 to 1e-3.

    Args:
      weight_decay: In [0, 1], the share that decays per step.
      peak_value: The largest learning rate of the schedule, in (0, ∞).

    Returns:
      A number; if an argument is an array, f32[], float64 where x64 is on.

    Raises:
      ValueError: A number out of its range.
      TypeError: Neither a number nor a scalar array.

    Example:
      >>> decay = adamx.independent_weight_decay(1e-4, peak_value=0.1)
      >>> tx = adamx.adamw(0.1, weight_decay=decay)
      >>> params = jnp.ones(1)
      >>> print(tx.update(jnp.zeros(1), tx.init(params), params)[0])
      [-0.0001]

    Reference: Loshchilov & Hutter, 2019, Algorithm 2, https://arxiv.org/abs/1711.05101
    """
    who = "independent_weight_decay"
    check_in(who, "weight_decay", weight_decay, "[0, 1]")
    check_in(who, "peak_value", peak_value, "(0, inf)")
    with float64():
        rule = hyperparameter(weight_decay) / hyperparameter(peak_value)
    return rule if is_number(rule) else jnp.asarray(rule, jnp.result_type(float))


def corrected_weight_decay(
    weight_decay: Scalar, learning_rate: Schedule, peak_value: Scalar
) -> Schedule:
    """Makes the weight decay of AdamC, which goes with the learning rate squared.

        weight_decay·learning_rate / peak_value, so that
        p = p - learning_rate·u - (learning_rate² / peak_value)·weight_decay·p

    as the `weight_decay` of any optimizer. The weights before a normalization then keep
    the norm at which they settled while the learning rate falls; decay others as usual:
    `chain(scale_by_adam(), add_decayed_weights(corrected, before_norm),
    add_decayed_weights(weight_decay, others), scale_by_learning_rate(schedule))`.

    Args:
      weight_decay: In [0, ∞), the decay at the peak, per unit of learning rate.
      learning_rate: The schedule that the optimizer has, too.
      peak_value: Its largest value, in (0, ∞). It cannot be found out on the way: while
        the learning rate warms up, the largest so far is the present one.

    Returns:
      A schedule: count i32[] -> f32[], float64 where x64 is on.

    Raises:
      ValueError: A number out of its range.
      TypeError: `learning_rate` is no function; a wrong kind of number.

    Example:
      >>> rate = adamx.linear_schedule(0.1, 0.0, 10)
      >>> decay = adamx.corrected_weight_decay(0.5, rate, peak_value=0.1)
      >>> print(decay(0), decay(5))
      0.5 0.25

    Reference: Defazio, 2025, https://arxiv.org/abs/2506.02285
    """
    who = "corrected_weight_decay"
    check_in(who, "weight_decay", weight_decay, "[0, inf)")
    check_in(who, "peak_value", peak_value, "(0, inf)")
    if not callable(learning_rate):
        raise TypeError(
            f"{who}: expected learning_rate as a schedule, got {learning_rate}; at a "
            "constant one the decay is that of every optimizer."
        )
    with float64():
        factor = hyperparameter(weight_decay) / hyperparameter(peak_value)

    def schedule(count: Any) -> Array:
        value = schedule_value(who, learning_rate, count)
        with float64():
            value = hyperparameter(value) * factor
        return jnp.asarray(value, jnp.result_type(float))

    return schedule


# Names that Flax, Equinox, Haiku and PyTorch give to what is best left alone.
BIAS_OR_NORM = re.compile(
    r"(^|_)bias|^b$|^b_|(^|_)scale$|^offset$|norm(?!al)|^(ln|bn|rms)(_?\w{0,2})$",
    re.IGNORECASE,
)
EMBEDDING = re.compile(r"embed|^w[tp]e$", re.IGNORECASE)


def decay_mask(*, embeddings: bool = True) -> Callable[[Params], Any]:
    """Makes a mask that decays matrices, and neither biases nor norms.

    True for an array of rank 2 or more with no bias, scale or norm in its path, so that
    also the stacked biases of scanned layers stay. For the `mask` of any optimizer.

    Args:
      embeddings: Whether embeddings, known by their path, decay too.

    Returns:
      A function from parameters to a tree of bools like them.

    Raises:
      TypeError: No flag.

    Example:
      >>> dense = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
      >>> adamx.decay_mask()({"dense": dense, "norm": {"scale": jnp.ones(2)}})
      {'dense': {'bias': False, 'kernel': True}, 'norm': {'scale': False}}
    """
    check_flag("decay_mask", "embeddings", embeddings)

    def decays(names: tuple[str, ...], shape: tuple[int, ...]) -> bool:
        spared = any(
            BIAS_OR_NORM.search(name) or (not embeddings and EMBEDDING.search(name))
            for name in names
        )
        return len(shape) >= 2 and not spared

    return by_leaf(decays)
