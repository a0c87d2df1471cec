"""What steps without a gradient do to a row, made up for when it is met again."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx._align import counterparts, inexact, is_none, path_name
from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Updates,
    check_state,
    require_params,
)
from adamx._dtypes import compute_dtypes, convert
from adamx._fields import tree_get_all_with_path
from adamx._numerics import complement, float64, increment, product
from adamx._tree import zero_count

PARAMS = "params"


class OnRowsState(NamedTuple):
    """State of `on_rows` with `unseen`."""

    count: Array  # i32[]; updates applied so far
    last_seen: Any  # like params; i32[rows], the update that met a row last, or 0
    inner_state: OptState  # that of the inner transformation


def catch_up(
    who: str, inner: GradientTransformation, unseen: Mapping[str, Any]
) -> GradientTransformation:
    """The transformation `inner`, before which rows decay for the steps they missed.

    Of these `last_seen` tells; an array that is there in each step has missed none.
    """

    def init(params: Params) -> OnRowsState:
        state = inner.init(params)
        for name in unseen:
            if name != PARAMS and not tree_get_all_with_path(state, name):
                paths = jax.tree_util.tree_leaves_with_path(state)
                have = {key.name for path, _ in paths for key in path if named(key)}
                raise ValueError(
                    f"{who}: no field {name!r} in the state; have "
                    f"{', '.join(sorted(have)) or 'none'}."
                )
        never = jax.tree.map(lambda p: jnp.zeros(np.shape(p)[:1], jnp.int32), params)
        return OnRowsState(zero_count(), never, state)

    def update(
        updates: Updates, state: OnRowsState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OnRowsState]:
        check_state(who, state, OnRowsState)
        places, treedef = jax.tree_util.tree_flatten_with_path(updates)
        seen = counterparts(who, updates, state.last_seen, "params")
        missed = {
            path_name(path): state.count - x
            for (path, _), x in zip(places, seen, strict=True)
        }

        def moment(path: Any, x: Array) -> Array:
            for i, key in enumerate(path):
                steps = missed.get(path_name(path[i + 1 :]))
                if named(key) and key.name in unseen and steps is not None:
                    return convert(decayed(x, unseen[key.name], steps), x.dtype)
            return x

        old = jax.tree_util.tree_map_with_path(moment, state.inner_state)
        given, shrunk = [], []
        if PARAMS in unseen:
            given = counterparts(who, updates, require_params(who, params), "params")
            shrunk = [
                p if inexact(p) is None else decayed(p, unseen[PARAMS], steps)
                for p, steps in zip(given, missed.values(), strict=True)
            ]
            params = treedef.unflatten(
                [convert(x, p.dtype) for x, p in zip(shrunk, given, strict=True)]
            )
        u, new = inner.update(updates, old, params, **extra_args)
        if PARAMS in unseen:
            moves = zip(jax.tree.leaves(u), shrunk, given, strict=True)
            u = treedef.unflatten(
                [convert(x + y - convert(p, y.dtype), x.dtype) for x, y, p in moves]
            )
        count = increment(state.count)
        last_seen = jax.tree.map(
            lambda g, x: x if g is None else jnp.full_like(x, count),
            updates,
            state.last_seen,
            is_leaf=is_none,
        )
        return u, OnRowsState(count, last_seen, new)

    return GradientTransformation(init, update)


def named(key: Any) -> bool:
    """Whether a key is the name of a field."""
    return isinstance(key, jax.tree_util.GetAttrKey)


def decayed(x: Array, b: Any, steps: Array) -> Array:
    """The rows of x, in float32 or wider, times b to the power of `steps` of each."""
    x = convert(x, compute_dtypes(x.dtype)[0])
    with float64():
        log_b = jnp.log1p(-jnp.asarray(complement(b), jnp.float64))
        power = jnp.exp(steps.astype(jnp.float64) * log_b)
        power = jnp.where(steps == 0, 1, power)  # also of b = 0
        power = power.astype(jnp.finfo(x.dtype).dtype)
    return product(x, power.reshape(steps.shape + (1,) * (x.ndim - steps.ndim)))
