"""The transformation that an optimizer of PyTorch is here, by its hyperparameters."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

import adamx
from adamx._base import GradientTransformation
from adamx.interop._states import refuse
from adamx.interop.torch.groups import named_groups
from adamx.interop.torch.layout import Layout
from adamx.interop.torch.optimizers import DECOUPLED, KINDS, Group, Kind

# How PyTorch runs, and what its schedulers note down.
ASIDE = {"params", "param_names", "foreach", "fused", "capturable", "differentiable"}
ASIDE |= {"initial_lr"}


def settings_of(group: Mapping[str, Any]) -> Group:
    """The hyperparameters of a group, as numbers."""
    return {
        name: x.item() if isinstance(x, torch.Tensor) else x
        for name, x in group.items()
        if name not in ASIDE
    }


def kind_of(who: str, group: Group) -> Kind:
    """The optimizer that has such hyperparameters."""
    names = group.keys() - {"maximize"}
    for kind in KINDS.values():
        if names == set(kind.hyperparams.split()):
            return kind
    raise ValueError(
        f"{who}: expected the hyperparameters of one of {', '.join(KINDS)}, got "
        f"{', '.join(sorted(names))}; make the transformation yourself."
    )


def fields_of(who: str, group: Mapping[str, Any], rank: int) -> list[str]:
    """What an optimizer keeps for a parameter of some rank, in its order."""
    settings = settings_of(group)
    if "amsgrad" in settings:  # with decoupled decay or not, it keeps the same
        settings.setdefault(DECOUPLED, False)
    return kind_of(who, settings).fields(settings, rank).split()


def momenta(group: Mapping[str, Any], step: int) -> float:
    """The product of the momenta of NAdam in all of its steps."""
    t = np.arange(1, step + 1)
    rise = 1 - 0.5 * 0.96 ** (t * group["momentum_decay"])
    return float(np.prod(group["betas"][0] * rise))


def transformation_from_torch(
    state_dict: Mapping[str, Any],
    layout: Layout | None = None,
    *,
    param_names: Sequence[str] | None = None,
    optimizer: str | None = None,
) -> GradientTransformation:
    """Makes the transformation that does what an optimizer of PyTorch does.

    With the learning rate of the moment: a scheduler is not in the `state_dict()`. For
    a schedule make the optimizer yourself.

    Args:
      state_dict: That of the optimizer.
      layout: As from `match`; needed where parameter groups differ. Parameters that
        are in none of the groups are then frozen.
      param_names: As in `state_from_torch`.
      optimizer: "Adam" or "AdamW", for versions of PyTorch and for torchao, whose
        `state_dict()` does not tell one from the other; None finds out.

    Returns:
      A transformation; `partition` with the labels "group 0", "group 1", ..., "frozen"
      where groups differ or parameters are in none. State: as of the optimizer in it.

    Raises:
      ValueError: Hyperparameters of another optimizer, or ones that adamx has no
        counterpart of; groups that differ, and no layout.

    Example:
      >>> from adamx.interop.torch import transformation_from_torch
      >>> weight = torch.nn.Parameter(torch.ones(1))
      >>> theirs = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.5)
      >>> tx = transformation_from_torch(theirs.state_dict())
      >>> params = jnp.ones(1)
      >>> print(tx.update(jnp.zeros(1), tx.init(params), params)[0])
      [-0.05]
    """
    who = "transformation_from_torch"
    if optimizer not in (None, "Adam", "AdamW"):
        raise ValueError(
            f"{who}: expected optimizer as None, 'Adam' or 'AdamW', got {optimizer!r}."
        )
    groups = named_groups(who, state_dict, param_names, needed=layout is not None)
    settings = [settings_of(group) for group, _ in groups]
    for group in settings:
        if "amsgrad" in group and (optimizer or DECOUPLED not in group):
            if optimizer is None:
                raise ValueError(
                    f"{who}: expected {DECOUPLED} in param_groups, got none; give "
                    "optimizer='Adam' or 'AdamW'."
                )
            group[DECOUPLED] = optimizer == "AdamW"
    same = all(group == settings[0] for group in settings)
    if layout is None:
        if not same:
            raise ValueError(
                f"{who}: expected groups with the same hyperparameters, got "
                f"{len(groups)} that differ; give layout."
            )
        return made(who, settings[0])
    labels = dict.fromkeys((p.path for p in layout.places.values()), "frozen")
    problems = []
    for i, (_, members) in enumerate(groups):
        for name in members.values():
            if name in layout.places:
                labels[layout.places[name].path] = f"group {0 if same else i}"
            else:
                problems.append(f"expected a name of the layout, got {name!r}")
    refuse(who, problems, "give the param_names that the layout has")
    used = set(labels.values())
    if used == {"group 0"}:
        return made(who, settings[0])
    parts: dict[Hashable, GradientTransformation] = {
        f"group {i}": made(who, group)
        for i, group in enumerate(settings)
        if f"group {i}" in used
    }
    if "frozen" in used:
        parts["frozen"] = adamx.set_to_zero()
    return adamx.partition(parts, adamx.by_path(lambda path: labels[path]))


def made(who: str, group: Group) -> GradientTransformation:
    """The transformation of one group."""
    try:
        tx = kind_of(who, group).make(group)
    except ValueError as error:
        if str(error).startswith(who):
            raise
        raise ValueError(
            f"{who}: expected {error}; make the transformation yourself."
        ) from None
    return adamx.chain(adamx.scale(-1.0), tx) if group.get("maximize") else tx
