"""MARS: Yuan, Liu, Wu, Zhou & Gu, 2024, https://arxiv.org/abs/2411.10438."""

from typing import Any, NamedTuple

import jax
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
from adamx._numerics import (
    capped_sq,
    cast,
    complement,
    float64,
    hyperparameter,
    increment,
    lerp,
    one_minus_power,
    quotient,
    ratio,
    safe_sqrt,
    split,
    times,
    unit_norm,
)
from adamx._rounding import storage_of
from adamx._stateful import Moment, stateful
from adamx._transforms.decay import descent


class ScaleByMarsState(NamedTuple):
    """State of `scale_by_mars`."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; running mean of the corrected g
    nu: Updates  # like params, real; running mean of the corrected |g|²
    last: Updates  # like params; the last g


def scale_by_mars(
    b1: Scalar = 0.95,
    b2: Scalar = 0.99,
    gamma: Scalar = 0.025,
    eps: Scalar = 1e-8,
    mu_dtype: Any = None,
    *,
    optimize_1d: bool = False,
    b1_1d: Scalar = 0.9,
    b2_1d: Scalar = 0.95,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by Adam's ratio after a correction that reduces their variance.

        x  = g + gamma·b1 / (1 - b1)·(g - last)        last = 0 in the first step
        x  = x / max(1, ‖x‖), the norm of one array
        mu = mu + (1 - b1)·(x - mu)            c1 = 1 - b1^t,   t = count + 1
        nu = nu + (1 - b2)·(|x|² - nu)         c2 = 1 - b2^t
        u  = (mu / c1) / (√(nu / c2) + eps)

    Arrays of rank 0 and 1 are not corrected: x = g, with b1_1d and b2_1d. `last` is the
    gradient of the batch before, as in the form that the authors use (MARS-approx).

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      gamma: Weight of the correction, in [0, ∞); 1 is that of STORM, 0 none.
      eps: Added to the root, in units of x; in [0, ∞).
      mu_dtype: Dtype in which mu and last are kept, or a `Storage`; None is float32 or
        wider.
      optimize_1d: Whether to treat arrays of rank 0 and 1 like the others.
      b1_1d: The b1 of arrays of rank 0 and 1, in [0, 1).
      b2_1d: The b2 of arrays of rank 0 and 1, in [0, 1).
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider. In
        bfloat16 it is rounded stochastically where 1 - b2 ≤ 0.02, else to the nearest.

    Returns:
      A transformation. State: `ScaleByMarsState`, three arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from the authors' code: that corrects arrays of rank 2 only.

    Example:
      >>> tx = adamx.scale_by_mars()
      >>> g = jnp.array([[30.0, -40.0]])
      >>> print(tx.update(g, tx.init(g))[1].mu.round(3))
      [[ 0.03 -0.04]]

    Reference: Yuan, Liu, Wu, Zhou & Gu, 2024 (MARS-AdamW),
      https://arxiv.org/abs/2411.10438
    """
    who = "scale_by_mars"
    check_all(who, "[0, 1)", b1=b1, b2=b2, b1_1d=b1_1d, b2_1d=b2_1d)
    check_all(who, "[0, inf)", gamma=gamma, eps=eps)
    check_flag(who, "optimize_1d", optimize_1d)
    eps = hyperparameter(eps)
    with float64():
        weight = hyperparameter(gamma) * hyperparameter(b1) / complement(b1)
    corrected = complement(b1), complement(b2)
    plain = complement(b1_1d), complement(b2_1d)
    (w1, w2), (w1_1d, w2_1d) = corrected, plain
    mu = Moment(storage_of(who, "mu_dtype", mu_dtype, w1, w1_1d))
    nu = Moment(storage_of(who, "nu_dtype", nu_dtype, w2, w2_1d, real=True), real=True)
    last = Moment(storage_of(who, "mu_dtype", mu_dtype))

    def corrections(count: Array) -> tuple[Any, ...]:
        # As in `scale_by_adam`, the corrections are folded into scalars.
        t = increment(count)
        folded = []
        for w1, w2 in (corrected, plain):
            c1, c2 = one_minus_power(w1, t), one_minus_power(w2, t)
            folded.append(split(c1 / jnp.sqrt(c2), c1 * eps))
        return tuple(folded)

    def leaf(
        g: Array,
        mu: Array,
        nu: Array,
        last: Array,
        of_corrected: Any,
        of_plain: Any,
        correct: bool,
    ) -> tuple[Any, ...]:
        w1, w2 = corrected if correct else plain
        factor, floor = of_corrected if correct else of_plain

        def u(mu: Array, nu: Array, last: Array) -> Array:
            del last
            return ratio(mu, times(safe_sqrt(nu), factor) + cast(floor, nu), eps)

        if correct:
            x = g + times(g - last, weight)
            x = quotient(x, jnp.maximum(unit_norm(x), 1))
        else:
            x = g
        return u, lerp(mu, x, w1), lerp(nu, capped_sq(x), w2), g

    def plans(updates: Updates) -> list[bool]:
        return [optimize_1d or jnp.ndim(g) >= 2 for g in jax.tree.leaves(updates)]

    return stateful(
        who, ScaleByMarsState, leaf, corrections, mu=mu, nu=nu, last=last, plans=plans
    )


def mars(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.95,
    b2: Scalar = 0.99,
    gamma: Scalar = 0.025,
    eps: Scalar = 1e-8,
    mu_dtype: Any = None,
    *,
    optimize_1d: bool = False,
    b1_1d: Scalar = 0.9,
    b2_1d: Scalar = 0.95,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes MARS-AdamW, Adam of gradients with less variance.

        u = -learning_rate·(mu / c1) / (√(nu / c2) + eps)

    with mu and nu the means of x and |x|², g corrected by its difference from the last;
    with weight decay -learning_rate·(... + weight_decay·p).

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_mars`, like all up to `nu_dtype`.
      b2: In [0, 1).
      gamma: In [0, ∞).
      eps: In [0, ∞).
      mu_dtype: Dtype in which mu and last are kept, or a `Storage`; None is float32 or
        wider.
      optimize_1d: Whether to treat arrays of rank 0 and 1 like the others.
      b1_1d: The b1 of arrays of rank 0 and 1, in [0, 1).
      b2_1d: The b2 of arrays of rank 0 and 1, in [0, 1).
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByMarsState, EmptyState)`, with the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_mars`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Differs from the authors' code: as `scale_by_mars`; learning rate and weight decay
      of arrays of rank 0 and 1 are not others, for which there is `partition`.

    Example:
      >>> tx = adamx.mars(0.1)
      >>> print(tx.update(jnp.array([[-0.5]]), tx.init(jnp.zeros((1, 1))))[0])
      [[0.1]]

    Reference: Yuan, Liu, Wu, Zhou & Gu, 2024 (MARS-AdamW),
      https://arxiv.org/abs/2411.10438
    """
    return chain(
        scale_by_mars(
            b1,
            b2,
            gamma,
            eps,
            mu_dtype,
            optimize_1d=optimize_1d,
            b1_1d=b1_1d,
            b2_1d=b2_1d,
            nu_dtype=nu_dtype,
        ),
        *descent("mars", learning_rate, weight_decay, mask),
    )
