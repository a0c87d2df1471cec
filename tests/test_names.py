"""Names are Optax's: positional parameters, order, defaults; additions by keyword."""

import inspect
import types

import optax
import pytest

import adamx

NAMES = [name for name in dir(adamx) if not name.startswith("_")]
TWINS = vars(optax.contrib) | vars(optax)
CALLABLE = [
    name
    for name in NAMES
    if inspect.isfunction(getattr(adamx, name)) and callable(TWINS.get(name))
]
# What has Optax's name and another meaning stands in the README's differences.
OTHER_MEANING = {"bias_correction"}
# One object, two names: only where code written for Optax needs it.
ALIASES = {"GradientTransformationExtraArgs": "GradientTransformation"}


def parameters(function):
    listed = inspect.signature(function).parameters.values()
    return {p.name: (p.kind, p.default) for p in listed}


@pytest.mark.parametrize("name", sorted(set(CALLABLE) - OTHER_MEANING))
def test_shared_names_take_what_optax_takes(name):
    ours, theirs = parameters(getattr(adamx, name)), parameters(TWINS[name])
    positional = [
        n for n, (kind, _) in ours.items() if kind != inspect.Parameter.KEYWORD_ONLY
    ]
    their_positional = [
        n for n, (kind, _) in theirs.items() if kind != inspect.Parameter.KEYWORD_ONLY
    ]
    assert positional == their_positional
    assert theirs.keys() <= ours.keys()
    for parameter, (_, default) in theirs.items():
        made = inspect.isfunction(default) or hasattr(default, "init")
        if not made:  # by a call, so never equal
            assert ours[parameter][1] == default, parameter


def test_the_list_of_shared_names_is_not_empty():
    assert {"adam", "chain", "partition", "sgdr_schedule", "muon"} <= set(CALLABLE)
    assert len(CALLABLE) > 90


def test_states_have_the_fields_of_optax():
    shared = 0
    for name in NAMES:
        ours, theirs = getattr(adamx, name), TWINS.get(name)
        both_states = hasattr(ours, "_fields") and hasattr(theirs, "_fields")
        if inspect.isclass(ours) and both_states:
            assert ours._fields == theirs._fields, name
            shared += 1
    assert shared >= 20


def test_every_name_has_one_path():
    seen = {}
    for name in NAMES:
        thing = getattr(adamx, name)
        if isinstance(thing, types.ModuleType):
            assert name in {"interop", "lab"}, f"adamx.{name} is a module"
        elif getattr(thing, "__module__", "").startswith("adamx."):
            seen.setdefault(thing, []).append(name)
    several = {tuple(sorted(names)) for names in seen.values() if len(names) > 1}
    assert several == {tuple(sorted(pair)) for pair in ALIASES.items()}


def test_the_front_page_names_what_it_imports():
    for name in NAMES:
        thing = getattr(adamx, name)
        if getattr(thing, "__module__", "").startswith("adamx."):
            assert thing.__name__ == ALIASES.get(name, name)
