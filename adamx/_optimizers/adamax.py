"""AdaMax: Kingma & Ba, 2015, section 7.1, https://arxiv.org/abs/1412.6980."""

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
    cast,
    complement,
    hyperparameter,
    increment,
    lerp,
    one_minus_power,
    ratio,
    split,
    times,
)
from adamx._optimizers.adam import ScaleByAdamState
from adamx._stateful import mu_and_nu, stateful
from adamx._transforms.decay import descent
from adamx._transforms.scale import scale_by_learning_rate


def scale_by_adamax(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by the largest gradient so far, which fades with time.

        mu = mu + (1 - b1)·(g - mu)            c1 = 1 - b1^t,   t = count + 1
        nu = max(b2·nu, |g| + eps)
        u  = (mu / c1) / nu

    Adam with the p-norm of past gradients in the place of the 2-norm, for p → ∞. The
    maximum needs no correction; at the default decays |u| is 1.0091 at most.

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the size of each gradient, in its units; in [0, ∞). The paper has 0.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `ScaleByAdamState`, two arrays for each parameter, nu the
      largest |g| in the place of the mean |g|².

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: as `scale_by_adam`.

    Example:
      >>> tx = adamx.scale_by_adamax()
      >>> u, state = tx.update(jnp.array([0.1, -0.5]), tx.init(jnp.zeros(2)))
      >>> print(u.round(6), state.nu.round(6))
      [ 1. -1.] [0.1 0.5]

    Reference: Kingma & Ba, 2015, Algorithm 2, https://arxiv.org/abs/1412.6980
    """
    who = "scale_by_adamax"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_in(who, "eps", eps, "[0, inf)")
    w1, b2, eps = complement(b1), hyperparameter(b2), hyperparameter(eps)
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, complement(b2))

    def correction(count: Array) -> tuple[Any, ...]:
        return split(one_minus_power(w1, increment(count)))

    def leaf(g: Array, mu: Array, nu: Array, c1: Any) -> tuple[Any, Array, Array]:
        def u(mu: Array, nu: Array) -> Array:
            return ratio(mu, times(nu, c1), eps)

        nu = jnp.maximum(times(nu, b2), jnp.abs(g) + cast(eps, nu))
        return u, lerp(mu, g, w1), nu

    return stateful(who, ScaleByAdamState, leaf, correction, mu=mu, nu=nu)


def adamax(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Makes AdaMax: u = -learning_rate·(mu / c1) / nu, with nu the largest |g|.

    With decoupled weight decay: `adamaxw`.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_adamax`, like all that follow.
      b2: In [0, 1).
      eps: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `(ScaleByAdamState, EmptyState)`, the second
      `ScaleByScheduleState` with a schedule.

    Raises:
      ValueError: As in `scale_by_adamax` and `scale_by_learning_rate`.
      TypeError: As in these.

    Example:
      >>> tx = adamx.adamax(0.1)
      >>> print(tx.update(jnp.array([-3.0]), tx.init(jnp.zeros(1)))[0])
      [0.1]

    Reference: Kingma & Ba, 2015, Algorithm 2, https://arxiv.org/abs/1412.6980
    """
    return chain(
        scale_by_adamax(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype),
        scale_by_learning_rate(learning_rate),
    )


def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: MaskOrFn | None = None,
    *,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Makes AdaMaxW, AdaMax with decoupled weight decay.

        u = -learning_rate·((mu / c1) / nu + weight_decay·p)

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_adamax`, like `b2`, `eps` and the dtypes.
      b2: In [0, 1).
      eps: In [0, ∞).
      weight_decay: As in `add_decayed_weights`, per step and unit of learning rate.
      mask: Where to decay, as in `masked`; None is everywhere.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `(ScaleByAdamState, EmptyState, EmptyState)`, the parts
      of `add_decayed_weights` and `scale_by_learning_rate` last.

    Raises:
      ValueError: As in the three blocks.
      TypeError: As in the three blocks.

    Differs from PyTorch: its Adamax takes weight_decay as L2 regularization,
      `chain(add_decayed_weights(weight_decay), adamax(learning_rate))`.

    Example:
      >>> tx = adamx.adamaxw(0.1, weight_decay=0.5)
      >>> params = jnp.array([1.0])
      >>> print(tx.update(jnp.array([0.3]), tx.init(params), params)[0])
      [-0.15]

    Reference: Kingma & Ba, 2015, Algorithm 2, https://arxiv.org/abs/1412.6980;
      decay: Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101
    """
    return chain(
        scale_by_adamax(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype),
        *descent("adamaxw", learning_rate, weight_decay, mask),
    )
