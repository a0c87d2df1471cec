"""AdaBelief: Zhuang et al., 2020, https://arxiv.org/abs/2010.07468."""

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
    check_flag,
)
from adamx._chain import chain
from adamx._numerics import (
    capped_sq,
    cast,
    complement,
    float64,
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


class ScaleByBeliefState(NamedTuple):
    """State of `scale_by_belief`."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; running mean of g
    nu: Updates  # like params, real; running mean of |g - mu|², plus eps_root a step


def scale_by_belief(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-16,
    eps_root: Scalar = 1e-16,
    *,
    nesterov: bool = False,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by how far gradients are from what their mean foretold.

        mu = mu + (1 - b1)·(g - mu)                          c1 = 1 - b1^t
        nu = nu + (1 - b2)·(|g - mu|² - nu) + eps_root       c2 = 1 - b2^t
        u  = (mu / c1) / (√(nu / c2) + eps),   t = count + 1

    Steps are large where gradients agree, and only eps_root bounds them: while g is
    constant u grows, from 1.11 by way of 3.46 in step 50 to 3e6·g.

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the root, in units of the gradient; in [0, ∞).
      eps_root: Added to nu in every step, where it adds up to eps_root / (1 - b2), in
        units of the gradient squared; in [0, ∞).
      nesterov: Whether to look ahead, as in `scale_by_adam`.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `ScaleByBeliefState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: as `scale_by_adam`; in float16 eps_root is not 0 there.

    Example:
      >>> tx = adamx.scale_by_belief()
      >>> u, state = tx.update(jnp.array([0.5, -2.0]), tx.init(jnp.zeros(2)))
      >>> print(u.round(4))
      [ 1.1111 -1.1111]

    Reference: Zhuang et al., 2020, Algorithm 2, https://arxiv.org/abs/2010.07468
    """
    who = "scale_by_belief"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_all(who, "[0, inf)", eps=eps, eps_root=eps_root)
    check_flag(who, "nesterov", nesterov)
    b1, w1, w2 = hyperparameter(b1), complement(b1), complement(b2)
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)
    eps = hyperparameter(eps)
    with float64():
        # What flows in each step as part of the mean, so that nu is rounded once.
        source = hyperparameter(eps_root) / w2

    def corrections(count: Array) -> tuple[Any, ...]:
        # As in `scale_by_adam`, u times c1 / c1.
        t = increment(count)
        c1, c2 = one_minus_power(w1, t), one_minus_power(w2, t)
        ahead = b1
        if nesterov:
            ahead = b1 * c1 / one_minus_power(w1, increment(t))
        return split(c1 / jnp.sqrt(c2), c1 * eps, ahead)

    def leaf(
        g: Array, mu: Array, nu: Array, factor: Any, floor: Any, ahead: Any
    ) -> tuple[Any, Array, Array]:
        def u(mu: Array, nu: Array) -> Array:
            m = times(mu, ahead) + times(g, w1) if nesterov else mu
            return ratio(m, times(safe_sqrt(nu), factor) + cast(floor, nu), eps)

        # The new g - mu is b1 times the old one, without a second subtraction.
        surprise = times(g - mu, b1)
        mu = lerp(mu, g, w1)
        return u, mu, lerp(nu, capped_sq(surprise) + cast(source, nu), w2)

    return stateful(who, ScaleByBeliefState, leaf, corrections, mu=mu, nu=nu)


def adabelief(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-16,
    eps_root: Scalar = 1e-16,
    *,
    nesterov: bool = False,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes AdaBelief, Adam with the variance of g in the place of its mean square.

        u = -learning_rate·(mu / c1) / (√(nu / c2) + eps)

    with weight decay -learning_rate·(... + weight_decay·p).

    Args:
      learning_rate: As in `scale_by_learning_rate`; a step is larger where gradients
        agree.
      b1: As in `scale_by_belief`, like all up to `nu_dtype`.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      nesterov: Whether to look ahead.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByBeliefState, EmptyState)`, with the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_belief`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Differs from PyTorch: the authors' package rectifies as `radam` does, unless told
      rectify=False; here nothing is rectified.

    Example:
      >>> tx = adamx.adabelief(0.9)
      >>> print(tx.update(jnp.array([-0.5]), tx.init(jnp.zeros(1)))[0].round(6))
      [1.]

    Reference: Zhuang et al., 2020, Algorithm 2, https://arxiv.org/abs/2010.07468
    """
    return chain(
        scale_by_belief(
            b1,
            b2,
            eps,
            eps_root,
            nesterov=nesterov,
            mu_dtype=mu_dtype,
            nu_dtype=nu_dtype,
        ),
        *descent("adabelief", learning_rate, weight_decay, mask),
    )
