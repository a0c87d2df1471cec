"""Learning rates and weight decays of their own for some parameters."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from adamx._base import (
    Array,
    EmptyState,
    GradientTransformation,
    OptState,
    Params,
    Updates,
    check_in,
    describe,
    is_number,
    is_real_scalar,
    require_params,
)
from adamx._numerics import cast, hyperparameter, is_zero, product, times
from adamx._rules import rule_for
from adamx._tree import map_leaves


def scale_by_path(multipliers: Any) -> GradientTransformation:
    """Multiplies the updates of each parameter by a number of its own: u = m(path)·g.

    At the end of any optimizer these are multipliers of the learning rate, and the
    weight decay goes with them, as in PyTorch's parameter groups:
    `chain(adamw(1e-3), scale_by_path(multipliers))`. To leave the decay as it is put
    them before it: `chain(scale_by_adam(), scale_by_path(multipliers),
    add_decayed_weights(weight_decay), scale_by_learning_rate(learning_rate))`.

    Args:
      multipliers: A tree of numbers in [0, ∞) or scalar arrays like the parameters, a
        prefix of one, a function from a tree of shapes to such a tree, as
        `layerwise_decay` and `mup_multipliers` make them, or `by_path(rule)`. 1 leaves
        updates as they are; 0 gives zeros, whatever the updates, but what comes before
        keeps its state, where `selective_transform` has none.

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      ValueError: A number outside [0, ∞); at init, multipliers that do not cover the
        parameters.
      TypeError: Neither a number nor a scalar array.

    Example:
      >>> multipliers = adamx.by_path({r"embed": 0.1, r"": 1.0})
      >>> tx = adamx.chain(adamx.sgd(1.0), adamx.scale_by_path(multipliers))
      >>> params = {"embed": jnp.ones(()), "head": jnp.ones(())}
      >>> updates, _ = tx.update(params, tx.init(params))
      >>> print(updates["embed"], updates["head"])
      -0.1 -1.0
    """
    who = "scale_by_path"
    plans_of = plans_by(who, "multipliers", multipliers)

    def leaf(g: Array, arrays: list[Array], plan: float | int) -> Array:
        m = chosen(arrays, plan)
        return jnp.zeros_like(g) if is_zero(m) else times(g, m)

    def init(params: Params) -> EmptyState:
        plans_of(params)
        return EmptyState()

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        del params, extra_args
        plans, arrays = plans_of(updates)
        (updates,) = map_leaves(who, leaf, updates, scalars=(arrays,), plans=plans)
        return updates, state

    return GradientTransformation(init, update)


def add_decayed_weights_by_path(weight_decays: Any) -> GradientTransformation:
    """Adds to the updates the parameters times numbers of their own: u = g + d(path)·p.

    As `add_decayed_weights` with several numbers in one: its place in a chain decides
    what it means.

    Args:
      weight_decays: As multipliers in `scale_by_path`: numbers in [0, ∞), per step and
        unit of what follows in the chain; 0 leaves the updates as they are.

    Returns:
      A transformation. State: `EmptyState`.

    Raises:
      ValueError: A number outside [0, ∞); at init, weight_decays that do not cover the
        parameters; at update, no parameters, or trees that do not match.
      TypeError: Neither a number nor a scalar array.

    Example:
      >>> decays = adamx.by_path({r"kernel$": 0.1, r"": 0.0})
      >>> tx = adamx.add_decayed_weights_by_path(decays)
      >>> params = {"kernel": jnp.full((), 2.0), "bias": jnp.full((), 2.0)}
      >>> updates, _ = tx.update(params, tx.init(params), params)
      >>> print(updates["kernel"], updates["bias"])
      2.2 2.0

    Reference: Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101
    """
    who = "add_decayed_weights_by_path"
    plans_of = plans_by(who, "weight_decays", weight_decays)

    def leaf(g: Array, p: Array, arrays: list[Array], plan: float | int) -> Array:
        d = chosen(arrays, plan)
        return g if is_zero(d) else g + product(p, cast(d, p))

    def init(params: Params) -> EmptyState:
        plans_of(params)
        return EmptyState()

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        del extra_args
        read = (require_params(who, params),)
        plans, arrays = plans_of(updates)
        (updates,) = map_leaves(
            who, leaf, updates, read=read, scalars=(arrays,), plans=plans
        )
        return updates, state

    return GradientTransformation(init, update)


def plans_by(
    who: str, name: str, rule: Any
) -> Callable[[Any], tuple[list[float | int], list[Array]]]:
    """Gives the function from a tree to the number of each leaf.

    A number is one that the program knows, a float; or the place, an int, of a scalar
    array in a list.
    """

    def check(who: str, value: Any, where: str) -> Any:
        if is_number(value):
            check_in(who, f"{name}{where}", value, "[0, inf)")
        elif not is_real_scalar(value):
            raise TypeError(
                f"{who}: expected {name} as numbers or scalar arrays, got "
                f"{describe(value)}{where}."
            )
        return hyperparameter(value)

    numbers = rule_for(who, name, rule, check)

    def plans_of(tree: Any) -> tuple[list[float | int], list[Array]]:
        plans, arrays = [], []
        for x in numbers(tree):
            plans.append(x if is_number(x) else len(arrays))
            if not is_number(x):
                arrays.append(x)
        return plans, arrays

    return plans_of


def chosen(arrays: list[Array], plan: float | int) -> Any:
    """The number or the array that a plan means."""
    return arrays[plan] if isinstance(plan, int) else plan
