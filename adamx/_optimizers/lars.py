"""LARS: You, Gitman & Ginsburg, 2017, https://arxiv.org/abs/1708.03888."""

from typing import Any

from adamx._base import GradientTransformation, MaskOrFn, Scalar, ScalarOrSchedule
from adamx._chain import chain
from adamx._masking import masked_as
from adamx._transforms.decay import add_decayed_weights
from adamx._transforms.moments import trace
from adamx._transforms.scale import scale_by_learning_rate
from adamx._transforms.trust import scale_by_trust_ratio


def lars(
    learning_rate: ScalarOrSchedule,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: MaskOrFn = True,
    trust_coefficient: Scalar = 0.001,
    eps: Scalar = 0.0,
    trust_ratio_mask: MaskOrFn = True,
    momentum: Scalar = 0.9,
    nesterov: bool = False,
    *,
    accumulator_dtype: Any = None,
) -> GradientTransformation:
    """Makes LARS, momentum of steps that are a share of the parameters, leaf by leaf.

        r = g + weight_decay·p
        r = r·trust_coefficient·‖p‖ / (‖r‖ + eps),   r as it is where a norm is 0
        trace = -learning_rate·r + momentum·trace
        u = trace        (nesterov: -learning_rate·r + momentum·trace)

    The learning rate is inside the momentum: lowered, it leaves past steps as they are.

    Args:
      learning_rate: As in `scale_by_learning_rate`.
      weight_decay: As in `add_decayed_weights`, in units of the gradient.
      weight_decay_mask: Where to decay, as in `masked`; True is everywhere.
      trust_coefficient: A step in units of learning_rate·‖p‖, in [0, ∞).
      eps: Added to the norm of r, in units of the gradient; in [0, ∞).
      trust_ratio_mask: Where to scale to the parameters, as in `masked`; elsewhere, as
        biases and norms like it, this is SGD.
      momentum: Per step, in [0, 1], as the decay of `trace`.
      nesterov: Whether to look ahead.
      accumulator_dtype: As in `trace`.

    Returns:
      A transformation. State: `(MaskedState, MaskedState, EmptyState, TraceState)`, the
      third `ScaleByScheduleState` with a schedule.

    Raises:
      ValueError: As in `add_decayed_weights`, `masked`, `scale_by_trust_ratio`,
        `scale_by_learning_rate` and `trace`.
      TypeError: As in these.

    Differs from the paper: like Optax it divides by ‖g + weight_decay·p‖, the paper by
      ‖g‖ + weight_decay·‖p‖, which is no less.

    Example:
      >>> tx = adamx.lars(0.1, trust_coefficient=1.0)
      >>> params = jnp.array([3.0, 4.0])
      >>> print(tx.update(jnp.array([0.0, 7.0]), tx.init(params), params)[0])
      [ 0.  -0.5]

    Reference: You, Gitman & Ginsburg, 2017, Algorithm 1,
      https://arxiv.org/abs/1708.03888
    """
    trust = scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps)
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        masked_as("lars", trust, trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov, accumulator_dtype),
    )
