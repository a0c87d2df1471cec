"""Clipping: by element, by the norm of the tree, by the size of a leaf or of a unit."""

import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    Params,
    Scalar,
    Updates,
    check_in,
    describe,
    require_params,
    stateless,
)
from adamx._numerics import cast, product, times, unit_norm
from adamx._tree import global_norm, map_leaves


def clip(max_delta: Scalar) -> GradientTransformation:
    """Clips each element: u = min(max(g, -max_delta), max_delta).

    Args:
      max_delta: In (0, ∞), in units of the updates.

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      ValueError: A number outside (0, ∞).
      TypeError: No number and no scalar array; at update, a complex leaf.

    Example:
      >>> tx = adamx.clip(1.0)
      >>> print(tx.update(jnp.array([-3.0, 0.5]), tx.init(None))[0])
      [-1.   0.5]
    """
    check_in("clip", "max_delta", max_delta, "(0, inf)")

    def leaf(g: Array) -> Array:
        if jnp.iscomplexobj(g):
            raise TypeError(
                f"clip: expected real updates, got {describe(g)}; clip_by_global_norm "
                "and clip_by_block_rms have a meaning for complex ones."
            )
        limit = cast(max_delta, g)
        return jnp.clip(g, -limit, limit)

    return stateless(lambda updates, params: map_leaves("clip", leaf, updates)[0])


def clip_by_global_norm(max_norm: Scalar) -> GradientTransformation:
    """Scales the whole tree down to a norm of at most max_norm.

        norm = √(Σ |g|²) over all leaves
        u = g·max_norm / norm where norm > max_norm, else g

    Args:
      max_norm: In (0, ∞), in units of the updates.

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      ValueError: A number outside (0, ∞).
      TypeError: No number and no scalar array.

    Differs from Optax: the norm is a float32 that neither overflows nor underflows,
      whatever the dtype. A norm that is not finite changes nothing, so that a wrapper
      can see it; Optax zeroes every finite gradient.

    Example:
      >>> tx = adamx.clip_by_global_norm(1.0)
      >>> print(tx.update(jnp.array([3.0, 4.0]), tx.init(None))[0])
      [0.6 0.8]

    Reference: Pascanu, Mikolov & Bengio, 2013, https://arxiv.org/abs/1211.5063
    """
    who = "clip_by_global_norm"
    check_in(who, "max_norm", max_norm, "(0, inf)")

    def update(updates: Updates, params: Params | None) -> Updates:
        del params
        factor = clipping_factor(updates, max_norm)
        return map_leaves(who, times, updates, scalars=(factor,))[0]

    return stateless(update)


def clip_by_block_rms(threshold: Scalar) -> GradientTransformation:
    """Scales each leaf down to a root mean square of at most threshold.

        u = g / max(1, rms(g) / threshold),     rms(g) = √(mean |g|²) over the leaf

    Args:
      threshold: In (0, ∞), in units of the updates.

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      ValueError: A number outside (0, ∞).
      TypeError: No number and no scalar array.

    Example:
      >>> tx = adamx.clip_by_block_rms(1.0)
      >>> print(tx.update(jnp.array([4.0, -4.0]), tx.init(None))[0])
      [ 1. -1.]

    Reference: Shazeer & Stern, 2018, section 6, https://arxiv.org/abs/1804.04235
    """
    who = "clip_by_block_rms"
    check_in(who, "threshold", threshold, "(0, inf)")

    def leaf(g: Array) -> Array:
        norm = unit_norm(g)
        limit = cast(threshold, norm) * max(g.size, 1) ** 0.5
        return product(g, at_most(norm, limit))

    return stateless(lambda updates, params: map_leaves(who, leaf, updates)[0])


def adaptive_grad_clip(
    clipping: Scalar, eps: Scalar = 1e-3, axis: int | tuple[int, ...] | None = None
) -> GradientTransformation:
    """Scales each unit down to a norm of at most clipping times its parameters' norm.

        limit = clipping·max(‖p‖, eps)
        u = g·limit / ‖g‖ where ‖g‖ > limit, else g        (norms over a unit)

    A unit is what feeds one output: a scalar or vector whole, axis 0 of two or three,
    axes 0 to 2 of four, axes 0 to 3 of five, as JAX's kernels have their axes.

    Args:
      clipping: In (0, ∞), without unit.
      eps: The least norm of parameters, so that zeros can move; in (0, ∞).
      axis: The axes of a unit, for every leaf; None is the rule above.

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      ValueError: A number out of its range; at update, no parameters, trees that do not
        match, or a leaf of more than five axes without `axis`.
      TypeError: No number and no scalar array.

    Example:
      >>> tx = adamx.adaptive_grad_clip(0.5)
      >>> params, grads = jnp.array([3.0, 4.0]), jnp.array([30.0, 40.0])
      >>> print(tx.update(grads, tx.init(params), params)[0])
      [1.5 2. ]

    Reference: Brock et al., 2021, section 4, https://arxiv.org/abs/2102.06171
    """
    who = "adaptive_grad_clip"
    check_in(who, "clipping", clipping, "(0, inf)")
    check_in(who, "eps", eps, "(0, inf)")

    def leaf(g: Array, p: Array) -> Array:
        axes = unit_axes(g) if axis is None else axis
        size = unit_norm(p, axes)
        limit = cast(clipping, size) * jnp.maximum(size, cast(eps, size))
        return product(g, at_most(unit_norm(g, axes), limit))

    def unit_axes(g: Array) -> tuple[int, ...] | None:
        if g.ndim > 5:
            raise ValueError(
                f"{who}: expected at most five axes, got {describe(g)}; give axis."
            )
        if sum(n != 1 for n in g.shape) <= 1:
            return None
        return (0,) if g.ndim <= 3 else tuple(range(g.ndim - 1))

    return stateless(
        lambda updates, params: map_leaves(
            who, leaf, updates, read=(require_params(who, params),)
        )[0]
    )


def clipping_factor(updates: Updates, max_norm: Scalar) -> Array:
    """What `clip_by_global_norm` multiplies with."""
    norm = global_norm(updates)
    return at_most(norm, cast(max_norm, norm))


def at_most(norm: Array, limit: Array) -> Array:
    """The factor that brings a norm down to its limit; 1 below it, or if not finite."""
    over = (norm > limit) & jnp.isfinite(norm)
    return jnp.where(over, limit / jnp.where(over, norm, 1), 1)
