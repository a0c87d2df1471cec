"""StableAdamW: Wortsman et al., 2023, https://arxiv.org/abs/2304.13013."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx._base import (
    Array,
    EmptyState,
    GradientTransformation,
    MaskOrFn,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_all,
    check_choice,
    check_in,
    check_state,
)
from adamx._chain import as_transformation, chain
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
from adamx._transforms.decay import add_decayed_weights, descent
from adamx._transforms.scale import scale_by_learning_rate
from adamx._tree import map_leaves, zero_count, zeros_like

VARIANTS = ("paper", "code")


class ScaleByStableAdamState(NamedTuple):
    """State of `scale_by_stable_adam`."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; running mean of g
    nu: Updates  # like params, real; running mean of |g|²
    rms: Updates  # one real number for each leaf; size of the last g in units of √nu
    inner: OptState  # state of the inner transformation


def scale_by_stable_adam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-6,
    mu_dtype: Any = None,
    *,
    clipping_threshold: Scalar = 1.0,
    inner: GradientTransformation | None = None,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by Adam's ratio, and down where nu has not seen their like.

        mu, nu, c1, c2 as in `scale_by_adam`
        rms = √(mean(|g|² / max(nu / c2, eps²))) over the leaf
        d   = inner((mu / c1) / (√(nu / c2) + eps))
        u   = d / max(1, rms / clipping_threshold)

    Where gradients outgrow their second moment, rms is above 1 and steps shrink, leaf
    by leaf, in the place of gradient clipping. A large rms foretells a spike of the
    loss; the state keeps it.

    Args:
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the root, in units of the gradient; in [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      clipping_threshold: The largest rms that leaves a step as it is, in (0, ∞).
      inner: What else happens to Adam's direction before it is scaled down, such as
        `add_decayed_weights`; None is nothing.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `ScaleByStableAdamState`, two arrays for each parameter
      and one number.

    Raises:
      ValueError: A number out of its range; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Example:
      >>> tx = adamx.scale_by_stable_adam(b1=0.0)
      >>> _, state = tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))
      >>> updates, state = tx.update(jnp.array([8.0]), state)
      >>> print(updates.round(3), float(state.rms) > 1)
      [1.] True

    Reference: Wortsman et al., 2023, Algorithm 2, https://arxiv.org/abs/2304.13013
    """
    who = "scale_by_stable_adam"
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_in(who, "eps", eps, "[0, inf)")
    check_in(who, "clipping_threshold", clipping_threshold, "(0, inf)")
    w1, w2, eps = complement(b1), complement(b2), hyperparameter(eps)
    mu_storage = storage_of(who, "mu_dtype", mu_dtype, w1)
    nu_storage = storage_of(who, "nu_dtype", nu_dtype, w2, real=True)
    if inner is not None:
        inner = as_transformation(who, "inner", inner)

    def init(params: Params) -> ScaleByStableAdamState:
        numbers = [()] * len(jax.tree.leaves(params))
        return ScaleByStableAdamState(
            zero_count(),
            zeros_like(who, params, mu_storage),
            zeros_like(who, params, nu_storage, real=True),
            zeros_like(who, params, real=True, shapes=numbers),
            inner.init(params) if inner else EmptyState(),
        )

    @jax.jit
    def corrections(count: Array) -> tuple[Any, ...]:
        with float64():
            c1, c2 = one_minus_power(w1, count), one_minus_power(w2, count)
            return split(1.0 / c1, 1.0 / jnp.sqrt(c2))

    def leaf(
        g: Array, mu: Array, nu: Array, rms: Array, up: Any, root_up: Any
    ) -> tuple[Array, Array, Array, Array]:
        mu = lerp(mu, g, w1)
        nu = lerp(nu, capped_sq(g), w2)
        root = times(safe_sqrt(nu), root_up)
        floor = cast(eps, root)
        surprise = unit_norm(ratio(g, jnp.maximum(root, floor), eps))
        rms = times(surprise.reshape([]), max(g.size, 1) ** -0.5)
        d = ratio(times(mu, up), root + floor, eps)
        return d if inner else clipped(d, rms), mu, nu, rms

    def clipped(d: Array, rms: Array) -> Array:
        return quotient(d, jnp.maximum(rms / cast(clipping_threshold, rms), 1))

    def divide(d: Array, rms: Array) -> tuple[Array, Array]:
        return clipped(d, rms), rms

    def update(
        updates: Updates,
        state: ScaleByStableAdamState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, ScaleByStableAdamState]:
        check_state(who, state, ScaleByStableAdamState)
        count = increment(state.count)
        shapes = [np.shape(x) for x in jax.tree.leaves(updates)]
        updates, mu, nu, rms = map_leaves(
            who,
            leaf,
            updates,
            state.mu,
            state.nu,
            state.rms,
            scalars=corrections(count),
            shapes=[(shape, shape, ()) for shape in shapes],
            storages=(mu_storage, nu_storage),
            count=count,
        )
        inner_state = state.inner
        if inner:
            updates, inner_state = inner.update(
                updates, inner_state, params, **extra_args
            )
            updates, rms = map_leaves(
                who, divide, updates, rms, shapes=[((),)] * len(shapes)
            )
        return updates, ScaleByStableAdamState(count, mu, nu, rms, inner_state)

    return GradientTransformation(init, update)


def stable_adamw(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-6,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-2,
    mask: MaskOrFn | None = None,
    *,
    clipping_threshold: Scalar = 1.0,
    nu_dtype: Any = None,
    variant: str = "paper",
) -> GradientTransformation:
    """Makes StableAdamW, AdamW whose learning rate falls where gradients surprise it.

        d = (mu / c1) / (√(nu / c2) + eps)
        s = max(1, rms / clipping_threshold)    leaf by leaf
        "paper":  u = -learning_rate·(d + weight_decay·p) / s
        "code":   u = -learning_rate·(d / s + weight_decay·p)

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      b1: As in `scale_by_stable_adam`, like all up to `mu_dtype`.
      b2: In [0, 1).
      eps: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: As in `add_decayed_weights`, per step and unit of learning rate.
      mask: Where to decay, as in `masked`; None is everywhere.
      clipping_threshold: The largest rms that leaves a step as it is, in (0, ∞).
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      variant: "paper", where the lower learning rate is that of the decay too; or
        "code", which the authors released, where the decay stays.

    Returns:
      A transformation. State: `(ScaleByStableAdamState, EmptyState)`, with the part of
      `add_decayed_weights` inside the first; in the variant "code" after it.

    Raises:
      ValueError: As in `scale_by_stable_adam`, `add_decayed_weights` and
        `scale_by_learning_rate`; or an unknown variant.
      TypeError: As in these.

    Example:
      >>> tx = adamx.stable_adamw(0.1, weight_decay=0.5)
      >>> params = jnp.array([1.0])
      >>> print(tx.update(jnp.array([0.3]), tx.init(params), params)[0].round(6))
      [-0.15]

    Reference: Wortsman et al., 2023, Algorithm 2, https://arxiv.org/abs/2304.13013;
      code: https://gist.github.com/mitchellnw/d42e22a0b9ec02ceaf4f7b4457f51423
    """
    who = "stable_adamw"
    check_choice(who, "variant", variant, VARIANTS)
    decays_less = variant == "paper"
    direction = scale_by_stable_adam(
        b1,
        b2,
        eps,
        mu_dtype,
        clipping_threshold=clipping_threshold,
        inner=add_decayed_weights(weight_decay, mask) if decays_less else None,
        nu_dtype=nu_dtype,
    )
    if decays_less:
        return chain(direction, scale_by_learning_rate(learning_rate))
    return chain(direction, *descent(who, learning_rate, weight_decay, mask))
