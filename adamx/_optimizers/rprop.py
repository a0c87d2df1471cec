"""Rprop: Riedmiller & Braun, 1993; the step without going back: Igel & Hüsken, 2003."""

from typing import NamedTuple

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_in,
    is_number,
)
from adamx._chain import chain
from adamx._numerics import cast, hyperparameter, times
from adamx._stateful import Moment, stateful
from adamx._transforms.decay import descent
from adamx._tree import require_real


class ScaleByRpropState(NamedTuple):
    """State of `scale_by_rprop`."""

    step_sizes: Updates  # like params; the size of the next step of each element
    prev_updates: Updates  # like params; the last u


def scale_by_rprop(
    learning_rate: Scalar,
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    min_step_size: Scalar = 1e-6,
    max_step_size: Scalar = 50.0,
) -> GradientTransformation:
    """Scales updates to step sizes that adapt to the signs of the gradient.

        s = sign(g)·sign(prev_updates)
        step_sizes = step_sizes·(eta_plus where s > 0, eta_minus where s < 0),
                     within [min_step_size, max_step_size], as it was where s = 0
        u = step_sizes·sign(g) where s ≥ 0, else 0
        prev_updates = u

    Where the sign changes, the step shrinks and nothing moves, so that the next step
    counts as the first in its direction (iRprop−). For gradients of the whole data:
    the noise of a batch shrinks all steps.

    Args:
      learning_rate: The first step size, in [min_step_size, max_step_size].
      eta_minus: Factor of the step size where the sign changes, in (0, 1].
      eta_plus: Factor of the step size where it stays, in [1, ∞).
      min_step_size: In [0, ∞), in units of the parameters.
      max_step_size: In (0, ∞), in units of the parameters.

    Returns:
      A transformation. State: `ScaleByRpropState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter that is not real.

    Differs from Optax: the step is that of this gradient; Optax takes that of the
      gradient before, so that its first update is 0. No product of a gradient and a
      step, which underflows, decides about a sign.

    Example:
      >>> tx = adamx.scale_by_rprop(0.1)
      >>> g, state = jnp.array([3.0, -0.2]), tx.init(jnp.zeros(2))
      >>> u, state = tx.update(g, state)
      >>> print(u, tx.update(g, state)[0])
      [ 0.1 -0.1] [ 0.12 -0.12]

    Reference: Riedmiller & Braun, 1993, https://doi.org/10.1109/ICNN.1993.298623;
      Igel & Hüsken, 2003, https://doi.org/10.1016/S0925-2312(01)00700-7
    """
    who = "scale_by_rprop"
    check_in(who, "min_step_size", min_step_size, "[0, inf)")
    check_in(who, "max_step_size", max_step_size, "(0, inf)")
    check_in(who, "eta_minus", eta_minus, "(0, 1]")
    check_in(who, "eta_plus", eta_plus, "[1, inf)")
    interval = "[0, inf)"
    if is_number(min_step_size) and is_number(max_step_size):
        interval = f"[{min_step_size}, {max_step_size}]"
    check_in(who, "learning_rate", learning_rate, interval)
    eta_minus, eta_plus = hyperparameter(eta_minus), hyperparameter(eta_plus)
    least, most = hyperparameter(min_step_size), hyperparameter(max_step_size)

    def leaf(g: Array, size: Array, last: Array) -> tuple[Array, Array, Array]:
        now = jnp.sign(g)
        s = now * jnp.sign(last)
        moved = jnp.where(s > 0, times(size, eta_plus), times(size, eta_minus))
        moved = jnp.clip(moved, cast(least, size), cast(most, size))
        size = jnp.where(s == 0, size, moved)
        u = jnp.where(s < 0, 0, size * now)
        return u, size, u

    return stateful(
        who,
        ScaleByRpropState,
        leaf,
        check=require_real,
        step_sizes=Moment(fill=hyperparameter(learning_rate)),
        prev_updates=Moment(),
    )


def rprop(
    learning_rate: Scalar,
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    min_step_size: Scalar = 1e-6,
    max_step_size: Scalar = 50.0,
    *,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes Rprop: u = -step_sizes·sign(g), or 0 where the sign of g has changed.

    With weight decay -(... + weight_decay·p), which no learning rate scales.

    Args:
      learning_rate: As in `scale_by_rprop`, like all up to `max_step_size`; the first
        step size.
      eta_minus: In (0, 1].
      eta_plus: In [1, ∞).
      min_step_size: In [0, ∞).
      max_step_size: In (0, ∞).
      weight_decay: As in `add_decayed_weights`, the share of p per step; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByRpropState, EmptyState)`, with the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_rprop` and `add_decayed_weights`; or a mask without
        weight decay.
      TypeError: As in these.

    Differs from Optax: as `scale_by_rprop`.

    Example:
      >>> tx = adamx.rprop(0.1)
      >>> print(tx.update(jnp.array([3.0, -0.2]), tx.init(jnp.zeros(2)))[0])
      [-0.1  0.1]

    Reference: Riedmiller & Braun, 1993, https://doi.org/10.1109/ICNN.1993.298623;
      Igel & Hüsken, 2003, https://doi.org/10.1016/S0925-2312(01)00700-7
    """
    return chain(
        scale_by_rprop(
            learning_rate, eta_minus, eta_plus, min_step_size, max_step_size
        ),
        *descent("rprop", None, weight_decay, mask),
    )
