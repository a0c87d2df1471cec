"""The parameter groups of an optimizer of PyTorch, with the names of parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

from adamx.interop.torch.layout import wrapper_of

Groups = list[tuple[Mapping[str, Any], dict[Any, str]]]


def named_groups(
    who: str,
    state_dict: Mapping[str, Any],
    param_names: Sequence[str] | None,
    needed: bool = True,
) -> Groups:
    """Each group, and the names of its parameters by their keys in the state."""
    parts = {"state", "param_groups"}
    if not isinstance(state_dict, Mapping) or not parts <= state_dict.keys():
        got = list(state_dict) if isinstance(state_dict, Mapping) else type(state_dict)
        raise ValueError(
            f"{who}: expected the state_dict() of an optimizer, with 'state' and "
            f"'param_groups', got {got}."
        )
    groups = state_dict["param_groups"]
    keys = [key for group in groups for key in group["params"]]
    if param_names is not None:
        names = list(param_names)
    elif all(isinstance(key, str) for key in keys):
        names = keys
    elif all("param_names" in group for group in groups):
        names = [name for group in groups for name in group["param_names"]]
    elif not needed:
        return [(group, {}) for group in groups]
    else:
        raise ValueError(
            f"{who}: expected param_names, which this state_dict() does not have; give "
            "[name for name, _ in model.named_parameters()], in the order of the "
            "optimizer's groups."
        )
    if len(names) != len(keys):
        raise ValueError(
            f"{who}: expected {len(keys)} param_names, one for each parameter of the "
            f"optimizer, got {len(names)}."
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"{who}: expected param_names that differ, got {twice!r} twice."
        )
    wrapper = wrapper_of(names)
    names = [name.removeprefix(wrapper) for name in names]
    by_key = dict(zip(keys, names, strict=True))
    return [(group, {key: by_key[key] for key in group["params"]}) for group in groups]
