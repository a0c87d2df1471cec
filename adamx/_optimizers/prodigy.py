"""Prodigy: Mishchenko & Defazio, 2023, https://arxiv.org/abs/2306.06101."""

from typing import Any, NamedTuple

import jax
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
    check_flags,
    check_in,
    check_scalar_or_schedule,
    check_state,
    is_number,
    require_params,
)
from adamx._numerics import (
    as_float64,
    at_most_max,
    capped_sq,
    cast,
    complement,
    float64,
    hyperparameter,
    increment,
    lerp,
    one_minus_power,
    product,
    quotient,
    safe_sqrt,
    split,
    times,
)
from adamx._rounding import storage_of
from adamx._rules import as_bool, rule_for
from adamx._transforms.scale import schedule_value
from adamx._tree import copy_of, map_leaves, scalar_dtype, zero_count, zeros_like


class ProdigyState(NamedTuple):
    """State of `prodigy`."""

    exp_avg: Updates  # like params; running mean of d·g
    exp_avg_sq: Updates  # like params, real; running mean of d²·|g|²
    grad_sum: Updates  # like params; decaying sum of g, weighted by d² / estim_lr0
    params0: Params  # like params; where the run began
    estim_lr: Array  # f32[]; d, the estimate of the distance to the solution
    numerator_weighted: Array  # f32[]; decaying sum of ⟨g, p0 - p⟩, weighted as g
    count: Array  # i32[]; updates applied so far


