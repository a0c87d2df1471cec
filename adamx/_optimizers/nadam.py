"""NAdam: Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ."""

from typing import Any

from adamx._base import GradientTransformation, MaskOrFn, Scalar, ScalarOrSchedule
from adamx._optimizers.adam import adam
from adamx._optimizers.adamw import adamw


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
) -> GradientTransformation:
    """Makes NAdam, Adam that looks ahead, with a constant b1.

        m = b1·mu / (1 - b1^(t + 1)) + (1 - b1)·g / (1 - b1^t)
        u = -learning_rate·m / (√(nu / c2 + eps_root) + eps)

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_adam`, like all that follow.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      mu_dtype: Dtype in which mu is kept; None is float32 or wider.
      nesterov: Whether to look ahead; False is Adam.
      nu_dtype: Dtype in which nu is kept; None is float32 or wider.

    Returns:
      A transformation. State: as `adam`.

    Raises:
      ValueError: As in `adam`.
      TypeError: As in `adam`.

    Differs from PyTorch: its NAdam raises the momentum over the first steps
      (momentum_decay); with momentum_decay → ∞ the two agree.

    Example:
      >>> tx = adamx.nadam(0.1)
      >>> updates, _ = tx.update(jnp.array([0.3]), tx.init(jnp.zeros(1)))
      >>> print(f"{updates[0]:.4f}")
      -0.1474

    Reference: Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    return adam(
        learning_rate,
        b1,
        b2,
        eps,
        eps_root,
        mu_dtype,
        nesterov=nesterov,
        nu_dtype=nu_dtype,
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
      mu_dtype: Dtype in which mu is kept; None is float32 or wider.
      weight_decay: As in `add_decayed_weights`, per step and unit of learning rate.
      mask: Where to decay, as in `masked`; None is everywhere.
      nesterov: Whether to look ahead; False is AdamW.
      nu_dtype: Dtype in which nu is kept; None is float32 or wider.

    Returns:
      A transformation. State: as `adamw`.

    Raises:
      ValueError: As in `adamw`.
      TypeError: As in `adamw`.

    Example:
      >>> tx = adamx.nadamw(0.1, weight_decay=1.0)
      >>> params = jnp.array([1.0])
      >>> updates, _ = tx.update(jnp.array([0.3]), tx.init(params), params)
      >>> print(f"{updates[0]:.4f}")
      -0.2474

    Reference: Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    return adamw(
        learning_rate,
        b1,
        b2,
        eps,
        eps_root,
        mu_dtype,
        weight_decay,
        mask,
        nesterov=nesterov,
        nu_dtype=nu_dtype,
    )
