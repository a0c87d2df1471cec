"""NAdam: Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ."""

import math
from typing import Any

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Scalar,
    ScalarOrSchedule,
    check_all,
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
from adamx._optimizers.adam import ScaleByAdamState, scale_by_adam
from adamx._stateful import mu_and_nu, stateful
from adamx._transforms.decay import descent


def scale_by_nadam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    momentum_decay: Scalar = 4e-3,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates as Adam that looks ahead, with a momentum that rises to b1.

        mu, nu, c2 as in `scale_by_adam`,   t = count + 1
        b_t = b1·(1 - 0.96^(t·momentum_decay) / 2)         c_t = 1 - b_1·b_2·…·b_t
        m = b_(t + 1)·mu / c_(t + 1) + (1 - b_t)·g / c_t
        u = m / (√(nu / c2 + eps_root) + eps)

    With b_t = b1, the limit of a large momentum_decay, it is
    `scale_by_adam(nesterov=True)`. Its state is that of Adam: the product of momenta
    is a function of the count. The root is bounded as there.

    Args:
      b1: Decay of mu per step, and the last momentum, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the root, in units of the gradient; in [0, ∞).
      eps_root: Added inside the root, in units of the gradient squared; in [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      momentum_decay: How fast the momentum rises, per step, in [0, ∞); what is missing
        of b1 halves in 17 / momentum_decay steps.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `ScaleByAdamState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from PyTorch: the product of momenta is exact, where it keeps a float32 one
      in its state.

    Example:
      >>> tx = adamx.scale_by_nadam()
      >>> updates, _ = tx.update(jnp.array([0.3]), tx.init(jnp.zeros(1)))
      >>> print(f"{updates[0]:.4f}")
      1.0565

    Reference: Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    who = "scale_by_nadam"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_all(who, "[0, inf)", eps=eps, eps_root=eps_root)
    check_in(who, "momentum_decay", momentum_decay, "[0, inf)")
    b1, w1, w2 = hyperparameter(b1), complement(b1), complement(b2)
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)
    eps, eps_root = hyperparameter(eps), hyperparameter(eps_root)
    psi = hyperparameter(momentum_decay)

    def corrections(count: Array) -> tuple[Any, ...]:
        # As in `scale_by_adam`; here u times c / now, so that g needs no weight.
        count = increment(count)
        t, rate = count.astype(jnp.float64), -math.log(0.96) * psi
        now, following = (w1 + b1 / 2 * jnp.exp(-rate * s) for s in (t, t + 1))
        product = jnp.exp(t * jnp.log1p(-jnp.asarray(w1)) + log_share(rate, t))
        c, c2 = 1 - product, one_minus_power(w2, count)
        ahead = (1 - following) * c / (c + product * following) / now
        factor, floor = c / jnp.sqrt(c2) / now, c * eps / now
        least = least_root(w1, w2, count)
        return split(factor, floor, c2 * eps_root, ahead, least)

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
            m = times(mu, ahead) + g
            a = nu if is_zero(eps_root) else nu + cast(offset, nu)
            root = bounded_root(a, mu, least)
            return ratio(m, times(root, factor) + cast(floor, a), eps)

        return u, lerp(mu, g, w1), lerp(nu, capped_sq(g), w2)

    return stateful(who, ScaleByAdamState, leaf, corrections, mu=mu, nu=nu)


def log_share(rate: Any, t: Array) -> Array:
    """The log of the product of 1 - x^s / 2 over s = 1…t, where x = exp(-rate).

    By the series log(1 - y) = -Σ y^k / k, whose every power is a geometric one over s;
    of 50 terms the last is the last bit. To be called inside `float64()`.
    """
    k = jnp.arange(1, 51, dtype=jnp.float64)
    # At a rate of 0 each sum is t, and so it is at one that is all but 0.
    rate = jnp.where(rate > 0, rate, 1e-30)
    sums = jnp.expm1(-k * rate * t) / jnp.expm1(k * rate)
    return jnp.sum(sums * 0.5**k / k)


def nadam(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    nu_dtype: Any = None,
    momentum_decay: Scalar | None = None,
) -> GradientTransformation:
    """Makes NAdam, Adam that looks ahead.

        m = b1·mu / (1 - b1^(t + 1)) + (1 - b1)·g / (1 - b1^t)
        u = -learning_rate·m / (√(nu / c2 + eps_root) + eps)

    with a constant momentum b1, or one that rises to it, as in `scale_by_nadam`.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_adam`, like all that follow.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nesterov: Whether to look ahead; False is Adam.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      momentum_decay: As in `scale_by_nadam`, such as 4e-3; None is a constant momentum.

    Returns:
      A transformation. State: as `adam`.

    Raises:
      ValueError: As in `scale_by_nadam` and `scale_by_learning_rate`; or a
        momentum_decay without nesterov.
      TypeError: As in these.

    Differs from PyTorch: its NAdam has momentum_decay=4e-3, which the paper has, too.

    Example:
      >>> tx = adamx.nadam(0.1)
      >>> updates, _ = tx.update(jnp.array([0.3]), tx.init(jnp.zeros(1)))
      >>> print(f"{updates[0]:.4f}")
      -0.1474

    Reference: Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    return chain(
        looking_ahead(
            "nadam",
            (b1, b2, eps, eps_root, mu_dtype),
            nesterov,
            nu_dtype,
            momentum_decay,
        ),
        *descent("nadam", learning_rate),
    )


def nadamw(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: MaskOrFn | None = None,
    *,
    nesterov: bool = True,
    nu_dtype: Any = None,
    momentum_decay: Scalar | None = None,
) -> GradientTransformation:
    """Makes NAdamW, NAdam with decoupled weight decay.

        u = -learning_rate·(m / (√(nu / c2 + eps_root) + eps) + weight_decay·p)

    with m as in `nadam`.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_adam`, like all up to `mu_dtype`.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: As in `add_decayed_weights`, per step and unit of learning rate.
      mask: Where to decay, as in `masked`; None is everywhere.
      nesterov: Whether to look ahead; False is AdamW.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      momentum_decay: As in `scale_by_nadam`, such as 4e-3; None is a constant momentum.

    Returns:
      A transformation. State: as `adamw`.

    Raises:
      ValueError: As in `nadam` and `add_decayed_weights`.
      TypeError: As in these.

    Example:
      >>> tx = adamx.nadamw(0.1, weight_decay=1.0)
      >>> params = jnp.array([1.0])
      >>> updates, _ = tx.update(jnp.array([0.3]), tx.init(params), params)
      >>> print(f"{updates[0]:.4f}")
      -0.2474

    Reference: Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    return chain(
        looking_ahead(
            "nadamw",
            (b1, b2, eps, eps_root, mu_dtype),
            nesterov,
            nu_dtype,
            momentum_decay,
        ),
        *descent("nadamw", learning_rate, weight_decay, mask),
    )


def looking_ahead(
    who: str,
    moments: tuple[Any, ...],
    nesterov: bool,
    nu_dtype: Any,
    momentum_decay: Scalar | None,
) -> GradientTransformation:
    """The block with a constant momentum, or the one with a rising momentum."""
    if momentum_decay is None:
        return scale_by_adam(*moments, nesterov=nesterov, nu_dtype=nu_dtype)
    check_flag(who, "nesterov", nesterov)
    if not nesterov:
        raise ValueError(
            f"{who}: expected no momentum_decay with nesterov=False, got "
            f"{momentum_decay}; leave it out."
        )
    return scale_by_nadam(*moments, momentum_decay=momentum_decay, nu_dtype=nu_dtype)
