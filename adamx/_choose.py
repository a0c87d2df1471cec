"""One tree or another: steps that may be left out, and types that stay."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from adamx._align import inexact
from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Updates,
    is_float0,
    set_to_zero,
)
from adamx._dtypes import convert
from adamx._numerics import is_narrow
from adamx._rows import is_rows


def all_finite(tree: Any) -> Array:
    """Whether no floating or complex array of a tree holds a NaN or an infinity.

    0·x is 0 where x is finite, and else NaN. XLA on CPU sums three times as fast as it
    asks all.
    """
    arrays = [x for x in map(inexact, jax.tree.leaves(tree)) if x is not None]
    if not arrays:
        return jnp.ones([], bool)
    return jnp.stack([jnp.isfinite(jnp.sum(0 * x)) for x in arrays]).all()


def choose(condition: Array, new: Any, old: Any) -> Any:
    """The tree `new` where the scalar `condition` holds, else `old`, whole.

    A select, not a `lax.cond`: it is part of the kernels that make `new`, has
    derivatives and types in a `shard_map` that need no care, and costs under `vmap`
    what it costs without.
    """

    def leaf(x: Any, y: Any) -> Any:
        return x if is_float0(x) else jnp.where(condition, x, y)

    return jax.tree.map(leaf, new, old)


def in_dtypes_of(like: Any, tree: Any) -> Any:
    """The tree with its floating and complex arrays in the dtypes of another."""

    def leaf(x: Any, y: Any) -> Any:
        both = inexact(x) is not None and inexact(y) is not None
        return convert(y, jnp.result_type(x)) if both else y

    return jax.tree.map(leaf, like, tree)


def answer_to(
    inner: GradientTransformation,
    updates: Updates,
    state: OptState,
    params: Params | None,
    extra_args: dict[str, Any],
) -> Any:
    """A tree in the dtypes in which `inner` answers to `updates`, for `in_dtypes_of`.

    They are those of `updates`, unless it has its reasons, as `master_weights` has, to
    answer to narrow ones in wider ones, which are not to be rounded.
    """
    arrays = [x for x in map(inexact, jax.tree.leaves(updates)) if x is not None]
    if not any(is_narrow(x.dtype) for x in arrays):
        return updates
    return jax.eval_shape(lambda: inner.update(updates, state, params, **extra_args)[0])


def update_if(
    condition: Array,
    inner: GradientTransformation,
    updates: Updates,
    state: OptState,
    params: Params | None,
    extra_args: dict[str, Any],
) -> tuple[Updates, OptState]:
    """The update of `inner` where `condition` holds, else zeros and the state as it is.

    Of a step that is left out `inner` sees zeros: a NaN in what is not chosen would
    still be one in the derivatives.
    """
    updates = choose(condition, updates, zeros_of(updates))
    new, new_state = inner.update(updates, state, params, **extra_args)
    # Zeros of what comes out, which may be wider than what goes in.
    return choose(condition, new, zeros_of(new)), choose(condition, new_state, state)


def zeros_of(updates: Updates) -> Updates:
    """Zeros in the place of updates; the ids of rows stay."""
    zeros, _ = set_to_zero().update(updates, ())
    return jax.tree.map(
        lambda x, zero: dataclasses.replace(zero, ids=x.ids) if is_rows(x) else zero,
        updates,
        zeros,
        is_leaf=is_rows,
    )
