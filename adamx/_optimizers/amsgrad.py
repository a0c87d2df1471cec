"""AMSGrad: Reddi, Kale & Kumar, 2018, https://arxiv.org/abs/1904.09237."""

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
    check_choice,
    check_flag,
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
    ratio,
    safe_sqrt,
    split,
    times,
)
from adamx._stateful import mu_and_nu, stateful
from adamx._transforms.decay import descent

VARIANTS = ("optax", "torch", "paper")


class ScaleByAmsgradState(NamedTuple):
    """State of `scale_by_amsgrad`."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; running mean of g
    nu: Updates  # like params, real; running mean of |g|²
    nu_max: Updates  # like nu; its maximum, bias-corrected in the variant "optax"


def scale_by_amsgrad(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
    *,
    variant: str = "optax",
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by Adam's ratio with the largest second moment seen so far.

        mu, nu, c1, c2 as in `scale_by_adam`
        "optax":  nu_max = max(nu_max, nu / c2)
                  u = (mu / c1) / (√(nu_max + eps_root) + eps)
        "torch":  nu_max = max(nu_max, nu)
                  u = (mu / c1) / (√(nu_max / c2 + eps_root) + eps)
        "paper":  nu_max = max(nu_max, nu)
                  u = mu / (√(nu_max + eps_root) + eps)

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the root, in units of the gradient; in [0, ∞).
      eps_root: Added inside the root, in units of the gradient squared; in [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      bias_correction_mu: In the variant "optax", whether to divide mu by c1.
      bias_correction_nu: In the variant "optax", whether to divide nu by c2.
      variant: "optax", whose denominator never falls; "torch", whose denominator falls
        while c2 grows; or "paper", without bias correction (eps = 0 there).
      nu_dtype: Dtype in which nu and nu_max are kept, or a `Storage`; None is float32
        or wider.

    Returns:
      A transformation. State: `ScaleByAmsgradState`, three arrays for each parameter.

    Raises:
      ValueError: A number out of its range, an unknown variant, or flags that a
        variant other than "optax" does not have; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: as `scale_by_adam`; and the variants.

    Example:
      >>> tx = adamx.scale_by_amsgrad(variant="torch")
      >>> print(tx.update(jnp.array([-0.5]), tx.init(jnp.zeros(1)))[0].round(6))
      [-1.]

    Reference: Reddi, Kale & Kumar, 2018, Algorithm 2, https://arxiv.org/abs/1904.09237
    """
    who = "scale_by_amsgrad"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_all(who, "[0, inf)", eps=eps, eps_root=eps_root)
    check_flag(who, "bias_correction_mu", bias_correction_mu)
    check_flag(who, "bias_correction_nu", bias_correction_nu)
    check_choice(who, "variant", variant, VARIANTS)
    if variant != "optax" and not (bias_correction_mu and bias_correction_nu):
        raise ValueError(
            f"{who}: expected no bias_correction flags with variant {variant!r}, which "
            "fixes them; leave them out."
        )
    w1, w2 = complement(b1), complement(b2)
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)
    eps, eps_root = hyperparameter(eps), hyperparameter(eps_root)
    correct_mu = bias_correction_mu and variant != "paper"
    correct_nu = bias_correction_nu and variant != "paper"
    correct_nu_first = correct_nu and variant == "optax"

    def corrections(count: Array) -> tuple[Any, ...]:
        # As in `scale_by_adam`, the corrections are folded into scalars.
        t = increment(count)
        one = jnp.ones([], jnp.float64)
        c1 = one_minus_power(w1, t) if correct_mu else one
        c2 = one_minus_power(w2, t) if correct_nu else one
        if variant == "torch":
            return split(one, c1 / jnp.sqrt(c2), c1 * eps, c2 * eps_root)
        return split(1.0 / c2, c1, c1 * eps, eps_root)

    def leaf(
        g: Array,
        mu: Array,
        nu: Array,
        nu_max: Array,
        weight: Any,
        factor: Any,
        floor: Any,
        offset: Any,
    ) -> tuple[Any, Array, Array, Array]:
        mu = lerp(mu, g, w1)
        nu = lerp(nu, capped_sq(g), w2)
        seen = at_most_max(times(nu, weight)) if correct_nu_first else nu

        def u(mu: Array, nu: Array, nu_max: Array) -> Array:
            del nu
            a = nu_max if is_zero(eps_root) else nu_max + cast(offset, nu_max)
            return ratio(mu, times(safe_sqrt(a), factor) + cast(floor, a), eps)

        return u, mu, nu, jnp.maximum(nu_max, seen)

    return stateful(
        who, ScaleByAmsgradState, leaf, corrections, mu=mu, nu=nu, nu_max=nu
    )


def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
    *,
    variant: str = "optax",
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes AMSGrad, Adam with a second moment that does not forget its largest value.

        u = -learning_rate·(mu / c1) / (√nu_max + eps)        (variant "optax")

    with weight decay -learning_rate·(... + weight_decay·p).

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_amsgrad`, like all up to `nu_dtype`.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      bias_correction_mu: In the variant "optax", whether to divide mu by c1.
      bias_correction_nu: In the variant "optax", whether to divide nu by c2.
      variant: "optax", "torch" or "paper".
      nu_dtype: Dtype in which nu and nu_max are kept, or a `Storage`; None is float32
        or wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByAmsgradState, EmptyState)`, with the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_amsgrad`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Example:
      >>> tx = adamx.amsgrad(1e-3)
      >>> print(tx.update(jnp.array([-0.5]), tx.init(jnp.zeros(1)))[0])
      [0.001]

    Reference: Reddi, Kale & Kumar, 2018, Algorithm 2, https://arxiv.org/abs/1904.09237
    """
    return chain(
        scale_by_amsgrad(
            b1,
            b2,
            eps,
            eps_root,
            mu_dtype,
            bias_correction_mu,
            bias_correction_nu,
            variant=variant,
            nu_dtype=nu_dtype,
        ),
        *descent("amsgrad", learning_rate, weight_decay, mask),
    )
