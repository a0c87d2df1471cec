"""Adan: Xie, Zhou, Li, Lin & Yan, 2022, https://arxiv.org/abs/2208.06677."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_all,
    check_flag,
)
from adamx._chain import chain
from adamx._masking import masked_as
from adamx._numerics import (
    capped_sq,
    cast,
    complement,
    float64,
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
from adamx._stateful import Moment, stateful
from adamx._transforms.decay import descent
from adamx._transforms.scale import scale, scale_by_schedule, value_at


class ScaleByAdanState(NamedTuple):
    """State of `scale_by_adan`."""

    m: Updates  # like params; running mean of g
    v: Updates  # like params; running mean of d, how g changes
    n: Updates  # like params, real; running mean of |g + b2·d|²
    g: Updates  # like params; the last g
    t: Array  # i32[]; updates applied so far


def scale_by_adan(
    b1: Scalar = 0.98,
    b2: Scalar = 0.92,
    b3: Scalar = 0.99,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by Adan's ratio, whose numerator looks ahead by a difference.

        d = g - g_last        (0 in the first step)
        m = m + (1 - b1)·(g - m)                       c1 = 1 - b1^t,   t = count + 1
        v = v + (1 - b2)·(d - v)                       c2 = 1 - b2^t
        n = n + (1 - b3)·(|g + b2·d|² - n)             c3 = 1 - b3^t
        u = (m / c1 + b2·v / c2) / (√(n / c3 + eps_root) + eps)

    The decays are one minus those of the paper, as in the authors' code.

    Args:
      b1: Decay of m per step, in [0, 1); its horizon is about 1 / (1 - b1) steps.
      b2: Decay of v per step, in [0, 1), and the weight of d.
      b3: Decay of n per step, in [0, 1).
      eps: Added to the root, in units of the gradient; in [0, ∞).
      eps_root: Added inside the root, in units of the gradient squared; in [0, ∞).
      mu_dtype: Dtype in which m, v and g_last are kept, or a `Storage`; None is float32
        or wider. In bfloat16 a mean is rounded stochastically where 1 - b ≤ 0.02, else
        to the nearest.
      nu_dtype: Dtype in which n is kept, like m; real.

    Returns:
      A transformation. State: `ScaleByAdanState`, four arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: d is weighted by b2 = 0.92, as by the authors, and not by
      1 - b2; 16-bit parameters get float32 moments; 1 - b^t is exact.

    Example:
      >>> tx = adamx.scale_by_adan()
      >>> print(tx.update(jnp.array([-0.5]), tx.init(jnp.zeros(1)))[0].round(6))
      [-1.]

    Reference: Xie, Zhou, Li, Lin & Yan, 2022, Algorithm 1,
      https://arxiv.org/abs/2208.06677
    """
    who = "scale_by_adan"
    check_all(who, "[0, 1)", b1=b1, b2=b2, b3=b3)
    check_all(who, "[0, inf)", eps=eps, eps_root=eps_root)
    w1, w2, w3 = complement(b1), complement(b2), complement(b3)
    b2, eps, eps_root = map(hyperparameter, (b2, eps, eps_root))

    def corrections(count: Array) -> tuple[Any, ...]:
        # u times c1 / c1, so that the corrections are scalars.
        t = increment(count)
        c1, c2, c3 = (one_minus_power(w, t) for w in (w1, w2, w3))
        ahead = b2 * c1 / c2
        folded = split(ahead, c1 / jnp.sqrt(c3), c1 * eps, c3 * eps_root)
        return count == 0, *folded

    def leaf(
        g: Array,
        m: Array,
        v: Array,
        n: Array,
        last: Array,
        first: Array,
        ahead: Any,
        factor: Any,
        floor: Any,
        offset: Any,
    ) -> tuple[Any, ...]:
        def u(m: Array, v: Array, n: Array, last: Array) -> Array:
            del last
            a = n if is_zero(eps_root) else n + cast(offset, n)
            root = times(safe_sqrt(a), factor) + cast(floor, a)
            return ratio(m + times(v, ahead), root, eps)

        d = jnp.where(first, 0, g - last)
        n = lerp(n, capped_sq(g + times(d, b2)), w3)
        return u, lerp(m, g, w1), lerp(v, d, w2), n, g

    m = Moment(storage_of(who, "mu_dtype", mu_dtype, w1))
    v = Moment(storage_of(who, "mu_dtype", mu_dtype, w2))
    n = Moment(storage_of(who, "nu_dtype", nu_dtype, w3, real=True), real=True)
    g = Moment(storage_of(who, "mu_dtype", mu_dtype))
    return stateful(who, ScaleByAdanState, leaf, corrections, m=m, v=v, n=n, g=g)


