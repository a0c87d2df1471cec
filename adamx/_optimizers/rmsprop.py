"""RMSProp: Tieleman & Hinton, 2012, lecture 6.5; centered: Graves, 2013."""

import functools
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
    check_flags,
    check_in,
    identity,
)
from adamx._chain import chain
from adamx._numerics import (
    capped_sq,
    cast,
    complement,
    hyperparameter,
    increment,
    lerp,
    one_minus_power,
    ratio,
    safe_divide,
    safe_sqrt,
    split,
    times,
)
from adamx._rounding import Storage, storage_of
from adamx._stateful import Moment, stateful
from adamx._transforms.decay import descent
from adamx._transforms.moments import trace

NO_COUNT = "give bias_correction=True, with which it has one"


class ScaleByRmsState(NamedTuple):
    """State of `scale_by_rms`."""

    nu: Updates  # like params, real; running mean of |g|²


class ScaleByRmsWithCountState(NamedTuple):
    """State of `scale_by_rms` with bias correction."""

    count: Array  # i32[]; updates applied so far
    nu: Updates  # like params, real; running mean of |g|²


class ScaleByRStdDevState(NamedTuple):
    """State of `scale_by_stddev`."""

    mu: Updates  # like params; running mean of g
    nu: Updates  # like params, real; running mean of |g|²


class ScaleByRStdDevWithCountState(NamedTuple):
    """State of `scale_by_stddev` with bias correction."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; running mean of g
    nu: Updates  # like params, real; running mean of |g|²


def scale_by_rms(
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    *,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by the root of the running mean of their squares.

        nu = nu + (1 - decay)·(|g|² - nu)
        u  = g / √(nu / c + eps)        (outside: g / (√(nu / c) + eps))

    with c = 1 - decay^t, t = count + 1, or c = 1 without bias correction.

    Args:
      decay: Per step, in [0, 1).
      eps: In [0, ∞), in units of the gradient squared inside the root, of the gradient
        outside.
      initial_scale: Where nu starts, in units of the gradient squared; in [0, ∞).
      eps_in_sqrt: Whether eps is inside the root; PyTorch has it outside.
      bias_correction: Whether to correct for the start at zero.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider. A
        bfloat16 is for decay < 0.98, or with bias_correction, of which the state has
        the count that stochastic rounding needs.

    Returns:
      A transformation. State: `ScaleByRmsState` or `ScaleByRmsWithCountState`, one
      array for each parameter.

    Raises:
      ValueError: A number out of its range, a nu_dtype that does not follow the mean;
        at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: 16-bit parameters get a float32 mean; exact correction.

    Example:
      >>> tx = adamx.scale_by_rms(eps_in_sqrt=False, bias_correction=True)
      >>> print(tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))[0])
      [1.]

    Reference: Tieleman & Hinton, 2012, Neural Networks for Machine Learning, 6.5.
    """
    return scale_by_deviation(
        "scale_by_rms",
        False,
        decay,
        eps,
        initial_scale,
        eps_in_sqrt,
        bias_correction,
        nu_dtype=nu_dtype,
    )


