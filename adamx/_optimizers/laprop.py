"""LaProp: Ziyin, Wang & Ueda, 2020, https://arxiv.org/abs/2002.04839."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_all,
    check_in,
)
from adamx._chain import chain
from adamx._numerics import (
    capped_sq,
    cast,
    complement,
    hyperparameter,
    increment,
    lerp,
    one_minus_power,
    ratio,
    safe_sqrt,
    split,
    times,
)
from adamx._stateful import mu_and_nu, stateful
from adamx._transforms.decay import descent


class ScaleByLapropState(NamedTuple):
    """State of `scale_by_laprop`."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; running mean of the normalized g
    nu: Updates  # like params, real; running mean of |g|²


def scale_by_laprop(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-15,
    mu_dtype: Any = None,
    *,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by the root of their second moment first, and averages then.

        nu = nu + (1 - b2)·(|g|² - nu)         c2 = 1 - b2^t,   t = count + 1
        x  = g / (√(nu / c2) + eps)
        mu = mu + (1 - b1)·(x - mu)            c1 = 1 - b1^t
        u  = mu / c1

    Each |x| is at most √(c2 / (1 - b2)), 32 at b2 = 0.999, whatever b1 is: momentum and
    adaptivity are free of each other, where Adam needs b1 < √b2.

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the root, in units of the gradient; in [0, ∞). It keeps gradients
        quiet whose squares vanish in float32, those below 1e-19.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider. In
        bfloat16 it is rounded stochastically where 1 - b2 ≤ 0.02, else to the nearest.

    Returns:
      A transformation. State: `ScaleByLapropState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Example:
      >>> tx = adamx.scale_by_laprop()
      >>> print(tx.update(jnp.array([0.1, -0.5]), tx.init(jnp.zeros(2)))[0].round(5))
      [ 1. -1.]

    Reference: Ziyin, Wang & Ueda, 2020, Algorithm 1, https://arxiv.org/abs/2002.04839
    """
    who = "scale_by_laprop"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_in(who, "eps", eps, "[0, inf)")
    w1, w2, eps = complement(b1), complement(b2), hyperparameter(eps)
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)

    def corrections(count: Array) -> tuple[Any, ...]:
        t = increment(count)
        c1, c2 = one_minus_power(w1, t), one_minus_power(w2, t)
        return split(1.0 / jnp.sqrt(c2), 1.0 / c1)

    def leaf(
        g: Array, mu: Array, nu: Array, factor: Any, gain: Any
    ) -> tuple[Array, Array, Array]:
        nu = lerp(nu, capped_sq(g), w2)
        x = ratio(g, times(safe_sqrt(nu), factor) + cast(eps, nu), eps)
        mu = lerp(mu, x, w1)
        return times(mu, gain), mu, nu

    return stateful(who, ScaleByLapropState, leaf, corrections, mu=mu, nu=nu)


def laprop(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-15,
    mu_dtype: Any = None,
    *,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes LaProp, Adam with the division before the mean.

        u = -learning_rate·mu / c1, mu the mean of g / (√(nu / c2) + eps)

    with weight decay -learning_rate·(... + weight_decay·p). The learning rate is that
    of the present step, as in the paper; the authors' code has those of all steps
    inside the mean, which is the same while the learning rate is constant.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_laprop`, like all up to `nu_dtype`.
      b2: In [0, 1).
      eps: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByLapropState, EmptyState)`, with the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_laprop`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Example:
      >>> tx = adamx.laprop(0.1)
      >>> print(tx.update(jnp.array([-0.5]), tx.init(jnp.zeros(1)))[0].round(6))
      [0.1]

    Reference: Ziyin, Wang & Ueda, 2020, Algorithm 1, https://arxiv.org/abs/2002.04839
    """
    return chain(
        scale_by_laprop(b1, b2, eps, mu_dtype, nu_dtype=nu_dtype),
        *descent("laprop", learning_rate, weight_decay, mask),
    )
