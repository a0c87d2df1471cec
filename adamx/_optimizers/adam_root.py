"""Adam that knows no scale: its second moment is kept as a root."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from adamx._base import (
    Array,
    GradientTransformation,
    Scalar,
    Updates,
    check_all,
    is_number,
)
from adamx._numerics import (
    abs_sq,
    cast,
    complement,
    hyperparameter,
    increment,
    lerp,
    one_minus_power,
    power_of_two,
    product,
    safe_divide,
    safe_sqrt,
    split,
)
from adamx._stateful import mu_and_nu, stateful


class ScaleByAdamRootState(NamedTuple):
    """State of `scale_by_adam_root`."""

    count: Array  # i32[]; updates applied so far
    mu_hat: Updates  # like params; mean of g, corrected for its start
    nu_root: Updates  # like params, real; root of the mean of |g|², corrected as well


def scale_by_adam_root(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by Adam's ratio, whatever the size of the gradients.

        a1, a2  = (1 - b1) / (1 - b1^t), (1 - b2) / (1 - b2^t),   t = count + 1
        mu_hat  = mu_hat + a1·(g - mu_hat)
        nu_root = √(nu_root² + a2·(|g|² - nu_root²))
        u       = mu_hat / (nu_root + eps)                (0 where all are 0)

    The ratio is that of `scale_by_adam`, whose squares vanish in float32 for gradients
    below 1e-19, overflow above 1e19, and whose eps covers what is smaller than it. Here
    g and nu_root are first multiplied by the power of two that makes the larger of them
    about 1, which is exact. With eps = 0, gradients times 2^k give the same updates to
    the bit, from 1e-33 to 1e36. A spike of 1e38 is forgotten like any other gradient;
    a mean of squares would stay infinite. (Gradients beyond 1.7e38, infinite ones too,
    count as 1.7e38.)

    Moments are corrected for their start as they are formed: under a constant gradient
    u is its sign, exactly, at every step.

    A rate makes it an optimizer:
    `chain(scale_by_adam_root(), scale_by_learning_rate(learning_rate))`.

    Args:
      b1: Decay of mu_hat per step, in [0, 1).
      b2: Decay of nu_root² per step, in [0, 1). Where b1² > b2, u grows while
        gradients are 0, as Adam's does; here to 2^64 at most.
      eps: Added to the root, in units of the gradient; in [0, ∞).
      mu_dtype: Dtype in which mu_hat is kept; None is float32 or wider.
      nu_dtype: Dtype in which nu_root is kept; None is float32 or wider.

    Returns:
      A transformation. State: `ScaleByAdamRootState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: it has no such form; in its terms mu = mu_hat·(1 - b1^t) and
      nu = nu_root²·(1 - b2^t).

    Example:
      >>> tx = adamx.scale_by_adam_root()
      >>> grads = jnp.array([1e-30, 0.0, -1e30])
      >>> print(tx.update(grads, tx.init(jnp.zeros(3)))[0])
      [ 1.  0. -1.]

    Reference: Kingma & Ba, 2015, Algorithm 1, https://arxiv.org/abs/1412.6980
    """
    who = "scale_by_adam_root"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_all(who, "[0, inf)", eps=eps)
    w1, w2 = complement(b1), complement(b2)
    # A root changes by half as much as what is under it.
    half = w2 / 2 if is_number(w2) else w2
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, half)
    eps = hyperparameter(eps)

    def weights(count: Array) -> tuple[Any, ...]:
        t = increment(count)
        return split(w1 / one_minus_power(w1, t), w2 / one_minus_power(w2, t))

    def leaf(
        g: Array, mu_hat: Array, nu_root: Array, a1: Any, a2: Any
    ) -> tuple[Array, Array, Array]:
        g = halved_range(g)
        one, unit = power_of_two(lax.stop_gradient(lax.max(size(g), nu_root)))
        old, new = nu_root * one, product(g, one)
        nu_root = safe_sqrt(lerp(old * old, abs_sq(new), a2)) * unit
        mu_hat = lerp(mu_hat, g, a1)
        # Larger only where mu_hat outlives nu_root. (No bound like that of Cauchy &
        # Schwarz is needed besides: no square is lost.)
        root = lax.max(nu_root, size(lax.stop_gradient(mu_hat)) * 2.0**-64)
        return safe_divide(mu_hat, root + cast(eps, root)), mu_hat, nu_root

    return stateful(who, ScaleByAdamRootState, leaf, weights, mu_hat=mu, nu_root=nu)


def halved_range(x: Array) -> Array:
    """x up to half of the largest number: differences, and |x|, are finite then."""
    if jnp.iscomplexobj(x):
        return lax.complex(halved_range(x.real), halved_range(x.imag))
    limit = float(jnp.finfo(x.dtype).max) / 2
    return jnp.clip(x, -limit, limit)


def size(x: Array) -> Array:
    """|x|, or of a complex x the larger of its parts: |x| up to a factor of √2."""
    if jnp.iscomplexobj(x):
        return lax.max(jnp.abs(x.real), jnp.abs(x.imag))
    return jnp.abs(x)
