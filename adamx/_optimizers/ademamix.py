"""AdEMAMix: Pagliardini, Ablin & Grangier, 2024, https://arxiv.org/abs/2409.03137."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_all,
    check_scalar_or_schedule,
)
from adamx._chain import chain
from adamx._numerics import (
    capped_sq,
    cast,
    complement,
    hyperparameter,
    increment,
    is_zero,
    lerp,
    one_minus_power,
    ratio,
    safe_sqrt,
    split,
    times,
)
from adamx._rounding import storage_of
from adamx._stateful import Moment, mu_and_nu, stateful
from adamx._transforms.decay import descent
from adamx._transforms.scale import schedule_value


class ScaleByAdemamixState(NamedTuple):
    """State of `scale_by_ademamix`."""

    count: Array  # i32[]; updates applied so far
    count_m2: Array  # i32[]; the same, of which b3 and alpha are functions
    m1: Updates  # like params; fast running mean of g
    m2: Updates  # like params; slow running mean of g
    nu: Updates  # like params, real; running mean of |g|²


def scale_by_ademamix(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 6.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by Adam's ratio with a fast and a slow mean in its numerator.

        m1 = m1 + (1 - b1)·(g - m1)            c1 = 1 - b1^t,   t = count + 1
        m2 = m2 + (1 - b3)·(g - m2)            c2 = 1 - b2^t
        nu = nu + (1 - b2)·(|g|² - nu)
        u  = (m1 / c1 + alpha·m2) / (√(nu / c2 + eps_root) + eps)

    m2 is not corrected for its start at zero: it fills slowly, over 1 / (1 - b3) steps.

    Args:
      b1: Decay of m1 per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      b3: Decay of m2 per step, in [0, 1), or a schedule of count_m2 such as
        `ademamix_b3_schedule`. It is called with x64 on, so that 1 - b3 keeps its
        digits near 1.
      alpha: Weight of m2, in [0, ∞), or a schedule such as `ademamix_alpha_schedule`.
      eps: Added to the root, in units of the gradient; in [0, ∞).
      eps_root: Added inside the root, in units of the gradient squared; in [0, ∞).
      mu_dtype: Dtype in which m1 and m2 are kept, or a `Storage`; None is float32 or
        wider. In bfloat16 each is rounded stochastically where 1 - b ≤ 0.02, else to
        the nearest.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `ScaleByAdemamixState`, three arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at init, a schedule that gives no scalar;
        at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: as `scale_by_adam`; `mu_dtype` leaves nu in float32, and
      the dtypes of the state stay as init made them.

    Example:
      >>> tx = adamx.scale_by_ademamix()
      >>> print(tx.update(jnp.array([-0.5]), tx.init(jnp.zeros(1)))[0].round(4))
      [-1.0006]

    Reference: Pagliardini, Ablin & Grangier, 2024, Algorithm 1,
      https://arxiv.org/abs/2409.03137
    """
    who = "scale_by_ademamix"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_scalar_or_schedule(who, "b3", b3, "[0, 1)")
    check_scalar_or_schedule(who, "alpha", alpha, "[0, inf)")
    check_all(who, "[0, inf)", eps=eps, eps_root=eps_root)
    w1, w2 = complement(b1), complement(b2)
    m1, nu = mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)
    eps, eps_root = hyperparameter(eps), hyperparameter(eps_root)
    constant = None if callable(b3) else complement(b3)
    m2 = Moment(storage_of(who, "mu_dtype", mu_dtype, constant))

    def value(x: ScalarOrSchedule, count: Any) -> Any:
        return schedule_value(who, x, count) if callable(x) else x

    def check(who: str, params: Params) -> None:
        del params
        for x in (b3, alpha):
            value(x, np.int32(0))

    def corrections(count: Array, count_m2: Array) -> tuple[Any, ...]:
        # u times c1 / c1, so that the corrections are scalars.
        t = increment(count)
        c1, c2 = one_minus_power(w1, t), one_minus_power(w2, t)
        w3 = complement(value(b3, count_m2))
        weight = hyperparameter(value(alpha, count_m2)) * c1
        return split(w3, weight, c1 / jnp.sqrt(c2), c1 * eps, c2 * eps_root)

    def leaf(
        g: Array,
        m1: Array,
        m2: Array,
        nu: Array,
        w3: Any,
        weight: Any,
        factor: Any,
        floor: Any,
        offset: Any,
    ) -> tuple[Any, ...]:
        def u(m1: Array, m2: Array, nu: Array) -> Array:
            a = nu if is_zero(eps_root) else nu + cast(offset, nu)
            root = times(safe_sqrt(a), factor) + cast(floor, a)
            return ratio(m1 + times(m2, weight), root, eps)

        m2 = lerp(m2, g, w3 if constant is None else constant)
        return u, lerp(m1, g, w1), m2, lerp(nu, capped_sq(g), w2)

    return stateful(
        who, ScaleByAdemamixState, leaf, corrections, check=check, m1=m1, m2=m2, nu=nu
    )


def ademamix(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 5.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: MaskOrFn | None = None,
    *,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Makes AdEMAMix, AdamW with a second, much longer memory of gradients.

        u = -learning_rate·((m1 / c1 + alpha·m2) / (√(nu / c2 + eps_root) + eps)
                            + weight_decay·p)

    Over T steps the authors warm up both of what m2 adds:
    `b3=ademamix_b3_schedule(0.9999, T), alpha=ademamix_alpha_schedule(5.0, T)`.

    Args:
      learning_rate: As in `scale_by_learning_rate`; a step is up to 1 + alpha times as
        large.
      b1: As in `scale_by_ademamix`, like all up to `mu_dtype`.
      b2: In [0, 1).
      b3: In [0, 1), or a schedule.
      alpha: In [0, ∞), or a schedule.
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      mu_dtype: Dtype in which m1 and m2 are kept, or a `Storage`; None is float32 or
        wider.
      weight_decay: As in `adamw`, per step and unit of learning rate.
      mask: Where to decay, as in `masked`; None is everywhere.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `(ScaleByAdemamixState, EmptyState, EmptyState)`, the
      parts of `add_decayed_weights` and `scale_by_learning_rate` last.

    Raises:
      ValueError: As in `scale_by_ademamix`, `add_decayed_weights` and
        `scale_by_learning_rate`.
      TypeError: As in these.

    Differs from Optax: as `scale_by_ademamix`.

    Example:
      >>> tx = adamx.ademamix(0.1, alpha=adamx.ademamix_alpha_schedule(5.0, 1000))
      >>> params = jnp.array([1.0])
      >>> updates, state = tx.update(jnp.array([0.3]), tx.init(params), params)
      >>> print(adamx.apply_updates(params, updates).round(6))
      [0.9]

    Reference: Pagliardini, Ablin & Grangier, 2024, Algorithm 1,
      https://arxiv.org/abs/2409.03137
    """
    return chain(
        scale_by_ademamix(
            b1, b2, b3, alpha, eps, eps_root, mu_dtype, nu_dtype=nu_dtype
        ),
        *descent("ademamix", learning_rate, weight_decay, mask),
    )
