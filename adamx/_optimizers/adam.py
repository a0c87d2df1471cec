"""Adam: Kingma & Ba, 2015, https://arxiv.org/abs/1412.6980."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_all,
    check_flags,
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
from adamx._stateful import mu_and_nu, stateful
from adamx._transforms.scale import scale_by_learning_rate


class ScaleByAdamState(NamedTuple):
    """State of `scale_by_adam`."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; running mean of g
    nu: Updates  # like params, real; running mean of |g|²


def scale_by_adam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
    debias: bool = True,
) -> GradientTransformation:
    """Scales updates by Adam's ratio of bias-corrected moments.

        mu = mu + (1 - b1)·(g - mu)            c1 = 1 - b1^t,   t = count + 1
        nu = nu + (1 - b2)·(|g|² - nu)         c2 = 1 - b2^t
        u  = (mu / c1) / (√(nu / c2 + eps_root) + eps)

    The result has no sign and no learning rate; |u| is about 1 at most, in steps. The
    root counts for no less than Cauchy and Schwarz leave to it beside mu, whatever the
    gradients have been. That changes nothing unless nu was lost, by underflow or in
    being stored, and without nesterov bounds |u|: by 1 at first, 7.3 in the end with
    the default decays.

    Training can be differentiated, forward and backward and twice, with respect to all
    numbers, the gradients and the parameters, as with every optimizer of adamx. Where g
    has always been 0, in dead units, the slope of u is 1 / eps at first, as is right of
    g / (|g| + eps). With eps = 0 there is none, and 0 stands for it.

    Args:
      b1: Decay of mu per step, in [0, 1); its horizon is about 1 / (1 - b1) steps.
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the root, in units of the gradient; in [0, ∞).
      eps_root: Added inside the root, in units of the gradient squared; in [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nesterov: Whether to look ahead: mu / c1 becomes
        b1·mu / (1 - b1^(t + 1)) + (1 - b1)·g / c1.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider. In
        bfloat16 it is rounded stochastically where 1 - b2 ≤ 0.02, else to the nearest.
      debias: Whether to correct for the start at zero; without it c1 = c2 = 1, for
        `bias_correction` to follow.

    Returns:
      A transformation. State: `ScaleByAdamState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: 16-bit parameters get float32 moments; 1 - b^t and the moments
      are exact to the last bit or two, where Optax's first step at b2 = 0.999 is
      57 ulp off, and 5830 at 0.99999; its derivative at g = 0 is NaN.

    Example:
      >>> tx = adamx.scale_by_adam()
      >>> params = jnp.zeros(3)
      >>> updates, state = tx.update(jnp.array([0.1, -0.5, 0.3]), tx.init(params))
      >>> print(updates.round(6))
      [ 1. -1.  1.]

    Reference: Kingma & Ba, 2015, Algorithm 1, https://arxiv.org/abs/1412.6980;
      nesterov: Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    who = "scale_by_adam"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_all(who, "[0, inf)", eps=eps, eps_root=eps_root)
    check_flags(who, nesterov=nesterov, debias=debias)
    b1, w1, w2 = hyperparameter(b1), complement(b1), complement(b2)
    mu, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)
    eps, eps_root = hyperparameter(eps), hyperparameter(eps_root)

    def scalars(count: Array) -> tuple[Any, ...]:
        return corrections(count, b1, w1, w2, eps, eps_root, nesterov, debias)

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

    return stateful(who, ScaleByAdamState, leaf, scalars, mu=mu, nu=nu)


def corrections(
    count: Array,
    b1: Any,
    w1: Any,
    w2: Any,
    eps: Any,
    eps_root: Any,
    nesterov: bool = False,
    debias: bool = True,
) -> tuple[Any, ...]:
    """What all elements share in a step of `scale_by_adam`; in `float64()`.

    u is computed times c1 / c1, so that the corrections are scalars.
    """
    t = increment(count)
    one = jnp.ones([], jnp.float64)
    c1 = one_minus_power(w1, t) if debias else one
    c2 = one_minus_power(w2, t) if debias else one
    ahead = b1
    if nesterov and debias:
        ahead = b1 * c1 / one_minus_power(w1, increment(t))
    least = least_root(w1, w2, t)
    return split(c1 / jnp.sqrt(c2), c1 * eps, c2 * eps_root, ahead, least)


def adam(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Makes Adam: u = -learning_rate·(mu / c1) / (√(nu / c2 + eps_root) + eps).

    With L2 regularization: `chain(add_decayed_weights(weight_decay), adam(...))`; with
    decoupled weight decay: `adamw`.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_adam`, like all that follow.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nesterov: Whether to look ahead.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `(ScaleByAdamState, EmptyState)`, the second
      `ScaleByScheduleState` with a schedule.

    Raises:
      ValueError: As in `scale_by_adam` and `scale_by_learning_rate`.
      TypeError: As in these.

    Example:
      >>> tx = adamx.adam(1e-3)
      >>> params = jnp.array([1.0])
      >>> updates, state = tx.update(jnp.array([0.3]), tx.init(params), params)
      >>> print(adamx.apply_updates(params, updates))
      [0.999]

    Reference: Kingma & Ba, 2015, Algorithm 1, https://arxiv.org/abs/1412.6980
    """
    return chain(
        scale_by_adam(
            b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, nu_dtype=nu_dtype
        ),
        scale_by_learning_rate(learning_rate),
    )
