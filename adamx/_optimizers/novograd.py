"""NovoGrad: Ginsburg et al., 2019, https://arxiv.org/abs/1905.11286."""

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
    check_scalar_or_schedule,
    check_state,
    require_params,
)
from adamx._chain import chain
from adamx._numerics import (
    capped_sq,
    cast,
    complement,
    float64,
    hyperparameter,
    increment,
    is_zero,
    lerp,
    ratio,
    safe_sqrt,
    split,
    times,
    unit_norm,
)
from adamx._rounding import storage_of
from adamx._rules import as_bool, rule_for
from adamx._transforms.scale import scale_by_learning_rate, schedule_value
from adamx._tree import map_leaves, zero_count, zeros_like


class ScaleByNovogradState(NamedTuple):
    """State of `scale_by_novograd`."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; decaying sum of normalized g
    nu: Updates  # one real number for each leaf; running mean of ‖g‖²


def scale_by_novograd(
    b1: Scalar = 0.9,
    b2: Scalar = 0.25,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    *,
    nu_dtype: Any = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Scales updates by the norm of each leaf, then sums them up with momentum.

        nu = nu + (1 - b2)·(‖g‖² - nu)         (in the first step ‖g‖²)
        mu = b1·mu + g / (√(nu + eps_root) + eps) + weight_decay·p
        u  = mu

    A leaf has one second moment, so the state is half of Adam's. A constant g grows to
    the norm 1 / (1 - b1).

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the root, in units of ‖g‖; in [0, ∞).
      eps_root: Added inside the root, in units of ‖g‖²; in [0, ∞).
      weight_decay: Added before the momentum, per step and unit of learning rate; in
        [0, ∞), a scalar array, or a schedule of the updates applied before this one.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `ScaleByNovogradState`, one array for each parameter and
      one number.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match, or no
        parameters where there is weight decay.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: 16-bit parameters get float32 moments; a squared norm that
      overflows counts as the largest number.

    Example:
      >>> tx = adamx.scale_by_novograd()
      >>> updates, state = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))
      >>> print(updates, state.nu)
      [0.6 0.8] 25.0

    Reference: Ginsburg et al., 2019, Algorithm 1, https://arxiv.org/abs/1905.11286
    """
    who = "scale_by_novograd"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_all(who, "[0, inf)", eps=eps, eps_root=eps_root)
    check_scalar_or_schedule(who, "weight_decay", weight_decay, "[0, inf)")
    w1, b1, w2 = complement(b1), hyperparameter(b1), complement(b2)
    mu_storage = storage_of(who, "mu_dtype", mu_dtype, w1)
    nu_storage = storage_of(who, "nu_dtype", nu_dtype, w2, real=True)
    eps, eps_root = hyperparameter(eps), hyperparameter(eps_root)
    chosen = rule_for(who, "mask", True if mask is None else mask, as_bool)

    def init(params: Params) -> ScaleByNovogradState:
        if callable(weight_decay):
            schedule_value(who, weight_decay, np.int32(0))
        numbers = [()] * len(jax.tree.leaves(params))
        mu = zeros_like(who, params, mu_storage)
        nu = zeros_like(who, params, nu_storage, real=True, shapes=numbers)
        return ScaleByNovogradState(zero_count(), mu, nu)

    @jax.jit
    def weights(count: Array) -> tuple[Any, ...]:
        with float64():
            decay = 0.0 if callable(weight_decay) else hyperparameter(weight_decay)
            return split(jnp.where(count == 1, 1.0, w2), decay)

    def normalized(g: Array, nu: Array, weight: Any) -> tuple[Array, Array]:
        nu = lerp(nu, capped_sq(unit_norm(g).reshape([])), weight)
        a = nu if is_zero(eps_root) else nu + cast(eps_root, nu)
        return ratio(g, safe_sqrt(a) + cast(eps, a), eps), nu

    def plain(
        g: Array, mu: Array, nu: Array, weight: Any
    ) -> tuple[Array, Array, Array]:
        u, nu = normalized(g, nu, weight)
        mu = times(mu, b1) + u
        return mu, mu, nu

    def decayed(
        g: Array, mu: Array, nu: Array, p: Array, weight: Any, decay: Any, decays: bool
    ) -> tuple[Array, Array, Array]:
        u, nu = normalized(g, nu, weight)
        mu = times(mu, b1) + (u + times(p, decay) if decays else u)
        return mu, mu, nu

    def update(
        updates: Updates,
        state: ScaleByNovogradState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, ScaleByNovogradState]:
        del extra_args
        check_state(who, state, ScaleByNovogradState)
        count = increment(state.count)
        news, decay = weights(count)
        if callable(weight_decay):
            decay = schedule_value(who, weight_decay, state.count)
        leaf, read, scalars, plans = plain, (), (news,), None
        if not is_zero(weight_decay):
            leaf, read, scalars = decayed, (require_params(who, params),), (news, decay)
            plans = chosen(updates)
        updates, mu, nu = map_leaves(
            who,
            leaf,
            updates,
            state.mu,
            state.nu,
            read=read,
            scalars=scalars,
            plans=plans,
            shapes=[(np.shape(x), ()) for x in jax.tree.leaves(updates)],
            storages=(mu_storage, nu_storage),
            count=count,
        )
        return updates, ScaleByNovogradState(count, mu, nu)

    return GradientTransformation(init, update)


def novograd(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.25,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    *,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes NovoGrad: u = -learning_rate·mu, the sum of g / ‖g‖ with momentum.

        nu = nu + (1 - b2)·(‖g‖² - nu)
        mu = b1·mu + g / (√(nu + eps_root) + eps) + weight_decay·p

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the norm of a step of a leaf
        times 1 - b1.
      b1: As in `scale_by_novograd`, like all that follow.
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      weight_decay: Added before the momentum; in [0, ∞), or a schedule.
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByNovogradState, EmptyState)`, the second
      `ScaleByScheduleState` with a schedule.

    Raises:
      ValueError: As in `scale_by_novograd` and `scale_by_learning_rate`.
      TypeError: As in these.

    Example:
      >>> tx = adamx.novograd(0.1)
      >>> print(tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))[0].round(6))
      [-0.06 -0.08]

    Reference: Ginsburg et al., 2019, Algorithm 1, https://arxiv.org/abs/1905.11286
    """
    return chain(
        scale_by_novograd(
            b1,
            b2,
            eps,
            eps_root,
            weight_decay,
            mu_dtype,
            nu_dtype=nu_dtype,
            mask=mask,
        ),
        scale_by_learning_rate(learning_rate),
    )
