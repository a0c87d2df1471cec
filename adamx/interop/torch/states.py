"""States of optimizers of PyTorch as states here, and the other way round."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import torch

from adamx._base import OptState, describe
from adamx._chain import as_transformation
from adamx._parts import beside
from adamx.interop._states import fitted, refuse, unlike, where
from adamx.interop.torch.fields import (
    Slot,
    array_for,
    arrays_from,
    check_meaning,
    shape_in_torch,
    slots_of,
)
from adamx.interop.torch.groups import named_groups
from adamx.interop.torch.layout import Layout
from adamx.interop.torch.tensors import plain, to_torch
from adamx.interop.torch.transformation import fields_of, momenta

Entries = dict[int, dict[str, np.ndarray]]  # what is kept, by place in the tree
DO = "give the tx, the layout and the param_names of this state"


def state_from_torch(
    tx: Any,
    state_dict: Mapping[str, Any],
    layout: Layout,
    *,
    param_names: Sequence[str] | None = None,
    count: int | None = None,
) -> OptState:
    """Makes the state of a transformation from that of an optimizer of PyTorch.

        exp_avg, exp_avg_sq, max_exp_avg_sq   mu, nu, nu_max       (AdaMax: exp_inf, nu)
        sum · square_avg · momentum_buffer    sum_of_squares · nu · trace
        row_var, col_var · variance           v_row, v_col · v
        step                                  every count

    Chains, groups and masks in `tx` are no matter: each array goes to its parameter.
    `mu_product` of NAdam is a function of the count here. 8-bit moments of bitsandbytes
    and torchao are decoded, exactly, with the values that are saved with them.

    Args:
      tx: The transformation to go on with, such as `transformation_from_torch` makes.
      state_dict: That of the optimizer.
      layout: As from `match`, of parameters alone.
      param_names: PyTorch's names of the parameters in the order of the optimizer's
        groups; None are those in `state_dict`, which has them where the optimizer was
        made from `named_parameters()`.
      count: Steps so far, for an optimizer that does not count, as SGD, if `tx` does.

    Returns:
      A state of the structure, shapes and dtypes of `tx.init(params)`.

    Raises:
      ValueError: What is missing, left over or different, all of it in one message;
        step counts that differ within a group of `tx`; moments that mean something else
        in `tx`, as those of Adam in AdaMax; factors of other axes, as Adafactor has
        them for convolutions.
      TypeError: `tx` is no transformation.

    Example:
      >>> from adamx.interop.torch import match, state_from_torch
      >>> weight = torch.nn.Parameter(torch.zeros(1, 2))
      >>> theirs = torch.optim.SGD([("weight", weight)], lr=0.1, momentum=0.9)
      >>> weight.grad = torch.tensor([[1.0, 2.0]])
      >>> theirs.step()
      >>> layout = match({"weight": weight}, {"kernel": jnp.zeros((2, 1))})
      >>> tx = adamx.sgd(0.1, momentum=0.9)
      >>> print(state_from_torch(tx, theirs.state_dict(), layout)[0].trace["kernel"].T)
      [[1. 2.]]
    """
    who = "state_from_torch"
    tx = as_transformation(who, "tx", tx)
    check_count(who, count)
    entries = entries_of(who, state_dict, layout, param_names)
    names = {place.index: name for name, place in layout.places.items()}
    places = {place.index: place for place in layout.places.values()}
    steps = {i: int(x["step"]) for i, x in entries.items() if "step" in x}
    used: dict[int, set[str]] = {i: {"step", "mu_product"} for i in entries}
    problems, leaves = [], []
    slots = slots_of(who, tx, layout)
    for slot in slots:
        i, x = slot.part.place, None
        if i is None:
            x, problem = count_for(slot, steps, names, count)
            problems += [problem] if problem else []
        elif i not in entries:
            problems.append(f"expected a state of {names.get(i)!r}, got none")
        else:
            field, x = array_for(slot, entries[i], places[i])
            used[i].add(field)
            if x is None:
                problems.append(f"expected {field} of {names[i]!r}, got nothing")
            elif (new := fitted(slot.want, x)) is None:
                problems.append(unlike(slot.want, x, f"{field} of {names[i]!r}"))
            else:
                x = new
        leaves.append(x)
    for i, entry in entries.items():
        for field in sorted(entry.keys() - used[i]):
            got = describe(entry[field])
            problems.append(f"expected no {field} of {names[i]!r}, got {got}")
    refuse(who, list(dict.fromkeys(problems)), DO)
    check_meaning(who, tx, layout, set().union(*used.values()))
    return jax.tree.structure(jax.eval_shape(tx.init, layout.params)).unflatten(leaves)


def check_count(who: str, count: int | None) -> None:
    """Raises unless the count is None or a number of steps."""
    if count is not None and (type(count) is not int or not 0 <= count < 2**31):
        raise ValueError(
            f"{who}: expected count as a number of steps or None, got {count!r}."
        )


def entries_of(
    who: str,
    state_dict: Mapping[str, Any],
    layout: Layout,
    param_names: Sequence[str] | None,
) -> Entries:
    """What PyTorch keeps for each parameter, decoded, and of the shapes that it has."""
    problems, entries, known = [], {}, set()
    for _, members in named_groups(who, state_dict, param_names):
        known |= members.keys()
        for key, name in members.items():
            place = layout.places.get(name)
            if place is None:
                problems.append(f"expected a name of the layout, got {name!r}")
                continue
            try:
                entry = plain(state_dict["state"].get(key) or {})
            except ValueError as error:
                problems.append(f"expected {error} for {name!r}")
                continue
            for field, x in entry.items():
                want = shape_in_torch(field, place)
                if x.shape != want:
                    got = f"{field} of {name!r}"
                    problems.append(unlike(f"{list(want)}", f"{list(x.shape)}", got))
            step = entry.get("step", np.zeros(()))
            if step.shape == () and not (0 <= step < 2**31 and step == int(step)):
                problems.append(f"expected a number of steps of {name!r}, got {step}")
            if entry:
                entries[place.index] = entry
    for key in sorted(state_dict["state"].keys() - known, key=str):
        problems.append(f"expected no state of parameter {key!r}, got it in no group")
    refuse(who, problems, DO)
    return entries


def count_for(
    slot: Slot, steps: dict[int, int], names: dict[int, str], count: int | None
) -> tuple[Any, str]:
    """The count of the parameters that a slot counts for, or what is wrong."""
    path = where(slot.path)
    if slot.field[1] != "count" or slot.want.shape or slot.want.dtype != np.int32:
        return None, unlike(slot.want, "nothing", path)
    seen = {steps[i]: names[i] for i in sorted(slot.part.counts_for) if i in steps}
    if len(seen) > 1:
        got = " and ".join(f"{n} for {name!r}" for n, name in seen.items())
        return None, unlike("one number of steps", got, path)
    if not seen and count is None:
        return None, unlike("count, as PyTorch has none", "None", path)
    return fitted(slot.want, next(iter(seen), count)), ""


def state_to_torch(
    tx: Any,
    state: OptState,
    state_dict: Mapping[str, Any],
    layout: Layout,
    *,
    param_names: Sequence[str] | None = None,
    count: int | None = None,
) -> dict[str, Any]:
    """Makes the state of an optimizer of PyTorch from that of a transformation.

    Args:
      tx: The transformation so far.
      state: Its state.
      state_dict: That of the optimizer of PyTorch to go on with, as it is when made; it
        says which one it is and what it keeps.
      layout: As in `state_from_torch`, like `param_names`.
      param_names: None are those in `state_dict`.
      count: Steps so far, for a state that does not count, as that of `rmsprop`.

    Returns:
      A `state_dict` with the same `param_groups`, to be loaded by that optimizer.

    Raises:
      ValueError: As in `state_from_torch`; a state that is not of `tx`.
      TypeError: `tx` is no transformation.

    Example:
      >>> from adamx.interop.torch import match, state_to_torch
      >>> weight = torch.nn.Parameter(torch.zeros(1, 2))
      >>> theirs = torch.optim.SGD([("weight", weight)], lr=0.1, momentum=0.9)
      >>> params = {"kernel": jnp.zeros((2, 1), jnp.float32)}
      >>> layout = match({"weight": weight}, params)
      >>> tx = adamx.sgd(0.1, momentum=0.9)
      >>> state = tx.init(params)
      >>> state_to_torch(tx, state, theirs.state_dict(), layout)["state"]
      {0: {'momentum_buffer': tensor([[0., 0.]])}}
    """
    who = "state_to_torch"
    tx = as_transformation(who, "tx", tx)
    check_count(who, count)
    kept, steps, problems = parts_by_place(who, tx, state, layout)
    entries: dict[Any, dict[str, torch.Tensor]] = {}
    fields: set[str] = set()
    for group, members in named_groups(who, state_dict, param_names):
        for key, name in members.items():
            place = layout.places.get(name)
            if place is None:
                problems.append(f"expected a name of the layout, got {name!r}")
                continue
            wanted = fields_of(who, group, len(place.torch_shape))
            entry = arrays_from(kept.pop(place.index, []), place, wanted)
            seen = sorted(steps.get(place.index, set() if count is None else {count}))
            if "step" in wanted and len(seen) != 1:
                got = " and ".join(map(str, seen)) or "none; give count"
                problems.append(f"expected one count for {name!r}, got {got}")
                continue
            if "step" in wanted:
                entry["step"] = np.array(seen[0], np.float32)
            if "mu_product" in wanted:
                entry["mu_product"] = np.array(momenta(group, seen[0]), np.float32)
            for field in wanted:
                if field not in entry:
                    problems.append(f"expected {field} of {name!r}, got nothing")
            for field in sorted(entry.keys() - set(wanted)):
                got = describe(entry[field])
                problems.append(f"expected no {field} of {name!r}, got {got}")
            fields |= entry.keys()
            if entry:
                entries[key] = {k: to_torch(entry[k]) for k in wanted if k in entry}
    for name, place in layout.places.items():
        if place.index in kept:
            problems.append(f"expected {name!r} in a group, got it in none")
    refuse(who, list(dict.fromkeys(problems)), DO)
    check_meaning(who, tx, layout, fields)
    groups = [dict(group) for group in state_dict["param_groups"]]
    return {"state": entries, "param_groups": groups}


def parts_by_place(
    who: str, tx: Any, state: OptState, layout: Layout
) -> tuple[dict[int, list[tuple[Slot, np.ndarray]]], dict[int, set[int]], list[str]]:
    """The arrays of a state and its counts by parameter, and what belongs to none."""
    kept: dict[int, list[tuple[Slot, np.ndarray]]] = {}
    steps: dict[int, set[int]] = {}
    problems = []
    rows = beside(who, state, jax.eval_shape(tx.init, layout.params))
    for slot, (_, x, _) in zip(slots_of(who, tx, layout), rows, strict=True):
        i = slot.part.place
        if np.shape(x) != slot.want.shape:
            problems.append(unlike(slot.want, x, where(slot.path)))
        elif i is not None:
            kept.setdefault(i, []).append((slot, np.asarray(x)))
        elif slot.field[1] == "count":
            for j in slot.part.counts_for:
                steps.setdefault(j, set()).add(int(x))
        else:
            problems.append(unlike("nothing", x, where(slot.path)))
    return kept, steps, problems