def scale_by_stddev(
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    *,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by their running standard deviation (centered RMSProp).

        mu = mu + (1 - decay)·(g - mu)
        nu = nu + (1 - decay)·(|g|² - nu)
        a  = max(nu / c - |mu / c|², 0)
        u  = g / √(a + eps)        (outside: g / (√a + eps))

    with c = 1 - decay^t, t = count + 1, or c = 1 without bias correction.

    Args:
      decay: Per step, in [0, 1).
      eps: In [0, ∞), in units of the gradient squared inside the root, of the gradient
        outside.
      initial_scale: Where nu starts, in units of the gradient squared; in [0, ∞).
      eps_in_sqrt: Whether eps is inside the root; PyTorch has it outside.
      bias_correction: Whether to correct for the start at zero.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, like mu; as in `scale_by_rms`. Where |mu|² is
        nearly nu, nothing is left of the difference of rounded ones.

    Returns:
      A transformation. State: `ScaleByRStdDevState` or `ScaleByRStdDevWithCountState`,
      two arrays for each parameter.

    Raises:
      ValueError: A number out of its range, a dtype that does not follow the means; at
        update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: 16-bit parameters get float32 means; exact correction; a is not
      negative, where Optax and PyTorch give NaN for constant gradients.

    Example:
      >>> tx = adamx.scale_by_stddev(decay=0.5, eps=0.0)
      >>> print(tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))[0])
      [2.]

    Reference: Graves, 2013, section 4.1, https://arxiv.org/abs/1308.0850
    """
    return scale_by_deviation(
        "scale_by_stddev",
        True,
        decay,
        eps,
        initial_scale,
        eps_in_sqrt,
        bias_correction,
        mu_dtype=mu_dtype,
        nu_dtype=nu_dtype,
    )


def scale_by_deviation(
    who: str,
    centered: bool,
    decay: Scalar,
    eps: Scalar,
    initial_scale: Scalar,
    eps_in_sqrt: bool,
    bias_correction: bool,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """The maths of `scale_by_rms` and `scale_by_stddev`."""
    check_in(who, "decay", decay, "[0, 1)")
    check_all(who, "[0, inf)", eps=eps, initial_scale=initial_scale)
    check_flags(who, eps_in_sqrt=eps_in_sqrt, bias_correction=bias_correction)
    w, eps = complement(decay), hyperparameter(eps)

    plain = ScaleByRStdDevState if centered else ScaleByRmsState
    counted = ScaleByRStdDevWithCountState if centered else ScaleByRmsWithCountState

    def corrections(count: Array | None = None) -> tuple[Any, ...]:
        # As in `scale_by_adam`, the correction of nu is folded into scalars.
        c = jnp.ones([], jnp.float64)
        if count is not None:
            c = one_minus_power(w, increment(count))
        return split(1.0 / jnp.sqrt(c), 1.0 / c, c * eps if eps_in_sqrt else eps)

    def scaled(g: Array, a: Array, factor: Any, shift: Any) -> Array:
        if eps_in_sqrt:
            return safe_divide(g, times(safe_sqrt(a + cast(shift, a)), factor))
        return ratio(g, times(safe_sqrt(a), factor) + cast(shift, a), eps)

    def rms(g: Array, nu: Array, factor: Any, weight: Any, shift: Any) -> Any:
        nu = lerp(nu, capped_sq(g), w)
        return scaled(g, nu, factor, shift), nu

    def stddev(
        g: Array, mu: Array, nu: Array, factor: Any, weight: Any, shift: Any
    ) -> Any:
        mu, nu = lerp(mu, g, w), lerp(nu, capped_sq(g), w)
        # With constant gradients rounding alone can make it negative.
        variance = jnp.maximum(nu - times(capped_sq(mu), weight), 0)
        return scaled(g, variance, factor, shift), mu, nu

    kind = counted if bias_correction else plain

    def stored(name: str, dtype: Any, real: bool) -> Storage | None:
        return storage_of(
            who, name, dtype, w, real=real, counted=bias_correction, instead=NO_COUNT
        )

    nu = Moment(stored("nu_dtype", nu_dtype, True), real=True, fill=initial_scale)
    if centered:
        mu = Moment(stored("mu_dtype", mu_dtype, False))
        return stateful(who, kind, stddev, corrections, mu=mu, nu=nu)
    return stateful(who, kind, rms, corrections, nu=nu)


def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    *,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
    accumulator_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes RMSProp: u = -learning_rate·g / √(nu + eps), then momentum.

    With weight decay -learning_rate·(... + weight_decay·p), then momentum, which sums
    steps that the learning rate has scaled and the decay has joined. PyTorch scales
    the sum: `chain(scale_by_rms(...), trace(momentum), scale_by_learning_rate(...))`,
    which differs under a schedule.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      decay: As in `scale_by_rms`, like all up to `eps_in_sqrt`.
      eps: In [0, ∞).
      initial_scale: In [0, ∞).
      eps_in_sqrt: Whether eps is inside the root.
      centered: Whether to divide by the standard deviation, as `scale_by_stddev`.
      momentum: Decay of the trace, in [0, 1]; None is no trace.
      nesterov: Whether the momentum looks ahead.
      bias_correction: Whether to correct for the start at zero.
      mu_dtype: As in `scale_by_stddev`; only if centered.
      nu_dtype: As in `scale_by_rms`.
      accumulator_dtype: As in `trace`, of the momentum.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: that of `scale_by_rms` or `scale_by_stddev`, that of
      `add_decayed_weights` where there is weight decay, that of
      `scale_by_learning_rate`, and `TraceState` or `EmptyState`.

    Raises:
      ValueError: As in `scale_by_rms`, `add_decayed_weights`,
        `scale_by_learning_rate` and `trace`; or a mask without weight decay, a mu_dtype
        without centered.
      TypeError: As in these.

    Differs from PyTorch: decay is 0.9, not 0.99, and eps is inside the root.

    Example:
      >>> tx = adamx.rmsprop(0.1, bias_correction=True)
      >>> print(tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))[0])
      [-0.1]

    Reference: Tieleman & Hinton, 2012, Neural Networks for Machine Learning, 6.5.
    """
    check_flag("rmsprop", "centered", centered)
    check_flag("rmsprop", "nesterov", nesterov)
    if mu_dtype is not None and not centered:
        raise ValueError(
            "rmsprop: expected no mu_dtype without a mu; give centered=True, or leave "
            "it out."
        )
    scaled = functools.partial(scale_by_stddev, mu_dtype=mu_dtype)
    scaled = scaled if centered else scale_by_rms
    return chain(
        scaled(
            decay, eps, initial_scale, eps_in_sqrt, bias_correction, nu_dtype=nu_dtype
        ),
        *descent("rmsprop", learning_rate, weight_decay, mask),
        identity()
        if momentum is None
        else trace(momentum, nesterov, accumulator_dtype),
    )
