"""AdamW: Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101."""

from typing import Any

from adamx._base import GradientTransformation, MaskOrFn, Scalar, ScalarOrSchedule
from adamx._chain import chain
from adamx._optimizers.adam import scale_by_adam
from adamx._transforms.decay import descent


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: MaskOrFn | None = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Makes AdamW, Adam with decoupled weight decay.

        u = -learning_rate·((mu / c1) / (√(nu / c2 + eps_root) + eps) + weight_decay·p)

    The decay of a step is learning_rate·weight_decay; `independent_weight_decay` and
    `corrected_weight_decay` make other rules, `add_decayed_weights(cautious=True)` in
    a chain of your own another.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_adam`, like all up to `mu_dtype`.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: As in `add_decayed_weights`, per step and unit of learning rate.
      mask: Where to decay, as in `masked`; None is everywhere.
      nesterov: Whether to look ahead, as in `scale_by_adam`.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `(ScaleByAdamState, EmptyState, EmptyState)`, the parts
      of `add_decayed_weights` and `scale_by_learning_rate` last.

    Raises:
      ValueError: As in the three blocks.
      TypeError: As in the three blocks.

    Differs from PyTorch: weight_decay is 1e-4, not 1e-2; and the decay is not lost to
      rounding where learning_rate·weight_decay is small (PyTorch's is 0 at 1e-8).

    Example:
      >>> tx = adamx.adamw(0.1, weight_decay=0.5)
      >>> params = jnp.array([1.0])
      >>> print(tx.update(jnp.array([0.3]), tx.init(params), params)[0])
      [-0.15]

    Reference: Loshchilov & Hutter, 2019, Algorithm 2, https://arxiv.org/abs/1711.05101
    """
    return chain(
        scale_by_adam(
            b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, nu_dtype=nu_dtype
        ),
        *descent("adamw", learning_rate, weight_decay, mask),
    )
