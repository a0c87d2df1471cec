"""RAdam: Liu et al., 2020, https://arxiv.org/abs/1908.03265."""

from typing import Any

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Scalar,
    ScalarOrSchedule,
    check_all,
    check_choice,
    check_flag,
    check_in,
)
from adamx._chain import chain
from adamx._numerics import (
    bounded_root,
    capped_sq,
    cast,
    complement,
    hyperparameter,
    increment,
    is_zero,
    least_root,
    lerp,
    one_minus_power,
    ratio,
    split,
    times,
)
from adamx._optimizers.adam import ScaleByAdamState
from adamx._stateful import mu_and_nu, stateful
from adamx._transforms.decay import descent

VARIANTS = ("optax", "torch")


def scale_by_radam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    threshold: Scalar = 5.0,
    *,
    nesterov: bool = False,
    variant: str = "optax",
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by Adam's ratio, once its variance is known, and rectifies it.

        mu, nu, c1, c2 as in `scale_by_adam`
        ρ∞ = 2 / (1 - b2) - 1          ρ = ρ∞ - 2·t·b2^t / c2,   t = count + 1
        r  = √((ρ - 4)·(ρ - 2)·ρ∞ / ((ρ∞ - 4)·(ρ∞ - 2)·ρ))
        u  = r·(mu / c1) / (√(nu / c2 + eps_root) + eps)       where ρ ≥ threshold
        u  = mu / c1                                           before
        "torch": eps / √c2 in the place of eps

    ρ is the number of gradients that nu is a mean of. It starts at 1; up to 4 the
    variance of 1 / √nu is infinite, so the first steps, five at b2 = 0.999, are those
    of momentum, of the size of the gradient. With b2 ≤ 0.6 they all are. The root is
    bounded as in `scale_by_adam`.

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the root, in units of the gradient; in [0, ∞).
      eps_root: Added inside the root, in units of the gradient squared; in [0, ∞).
      threshold: The ρ from which to divide by the root, in [4, ∞).
      nesterov: Whether to look ahead, as in `scale_by_adam`.
      variant: "optax", or "torch", which adds eps to the root before its correction, as
        the authors do.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `ScaleByAdamState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range, or an unknown variant; at update, trees
        that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: as `scale_by_adam`; and ρ loses no digits, where Optax's first
      rectified step is 0.6 % off at b2 = 0.999 and 58 % at 0.9999.

    Example:
      >>> tx = adamx.scale_by_radam()
      >>> u, state = tx.update(jnp.array([0.25]), tx.init(jnp.zeros(1)))
      >>> print(u)
      [0.25]

    Reference: Liu et al., 2020, Algorithm 2, https://arxiv.org/abs/1908.03265
    """
    who = "scale_by_radam"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_all(who, "[0, inf)", eps=eps, eps_root=eps_root)
    check_in(who, "threshold", threshold, "[4, inf)")
    check_flag(who, "nesterov", nesterov)
    check_choice(who, "variant", variant, VARIANTS)
    b1, w1, w2 = hyperparameter(b1), complement(b1), complement(b2)
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)
    eps, eps_root = hyperparameter(eps), hyperparameter(eps_root)
    threshold = hyperparameter(threshold)

    def corrections(count: Array) -> tuple[Any, ...]:
        # As in `scale_by_adam`, u times c1 / c1; before the threshold u is mu / c1.
        t = increment(count)
        c1, c2 = one_minus_power(w1, t), one_minus_power(w2, t)
        known, r = rectification(w2, t, threshold)
        factor = c1 / (r * jnp.sqrt(c2))
        floor = eps * (factor if variant == "torch" else c1 / r)
        ahead = b1
        if nesterov:
            ahead = b1 * c1 / one_minus_power(w1, increment(t))
        factor, floor = jnp.where(known, factor, 0), jnp.where(known, floor, c1)
        return split(factor, floor, c2 * eps_root, ahead, least_root(w1, w2, t))

    def leaf(
        g: Array,
        mu: Array,
        nu: Array,
        factor: Any,
        floor: Any,
        offset: Any,
        ahead: Any,
        least: Any,
    ) -> tuple[Any, Array, Array]:
        def u(mu: Array, nu: Array) -> Array:
            m = times(mu, ahead) + times(g, w1) if nesterov else mu
            a = nu if is_zero(eps_root) else nu + cast(offset, nu)
            root = bounded_root(a, mu, least)
            return ratio(m, times(root, factor) + cast(floor, a), eps)

        return u, lerp(mu, g, w1), lerp(nu, capped_sq(g), w2)

    return stateful(who, ScaleByAdamState, leaf, corrections, mu=mu, nu=nu)


def rectification(w2: Any, count: Array, threshold: Any) -> tuple[Array, Array]:
    """Whether the variance is known, and r, or 1; to be called inside `float64()`.

    ρ as it stands in the paper is a small difference of numbers of the size of
    1 / (1 - b2). With h = -log(b2) / 2 it is t·tail(t·h) + 1 - tail(h), a sum.
    """
    w2, t = jnp.asarray(w2, jnp.float64), count.astype(jnp.float64)
    h = -jnp.log1p(-w2) / 2
    limit, length = 2 / w2 - 1, t * tail(t * h) + 1 - tail(h)
    known = (length >= threshold) & (length > 4)
    # Where it is not known, numbers for which there is a root, and its derivative.
    limit, length = jnp.where(known, limit, 5), jnp.where(known, length, 5)
    squared = (length - 4) * (length - 2) * limit
    return known, jnp.sqrt(squared / ((limit - 4) * (limit - 2) * length))


def tail(y: Array) -> Array:
    """1 + 1/y - coth y, for y > 0; below 1 by the continued fraction of coth."""
    fraction = jnp.full_like(y, 21.0)
    for odd in range(19, 1, -2):
        fraction = odd + y * y / fraction
    far = jnp.where(y < 1, 1, y)
    return jnp.where(y < 1, 1 - y / fraction, 1 / far - 2 / jnp.expm1(2 * far))


def radam(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    threshold: Scalar = 5.0,
    *,
    nesterov: bool = False,
    variant: str = "optax",
    mu_dtype: Any = None,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes RAdam, Adam with a warm-up of its own.

        u = -learning_rate·r·(mu / c1) / (√(nu / c2 + eps_root) + eps)

    and -learning_rate·mu / c1 in the first steps, five at b2 = 0.999; with weight decay
    -learning_rate·(... + weight_decay·p).

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a later step.
      b1: As in `scale_by_radam`, like all up to `nu_dtype`.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      threshold: In [4, ∞).
      nesterov: Whether to look ahead.
      variant: "optax" or "torch".
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByAdamState, EmptyState)`, with the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_radam`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Example:
      >>> tx = adamx.radam(0.1)
      >>> print(tx.update(jnp.array([-0.5]), tx.init(jnp.zeros(1)))[0])
      [0.05]

    Reference: Liu et al., 2020, Algorithm 2, https://arxiv.org/abs/1908.03265
    """
    return chain(
        scale_by_radam(
            b1,
            b2,
            eps,
            eps_root,
            threshold,
            nesterov=nesterov,
            variant=variant,
            mu_dtype=mu_dtype,
            nu_dtype=nu_dtype,
        ),
        *descent("radam", learning_rate, weight_decay, mask),
    )
