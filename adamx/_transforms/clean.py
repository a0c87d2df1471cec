"""Small repairs of gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._align import counterparts
from adamx._base import (
    Array,
    GradientTransformation,
    Params,
    Updates,
    check_state,
    stateless,
)
from adamx._tree import map_leaves


class ZeroNansState(NamedTuple):
    """State of `zero_nans`."""

    found_nan: Any  # like params; bool[], whether the last update had a NaN there


def zero_nans() -> GradientTransformation:
    """Replaces NaN by zero: u = g where g is a number, else 0.

    Infinities pass. To leave out a whole step with its moments is the safer choice.

    Returns:
      A transformation. State: `ZeroNansState`, one flag for each leaf.

    Example:
      >>> tx = adamx.zero_nans()
      >>> u, state = tx.update(jnp.array([jnp.nan, 2.0]), tx.init(jnp.zeros(2)))
      >>> print(u, state.found_nan)
      [0. 2.] True
    """

    def leaf(g: Array) -> Array:
        return jnp.where(jnp.isnan(g), 0, g)

    def init(params: Params) -> ZeroNansState:
        return ZeroNansState(jax.tree.map(lambda p: jnp.zeros([], bool), params))

    def update(
        updates: Updates, state: ZeroNansState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, ZeroNansState]:
        del params, extra_args
        check_state("zero_nans", state, ZeroNansState)
        counterparts("zero_nans", updates, state.found_nan, "state")
        (cleaned,) = map_leaves("zero_nans", leaf, updates)
        found = jax.tree.map(lambda g: jnp.isnan(g).any(), updates)
        return cleaned, ZeroNansState(found)

    return GradientTransformation(init, update)


def centralize() -> GradientTransformation:
    """Subtracts from leaves of two axes or more their means over all but the first.

        u = g - mean(g, axes 1, 2, ...)

    Returns:
      A transformation. State: `EmptyState`.

    Example:
      >>> tx = adamx.centralize()
      >>> print(tx.update(jnp.array([[1.0, 3.0]]), tx.init(None))[0])
      [[-1.  1.]]

    Reference: Yong et al., 2020, section 3, https://arxiv.org/abs/2004.01461
    """

    def leaf(g: Array) -> Array:
        if g.ndim < 2 or g.size == 0:
            return g
        return g - jnp.mean(g, tuple(range(1, g.ndim)), keepdims=True)

    return stateless(lambda updates, params: map_leaves("centralize", leaf, updates)[0])
