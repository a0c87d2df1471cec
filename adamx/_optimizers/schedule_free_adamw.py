"""Schedule-Free AdamW and SGD: Defazio et al., 2024."""

from typing import Any

from adamx._base import GradientTransformation, MaskOrFn, Scalar, ScalarOrSchedule
from adamx._chain import chain
from adamx._numerics import increment
from adamx._optimizers.rmsprop import scale_by_rms
from adamx._optimizers.schedule_free import schedule_free
from adamx._optimizers.sgd import sgd
from adamx._schedules.warmup import warmup_constant_schedule
from adamx._transforms.decay import add_decayed_weights, descent


def schedule_free_adamw(
    learning_rate: ScalarOrSchedule = 0.0025,
    warmup_steps: int | None = None,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_lr_power: Scalar = 2.0,
    state_dtype: Any = None,
    *,
    mask: MaskOrFn | None = None,
    r: Scalar = 0.0,
    store_x: bool = False,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Makes Schedule-Free AdamW.

        nu = nu + (1 - b2)·(|g|² - nu)
        z  = z - learning_rate·(g / (√(nu / (1 - b2^t)) + eps) + weight_decay·y)

    With x and y as in `schedule_free`; evaluate with `eval_params`. As in the authors'
    optimizer and Optax's, √(1 - b2^t) is no part of the learning rate by which steps
    are weighed; in the authors' simplified reference it is.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step of z.
      warmup_steps: Length of a linear warm-up, learning_rate·min(1, t / warmup_steps)
        with t = 1 in the first step; None is none.
      b1: Weight of x in y, in [0, 1].
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the root, in units of the gradient; in [0, ∞).
      weight_decay: As in `add_decayed_weights`, at y.
      weight_lr_power: As in `schedule_free`, like all that follow.
      state_dtype: Dtype in which z is kept, or a `Storage`; None is float32 or wider.
      mask: Where to decay, as in `masked`; None is everywhere.
      r: In [0, ∞).
      store_x: Whether to keep x.
      nu_dtype: As in `scale_by_adam`.

    Returns:
      A transformation. State: as `schedule_free`, around `ScaleByRmsWithCountState`.

    Raises:
      ValueError: As in `schedule_free`, `scale_by_rms` and `add_decayed_weights`.
      TypeError: As in these; a schedule with warmup_steps.

    Differs from Optax: as `schedule_free`; and the warm-up does not waste a step at 0.

    Example:
      >>> tx = adamx.schedule_free_adamw(0.1)
      >>> params = jnp.array([2.0])
      >>> print(tx.update(jnp.ones(1), tx.init(params), params)[0].round(6))
      [-0.1]

    Reference: Defazio et al., 2024, Algorithm 1 and section 4,
      https://arxiv.org/abs/2405.15682
    """
    who = "schedule_free_adamw"
    rate = warmed_up(who, learning_rate, warmup_steps)
    base = chain(
        scale_by_rms(
            b2, eps, eps_in_sqrt=False, bias_correction=True, nu_dtype=nu_dtype
        ),
        *descent(who, rate, weight_decay, mask),
    )
    return schedule_free(
        base, rate, b1, weight_lr_power, state_dtype, r=r, store_x=store_x
    )


def schedule_free_sgd(
    learning_rate: ScalarOrSchedule = 1.0,
    warmup_steps: int | None = None,
    b1: Scalar = 0.9,
    weight_decay: ScalarOrSchedule | None = None,
    weight_lr_power: Scalar = 2.0,
    state_dtype: Any = None,
    *,
    mask: MaskOrFn | None = None,
    r: Scalar = 0.0,
    store_x: bool = False,
) -> GradientTransformation:
    """Makes Schedule-Free SGD: z = z - learning_rate·(g + weight_decay·y).

    With x and y as in `schedule_free`; evaluate with `eval_params`.

    Args:
      learning_rate: As in `scale_by_learning_rate`, in units of params per gradient.
      warmup_steps: Length of a linear warm-up, learning_rate·min(1, t / warmup_steps)
        with t = 1 in the first step; None is none.
      b1: Weight of x in y, in [0, 1].
      weight_decay: As in `add_decayed_weights`, at y; None is none.
      weight_lr_power: As in `schedule_free`, like all that follow.
      state_dtype: Dtype in which z is kept, or a `Storage`; None is float32 or wider.
      mask: Where to decay, as in `masked`; None is everywhere.
      r: In [0, ∞).
      store_x: Whether to keep x.

    Returns:
      A transformation. State: as `schedule_free`.

    Raises:
      ValueError: As in `schedule_free`; a mask without weight decay.
      TypeError: As in `schedule_free`; a schedule with warmup_steps.

    Differs from Optax: as `schedule_free`; and the warm-up does not waste a step at 0.

    Example:
      >>> tx = adamx.schedule_free_sgd(0.5)
      >>> params = jnp.array([2.0])
      >>> print(tx.update(jnp.ones(1), tx.init(params), params)[0])
      [-0.5]

    Reference: Defazio et al., 2024, Algorithm 1, https://arxiv.org/abs/2405.15682
    """
    who = "schedule_free_sgd"
    rate = warmed_up(who, learning_rate, warmup_steps)
    base = sgd(rate)
    if weight_decay is not None:
        base = chain(add_decayed_weights(weight_decay, mask), base)
    elif mask is not None:
        raise ValueError(
            f"{who}: expected no mask without weight_decay; give weight_decay too."
        )
    return schedule_free(
        base, rate, b1, weight_lr_power, state_dtype, r=r, store_x=store_x
    )


def warmed_up(
    who: str, learning_rate: ScalarOrSchedule, warmup_steps: int | None
) -> ScalarOrSchedule:
    """The learning rate, or learning_rate·min(1, t / warmup_steps)."""
    if warmup_steps is None:
        return learning_rate
    if callable(learning_rate):
        raise TypeError(
            f"{who}: expected learning_rate as a number with warmup_steps, got a "
            "schedule; let it warm up by itself."
        )
    rise = warmup_constant_schedule(0.0, learning_rate, warmup_steps)
    return lambda count: rise(increment(count))