def prodigy(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    beta3: Scalar | None = None,
    eps: Scalar = 1e-8,
    estim_lr0: Scalar = 1e-6,
    estim_lr_coef: Scalar = 1.0,
    weight_decay: ScalarOrSchedule = 0.0,
    safeguard_warmup: bool = False,
    *,
    bias_correction: bool = True,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes Prodigy, AdamW that estimates its own learning rate.

        k  = √(1 - b2^t) / (1 - b1^t),   t = count + 1      (k = 1 without correction)
        w  = (d / estim_lr0)·d·k·learning_rate
        r  = beta3·r + w·Σ g·(p0 - p)                       (Σ over all parameters)
        s  = beta3·s + w·g                   (safeguard_warmup: (d / estim_lr0)·d·g)
        m  = m + (1 - b1)·(d·g - m)
        v  = v + (1 - b2)·(d²·|g|² - v)
        d' = max(d, estim_lr_coef·r / Σ |s|)
        u  = -d·k·learning_rate·(m / (√v + d'·eps) + weight_decay·p)

    The estimate d grows from estim_lr0 to about the distance from p0 to the solution;
    learning_rate stays at 1, or is a schedule that falls from 1. The first steps are as
    small as estim_lr0: 16-bit parameters, which cannot hold them, stand still. Of
    gradients below 1e-19 / d a float32 v holds nothing: with the default eps u is then
    off by 1e-5 of itself at most, as √v is little beside d'·eps.

    Args:
      learning_rate: As in `scale_by_learning_rate`, in units of d.
      betas: The decays b1 of m and b2 of v per step, each in [0, 1).
      beta3: Decay of r and s per step, in [0, 1); None is √b2.
      eps: Added to the root, in units of the gradient; in [0, ∞).
      estim_lr0: Where d begins, in units of params; in (0, ∞), too small rather than
        too large.
      estim_lr_coef: Factor of the estimate, in (0, ∞): the one number to tune, such as
        0.5 or 2.
      weight_decay: As in `add_decayed_weights`, per unit of learning rate and step.
      safeguard_warmup: Whether to leave the learning rate out of s, so that a warm-up
        does not raise the estimate.
      bias_correction: Whether to correct for the start at zero; the authors do not.
      mu_dtype: Dtype in which m and s are kept, or a `Storage`; None is float32 or
        wider. In bfloat16 each is rounded stochastically where 1 - its decay ≤ 0.02,
        as s by default, else to the nearest.
      nu_dtype: Dtype in which v is kept, like m; real.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `ProdigyState`, four arrays for each parameter.

    Raises:
      ValueError: A number out of its range; at update, no parameters, or trees that do
        not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: gradients that are all 0 at first leave d alone, where Optax's
      is NaN for ever; scalars, moments and p0 are float32 for 16-bit parameters; p0 is
      a copy, so that parameters can be donated.

    Example:
      >>> tx = adamx.prodigy()
      >>> params = jnp.array([2.0])
      >>> state = tx.init(params)
      >>> for _ in range(50):
      ...     updates, state = tx.update(params, state, params)
      ...     params = adamx.apply_updates(params, updates)
      >>> print(state.estim_lr > 0.1)
      True

    Reference: Mishchenko & Defazio, 2023, section 5, https://arxiv.org/abs/2306.06101
    """
    who = "prodigy"
    check_scalar_or_schedule(who, "learning_rate", learning_rate, "[0, inf)")
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"{who}: expected betas as a pair of numbers, got {betas!r}.")
    b1, b2 = betas
    check_in(who, "betas[0]", b1, "[0, 1)")
    check_in(who, "betas[1]", b2, "[0, 1)")
    check_in(who, "beta3", 0.0 if beta3 is None else beta3, "[0, 1)")
    check_in(who, "eps", eps, "[0, inf)")
    check_all(who, "(0, inf)", estim_lr0=estim_lr0, estim_lr_coef=estim_lr_coef)
    check_scalar_or_schedule(who, "weight_decay", weight_decay, "[0, inf)")
    check_flags(who, safeguard_warmup=safeguard_warmup, bias_correction=bias_correction)
    decays = rule_for(who, "mask", True if mask is None else mask, as_bool)
    w1, w2, b3 = complement(b1), complement(b2), square_root(b2)
    b3 = b3 if beta3 is None else hyperparameter(beta3)
    w3 = 1 - b3 if is_number(b3) else b3
    storages = (
        storage_of(who, "mu_dtype", mu_dtype, w1),
        storage_of(who, "nu_dtype", nu_dtype, w2, real=True),
        storage_of(who, "mu_dtype", mu_dtype, w3),
    )
    eps, d0 = hyperparameter(eps), hyperparameter(estim_lr0)
    coefficient = hyperparameter(estim_lr_coef)
    rates = learning_rate, weight_decay
    constants: list[Any] = [None if callable(x) else hyperparameter(x) for x in rates]

    def scheduled(count: Any) -> list[Array | None]:
        return [schedule_value(who, x, count) if callable(x) else None for x in rates]

    def init(params: Params) -> ProdigyState:
        scheduled(np.int32(0))
        dtype = scalar_dtype(params)
        return ProdigyState(
            exp_avg=zeros_like(who, params, storages[0]),
            exp_avg_sq=zeros_like(who, params, storages[1], real=True),
            grad_sum=zeros_like(who, params, storages[2]),
            params0=copy_of(who, params),
            estim_lr=jnp.asarray(cast(d0, jnp.zeros([], dtype))),
            numerator_weighted=jnp.zeros([], dtype),
            count=zero_count(),
        )

    @jax.jit
    def before(count: Array, d: Array, values: list[Array | None]) -> tuple[Any, ...]:
        with float64():
            d = as_float64(d)
            rate, decay = (
                constant if value is None else hyperparameter(value)
                for constant, value in zip(constants, values, strict=True)
            )
            k = 1.0
            if bias_correction:
                k = jnp.sqrt(one_minus_power(w2, count)) / one_minus_power(w1, count)
            step = d * k * rate
            weight = d / d0 * (d if safeguard_warmup else step)
            return split(d, weight, d / d0 * step, step, decay)

    def gather(
        g: Array,
        m: Array,
        v: Array,
        s: Array,
        inner: Array,
        size: Array,
        p0: Array,
        p: Array,
        d: Any,
        weight: Any,
    ) -> tuple[Array, ...]:
        dg = times(g, d)
        s = bounded(times(s, b3) + times(g, weight))
        inner = jnp.sum(jnp.real(jnp.conj(g) * (p0 - p)))
        return g, lerp(m, dg, w1), lerp(v, capped_sq(dg), w2), s, inner, norm_1(s)

    @jax.jit
    def after(
        d: Array, r: Array, weight: Any, inners: list[Array], sizes: list[Array]
    ) -> tuple[Any, ...]:
        with float64():
            inner = sum(map(as_float64, inners), jnp.zeros([], jnp.float64))
            size = sum(map(as_float64, sizes), jnp.zeros([], jnp.float64))
            new_r = b3 * as_float64(r) + weight.value * inner
            limit = float(jnp.finfo(r.dtype).max)
            new_r = jnp.where(abs(new_r) > limit, jnp.sign(new_r) * limit, new_r)
            # Without any gradient yet there is nothing to estimate from.
            known = (size > 0) & jnp.isfinite(size)
            estimate = coefficient * new_r / jnp.where(known, size, 1)
            larger = known & (estimate > as_float64(d))
            new_d = jnp.where(larger, estimate, as_float64(d))
            return new_d.astype(d.dtype), new_r.astype(r.dtype), *split(eps * new_d)

    def descend(
        g: Array,
        m: Array,
        v: Array,
        p: Array,
        floor: Any,
        step: Any,
        decay: Any,
        decayed: bool,
    ) -> Array:
        del g
        # Where v = d²·|g|² underflows, √v is at most that of the least normal number.
        least = float(jnp.finfo(v.dtype).tiny) ** 0.5
        u = quotient(m, jnp.maximum(safe_sqrt(v) + cast(floor, v), least))
        if decayed:
            u = u + product(p, cast(decay, p))
        return -times(u, step)

    def update(
        updates: Updates,
        state: ProdigyState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, ProdigyState]:
        del extra_args
        p = require_params(who, params)
        check_state(who, state, ProdigyState)
        count = increment(state.count)
        d, weight, weight_r, step, decay = before(
            count, state.estim_lr, scheduled(state.count)
        )
        # Two passes: the new d, in the denominator, is known when all leaves are.
        blank = jax.tree.map(lambda s: jnp.zeros([], s.real.dtype), state.grad_sum)
        shapes = [[x.shape] * 3 + [()] * 2 for x in jax.tree.leaves(updates)]
        _, m, v, s, inners, sizes = map_leaves(
            who,
            gather,
            updates,
            state.exp_avg,
            state.exp_avg_sq,
            state.grad_sum,
            blank,
            blank,
            read=(state.params0, p),
            scalars=(d, weight),
            shapes=shapes,
            storages=storages,
            count=count,
        )
        estim_lr, r, floor = after(
            state.estim_lr,
            state.numerator_weighted,
            weight_r,
            jax.tree.leaves(inners),
            jax.tree.leaves(sizes),
        )
        (u,) = map_leaves(
            who,
            descend,
            updates,
            read=(m, v, p),
            scalars=(floor, step, decay),
            plans=decays(updates),
        )
        return u, ProdigyState(m, v, s, state.params0, estim_lr, r, count)

    return GradientTransformation(init, update)


def square_root(b: Scalar) -> Any:
    """√b, in float64."""
    if is_number(b):
        return hyperparameter(b) ** 0.5
    with float64():
        return jnp.sqrt(hyperparameter(b))


def bounded(x: Array) -> Array:
    """x, its entries no larger than the largest number."""
    if jnp.iscomplexobj(x):
        return jax.lax.complex(bounded(x.real), bounded(x.imag))
    limit = jnp.finfo(x.dtype).max
    return jnp.clip(x, -limit, limit)


def norm_1(x: Array) -> Array:
    """Σ |x|, at most the largest number."""
    return at_most_max(jnp.sum(jnp.abs(x)))
