"""Adadelta: Zeiler, 2012, https://arxiv.org/abs/1212.5701."""

from typing import Any, NamedTuple

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_in,
)
from adamx._chain import chain
from adamx._numerics import (
    capped_sq,
    cast,
    complement,
    hyperparameter,
    lerp,
    product,
    safe_divide,
    safe_sqrt,
)
from adamx._rounding import storage_of
from adamx._stateful import Moment, stateful
from adamx._transforms.decay import add_decayed_weights, descent
from adamx._transforms.wide import rounded_once


class ScaleByAdaDeltaState(NamedTuple):
    """State of `scale_by_adadelta`."""

    e_g: Updates  # like params, real; running mean of |g|²
    e_x: Updates  # like params, real; running mean of |u|²


def scale_by_adadelta(
    rho: Scalar = 0.9, eps: Scalar = 1e-6, *, nu_dtype: Any = None
) -> GradientTransformation:
    """Scales updates by the root mean square of past steps over that of gradients.

        e_g = e_g + (1 - rho)·(|g|² - e_g)
        u   = g·√(e_x + eps) / √(e_g + eps)
        e_x = e_x + (1 - rho)·(|u|² - e_x)

    So that u has the units of the parameters. The first steps are about √eps long.

    Args:
      rho: Decay of both means per step, in [0, 1).
      eps: In (0, ∞), in units of the gradient squared and of the parameters squared;
        it starts the motion.
      nu_dtype: Dtype in which both are kept, or a `Storage`; None is float32 or wider.
        A bfloat16 is for rho < 0.98: the state has no count for stochastic rounding.

    Returns:
      A transformation. State: `ScaleByAdaDeltaState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range, a nu_dtype that does not follow the means;
        at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: 16-bit parameters get float32 means.

    Example:
      >>> tx = adamx.scale_by_adadelta(rho=0.0, eps=1e-4)
      >>> print(tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))[0].round(4))
      [0.01]

    Reference: Zeiler, 2012, Algorithm 1, https://arxiv.org/abs/1212.5701
    """
    who = "scale_by_adadelta"
    check_in(who, "rho", rho, "[0, 1)")
    check_in(who, "eps", eps, "(0, inf)")
    w, eps = complement(rho), hyperparameter(eps)
    mean = Moment(
        storage_of(who, "nu_dtype", nu_dtype, w, real=True, counted=False), real=True
    )

    def leaf(g: Array, e_g: Array, e_x: Array) -> tuple[Array, Array, Array]:
        e_g = lerp(e_g, capped_sq(g), w)
        floor = cast(eps, e_g)
        u = product(g, safe_divide(safe_sqrt(e_x + floor), safe_sqrt(e_g + floor)))
        return u, e_g, lerp(e_x, capped_sq(u), w)

    return stateful(who, ScaleByAdaDeltaState, leaf, e_g=mean, e_x=mean)


def adadelta(
    learning_rate: ScalarOrSchedule | None = None,
    rho: Scalar = 0.9,
    eps: Scalar = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: MaskOrFn | None = None,
    *,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Makes Adadelta, with L2 regularization: u = -learning_rate·adadelta(g + λ·p).

    λ is weight_decay, which passes through both means, as in PyTorch. For a decoupled
    decay: `chain(scale_by_adadelta(), add_decayed_weights(weight_decay),
    scale_by_learning_rate(learning_rate))`.

    Args:
      learning_rate: As in `scale_by_learning_rate`; None is 1, as the paper has it.
      rho: As in `scale_by_adadelta`, in [0, 1).
      eps: As in `scale_by_adadelta`, in (0, ∞).
      weight_decay: As in `add_decayed_weights`, in units of gradient per parameter.
      weight_decay_mask: Where to decay, as in `masked`; None is everywhere.
      nu_dtype: As in `scale_by_adadelta`.

    Returns:
      A transformation. State: `(EmptyState, ScaleByAdaDeltaState, EmptyState)`, the
      parts of `add_decayed_weights` first and of `scale_by_learning_rate` last.

    Raises:
      ValueError: As in the three blocks.
      TypeError: As in these.

    Differs from Optax: without a learning rate it descends; Optax's turns no sign then,
      and climbs.

    Example:
      >>> tx = adamx.adadelta(rho=0.0, eps=1e-4)
      >>> params = jnp.zeros(1)
      >>> print(tx.update(jnp.array([2.0]), tx.init(params), params)[0].round(4))
      [-0.01]

    Reference: Zeiler, 2012, Algorithm 1, https://arxiv.org/abs/1212.5701
    """
    return rounded_once(
        chain(
            add_decayed_weights(weight_decay, weight_decay_mask),
            scale_by_adadelta(rho, eps, nu_dtype=nu_dtype),
            *descent("adadelta", learning_rate),
        )
    )
