"""Lion: Chen et al., 2023, https://arxiv.org/abs/2302.06675."""

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
    check_in,
)
from adamx._chain import chain
from adamx._numerics import complement, hyperparameter, lerp, times
from adamx._rounding import storage_of
from adamx._stateful import Moment, stateful
from adamx._transforms.decay import descent
from adamx._tree import require_real

MODES = ("hard", "smooth", "refined")


class ScaleByLionState(NamedTuple):
    """State of `scale_by_lion`."""

    count: Array  # i32[]; updates applied so far, which no formula needs
    mu: Updates  # like params; running mean of g


def scale_by_lion(
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    mu_dtype: Any = None,
    *,
    mode: str = "hard",
    smooth_beta: Scalar = 1.0,
) -> GradientTransformation:
    """Scales updates to the sign of a mean that leans toward the gradient.

        c  = mu + (1 - b1)·(g - mu)            with mu from before this step
        mu = mu + (1 - b2)·(g - mu)
        u  = sign(c)
        "smooth":  u = tanh(smooth_beta·c)
        "refined": u = c where |c| < 1, else sign(c)

    Args:
      b1: Weight of the mean in c, in [0, 1).
      b2: Decay of mu per step, in [0, 1).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      mode: "hard"; or "smooth" or "refined", which are linear around 0.
      smooth_beta: In the mode "smooth", the slope at 0, per unit of gradient; in
        (0, ∞).

    Returns:
      A transformation. State: `ScaleByLionState`, one array for each parameter.

    Raises:
      ValueError: A number out of its range or an unknown mode; at update, trees that
        do not match.
      TypeError: A wrong kind of argument; a parameter that is not real.

    Differs from Optax: 16-bit parameters get a float32 mean; an unknown mode is an
      error when it is given, not at the first update.

    Example:
      >>> tx = adamx.scale_by_lion()
      >>> print(tx.update(jnp.array([0.3, -5.0]), tx.init(jnp.zeros(2)))[0])
      [ 1. -1.]

    Reference: Chen et al., 2023, Algorithm 2, https://arxiv.org/abs/2302.06675
    """
    who = "scale_by_lion"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_in(who, "smooth_beta", smooth_beta, "(0, inf)")
    check_choice(who, "mode", mode, MODES)
    w1, w2, slope = complement(b1), complement(b2), hyperparameter(smooth_beta)
    mu = Moment(storage_of(who, "mu_dtype", mu_dtype, w2))

    def leaf(g: Array, mu: Array) -> tuple[Array, Array]:
        c = lerp(mu, g, w1)
        if mode == "smooth":
            u = jnp.tanh(times(c, slope))
        elif mode == "refined":
            u = jnp.clip(c, -1, 1)
        else:
            u = jnp.sign(c)
        return u, lerp(mu, g, w2)

    return stateful(who, ScaleByLionState, leaf, check=require_real, mu=mu)


def lion(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-3,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes Lion: u = -learning_rate·(sign(c) + weight_decay·p).

    Every parameter moves by the learning rate, so that wants to be 3 to 10 times
    smaller than AdamW's, and weight_decay as much larger. Where learning_rate ·
    weight_decay ≤ 1, parameters within ±1 / weight_decay stay there.

    Args:
      learning_rate: As in `scale_by_learning_rate`; the size of a step.
      b1: As in `scale_by_lion`, in [0, 1).
      b2: As in `scale_by_lion`, in [0, 1).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: As in `add_decayed_weights`, per step and unit of learning rate.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByLionState, EmptyState, EmptyState)`, the parts
      of `add_decayed_weights` and `scale_by_learning_rate` last.

    Raises:
      ValueError: As in the three blocks.
      TypeError: As in these.

    Example:
      >>> tx = adamx.lion(0.1, weight_decay=0.5)
      >>> params = jnp.array([1.0])
      >>> print(tx.update(jnp.array([0.3]), tx.init(params), params)[0])
      [-0.15]

    Reference: Chen et al., 2023, Algorithm 2, https://arxiv.org/abs/2302.06675
    """
    return chain(
        scale_by_lion(b1, b2, mu_dtype),
        *descent("lion", learning_rate, weight_decay, mask),
    )
