"""The mean of the last parameters: Jain et al., 2018; Izmailov et al., 2018."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._average import put
from adamx._base import (
    Array,
    GradientTransformation,
    Params,
    Updates,
    check_state,
    require_params,
)
from adamx._numerics import float64, increment, lerp, split
from adamx._rounding import storage_of
from adamx._schedules.interpolate import Steps, whole
from adamx._tree import landed, map_leaves, zero_count, zeros_like


class TailAverageState(NamedTuple):
    """State of `tail_average`."""

    count: Array  # i32[]; updates applied so far
    num_averaged: Array  # i32[]; parameters in the mean
    mean: Params  # like params; the mean of as many parameters, 0 of none

    def eval_params(self, params: Params) -> Params:
        """Returns the mean, in the dtypes of the parameters; of none them."""

        def value(mean: Array, p: Array) -> Array:
            return jnp.where(self.num_averaged > 0, mean.astype(p.dtype), p)

        return put("eval_params", value, self.mean, params)


def tail_average(
    begin: Steps, every: Steps = 1, *, accumulator_dtype: Any = None
) -> GradientTransformation:
    """Keeps the mean of the parameters of late updates, which `eval_params` gives.

        u = g
        p = params + u, rounded to its dtype
        at t = begin, begin + every, ...:                         t = count + 1
            n    = n + 1
            mean = mean + (p - mean) / n

    All count the same. The last block of a chain: it must see what is added to the
    parameters, all of it. Training goes on as without it, with a learning rate that
    stays high or comes back (stochastic weight averaging).

    Args:
      begin: Number of the first update that counts, ≥ 0; updates are numbered from 1.
      every: Steps from one to the next, ≥ 1; the length of a cycle where the learning
        rate has cycles.
      accumulator_dtype: Dtype in which the mean is kept, or a `Storage`; None is
        float32 or wider. Narrower ones are rounded stochastically, since weights 1 / n
        soon fall below what they resolve.

    Returns:
      A transformation. State: `TailAverageState`, one array for each parameter.

    Raises:
      ValueError: A number out of its range; at update, no parameters, or trees that do
        not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from PyTorch: `swa_utils.AveragedModel` is a second model, updated by hand.

    Example:
      >>> tx = adamx.chain(adamx.sgd(1.0), adamx.tail_average(begin=2))
      >>> params, state = jnp.array([4.0]), tx.init(jnp.array([4.0]))
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.ones(1), state, params)
      ...     params = adamx.apply_updates(params, updates)
      >>> print(params, adamx.eval_params(state, params))
      [1.] [1.5]

    Reference: Jain et al., 2018, https://arxiv.org/abs/1610.03774; Izmailov et al.,
      2018, Algorithm 1, https://arxiv.org/abs/1803.05407
    """
    who = "tail_average"
    begin = whole(who, "begin", begin, "[0, inf)")
    every = whole(who, "every", every, "[1, inf)")
    # Weights 1 / n become as small as they like.
    storage = storage_of(who, "accumulator_dtype", accumulator_dtype, 0.0)

    def init(params: Params) -> TailAverageState:
        mean = zeros_like(who, params, storage)
        return TailAverageState(zero_count(), zero_count(), mean)

    @jax.jit
    def weight(t: Array, num_averaged: Array) -> tuple[Any, ...]:
        counts = (t >= begin) & ((t - begin) % every == 0)
        n = jnp.where(counts, increment(num_averaged), num_averaged)
        with float64():
            return n, (counts, *split(1.0 / jnp.maximum(n, 1).astype(jnp.float64)))

    # The first argument says where there are updates.
    def leaf(
        u: Array, mean: Array, p: Array, counts: Array, weight: Any
    ) -> tuple[Array, Array]:
        return u, jnp.where(counts, lerp(mean, p, weight), mean)

    def update(
        updates: Updates,
        state: TailAverageState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, TailAverageState]:
        del extra_args
        params = require_params(who, params)
        check_state(who, state, TailAverageState)
        count = increment(state.count)
        num_averaged, scalars = weight(count, state.num_averaged)
        _, mean = map_leaves(
            who,
            leaf,
            updates,
            state.mean,
            read=(landed(who, params, updates),),
            scalars=scalars,
            storages=(storage,),
            count=count,
        )
        return updates, TailAverageState(count, num_averaged, mean)

    return GradientTransformation(init, update)
