"""Schedules that begin with a warm-up."""

from adamx._base import Scalar, Schedule, check_in, is_number
from adamx._schedules.decay import exponential_decay
from adamx._schedules.interpolate import Steps, check_finite, cosine, transition, whole
from adamx._schedules.join import join_schedules


def warmup_constant_schedule(
    init_value: Scalar, peak_value: Scalar, warmup_steps: Steps
) -> Schedule:
    """Rises on a straight line, then stays.

        value = init_value + (peak_value - init_value)·min(count / warmup_steps, 1)

    Args:
      init_value: Value at count 0; any finite number. 0 wastes the first step.
      peak_value: Value from `warmup_steps` on; any finite number.
      warmup_steps: Length of the warm-up in steps, ≥ 0; 0 is none.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Differs from Optax: without a warm-up the value is `peak_value`, not `init_value`.

    Example:
      >>> schedule = adamx.warmup_constant_schedule(0.0, 1.0, warmup_steps=4)
      >>> print(schedule(jnp.arange(6)))
      [0.   0.25 0.5  0.75 1.   1.  ]

    Reference: Goyal et al., 2017, Sec. 2.2, https://arxiv.org/abs/1706.02677
    """
    who = "warmup_constant_schedule"
    check_finite(who, init_value=init_value, peak_value=peak_value)
    warmup = whole(who, "warmup_steps", warmup_steps, "[0, inf)")
    return transition(init_value, peak_value, warmup)


def warmup_cosine_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: Steps,
    decay_steps: Steps,
    end_value: Scalar = 0.0,
    exponent: Scalar = 1.0,
) -> Schedule:
    """Rises on a straight line, then decays on half a wave of the cosine.

        count ≤ warmup_steps   as `warmup_constant_schedule`
        after                  as `cosine_decay_schedule`, at count - warmup_steps, in
                               decay_steps - warmup_steps steps, alpha = end / peak

    Args:
      init_value: Value at count 0; any finite number. 0 wastes the first step.
      peak_value: Value at `warmup_steps`; any finite number.
      warmup_steps: Length of the warm-up in steps, ≥ 0; 0 is none.
      decay_steps: Length of the whole in steps, **warm-up included**; > `warmup_steps`.
      end_value: Value from `decay_steps` on; any finite number.
      exponent: Exponent of the wave, > 0.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.

    Differs from Optax: `end_value` is reached also where `peak_value` is 0.

    Example:
      >>> schedule = adamx.warmup_cosine_decay_schedule(0.0, 1.0, 2, decay_steps=6)
      >>> print(*[f"{schedule(count):.2f}" for count in range(7)])
      0.00 0.50 1.00 0.85 0.50 0.15 0.00

    Reference: Goyal et al., 2017, Sec. 2.2, https://arxiv.org/abs/1706.02677;
      Loshchilov & Hutter, 2017, Eq. 5, https://arxiv.org/abs/1608.03983
    """
    who = "warmup_cosine_decay_schedule"
    check_finite(who, init_value=init_value, peak_value=peak_value, end_value=end_value)
    warmup = whole(who, "warmup_steps", warmup_steps, "[0, inf)")
    longer = f"({warmup if is_number(warmup) else 0}, inf)"
    steps = whole(who, "decay_steps", decay_steps, longer) - warmup
    check_in(who, "exponent", exponent, "(0, inf)")
    rise = transition(init_value, peak_value, warmup)
    decay = transition(peak_value, end_value, steps, shape=cosine, power=exponent)
    return join_schedules([rise, decay], [warmup])


def warmup_exponential_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: Steps,
    transition_steps: Steps,
    decay_rate: Scalar,
    transition_begin: Steps = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> Schedule:
    """Rises on a straight line, then decays exponentially.

        count ≤ warmup_steps   as `warmup_constant_schedule`
        after                  as `exponential_decay`, at count - warmup_steps

    Args:
      init_value: Value at count 0; any finite number. 0 wastes the first step.
      peak_value: Value at `warmup_steps`; any finite number.
      warmup_steps: Length of the warm-up in steps, ≥ 0; 0 is none.
      transition_steps: Steps in which the value is multiplied by the rate once, ≥ 1.
      decay_rate: Factor, > 0; the value grows where it is above 1.
      transition_begin: Steps between the warm-up and the decay, ≥ 0.
      staircase: Whether to multiply every `transition_steps` steps, at once.
      end_value: Limit, from below if `decay_rate` < 1, else from above; None is none.

    Returns:
      A schedule: count i32[] -> f32[].

    Raises:
      ValueError: A number is out of its range.
      TypeError: `staircase` is not a bool.

    Example:
      >>> schedule = adamx.warmup_exponential_decay_schedule(0.0, 1.0, 2, 1, 0.5)
      >>> print(schedule(jnp.arange(5)))
      [0.   0.5  1.   0.5  0.25]

    Reference: Goyal et al., 2017, Sec. 2.2, https://arxiv.org/abs/1706.02677
    """
    who = "warmup_exponential_decay_schedule"
    check_finite(who, init_value=init_value, peak_value=peak_value)
    warmup = whole(who, "warmup_steps", warmup_steps, "[0, inf)")
    rise = transition(init_value, peak_value, warmup)
    decay = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return join_schedules([rise, decay], [warmup])
