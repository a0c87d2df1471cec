"""States cut and sewn: mapped by parameter, started anew in part, grown."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from adamx._align import at_path
from adamx._base import MaskOrFn, OptState, Params, describe
from adamx._chain import as_transformation
from adamx._fields import tree_get_all_with_path
from adamx._parts import Part, beside, misfit, parts_of
from adamx._rules import as_bool, by_path, compiled, is_box, is_hole, rule_for


def tree_map_params(
    initable: Any,
    f: Callable[..., Any],
    state: OptState,
    /,
    *rest: Any,
    transform_non_params: Callable[..., Any] | None = None,
    is_leaf: Callable[[Params], bool] | None = None,
    params: Params | None = None,
) -> OptState:
    """Maps a function over what is like a parameter in a state.

    To give moments the shardings of their parameters, for example.

    Args:
      initable: The transformation that made the state, or its `init`.
      f: From an array of the state, and what each of `rest` holds there.
      state: The state.
      *rest: Trees like the parameters.
      transform_non_params: What to map over everything else; None leaves it.
      is_leaf: What else, inside of what is like the parameters, f takes, such as a
        `MaskedNode`; without it f sees arrays only.
      params: The parameters, or their shapes. With them f sees what has the shape of
        its parameter, so no factored statistics; without them all that stands where a
        parameter does.

    Returns:
      A tree like `state` with the results.

    Raises:
      ValueError: A state that is not of `initable`, or trees that do not match it.
      TypeError: `initable` is no transformation and no function.

    Differs from Optax: parameters left out by `masked` and `partition` need no is_leaf;
      `params`; a list of arrays for one parameter, as SM3 keeps, is not like it.

    Example:
      >>> tx = adamx.adamw(0.1)
      >>> params = {"w": jnp.zeros((2, 3))}
      >>> axes = {"w": "rows, columns"}
      >>> state = adamx.tree_map_params(
      ...     tx, lambda x, axes: axes, tx.init(params), axes,
      ...     transform_non_params=lambda x: None)
      >>> print(state[0])
      ScaleByAdamState(count=None, mu={'w': 'rows, columns'}, nu={'w': 'rows, columns'})
    """
    who = "tree_map_params"
    init = getattr(initable, "init", initable)
    if not callable(init):
        raise TypeError(
            f"{who}: expected a transformation or its init, got {describe(initable)}."
        )
    leaves, treedef = jax.tree.flatten(state, is_leaf=is_leaf)
    if params is not None or not rest:
        parts = parts_of(who, init, treedef, params, rest)
    else:  # where None may be what a leaf says
        parts = parts_of(
            who, init, treedef, rest[0], rest, lambda x: x is None or is_box(x)
        )
    shapes = list(map(np.shape, jax.tree.leaves(params)))

    def mapped(x: Any, part: Part) -> Any:
        any_shape = params is None or is_hole(x)
        if part.whole and (any_shape or np.shape(x) == shapes[part.place]):
            return f(x, *part.rest)
        return x if transform_non_params is None else transform_non_params(x)

    return treedef.unflatten(map(mapped, leaves, parts))


def reset_state(tx: Any, state: OptState, params: Params, where: MaskOrFn) -> OptState:
    """Makes a state in which some parameters start anew and the others go on.

    What a state keeps for a chosen parameter becomes what `tx.init(params)` makes it;
    what it keeps for the others stays, bit for bit. What it keeps for several
    parameters at once, such as a counter, starts anew only if all of them are chosen:
    in a group of `partition` or under `masked`, those that the group or the mask has,
    elsewhere all of the tree. So a parameter that starts anew under a counter that goes
    on has moments of 0 whose bias counts as corrected: for a few steps its updates are
    those of an optimizer without correction. Give it a group of its own to have its
    counter start, too.

    Args:
      tx: The transformation that made the state.
      state: The state.
      params: The parameters. A state that keeps a copy of them, as that of
        `schedule_free`, copies these.
      where: Which to choose, as the mask of `masked`; or a regular expression, which
        chooses the paths in which it is found.

    Returns:
      A tree with the structure, shapes and dtypes of `state`.

    Raises:
      ValueError: No parameter chosen; a state that is not of these parameters.
      TypeError: `tx` is no transformation; no bools.

    Example:
      >>> tx = adamx.sgd(0.1, momentum=0.9)
      >>> params = {"body": jnp.ones(2), "head": jnp.ones(2)}
      >>> _, state = tx.update(params, tx.init(params))
      >>> trace = adamx.reset_state(tx, state, params, "head")[0].trace
      >>> print(trace["body"], trace["head"])
      [1. 1.] [0. 0.]
    """
    who = "reset_state"
    tx = as_transformation(who, "tx", tx)
    if isinstance(where, str):
        where = by_path(found_in(who, where))
    chosen = rule_for(who, "where", where, as_bool)(params)
    places = {i for i, x in enumerate(chosen) if x}
    if not places:
        raise ValueError(
            f"{who}: expected where to choose some of the parameters, got none."
        )
    treedef = jax.tree.structure(state)
    new = []
    for (path, old, start), part in zip(
        beside(who, state, tx.init(params)),
        parts_of(who, tx.init, treedef, params),
        strict=True,
    ):
        if describe(old) != describe(start):
            raise misfit(who, path, describe(start), describe(old))
        belongs_to = part.counts_for if part.place is None else {part.place}
        new.append(start if belongs_to <= places else old)
    return treedef.unflatten(new)


def grow_state(
    tx: Any, state: OptState, params: Params, *, old_params: Params | None = None
) -> OptState:
    """Makes the state for parameters that have grown, from the state before.

    For new rows of a vocabulary, a wider head, more channels. Every array keeps its
    entries in the leading corner; what is new starts as `tx.init(params)` makes it;
    what has not grown stays, bit for bit. Where each entry is on its own, as in Adam,
    the old rows go on as if there were no new ones. Counters go on, too: see
    `reset_state` for what that means to moments of 0.

    Args:
      tx: The transformation that made the state, with the same settings.
      state: The state before.
      params: The parameters after growing, each at least as large along every axis.
      old_params: The parameters before, or their shapes. Needed only where the state
        has nothing of their shape, as that of Adafactor.

    Returns:
      A state of the structure and dtypes of `state` for `params`.

    Raises:
      ValueError: An array that shrinks or has another rank or dtype; another structure;
        an array of fewer axes than its parameter, such as factored statistics, where
        the old shape is not known or the axes change their order by size, since then
        another axis may be the factored one; a last axis of moments that
        `compress_state` has encoded.
      TypeError: `tx` is no transformation.

    Example:
      >>> tx = adamx.sgd(0.1, momentum=0.9)
      >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
      >>> print(adamx.grow_state(tx, state, jnp.zeros(4))[0].trace)
      [1. 1. 0. 0.]
    """
    who = "grow_state"
    tx = as_transformation(who, "tx", tx)
    treedef = jax.tree.structure(state)
    rows = beside(who, state, tx.init(params))
    parts = parts_of(who, tx.init, treedef, params)
    shapes = [np.shape(x) for x in jax.tree.leaves(params)]
    codes = tree_get_all_with_path(state, "encoded", is_encoded)
    encoded = {id(x) for x in jax.tree.leaves(codes)}
    before: dict[Any, tuple[int, ...]] = {}
    if old_params is not None:
        pairs = beside(who, old_params, params)
        before = {i: np.shape(old) for i, (_, old, _) in enumerate(pairs)}
    for (path, old, new), part in zip(rows, parts, strict=True):
        fits = old.ndim == new.ndim and old.dtype == new.dtype
        fits = fits and all(n <= m for n, m in zip(old.shape, new.shape, strict=True))
        if not fits or (part.place is None and old.shape != new.shape):
            raise misfit(who, path, f"at most {describe(new)}", describe(old))
        if id(old) in encoded and old.shape[-1:] != new.shape[-1:]:
            raise ValueError(
                f"{who}: expected the same last axis, got {describe(old)} to "
                f"{describe(new)}{at_path(path)}; codes there share scales in groups "
                "that would be other ones."
            )
        if part.place is not None and new.shape == shapes[part.place]:
            before.setdefault(part.place, old.shape)
    grown = {
        part.place
        for (_, old, new), part in zip(rows, parts, strict=True)
        if old.shape != new.shape
    }
    for (path, old, _), part in zip(rows, parts, strict=True):
        if part.place in grown and old.size > 1 and old.ndim < len(shapes[part.place]):
            check_order(who, path, before.get(part.place), shapes[part.place])
    return treedef.unflatten(
        [
            old
            if old.shape == new.shape
            else new.at[tuple(slice(n) for n in old.shape)].set(old)
            for _, old, new in rows
        ]
    )


def is_encoded(path: Any, value: Any) -> bool:
    """Whether a field is what `compress_state` has encoded."""
    return path[-1].tuple_name == "CompressedState"


def check_order(
    who: str, path: Any, before: tuple[int, ...] | None, after: tuple[int, ...]
) -> None:
    """Raises where a statistic of some axes may be of others after growing."""
    if before is None:
        raise ValueError(
            f"{who}: expected old_params, got none; the state does not show which axis "
            f"has grown of the parameter with statistics{at_path(path)}."
        )
    if order(before) != order(after):
        raise ValueError(
            f"{who}: expected axes that keep their order by size, got {list(before)} "
            f"to {list(after)} for the statistics{at_path(path)}; they may be of other "
            "axes then."
        )


def order(shape: tuple[int, ...]) -> list[int]:
    """The axes by size, as Adafactor has them."""
    return [int(axis) for axis in np.argsort(shape, kind="stable")]


def found_in(who: str, pattern: str) -> Callable[[str], bool]:
    """Whether a regular expression is found in a path."""
    expression = compiled(who, pattern)
    return lambda path: expression.search(path) is not None
