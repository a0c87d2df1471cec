"""Adam-atan2: Everett et al., 2024, https://arxiv.org/abs/2407.05872."""

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
)
from adamx._chain import chain
from adamx._numerics import (
    capped_sq,
    complement,
    hyperparameter,
    increment,
    lerp,
    one_minus_power,
    safe_divide,
    safe_sqrt,
    split,
    times,
)
from adamx._optimizers.adam import ScaleByAdamState
from adamx._stateful import mu_and_nu, stateful
from adamx._transforms.decay import descent
from adamx._tree import require_real


def scale_by_adam_atan2(
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    a: Scalar = 1.27,
    b: Scalar = 1.0,
    mu_dtype: Any = None,
    *,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by the angle of Adam's moments in the place of their ratio.

        mu, nu, c1, c2 as in `scale_by_adam`
        u = a·atan2(mu / c1, b·√(nu / c2))

    There is no eps: u does not depend on the scale of the gradients. |u| is π/2·a at
    most, whatever the gradients have been, and a·atan(1 / b) while they are constant.

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      a: Size of u, in (0, ∞); 4 / π makes the first step exactly 1.
      b: Weight of the root, in (0, ∞): the larger it is, the nearer is u to Adam's
        ratio, times a / b.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider. In
        bfloat16 it is rounded stochastically where 1 - b2 ≤ 0.02, else to the nearest.

    Returns:
      A transformation. State: `ScaleByAdamState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter that is not floating.

    Example:
      >>> tx = adamx.scale_by_adam_atan2()
      >>> grads = jnp.array([1e-9, 0.0, -1e9])
      >>> print(tx.update(grads, tx.init(jnp.zeros(3)))[0].round(4))
      [ 0.9975  0.     -0.9975]

    Reference: Everett et al., 2024, https://arxiv.org/abs/2407.05872
    """
    who = "scale_by_adam_atan2"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_all(who, "(0, inf)", a=a, b=b)
    w1, w2 = complement(b1), complement(b2)
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)
    a, b = hyperparameter(a), hyperparameter(b)

    def correction(count: Array) -> tuple[Any, ...]:
        # An angle stays when both of its sides are multiplied by c1.
        t = increment(count)
        c1, c2 = one_minus_power(w1, t), one_minus_power(w2, t)
        return split(b * c1 / jnp.sqrt(c2))

    def leaf(g: Array, mu: Array, nu: Array, factor: Any) -> tuple[Any, Array, Array]:
        def u(mu: Array, nu: Array) -> Array:
            return times(angle(mu, times(safe_sqrt(nu), factor)), a)

        return u, lerp(mu, g, w1), lerp(nu, capped_sq(g), w2)

    return stateful(
        who, ScaleByAdamState, leaf, correction, check=require_real, mu=mu, nu=nu
    )


def angle(y: Array, x: Array) -> Array:
    """atan2(y, x) for x >= 0, with derivative 0 where x is 0.

    That of `jnp.arctan2` is NaN where x² + y² vanishes, so already at 1e-20.
    """
    return jnp.where(x > 0, jnp.arctan(safe_divide(y, x)), math.pi / 2 * jnp.sign(y))


def adam_atan2(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    a: Scalar = 1.27,
    b: Scalar = 1.0,
    mu_dtype: Any = None,
    *,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes Adam-atan2: u = -learning_rate·a·atan2(mu / c1, b·√(nu / c2)).

    With weight decay -learning_rate·(... + weight_decay·p).

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_adam_atan2`, like all up to `nu_dtype`.
      b2: In [0, 1).
      a: In (0, ∞).
      b: In (0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByAdamState, EmptyState)`, with the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_adam_atan2`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Example:
      >>> tx = adamx.adam_atan2(0.1, a=4 / np.pi)
      >>> print(tx.update(jnp.array([-1e-9]), tx.init(jnp.zeros(1)))[0].round(6))
      [0.1]

    Reference: Everett et al., 2024, https://arxiv.org/abs/2407.05872
    """
    return chain(
        scale_by_adam_atan2(b1, b2, a, b, mu_dtype, nu_dtype=nu_dtype),
        *descent("adam_atan2", learning_rate, weight_decay, mask),
    )
