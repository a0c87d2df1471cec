"""Sophia: Liu, Li, Hall, Liang & Ma, 2023, https://arxiv.org/abs/2305.14342."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_all,
    check_choice,
    check_flag,
    check_in,
    check_state,
    require_params,
)
from adamx._chain import as_transformation, chain
from adamx._numerics import (
    cast,
    complement,
    float64,
    hyperparameter,
    increment,
    lerp,
    one_minus_power,
    ratio,
    split,
    times,
)
from adamx._rounding import storage_of
from adamx._transforms.decay import descent
from adamx._transforms.hessian import hutchinson_estimator_diag_hessian
from adamx._tree import map_leaves, require_real, zero_count, zeros_like

VARIANTS = ("optax", "paper")


class SophiaState(NamedTuple):
    """State of `scale_by_sophia`."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; running mean of g
    nu: Updates  # like params; running mean of the estimates of the Hessian's diagonal
    hessian_fn_state: OptState  # that of hessian_diagonal_fn


def scale_by_sophia(
    b1: Scalar = 0.965,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-8,
    gamma: Scalar = 0.01,
    clip_threshold: Scalar | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: GradientTransformation | None = None,
    mu_dtype: Any = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
    *,
    variant: str = "optax",
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by a diagonal of the Hessian, and clips each entry.

        mu = mu + (1 - b1)·(g - mu)
        u  = clip((mu / c1) / max(gamma·nu, eps), ±clip_threshold),   c1 = 1 - b1^t
        every update_interval steps, from the first:
        nu = nu + (1 - b2)·(h - nu),   h from hessian_diagonal_fn,   t = count + 1

    "paper": nu comes before u, and u has mu in the place of mu / c1.

    The first step is the sign of g, clip_threshold in size; where the Hessian is not
    positive every step is. Extra arguments of `update` go to `hessian_diagonal_fn`,
    which runs, under `lax.cond`, in the steps that need it only.

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per estimate, in [0, 1).
      eps: The least denominator, in (0, ∞).
      gamma: The factor of nu, in [0, ∞): the larger, the fewer entries are clipped.
      clip_threshold: The largest step, in (0, ∞); None does not clip.
      update_interval: Steps from estimate to estimate, at least 1.
      hessian_diagonal_fn: A transformation to a diagonal of the Hessian; None is
        `hutchinson_estimator_diag_hessian()`, which takes the extra argument `obj_fn`.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      verbose: Whether to print the win rate, the share of entries that are not clipped.
        By its authors gamma is right where that is 0.1 to 0.5.
      print_win_rate_every_n_steps: How often, at least 1 if verbose.
      variant: "optax" or "paper".
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `SophiaState`, two arrays for each parameter.

    Raises:
      ValueError: A number out of its range, an unknown variant; at update, no
        parameters, or trees that do not match.
      TypeError: A wrong kind of argument; a parameter not real and floating.

    Differs from Optax: 16-bit parameters get float32 moments; c1 is exact; verbose
      without print_win_rate_every_n_steps raises, where Optax divides by 0.

    Example:
      >>> tx = adamx.scale_by_sophia(gamma=1.0, b2=0.0, variant="paper", b1=0.0)
      >>> params = jnp.array([3.0, 4.0])
      >>> f = lambda p: jnp.sum(jnp.array([20.0, 1.0]) * p**2 / 2)
      >>> g = jax.grad(f)(params)
      >>> print(tx.update(g / 10, tx.init(params), params, obj_fn=f)[0])
      [0.3 0.4]

    Reference: Liu et al., 2023, Algorithm 3, https://arxiv.org/abs/2305.14342
    """
    who = "scale_by_sophia"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_in(who, "eps", eps, "(0, inf)")
    check_in(who, "gamma", gamma, "[0, inf)")
    if clip_threshold is not None:
        check_in(who, "clip_threshold", clip_threshold, "(0, inf)")
    check_flag(who, "verbose", verbose)
    intervals = {
        "update_interval": (update_interval, 1),
        "print_win_rate_every_n_steps": (print_win_rate_every_n_steps, int(verbose)),
    }
    for name, (value, least) in intervals.items():
        if not isinstance(value, int) or value < least:
            raise ValueError(
                f"{who}: expected {name} as an integer from {least}, got {value}."
            )
    check_choice(who, "variant", variant, VARIANTS)
    if hessian_diagonal_fn is None:
        hessian_diagonal_fn = hutchinson_estimator_diag_hessian()
    estimator = as_transformation(who, "hessian_diagonal_fn", hessian_diagonal_fn)
    w1, w2 = complement(b1), complement(b2)
    mu_storage = storage_of(who, "mu_dtype", mu_dtype, w1)
    nu_storage = storage_of(who, "nu_dtype", nu_dtype, w2, real=True)
    eps, gamma = hyperparameter(eps), hyperparameter(gamma)
    paper = variant == "paper"

    def init(params: Params) -> SophiaState:
        require_real(who, params)
        mu = zeros_like(who, params, mu_storage)
        nu = zeros_like(who, params, nu_storage)
        return SophiaState(zero_count(), mu, nu, estimator.init(params))

    @jax.jit
    def corrections(count: Array) -> tuple[Any, ...]:
        with float64():
            c1 = jnp.ones([], jnp.float64) if paper else one_minus_power(w1, count)
            return split(c1 * gamma, c1 * eps)

    def average(h: Array, nu: Array) -> tuple[Array, Array]:
        return h, lerp(nu, h, w2)

    def leaf(
        g: Array, mu: Array, nu: Array, factor: Any, floor: Any
    ) -> tuple[Array, Array]:
        mu = lerp(mu, g, w1)
        u = ratio(mu, jnp.maximum(times(nu, factor), cast(floor, nu)), eps)
        if clip_threshold is not None:
            limit = cast(clip_threshold, u)
            u = jnp.clip(u, -limit, limit)
        return u, mu

    def update(
        updates: Updates, state: SophiaState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, SophiaState]:
        check_state(who, state, SophiaState)
        params = require_params(who, params)
        count = increment(state.count)
        grads = updates

        def refresh(inner: OptState, nu: Updates) -> tuple[OptState, Updates]:
            h, inner = estimator.update(grads, inner, params, **extra_args)
            _, nu = map_leaves(who, average, h, nu, storages=(nu_storage,), count=count)
            return inner, nu

        inner, nu = lax.cond(
            state.count % update_interval == 0,
            refresh,
            lambda inner, nu: (inner, nu),
            state.hessian_fn_state,
            state.nu,
        )
        used = nu if paper else state.nu
        updates, mu = map_leaves(
            who,
            leaf,
            grads,
            state.mu,
            read=(used,),
            scalars=corrections(count),
            storages=(mu_storage,),
            count=count,
        )
        if verbose and clip_threshold is not None:
            print_win_rate(updates, count)
        return updates, SophiaState(count, mu, nu, inner)

    def print_win_rate(updates: Updates, count: Array) -> None:
        leaves = jax.tree.leaves(updates)
        inside = [jnp.sum(jnp.abs(u) < cast(clip_threshold, u)) for u in leaves]
        rate = sum(inside) / max(sum(u.size for u in leaves), 1)
        lax.cond(
            count % print_win_rate_every_n_steps == 0,
            lambda: jax.debug.print("Sophia: win rate {}", rate),
            lambda: None,
        )

    return GradientTransformation(init, update)


def sophia(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.965,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    weight_decay_mask: MaskOrFn | None = None,
    gamma: Scalar = 0.01,
    clip_threshold: Scalar | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: GradientTransformation | None = None,
    mu_dtype: Any = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
    *,
    variant: str = "optax",
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Makes Sophia, steps by a diagonal of the Hessian, of at most the learning rate.

        u = -learning_rate·(clip((mu / c1) / max(gamma·nu, eps)) + weight_decay·p)

    Sophia-H takes `tx.update(grads, state, params, obj_fn=f)`, with f from the
    parameters to the loss; Sophia-G is that with
    `hessian_diagonal_fn=gauss_newton_estimator_diag_hessian()`.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_sophia`, like all that follow.
      b2: In [0, 1).
      eps: In (0, ∞).
      weight_decay: Decoupled, as in `adamw`.
      weight_decay_mask: Where to decay, as in `masked`; None is everywhere.
      gamma: In [0, ∞).
      clip_threshold: In (0, ∞); None does not clip.
      update_interval: Steps from estimate to estimate, at least 1.
      hessian_diagonal_fn: None is `hutchinson_estimator_diag_hessian()`.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      verbose: Whether to print the share of entries that are not clipped.
      print_win_rate_every_n_steps: How often, at least 1 if verbose.
      variant: "optax" or "paper".
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `(SophiaState, EmptyState, EmptyState)`, the parts of
      `add_decayed_weights` and `scale_by_learning_rate` last.

    Raises:
      ValueError: As in `scale_by_sophia`, `add_decayed_weights` and
        `scale_by_learning_rate`.
      TypeError: As in these.

    Differs from Optax: as `scale_by_sophia`.

    Example:
      >>> tx = adamx.sophia(0.1, weight_decay=0.0)
      >>> params, f = jnp.array([3.0, 4.0]), lambda p: jnp.sum(p**2)
      >>> grads = jax.grad(f)(params)
      >>> print(tx.update(grads, tx.init(params), params, obj_fn=f)[0])
      [-0.1 -0.1]

    Reference: Liu et al., 2023, Algorithm 3, https://arxiv.org/abs/2305.14342
    """
    return chain(
        scale_by_sophia(
            b1,
            b2,
            eps,
            gamma,
            clip_threshold,
            update_interval,
            hessian_diagonal_fn,
            mu_dtype,
            verbose,
            print_win_rate_every_n_steps,
            variant=variant,
            nu_dtype=nu_dtype,
        ),
        *descent("sophia", learning_rate, weight_decay, weight_decay_mask),
    )
