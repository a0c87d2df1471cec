"""Transformations for some of the leaves."""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import jax

from adamx._align import counterparts
from adamx._base import (
    GradientTransformation,
    MaskOrFn,
    Params,
    Updates,
    check_flag,
    check_state,
    describe,
    set_to_zero,
)
from adamx._chain import as_transformation
from adamx._rules import as_bool, rule_for


class MaskedNode(NamedTuple):
    """What stands in a tree for a leaf that is left out: a node without leaves."""


class MaskedState(NamedTuple):
    """State of `masked`."""

    inner_state: Any  # the inner state, with MaskedNode() for leaves left out


class PartitionState(NamedTuple):
    """State of `partition`."""

    inner_states: Any  # dict: label -> MaskedState


def masked(
    inner: GradientTransformation,
    mask: MaskOrFn,
    *,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformation:
    """Applies `inner` where the mask is True; other updates pass through unchanged.

    Passing through a gradient that nothing scales down is gradient ascent: to hold
    parameters fixed use `freeze` or `selective_transform`.

    Args:
      inner: The transformation; it keeps no state for leaves left out.
      mask: Tree of bools like the parameters, a prefix of one, a function from a tree
        of shapes like the parameters to such a tree, or `by_path(rule)`.
      mask_compatible_extra_args: Whether extra arguments that are trees like the
        updates are masked too.

    Returns:
      A transformation. State: `MaskedState`.

    Raises:
      TypeError: `inner` is no transformation, or the mask holds something else.
      ValueError: At init, a mask that does not cover the parameters.

    Differs from Optax: a mask is matched by path, so that a dictionary serves for a
      FrozenDict or an `nnx.State`; a function sees shapes only, the same in `init` and
      `update`.

    Example:
      >>> tx = adamx.masked(adamx.scale(-1.0), {"w": True, "b": False})
      >>> updates, _ = tx.update({"w": 1.0, "b": 1.0}, tx.init({"w": 0.0, "b": 0.0}))
      >>> print(updates["w"], updates["b"])
      -1.0 1.0
    """
    return masked_as("masked", inner, mask, mask_compatible_extra_args)


def masked_as(
    who: str,
    inner: GradientTransformation,
    mask: MaskOrFn,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformation:
    """The transformation `masked`, whose errors name `who`."""
    inner = as_transformation(who, "inner", inner)
    check_flag(who, "mask_compatible_extra_args", mask_compatible_extra_args)
    chosen = rule_for(who, "mask", mask, as_bool)

    def init(params: Params) -> MaskedState:
        return MaskedState(inner.init(keep(params, chosen(params))))

    def update(
        updates: Updates, state: MaskedState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, MaskedState]:
        check_state(who, state, MaskedState)
        parts = [(chosen(updates), inner, state)]
        updates, (state,) = update_parts(
            who, parts, updates, params, extra_args, mask_compatible_extra_args
        )
        return updates, state

    return GradientTransformation(init, update)


def partition(
    transforms: Mapping[Hashable, GradientTransformation],
    param_labels: Any,
    *,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformation:
    """Applies to each leaf the transformation that its label names.

    A transformation sees the leaves of its own label only: clipping by the global norm
    inside is per group.

    Args:
      transforms: Dictionary from labels to transformations.
      param_labels: Tree of labels like the parameters, a prefix of one, a function from
        a tree of shapes like the parameters to such a tree, or `by_path(rule)`.
      mask_compatible_extra_args: Whether extra arguments that are trees like the
        updates are divided too.

    Returns:
      A transformation. State: `PartitionState`, one `MaskedState` for each label.

    Raises:
      TypeError: A value of `transforms` that is no transformation.
      ValueError: At init, labels that do not cover the parameters or that name no
        transformation.

    Example:
      >>> groups = {"fast": adamx.sgd(1.0), "slow": adamx.sgd(0.1)}
      >>> tx = adamx.partition(groups, {"w": "slow", "b": "fast"})
      >>> updates, _ = tx.update({"w": 1.0, "b": 1.0}, tx.init({"w": 0.0, "b": 0.0}))
      >>> print(updates["w"], updates["b"])
      -0.1 -1.0
    """
    who = "partition"
    if not isinstance(transforms, Mapping) or not transforms:
        raise TypeError(
            f"{who}: expected transforms as a dictionary from labels to "
            f"transformations, got {describe(transforms)}."
        )
    check_flag(who, "mask_compatible_extra_args", mask_compatible_extra_args)
    txs = {
        label: as_transformation(who, f"transforms[{label!r}]", tx)
        for label, tx in transforms.items()
    }

    def known(who: str, label: Any, where: str) -> Any:
        if label not in txs:
            have = ", ".join(map(repr, txs))
            place = f" ({where.strip()})" if where else ""
            raise ValueError(
                f"{who}: no transformation for label {label!r}{place}; have {have}."
            )
        return label

    labels_of = rule_for(who, "param_labels", param_labels, known)

    def init(params: Params) -> PartitionState:
        labels = labels_of(params)
        return PartitionState(
            {
                label: MaskedState(tx.init(keep(params, [x == label for x in labels])))
                for label, tx in txs.items()
            }
        )

    def update(
        updates: Updates,
        state: PartitionState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, PartitionState]:
        check_state(who, state, PartitionState)
        if set(state.inner_states) != set(txs):
            raise ValueError(
                f"{who}: expected states for the labels {list(txs)}, got "
                f"{list(state.inner_states)}; make them with its init."
            )
        labels = labels_of(updates)
        parts = [
            ([x == label for x in labels], tx, state.inner_states[label])
            for label, tx in txs.items()
        ]
        updates, states = update_parts(
            who, parts, updates, params, extra_args, mask_compatible_extra_args
        )
        return updates, PartitionState(dict(zip(txs, states, strict=True)))

    return GradientTransformation(init, update)


def freeze(mask: MaskOrFn) -> GradientTransformation:
    """Holds parameters fixed where the mask is True: u = 0 there, u = g elsewhere.

    At the end of a chain. The transformations before it still keep a state for frozen
    parameters, and weight decay before it does not reach them; `selective_transform`
    keeps no state.

    Args:
      mask: As in `masked`; True freezes.

    Returns:
      A transformation. State: `MaskedState`.

    Raises:
      TypeError: As in `masked`.
      ValueError: As in `masked`.

    Example:
      >>> tx = adamx.chain(adamx.sgd(1.0), adamx.freeze({"w": True, "b": False}))
      >>> params = {"w": jnp.ones(()), "b": jnp.ones(())}
      >>> updates, _ = tx.update(params, tx.init(params))
      >>> print(updates["w"], updates["b"])
      0.0 -1.0
    """
    return masked_as("freeze", set_to_zero(), mask)


def selective_transform(
    optimizer: GradientTransformation, *, freeze_mask: MaskOrFn
) -> GradientTransformation:
    """Trains with `optimizer` where the mask is False; elsewhere u = 0, with no state.

    Args:
      optimizer: The transformation for the parameters that train.
      freeze_mask: As in `masked`; True freezes.

    Returns:
      A transformation. State: `PartitionState` with the labels "train" and "freeze".

    Raises:
      TypeError: As in `masked`.
      ValueError: As in `masked`.

    Example:
      >>> mask = adamx.by_path(lambda path: path.startswith("body"))
      >>> tx = adamx.selective_transform(adamx.adam(1e-3), freeze_mask=mask)
      >>> state = tx.init({"body": jnp.ones(3), "head": jnp.ones(3)})
      >>> print(state.inner_states["train"].inner_state[0].mu["body"])
      MaskedNode()
    """
    who = "selective_transform"
    optimizer = as_transformation(who, "optimizer", optimizer)
    frozen = rule_for(who, "freeze_mask", freeze_mask, as_bool)

    def labels(shapes: Any) -> Any:
        names = ["freeze" if x else "train" for x in frozen(shapes)]
        return jax.tree.structure(shapes).unflatten(names)

    return partition({"train": optimizer, "freeze": set_to_zero()}, labels)


def keep(tree: Any, chosen: list[bool]) -> Any:
    """The tree with MaskedNode() for the leaves that are not chosen."""
    leaves, treedef = jax.tree.flatten(tree)
    kept = [x if c else MaskedNode() for x, c in zip(leaves, chosen, strict=True)]
    return treedef.unflatten(kept)


def update_parts(
    who: str,
    parts: list[tuple[list[bool], GradientTransformation, MaskedState]],
    updates: Updates,
    params: Params,
    extra_args: dict[str, Any],
    divide_extra_args: bool,
) -> tuple[Updates, list[MaskedState]]:
    """Updates the chosen leaves of each part; the parts do not overlap."""
    results, treedef = jax.tree.flatten(updates)
    if params is not None:
        params = treedef.unflatten(counterparts(who, updates, params, "params"))
    states = []
    for chosen, tx, state in parts:
        extra = extra_args
        if divide_extra_args:
            extra = {
                name: keep(x, chosen) if jax.tree.structure(x) == treedef else x
                for name, x in extra_args.items()
            }
        kept = None if params is None else keep(params, chosen)
        part, inner_state = tx.update(
            keep(updates, chosen), state.inner_state, kept, **extra
        )
        new = iter(jax.tree.leaves(part))
        results = [next(new) if c else x for x, c in zip(results, chosen, strict=True)]
        states.append(MaskedState(inner_state))
    return treedef.unflatten(results), states
