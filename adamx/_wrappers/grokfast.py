"""Grokfast: Lee et al., 2024, https://arxiv.org/abs/2405.20233."""

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
)
from adamx._chain import as_transformation
from adamx._numerics import (
    complement,
    float64,
    hyperparameter,
    increment,
    lerp,
    split,
    times,
)
from adamx._rounding import storage_of
from adamx._tree import map_leaves, zero_count, zeros_like


class GrokfastState(NamedTuple):
    """State of `grokfast`."""

    count: Array  # i32[]; updates applied so far
    ema: Updates  # like params; running mean of g, from the first one on
    inner_state: OptState  # that of the inner transformation


def grokfast(
    inner: GradientTransformation,
    alpha: Scalar = 0.98,
    lamb: Scalar = 2.0,
    *,
    accumulator_dtype: Any = None,
) -> GradientTransformation:
    """Amplifies the slow part of the gradients before the inner transformation.

        ema = ema + (1 - alpha)·(g - ema)        (ema = g in the first step)
        u = inner(g + lamb·ema)

    To shorten the wait between fitting the training data and understanding them. Steady
    gradients grow by 1 + lamb: a learning rate shrinks by as much, unless inner does
    not mind, as Adam.

    Args:
      inner: The transformation.
      alpha: Decay of ema per step, in [0, 1).
      lamb: How much of ema is added, in [0, ∞).
      accumulator_dtype: Dtype in which ema is kept, or a `Storage`; None is float32 or
        wider.

    Returns:
      A transformation. State: `GrokfastState`, one array for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: `inner` is no transformation; a wrong kind of argument; a parameter not
        floating or complex.

    Example:
      >>> tx = adamx.grokfast(adamx.identity())
      >>> _, state = tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))
      >>> print(tx.update(jnp.array([0.0]), state)[0])
      [1.96]

    Reference: Lee et al., 2024, section 3, https://arxiv.org/abs/2405.20233
      (Grokfast-EMA)
    """
    who = "grokfast"
    inner = as_transformation(who, "inner", inner)
    check_in(who, "alpha", alpha, "[0, 1)")
    check_in(who, "lamb", lamb, "[0, inf)")
    w, lamb = complement(alpha), hyperparameter(lamb)
    storage = storage_of(who, "accumulator_dtype", accumulator_dtype, w)

    def init(params: Params) -> GrokfastState:
        ema = zeros_like(who, params, storage)
        return GrokfastState(zero_count(), ema, inner.init(params))

    @jax.jit
    def weight(count: Array) -> tuple[Any, ...]:
        with float64():
            return split(jnp.where(count == 0, 1.0, w), lamb)

    def leaf(g: Array, ema: Array, weight: Any, lamb: Any) -> tuple[Array, Array]:
        ema = lerp(ema, g, weight.value)
        return g + times(ema, lamb), ema

    def update(
        updates: Updates,
        state: GrokfastState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, GrokfastState]:
        check_state(who, state, GrokfastState)
        count = increment(state.count)
        updates, ema = map_leaves(
            who,
            leaf,
            updates,
            state.ema,
            scalars=weight(state.count),
            storages=(storage,),
            count=count,
        )
        updates, inner_state = inner.update(
            updates, state.inner_state, params, **extra_args
        )
        return updates, GrokfastState(count, ema, inner_state)

    return GradientTransformation(init, update)
