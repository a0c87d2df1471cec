"""Yogi: Zaheer et al., 2018, Adaptive Methods for Nonconvex Optimization, NeurIPS."""

from typing import Any

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Scalar,
    ScalarOrSchedule,
    check_all,
    check_in,
)
from adamx._chain import chain
from adamx._numerics import (
    at_most_max,
    capped_sq,
    cast,
    complement,
    hyperparameter,
    increment,
    is_zero,
    lerp,
    one_minus_power,
    product,
    ratio,
    safe_sqrt,
    split,
    times,
)
from adamx._optimizers.adam import ScaleByAdamState
from adamx._stateful import mu_and_nu, stateful
from adamx._transforms.decay import descent


def scale_by_yogi(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-3,
    eps_root: Scalar = 0.0,
    initial_accumulator_value: Scalar = 1e-6,
    *,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by Adam's ratio with a second moment that forgets slowly.

        mu = mu + (1 - b1)·(g - mu)                        c1 = 1 - b1^t
        nu = nu - (1 - b2)·sign(nu - |g|²)·|g|²            c2 = 1 - b2^t
        u  = (mu / c1) / (√(nu / c2 + eps_root) + eps),    t = count + 1

    Adam's nu changes by (1 - b2)·(|g|² - nu) per step, so it falls quickly once
    gradients are small, and the steps grow; here small gradients change it little.

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: In [0, 1); 1 - b2 is the share of |g|² by which nu changes in a step.
      eps: Added to the root, in units of the gradient; in [0, ∞).
      eps_root: Added inside the root, in units of the gradient squared; in [0, ∞).
      initial_accumulator_value: Where nu starts, in units of the gradient squared; in
        [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
        Narrower ones are rounded stochastically: nu may change by as little as g².

    Returns:
      A transformation. State: `ScaleByAdamState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: mu starts at 0, as in the paper and the authors' code, where
      Optax starts it at initial_accumulator_value, too, which moves parameters that
      have no gradient; and as `scale_by_adam`.

    Example:
      >>> tx = adamx.scale_by_yogi(eps=0.0, initial_accumulator_value=0.0)
      >>> u, state = tx.update(jnp.array([0.1, -0.5]), tx.init(jnp.zeros(2)))
      >>> print(u.round(6))
      [ 1. -1.]

    Reference: Zaheer et al., 2018, Algorithm 2, without bias corrections,
      https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization
    """
    who = "scale_by_yogi"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_all(who, "[0, inf)", eps=eps, eps_root=eps_root)
    check_in(who, "initial_accumulator_value", initial_accumulator_value, "[0, inf)")
    w1, w2 = complement(b1), complement(b2)
    fill = initial_accumulator_value
    # nu moves by (1 - b2)·|g|², which may be anything beside it, whatever b2 is.
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, 0.0, fill)
    eps, eps_root = hyperparameter(eps), hyperparameter(eps_root)

    def corrections(count: Array) -> tuple[Any, ...]:
        # As in `scale_by_adam`, u times c1 / c1.
        t = increment(count)
        c1, c2 = one_minus_power(w1, t), one_minus_power(w2, t)
        return split(c1 / jnp.sqrt(c2), c1 * eps, c2 * eps_root)

    def leaf(
        g: Array, mu: Array, nu: Array, factor: Any, floor: Any, offset: Any
    ) -> tuple[Any, Array, Array]:
        def u(mu: Array, nu: Array) -> Array:
            a = nu if is_zero(eps_root) else nu + cast(offset, nu)
            return ratio(mu, times(safe_sqrt(a), factor) + cast(floor, a), eps)

        sq = capped_sq(g)
        nu = at_most_max(nu - product(jnp.sign(nu - sq) * sq, cast(w2, nu)))
        return u, lerp(mu, g, w1), nu

    return stateful(who, ScaleByAdamState, leaf, corrections, mu=mu, nu=nu)


def yogi(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-3,
    *,
    eps_root: Scalar = 0.0,
    initial_accumulator_value: Scalar = 1e-6,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes Yogi, Adam with a second moment that forgets slowly.

        u = -learning_rate·(mu / c1) / (√(nu / c2 + eps_root) + eps)

    with weight decay -learning_rate·(... + weight_decay·p).

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_yogi`, like all up to `nu_dtype`.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      initial_accumulator_value: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByAdamState, EmptyState)`, with the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_yogi`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Differs from Optax: mu starts at 0.

    Example:
      >>> tx = adamx.yogi(0.1, eps=0.0, initial_accumulator_value=0.0)
      >>> print(tx.update(jnp.array([-0.5]), tx.init(jnp.zeros(1)))[0].round(6))
      [0.1]

    Reference: Zaheer et al., 2018, Algorithm 2, as in `scale_by_yogi`.
    """
    return chain(
        scale_by_yogi(
            b1,
            b2,
            eps,
            eps_root,
            initial_accumulator_value,
            mu_dtype=mu_dtype,
            nu_dtype=nu_dtype,
        ),
        *descent("yogi", learning_rate, weight_decay, mask),
    )
