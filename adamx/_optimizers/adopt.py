"""ADOPT: Taniguchi et al., 2024, https://arxiv.org/abs/2411.02853."""

from typing import Any

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Scalar,
    ScalarOrSchedule,
    Schedule,
    check_all,
    check_flags,
    check_in,
    describe,
)
from adamx._chain import chain
from adamx._numerics import (
    capped_sq,
    cast,
    complement,
    hyperparameter,
    lerp,
    product,
    ratio,
    safe_divide,
    safe_sqrt,
    split,
)
from adamx._optimizers.adam import ScaleByAdamState
from adamx._stateful import mu_and_nu, stateful
from adamx._transforms.decay import descent
from adamx._transforms.scale import schedule_value


def fourth_root(count: Any) -> Array:
    """count^(1/4), the limit of the paper."""
    return jnp.sqrt(jnp.sqrt(jnp.asarray(count, jnp.result_type(float))))


def scale_by_adopt(
    b1: Scalar = 0.9,
    b2: Scalar = 0.9999,
    eps: Scalar = 1e-6,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Schedule = fourth_root,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by the second moment of the steps before, then averages them.

        x  = clip(g / max(√nu, eps), -limit, limit),   limit = clip_value_fn(count)
        mu = mu + (1 - b1)·(x - mu)
        nu = nu + (1 - b2)·(|g|² - nu)        after its use
        u  = mu

    The first step only makes nu = |g|²; mu and u stay 0. No g is divided by itself, so
    that the method converges with any b2. Nothing is corrected for a start at zero.

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      eps: The least denominator, in units of the gradient; in [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nesterov: Whether to look ahead: u = mu + (1 - b1)·(x - mu) with the new mu.
      use_clipping: Whether to limit x. Where the first gradient was 0, nothing else
        stops g / eps.
      clip_value_fn: From the number of updates applied before this one, i32[] from 0,
        to the limit; a complex x is limited in its size. It is called with x64 on.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider. In
        bfloat16 it is rounded stochastically where 1 - b2 ≤ 0.02, else to the nearest.

    Returns:
      A transformation. State: `ScaleByAdamState`, two arrays for each parameter, of
      which mu is the mean of x.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: 16-bit parameters get float32 moments; a gradient that
      overflows when divided by eps does not make the first step NaN.

    Example:
      >>> tx = adamx.scale_by_adopt()
      >>> u, state = tx.update(jnp.array([-0.5]), tx.init(jnp.zeros(1)))
      >>> print(u, tx.update(jnp.array([-0.5]), state)[0])
      [0.] [-0.1]

    Reference: Taniguchi et al., 2024, https://arxiv.org/abs/2411.02853
    """
    who = "scale_by_adopt"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_in(who, "eps", eps, "[0, inf)")
    check_flags(who, nesterov=nesterov, use_clipping=use_clipping)
    if not callable(clip_value_fn):
        raise TypeError(
            f"{who}: expected clip_value_fn as a function of the count, got "
            f"{describe(clip_value_fn)}."
        )
    w1, w2, eps = complement(b1), complement(b2), hyperparameter(eps)
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)

    def limit(count: Array) -> tuple[Any, ...]:
        limits = (schedule_value(who, clip_value_fn, count),) if use_clipping else ()
        return count == 0, *split(*limits)

    def leaf(
        g: Array, mu: Array, nu: Array, first: Array, largest: Any = None
    ) -> tuple[Array, Array, Array]:
        x = ratio(g, jnp.maximum(safe_sqrt(nu), cast(eps, nu)), eps)
        if use_clipping:
            x = shortened(x, cast(largest, x))
        # Selected, not multiplied by 0: unclipped, the first x can be infinite.
        mu = jnp.where(first, mu, lerp(mu, x, w1))
        u = jnp.where(first, mu, lerp(mu, x, w1)) if nesterov else mu
        square = capped_sq(g)
        return u, mu, jnp.where(first, square, lerp(nu, square, w2))

    return stateful(who, ScaleByAdamState, leaf, limit, mu=mu, nu=nu)


def shortened(x: Array, limit: Array) -> Array:
    """x, at most `limit` in size."""
    if jnp.iscomplexobj(x):
        size = jnp.abs(x)
        return product(x, jnp.where(size > limit, safe_divide(limit, size), 1))
    return jnp.clip(x, -limit, limit)


def adopt(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.9999,
    eps: Scalar = 1e-6,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Schedule = fourth_root,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes ADOPT, an Adam that converges with any b2.

        u = -learning_rate·mu, mu the mean of clip(g / max(√nu, eps), -limit, limit)

    with weight decay -learning_rate·(... + weight_decay·p), also in the first step, in
    which nothing else moves.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_adopt`, like all up to `nu_dtype`.
      b2: In [0, 1).
      eps: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nesterov: Whether to look ahead.
      use_clipping: Whether to limit x.
      clip_value_fn: From the count to the limit.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByAdamState, EmptyState)`, with the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_adopt`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Differs from Optax: as `scale_by_adopt`; and weight decay.

    Example:
      >>> tx = adamx.adopt(0.1, b1=0.0)
      >>> u, state = tx.update(jnp.array([-0.5]), tx.init(jnp.zeros(1)))
      >>> print(tx.update(jnp.array([-0.5]), state)[0])
      [0.1]

    Reference: Taniguchi et al., 2024, https://arxiv.org/abs/2411.02853
    """
    return chain(
        scale_by_adopt(
            b1,
            b2,
            eps,
            mu_dtype,
            nesterov=nesterov,
            use_clipping=use_clipping,
            clip_value_fn=clip_value_fn,
            nu_dtype=nu_dtype,
        ),
        *descent("adopt", learning_rate, weight_decay, mask),
    )
