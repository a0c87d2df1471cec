"""LAMB: You et al., 2020, https://arxiv.org/abs/1904.00962."""

from typing import Any

from adamx._base import GradientTransformation, MaskOrFn, Scalar, ScalarOrSchedule
from adamx._chain import chain
from adamx._optimizers.adam import scale_by_adam
from adamx._transforms.decay import add_decayed_weights
from adamx._transforms.scale import scale_by_learning_rate
from adamx._transforms.trust import scale_by_trust_ratio


def lamb(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: MaskOrFn | None = None,
    *,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Makes LAMB, AdamW whose step is a share of the parameters, leaf by leaf.

        r = (mu / c1) / (√(nu / c2 + eps_root) + eps) + weight_decay·p
        u = -learning_rate·(‖p‖ / ‖r‖)·r,   ‖p‖ / ‖r‖ = 1 where a norm is 0

    A leaf moves by the norm learning_rate·‖p‖. For large batches. The paper may also
    bound ‖p‖; to limit gradients as it does, chain `clip_by_global_norm(1.0)` before.

    Args:
      learning_rate: As in `scale_by_learning_rate`; the share of ‖p‖ that is a step.
      b1: As in `scale_by_adam`, like all up to `eps_root`.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      weight_decay: As in `add_decayed_weights`, in units of the direction.
      mask: Where to decay, as in `masked`; None is everywhere.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `(ScaleByAdamState, EmptyState, EmptyState, EmptyState)`,
      the parts of `add_decayed_weights`, `scale_by_trust_ratio` and
      `scale_by_learning_rate` last.

    Raises:
      ValueError: As in the four blocks.
      TypeError: As in the four blocks.

    Example:
      >>> tx = adamx.lamb(0.1)
      >>> params = jnp.array([3.0, 4.0])
      >>> updates, state = tx.update(jnp.array([7.0, 7.0]), tx.init(params), params)
      >>> print(updates.round(4), jnp.linalg.norm(updates).round(4))
      [-0.3536 -0.3536] 0.5

    Reference: You et al., 2020, Algorithm 2, https://arxiv.org/abs/1904.00962
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nu_dtype=nu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )
