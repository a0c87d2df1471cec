"""Signum and sign descent: Bernstein et al., 2018, https://arxiv.org/abs/1802.04434."""

from typing import Any

from adamx._base import GradientTransformation, MaskOrFn, Scalar, ScalarOrSchedule
from adamx._chain import chain
from adamx._transforms.decay import descent
from adamx._transforms.moments import ema
from adamx._transforms.sign import scale_by_sign
from adamx._transforms.wide import rounded_once


def sign_sgd(
    learning_rate: ScalarOrSchedule,
    *,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes sign descent: u = -learning_rate·sign(g).

    With weight decay -learning_rate·(... + weight_decay·p).

    Args:
      learning_rate: As in `scale_by_learning_rate`; the size of a step.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(EmptyState, EmptyState)`, the last
      `ScaleByScheduleState` with a schedule, and the part of `add_decayed_weights`
      between them where there is weight decay.

    Raises:
      ValueError: As in `add_decayed_weights` and `scale_by_learning_rate`; or a mask
        without weight decay.
      TypeError: As in these; at update, a leaf that is not real.

    Example:
      >>> tx = adamx.sign_sgd(0.1)
      >>> params = jnp.zeros(2)
      >>> print(tx.update(jnp.array([-3.0, 0.1]), tx.init(params), params)[0])
      [ 0.1 -0.1]

    Reference: Bernstein et al., 2018, Algorithm 1, https://arxiv.org/abs/1802.04434
    """
    return chain(
        scale_by_sign(), *descent("sign_sgd", learning_rate, weight_decay, mask)
    )


def signum(
    learning_rate: ScalarOrSchedule,
    beta: Scalar = 0.9,
    accumulator_dtype: Any = None,
    *,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes Signum: u = -learning_rate·sign(mean of g).

    With weight decay -learning_rate·(... + weight_decay·p). Lion is a Signum whose sign
    is taken of a mean that leans toward the newest gradient.

    Args:
      learning_rate: As in `scale_by_learning_rate`; the size of a step.
      beta: Decay of the mean per step, in [0, 1), as in `ema`.
      accumulator_dtype: Dtype in which the mean is kept, or a `Storage`; None is
        float32 or wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(EmaState, EmptyState, EmptyState)`, the last
      `ScaleByScheduleState` with a schedule, and the part of `add_decayed_weights`
      before it where there is weight decay.

    Raises:
      ValueError: As in `ema`, `add_decayed_weights` and `scale_by_learning_rate`; or a
        mask without weight decay.
      TypeError: As in these; at update, a leaf that is not real.

    Differs from Optax: 16-bit parameters get a float32 mean, whose sign is taken before
      it is rounded; a float16 mean below 3e-8 has none.

    Example:
      >>> tx = adamx.signum(0.1)
      >>> params = jnp.zeros(2)
      >>> print(tx.update(jnp.array([-3.0, 0.1]), tx.init(params), params)[0])
      [ 0.1 -0.1]

    Reference: Bernstein et al., 2018, Algorithm 2, https://arxiv.org/abs/1802.04434
    """
    return rounded_once(
        chain(
            ema(beta, debias=False, accumulator_dtype=accumulator_dtype),
            scale_by_sign(),
            *descent("signum", learning_rate, weight_decay, mask),
        )
    )
