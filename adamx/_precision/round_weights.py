"""Sums of 16-bit parameters and updates that are right on average."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._base import Array, GradientTransformation, Params, Updates, check_state
from adamx._numerics import increment, is_narrow
from adamx._precision.landing import lead_to, rows_of, zeros_of_16_bit
from adamx._precision.residual import value
from adamx._rounding import (
    WEIGHTS,
    check_seed,
    keys_of,
    random_bits,
    stochastically,
)
from adamx._tree import zero_count


class RoundStochasticallyState(NamedTuple):
    """State of `round_stochastically`."""

    count: Array  # i32[]; updates applied so far


def round_stochastically(seed: int = 0) -> GradientTransformation:
    """Rounds 16-bit parameters up or down so that their mean is right.

        h = p + u, rounded to one of its two neighbors in the dtype of p, to each so
            often that the mean is p + u
        u = h - p, in float32

    The last block of a chain, `chain(adamw(1e-3), round_stochastically())`. It needs
    no array, and adds noise, since of steps far below a unit in the last place few
    arrive, as whole units: 5 % of the distance moved in `benchmarks/weights.py` at a
    learning rate of 1e-3, 14 % at 1e-6. Rounded to the nearest 80 and 99 % are lost.

    Args:
      seed: Of the random bits, as in `Storage`: they are the same on any mesh and after
        a restart.

    Returns:
      A transformation. State: `RoundStochasticallyState`. The updates of bfloat16 and
      float16 parameters are float32; those of others pass through.

    Raises:
      ValueError: At update, no parameters, or trees that do not match.
      TypeError: A seed that is not a whole number; a parameter not floating or complex,
        or narrower than 16 bits.

    Example:
      >>> tx = adamx.chain(adamx.sgd(1.0), adamx.round_stochastically())
      >>> params = jnp.ones(1000, jnp.bfloat16)
      >>> updates, _ = tx.update(jnp.full(1000, 1e-3), tx.init(params), params)
      >>> params = adamx.apply_updates(params, updates)
      >>> print(jnp.unique(params), f"{params.astype(jnp.float32).mean():.4f}")
      [0.996094 1] 0.9990

    Reference: Zamirai et al., 2020, section 3, https://arxiv.org/abs/2010.06192
    """
    who = "round_stochastically"
    check_seed(who, seed)

    def init(params: Params) -> RoundStochasticallyState:
        zeros_of_16_bit(who, params)
        return RoundStochasticallyState(zero_count())

    def update(
        updates: Updates,
        state: RoundStochasticallyState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, RoundStochasticallyState]:
        del extra_args
        check_state(who, state, RoundStochasticallyState)
        rows, treedef = rows_of(who, updates, params)
        count = increment(state.count)
        keys = keys_of(updates, count, seed, WEIGHTS)
        new = [
            lands_at_random(u, p, keys[i]) if is_narrow(p.dtype) else u
            for i, (u, p) in enumerate(rows)
        ]
        return treedef.unflatten(new), RoundStochasticallyState(count)

    return GradientTransformation(init, update)


@jax.jit
def lands_at_random(u: Array, p: Array, key: Array) -> Array:
    """The update that leads to one of the neighbors of p + u."""
    total = value(p) + u.astype(jnp.float32)
    target = stochastically(total, random_bits(key, p), p.dtype)
    return lead_to(target, p)[0]
