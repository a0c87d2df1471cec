"""Parameters in float32, from 16 bits and what a state keeps beside them, and back."""

from typing import Any

import jax
import jax.numpy as jnp

from adamx._align import at, described, inexact, not_inexact
from adamx._average import put, unboxed
from adamx._base import OptState, Params
from adamx._dtypes import compute_dtypes, convert
from adamx._precision.kahan import KahanSumState, split_in_two, total
from adamx._precision.master_weights import KINDS, master, split
from adamx._rules import is_hole

# The states that hold what parameters lack, in their last field, by the names of their
# fields: what of both makes a float32, and what makes both of a float32 and a dtype.
WAYS = {
    kind._fields: (master, lambda x, dtype, low=low: split(x, dtype, low))
    for kind, low in KINDS.values()
} | {KahanSumState._fields: (total, split_in_two)}


def is_own(x: Any) -> bool:
    """Whether x is such a state."""
    return getattr(type(x), "_fields", None) in WAYS


def to_float32(params: Params, state: OptState) -> Params:
    """Gives the parameters in float32, with all the bits that a state knows.

    For checkpoints to hand on, and to go on in float32. Finds the states of
    `master_weights` and of `kahan_sum` wherever they are: in chains, masks, groups,
    wrappers of Optax, in Flax's `nnx`.

    Args:
      params: The parameters after an update.
      state: The state after the same update.

    Returns:
      A tree like `params`, in float32 where they are narrower; these are only widened
      where there is nothing about them in the state.

    Raises:
      ValueError: A state of other parameters.
      TypeError: A parameter not floating or complex.

    Example:
      >>> tx = adamx.master_weights(adamx.sgd(1.0))
      >>> params = jnp.ones(1, jnp.bfloat16)
      >>> updates, state = tx.update(jnp.full(1, 1e-3), tx.init(params), params)
      >>> params = adamx.apply_updates(params, updates)
      >>> print(params, adamx.to_float32(params, state))
      [1] [0.999]
    """
    who = "to_float32"
    masters = unboxed(params)
    for part in jax.tree.leaves(unboxed(state), is_leaf=is_own):
        if is_own(part):
            masters = put(who, WAYS[part._fields][0], part[-1], masters)
    wide = []
    for i, given in enumerate(jax.tree.leaves(masters)):
        x = inexact(given)
        if x is None:
            raise not_inexact(who, "params", given, at(params, i))
        wide.append(convert(x, *compute_dtypes(x.dtype)))
    return jax.tree.structure(params).unflatten(wide)


def from_float32(
    masters: Params, params: Params, state: OptState
) -> tuple[Params, OptState]:
    """Puts parameters in float32 into parameters of 16 bits and a state.

    The opposite of `to_float32`: a run with `master_weights` goes on from a float32
    checkpoint, exactly with 32 bits.

    Args:
      masters: The parameters in float32.
      params: Parameters of the run, or their shapes, for their dtypes.
      state: A state of the run, such as `tx.init(params)`. What it has copied of the
        parameters stays, as `z` of `schedule_free`; `tree_set(state, z=...)` sets that.

    Returns:
      Parameters like `params`, and a state like `state`. Parameters of which the state
      keeps nothing are only rounded.

    Raises:
      ValueError: Trees that do not match.
      TypeError: A parameter not floating or complex.

    Example:
      >>> masters = jnp.array([0.1, 0.7])
      >>> params = masters.astype(jnp.bfloat16)
      >>> state = adamx.master_weights(adamx.adam(1e-3)).init(params)
      >>> params, state = adamx.from_float32(masters, params, state)
      >>> print(params, adamx.to_float32(params, state))
      [0.100098 0.699219] [0.1 0.7]
    """
    who = "from_float32"
    given, new = unboxed(masters), unboxed(params)
    check_alike(who, given, new)
    new = jax.tree.map(lambda x, p: jnp.asarray(x).astype(p.dtype), given, new)
    parts, treedef = jax.tree.flatten(state, is_leaf=is_own)
    for i, part in enumerate(parts):
        if is_own(part):
            new, parts[i] = split_off(who, given, new, part)
    new = jax.tree.structure(params).unflatten(jax.tree.leaves(new))
    return new, treedef.unflatten(parts)


def split_off(
    who: str, masters: Params, params: Params, state: Any
) -> tuple[Params, OptState]:
    """The parameters, and one of the states, that hold the masters."""
    divide = WAYS[state._fields][1]
    residuals, tree = jax.tree.flatten(unboxed(state[-1]), is_leaf=is_hole)
    try:
        xs, ps = tree.flatten_up_to(masters), tree.flatten_up_to(params)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{who}: the parameters do not match the state; were both made from the "
            "same params?"
        ) from error
    rests = []
    for i, (x, residual) in enumerate(zip(xs, residuals, strict=True)):
        if not is_hole(residual):
            ps[i], part = divide(jnp.asarray(x), ps[i].dtype)
            rests.append(part)
    rests = jax.tree.structure(state[-1]).unflatten(rests)
    return tree.unflatten(ps), type(state)(*state[:-1], rests)


def check_alike(who: str, masters: Params, params: Params) -> None:
    """Raises unless the trees have one structure and the arrays in it one shape."""
    ours, theirs = described(masters), described(params)
    for path in [*theirs, *ours]:
        got, want = ours.get(path, "nothing"), theirs.get(path, "nothing")
        if got.partition("[")[2] != want.partition("[")[2]:
            raise ValueError(
                f"{who}: expected masters like the params, got {got} for {want} at "
                f"{path}."
            )
    if jax.tree.structure(masters) != jax.tree.structure(params):
        raise ValueError(
            f"{who}: expected masters like the params, got "
            f"{jax.tree.structure(masters)} for {jax.tree.structure(params)}."
        )
    for i, x in enumerate(jax.tree.leaves(masters)):
        if inexact(x) is None:
            raise not_inexact(who, "masters", x, at(masters, i))
