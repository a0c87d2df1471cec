"""A transformation that works on the touched rows of tables alone."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adamx._align import at_path, counterparts
from adamx._base import (
    GradientTransformation,
    OptState,
    Params,
    Updates,
    check_in,
    describe,
)
from adamx._chain import as_transformation
from adamx._fields import tree_get_all_with_path
from adamx._parts import beside
from adamx._rows import SparseRows, is_rows
from adamx._touched import arrays_of, rows_of
from adamx._wrappers.catch_up import catch_up

# What moves, or averages, rows that have no gradient in this step.
EVERY_ROW = ["MultiStepsState", "WeightedMultiStepsState", "EmaParamsState"]
EVERY_ROW += ["TailAverageState", "LookaheadWithSlowState", "LookaheadState"]


def on_rows(
    inner: GradientTransformation, *, unseen: Mapping[str, Any] | None = None
) -> GradientTransformation:
    """Updates only those rows of a table that have a gradient.

        s = state[ids], p = params[ids]        of each table with `SparseRows`
        u, s = inner(values, s, p)
        state[ids] = s                         other rows stay, to the bit

    Around a whole optimizer: `on_rows(adam(1e-3))` is PyTorch's SparseAdam, and AdamW,
    Adagrad and SGD with momentum are no different. Other leaves have their dense
    gradients as always; masks, `partition`, clipping by the global norm, schedules and
    `apply_if_finite` go inside. A step costs what the touched rows cost: donate state
    and parameters to the jitted step, or JAX copies them whole. On CPU that of
    `fused_adamw`, which takes `SparseRows` too, is faster.

    Rows without a gradient are not moved by their momentum, nor by weight decay. What
    sums gradients, as a norm does, sees what it would see of the dense one. What takes
    a mean over a table, its norm, or its factors (`cautious`, `lamb`, `muon`) sees the
    touched rows as the table: leave tables to another optimizer with `partition`.

    To accumulate gradients, give the ids and values of all batches to one `sum_rows`.

    On a mesh a table may be split by rows or by columns, and ids and values by batch:
    nothing is sent but ids and touched rows. Axes that are Explicit ask for
    `jax.sharding.auto_axes` around the step.

    Args:
      inner: The transformation, of adamx or Optax.
      unseen: What a step without a gradient does to a row, made up for when the row is
        met again: from the name of a field of the state, or "params", to the number in
        [0, 1] by which it multiplies. For `adamw(rate, weight_decay=decay)` that are
        {"mu": b1, "nu": b2, "params": 1 - rate·decay}: then moments, and what decays,
        are those of the dense optimizer, to rounding; the moves that its momentum would
        have made are still left out. "params" asks for a rate that is constant.

    Returns:
      A transformation. State: that of `inner`; with `unseen` an `OnRowsState`. Its
      updates have `SparseRows` where the gradients have.

    Raises:
      ValueError: A factor outside [0, 1]; at init, a field that the state has not, or
        an inner transformation that has to see all rows (gradient accumulation, an
        average of parameters); at update, a state without a row for each row of a
        table, as that of `adafactor`, or that depends on their number, or a table of
        another shape.
      TypeError: `inner` is no transformation; `unseen` no dictionary.

    Example:
      >>> tx = adamx.on_rows(adamx.sgd(0.5))
      >>> params = {"table": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}
      >>> rows = adamx.sum_rows(jnp.array([1, 1]), jnp.ones((2, 2)), num_rows=3)
      >>> grads = {"table": rows, "bias": jnp.ones(2)}
      >>> updates, _ = tx.update(grads, tx.init(params), params)
      >>> print(adamx.apply_updates(params, updates)["table"])
      [[ 0.  0.]
       [-1. -1.]
       [ 0.  0.]]
    """
    who = "on_rows"
    inner = as_transformation(who, "inner", inner)
    if not isinstance(unseen, Mapping | None):
        raise TypeError(
            f"{who}: expected unseen as a dictionary from fields to numbers, got "
            f"{describe(unseen)}."
        )
    for name, factor in (unseen or {}).items():
        check_in(who, f"unseen[{name!r}]", factor, "[0, 1]")
    inner = inner if unseen is None else catch_up(who, inner, unseen)

    def init(params: Params) -> OptState:
        state = inner.init(params)
        for name in EVERY_ROW:
            if tree_get_all_with_path(state, name):
                raise ValueError(
                    f"{who}: expected an inner transformation that needs no row "
                    f"without a gradient, got one with {name}; leave tables to another "
                    "with adamx.partition, inside."
                )
        return state

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        grads, treedef = jax.tree.flatten(updates, is_leaf=is_rows)
        if not any(map(is_rows, grads)):
            return inner.update(updates, state, params, **extra_args)
        near = None if params is None else rows_of(who, updates, params)
        whole, structure = jax.tree.flatten(state)
        small = arrays_of(updates)
        owners = owners_of(who, inner.init, state, grads, shapes_of(small, near))
        old = [
            x if i is None else grads[i].of(x)
            for x, i in zip(whole, owners, strict=True)
        ]
        moves, new = inner.update(small, structure.unflatten(old), near, **extra_args)
        if jax.tree.structure(new) != structure:
            raise ValueError(
                f"{who}: expected an inner transformation that does with few rows what "
                "it does with a table, got one whose state changes; give "
                "compress_state min_size=0."
            )
        state = structure.unflatten(
            [
                y if i is None else grads[i].into(x, y)
                for x, y, i in zip(whole, jax.tree.leaves(new), owners, strict=True)
            ]
        )
        moves = zip(grads, jax.tree.leaves(moves), strict=True)
        return treedef.unflatten([like(g, u) for g, u in moves]), state

    return GradientTransformation(init, update)


def like(g: Any, u: Any) -> Any:
    """The update u as rows where g is; zeros where an id stands for nothing."""
    if not is_rows(g):
        return u
    known = (g.ids < g.num_rows).reshape((-1,) + (1,) * (u.ndim - 1))
    return SparseRows(g.ids, jnp.where(known, u, 0), g.num_rows)


def shapes_of(updates: Updates, params: Params | None) -> Any:
    """The tree for which the state was made, without values."""
    leaves, treedef = jax.tree.flatten(updates)
    if params is not None:
        leaves = counterparts("on_rows", updates, params, "params")
    return treedef.unflatten(
        [jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)) for x in leaves]
    )


def owners_of(
    who: str, init: Callable[..., Any], state: Any, grads: list[Any], shapes: Any
) -> list[int | None]:
    """For each array of a state the place of the table of which it has the rows.

    Found by asking `init` about larger tables, each of another number of rows more.
    """
    tables = {
        i: (g.num_rows, g.num_rows + 2 + i) for i, g in enumerate(grads) if is_rows(g)
    }
    leaves, treedef = jax.tree.flatten(shapes)
    for i, (_, longer) in tables.items():
        shape = (longer, *(d + 1 for d in leaves[i].shape[1:]))
        leaves[i] = jax.ShapeDtypeStruct(shape, leaves[i].dtype)
    probe = jax.eval_shape(init, treedef.unflatten(leaves))
    owners = []
    for path, x, y in beside(who, state, probe):
        ends = np.shape(x)[:1] + y.shape[:1]
        fits = [i for i, rows in tables.items() if ends == rows]
        if not fits and np.shape(x) != y.shape:
            raise ValueError(
                f"{who}: expected a state with a row for each row of a table, got "
                f"{describe(x)}{at_path(path)}; leave the table to another optimizer "
                "with adamx.partition, inside."
            )
        owners.append(fits[0] if fits else None)
    return owners
