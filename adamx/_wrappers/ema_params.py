"""A running mean of the parameters: Tarvainen & Valpola, 2017."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._average import put_averages
from adamx._base import (
    Array,
    GradientTransformation,
    Params,
    Scalar,
    Updates,
    check_flags,
    check_in,
    check_state,
    require_params,
)
from adamx._numerics import (
    complement,
    float64,
    increment,
    lerp,
    one_minus_power,
    split,
)
from adamx._rounding import storage_of
from adamx._tree import copy_of, landed, map_leaves, zero_count


class EmaParamsState(NamedTuple):
    """State of `ema_params`."""

    count: Array  # i32[]; updates applied so far
    ema: Params  # like params; their running mean, ready for use

    def eval_params(self, params: Params) -> Params:
        """Returns the running mean, in the dtypes of the parameters."""
        return put_averages(self.ema, params)


def ema_params(
    decay: Scalar = 0.999,
    debias: bool = True,
    accumulator_dtype: Any = None,
    *,
    warmup: bool = False,
) -> GradientTransformation:
    """Keeps a running mean of the parameters, with which `eval_params` evaluates.

        u   = g
        p   = params + u, rounded to its dtype
        ema = ema + w·(p - ema)
        w   = (1 - decay) / (1 - decay^t)       (without debias: 1 - decay)
        w   = max(w, 9 / (10 + t))              (only if warmup),   t = count + 1

    The last block of a chain, `chain(adamw(1e-3), ema_params(0.999))`: it must see what
    is added to the parameters, all of it. Training goes on as without it.

    Args:
      decay: Per step, in [0, 1); the horizon is about 1 / (1 - decay) steps.
      debias: Whether the mean starts with the first update, of which the weight is 1;
        else it starts at the initial parameters, which count for decay^t.
      accumulator_dtype: Dtype in which the mean is kept, or a `Storage`; None is
        float32 or wider. In bfloat16 it is rounded stochastically where 1 - decay ≤
        0.02, else to the nearest.
      warmup: Whether early means have a shorter horizon, a ninth of the steps so far.

    Returns:
      A transformation. State: `EmaParamsState`, one array for each parameter.

    Raises:
      ValueError: A decay outside [0, 1); at update, no parameters, or trees that do not
        match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: there a loop of its own averages the parameters, with `ema`.

    Example:
      >>> tx = adamx.chain(adamx.sgd(1.0), adamx.ema_params(0.5))
      >>> params, state = jnp.array([4.0]), tx.init(jnp.array([4.0]))
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.ones(1), state, params)
      ...     params = adamx.apply_updates(params, updates)
      >>> print(params, f"{adamx.eval_params(state, params)[0]:.4f}")
      [2.] 2.3333

    Reference: Polyak & Juditsky, 1992; Tarvainen & Valpola, 2017, section 2,
      https://arxiv.org/abs/1703.01780; the warm-up of TensorFlow's
      `ExponentialMovingAverage`, min(decay, (1 + t) / (10 + t)).
    """
    who = "ema_params"
    check_in(who, "decay", decay, "[0, 1)")
    check_flags(who, debias=debias, warmup=warmup)
    w = complement(decay)
    storage = storage_of(who, "accumulator_dtype", accumulator_dtype, w)

    def init(params: Params) -> EmaParamsState:
        return EmaParamsState(zero_count(), copy_of(who, params, storage))

    @jax.jit
    def weight(t: Array) -> tuple[Any, ...]:
        with float64():
            now = jnp.asarray(w, jnp.float64)
            if debias:  # of the first the quotient is 1 but for a rounding
                now = jnp.where(t > 1, now / one_minus_power(w, t), 1.0)
            if warmup:
                now = jnp.maximum(now, 9.0 / (10.0 + t.astype(jnp.float64)))
            return split(now)

    # The first argument says where there are updates.
    def leaf(u: Array, ema: Array, p: Array, weight: Any) -> tuple[Array, Array]:
        return u, lerp(ema, p, weight)

    def update(
        updates: Updates,
        state: EmaParamsState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, EmaParamsState]:
        del extra_args
        params = require_params(who, params)
        check_state(who, state, EmaParamsState)
        count = increment(state.count)
        _, ema = map_leaves(
            who,
            leaf,
            updates,
            state.ema,
            read=(landed(who, params, updates),),
            scalars=weight(count),
            storages=(storage,),
            count=count,
        )
        return updates, EmaParamsState(count, ema)

    return GradientTransformation(init, update)
