"""Stochastic gradient descent, with momentum and Nesterov's."""

from typing import Any

from adamx._base import (
    GradientTransformation,
    MaskOrFn,
    Scalar,
    ScalarOrSchedule,
    check_flag,
    identity,
)
from adamx._chain import chain
from adamx._transforms.decay import descent
from adamx._transforms.moments import trace


def sgd(
    learning_rate: ScalarOrSchedule,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
    *,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes stochastic gradient descent.

        trace = g + momentum·trace
        u = -learning_rate·trace        (nesterov: -learning_rate·(g + momentum·trace))

    without momentum u = -learning_rate·g; with weight decay -learning_rate·(... +
    weight_decay·p). L2 regularization, which goes through the trace:
    `chain(add_decayed_weights(weight_decay), sgd(...))`.

    Args:
      learning_rate: As in `scale_by_learning_rate`, in units of params per gradient.
      momentum: Decay of the trace, in [0, 1]; None is no trace.
      nesterov: Whether to look ahead; only with momentum.
      accumulator_dtype: As in `trace`.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(TraceState, EmptyState)`; `EmptyState` first without
      momentum, `ScaleByScheduleState` last with a schedule, and the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `trace`, `add_decayed_weights` and `scale_by_learning_rate`; or
        a mask without weight decay.
      TypeError: As in these.

    Example:
      >>> tx = adamx.sgd(0.1, momentum=0.9)
      >>> print(tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))[0])
      [-0.2]

    Reference: Robbins & Monro, 1951; Polyak, 1964; Sutskever et al., 2013.
    """
    check_flag("sgd", "nesterov", nesterov)
    return chain(
        identity()
        if momentum is None
        else trace(momentum, nesterov, accumulator_dtype),
        *descent("sgd", learning_rate, weight_decay, mask),
    )