def adan(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.98,
    b2: Scalar = 0.92,
    b3: Scalar = 0.99,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: MaskOrFn | None = None,
    *,
    proximal: bool = False,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Makes Adan, Nesterov's momentum in Adam without a second gradient.

        u = -learning_rate·((m / c1 + b2·v / c2) / (√(n / c3 + eps_root) + eps)
                            + weight_decay·p)

    proximal: u / (1 + learning_rate·weight_decay), so that the parameters become
    (p - learning_rate·...) / (1 + learning_rate·weight_decay).

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_adan`, like all up to `eps_root`.
      b2: In [0, 1).
      b3: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞); the authors have 0.
      weight_decay: As in `adamw`, per step and unit of learning rate.
      mask: Where to decay, as in `masked`; None is everywhere.
      proximal: Whether to decay the new parameters implicitly, as the paper and, by
        default, the authors' code do; otherwise the old ones, as `adamw` does.
      mu_dtype: As in `scale_by_adan`.
      nu_dtype: As in `scale_by_adan`.

    Returns:
      A transformation. State: `(ScaleByAdanState, EmptyState, EmptyState)`, the parts
      of `add_decayed_weights` and `scale_by_learning_rate` last, with the part of the
      division between them if proximal.

    Raises:
      ValueError: As in `scale_by_adan`, `add_decayed_weights` and
        `scale_by_learning_rate`.
      TypeError: As in these; no flag.

    Differs from Optax: as `scale_by_adan`; and `proximal`.

    Example:
      >>> tx = adamx.adan(0.1, eps_root=0.0, weight_decay=0.5, proximal=True)
      >>> params = jnp.array([1.0])
      >>> updates, state = tx.update(jnp.array([0.3]), tx.init(params), params)
      >>> print(adamx.apply_updates(params, updates) * (1 + 0.1 * 0.5))
      [0.9]

    Reference: Xie, Zhou, Li, Lin & Yan, 2022, Algorithm 1,
      https://arxiv.org/abs/2208.06677
    """
    check_flag("adan", "proximal", proximal)
    decay, step = descent("adan", learning_rate, weight_decay, mask)
    shrink = [shrink_by_decay(learning_rate, weight_decay, mask)] if proximal else []
    ratio_of_means = scale_by_adan(
        b1, b2, b3, eps, eps_root, mu_dtype=mu_dtype, nu_dtype=nu_dtype
    )
    return chain(ratio_of_means, decay, *shrink, step)


def shrink_by_decay(
    learning_rate: ScalarOrSchedule | None,
    weight_decay: ScalarOrSchedule,
    mask: MaskOrFn | None,
) -> GradientTransformation:
    """u = g / (1 + learning_rate·weight_decay) where there is decay.

    For (p - r·g) / (1 + r·w) - p is -r·(g + w·p) / (1 + r·w).
    """
    rate = 1.0 if learning_rate is None else learning_rate

    def factor(count: Any) -> Any:
        with float64():
            r, w = (value_at("adan", x, count) for x in (rate, weight_decay))
            return 1.0 / (1.0 + r * w)

    scheduled = callable(rate) or callable(weight_decay)
    tx = scale_by_schedule(factor) if scheduled else scale(factor(0))
    return tx if mask is None else masked_as("adan", tx, mask)
