"""Stochastic gradient descent, with momentum and Nesterov's."""

from typing import Any

from adamx._base import (
    GradientTransformation,
    Scalar,
    ScalarOrSchedule,
    check_flag,
    identity,
)
from adamx._chain import chain
from adamx._transforms.moments import trace
from adamx._transforms.scale import scale_by_learning_rate


def sgd(
    learning_rate: ScalarOrSchedule,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> GradientTransformation:
    """Makes stochastic gradient descent.

        trace = g + momentum·trace
        u = -learning_rate·trace        (nesterov: -learning_rate·(g + momentum·trace))

    without momentum u = -learning_rate·g. With L2 regularization:
    `chain(add_decayed_weights(weight_decay), sgd(...))`.

    Args:
      learning_rate: As in `scale_by_learning_rate`, in units of params per gradient.
      momentum: Decay of the trace, in [0, 1]; None is no trace.
      nesterov: Whether to look ahead; only with momentum.
      accumulator_dtype: Dtype in which the trace is kept; None is float32 or wider.

    Returns:
      A transformation. State: `(TraceState, EmptyState)`; `EmptyState` first without
      momentum, `ScaleByScheduleState` last with a schedule.

    Raises:
      ValueError: As in `trace` and `scale_by_learning_rate`.
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
        scale_by_learning_rate(learning_rate),
    )
