"""Steps in proportion to the parameters that they move, leaf by leaf."""

from collections.abc import Callable

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    Scalar,
    check_in,
    require_params,
    stateless,
)
from adamx._numerics import (
    cast,
    hyperparameter,
    product,
    safe_divide,
    times,
    unit_norm,
)
from adamx._tree import map_leaves


def scale_by_trust_ratio(
    min_norm: Scalar = 0.0, trust_coefficient: Scalar = 1.0, eps: Scalar = 0.0
) -> GradientTransformation:
    """Scales each leaf to the norm of its parameters.

        u = g·trust_coefficient·‖p‖ / (‖g‖ + eps),   and g where a norm is 0

    with norms over a leaf, and of at least min_norm.

    Args:
      min_norm: The least that a norm counts as, in [0, ∞); above 0 parameters of zeros
        stay near them.
      trust_coefficient: The norm of u in units of that of p, in [0, ∞).
      eps: Added to the norm of g, in its units; in [0, ∞).

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      ValueError: A number out of its range; at update, no parameters, or trees that do
        not match.
      TypeError: No number and no scalar array.

    Differs from Optax: norms are float32 or wider and neither overflow nor underflow,
      whatever the dtype: g of 1e-30 and of 1e30 give the same u.

    Example:
      >>> tx = adamx.scale_by_trust_ratio()
      >>> params, grads = jnp.array([3.0, 4.0]), jnp.array([0.0, 0.1])
      >>> print(tx.update(grads, tx.init(params), params)[0])
      [0. 5.]

    Reference: You, Gitman & Ginsburg, 2017, section 5, https://arxiv.org/abs/1708.03888
    """
    who = "scale_by_trust_ratio"
    check_in(who, "min_norm", min_norm, "[0, inf)")
    check_in(who, "trust_coefficient", trust_coefficient, "[0, inf)")
    check_in(who, "eps", eps, "[0, inf)")
    coefficient = hyperparameter(trust_coefficient)

    def leaf(g: Array, p: Array) -> Array:
        size, step = (at_least(unit_norm(x), min_norm) for x in (p, g))
        # Divided before it is multiplied: the ratio of two norms might overflow.
        unit = safe_divide(g, step + cast(eps, step))
        either_is_zero = (size == 0) | (step == 0)
        return jnp.where(either_is_zero, g, product(unit, times(size, coefficient)))

    return by_parameters(who, leaf)


def scale_by_param_block_norm(min_scale: Scalar = 1e-3) -> GradientTransformation:
    """Multiplies each leaf by the norm of its parameters: u = g·max(‖p‖, min_scale).

    Args:
      min_scale: The least factor, so that zeros can move; in [0, ∞), in units of p.

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      ValueError: A number out of its range; at update, no parameters, or trees that do
        not match.
      TypeError: No number and no scalar array.

    Example:
      >>> tx = adamx.scale_by_param_block_norm()
      >>> params = jnp.array([3.0, 4.0])
      >>> print(tx.update(jnp.ones(2), tx.init(params), params)[0])
      [5. 5.]
    """
    who = "scale_by_param_block_norm"
    check_in(who, "min_scale", min_scale, "[0, inf)")

    def leaf(g: Array, p: Array) -> Array:
        return product(g, at_least(unit_norm(p), min_scale))

    return by_parameters(who, leaf)


def scale_by_param_block_rms(min_scale: Scalar = 1e-3) -> GradientTransformation:
    """Multiplies each leaf by the size of its parameters: u = g·max(rms(p), min_scale).

        rms(p) = √(mean |p|²) over the leaf

    Args:
      min_scale: The least factor, so that zeros can move; in [0, ∞), in units of p.

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      ValueError: A number out of its range; at update, no parameters, or trees that do
        not match.
      TypeError: No number and no scalar array.

    Example:
      >>> tx = adamx.scale_by_param_block_rms()
      >>> params = jnp.array([2.0, -2.0])
      >>> print(tx.update(jnp.ones(2), tx.init(params), params)[0])
      [2. 2.]

    Reference: Shazeer & Stern, 2018, section 8, https://arxiv.org/abs/1804.04235
    """
    who = "scale_by_param_block_rms"
    check_in(who, "min_scale", min_scale, "[0, inf)")

    def leaf(g: Array, p: Array) -> Array:
        rms = times(unit_norm(p), max(p.size, 1) ** -0.5)
        return product(g, at_least(rms, min_scale))

    return by_parameters(who, leaf)


def at_least(norm: Array, least: Scalar) -> Array:
    """A norm, or what it counts as at least."""
    return jnp.maximum(norm, cast(least, norm))


def by_parameters(
    who: str, leaf: Callable[[Array, Array], Array]
) -> GradientTransformation:
    """The transformation u = leaf(g, p)."""
    return stateless(
        lambda updates, params: map_leaves(
            who, leaf, updates, read=(require_params(who, params),)
        )[0]
    )
