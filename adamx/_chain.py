"""Transformations one after another."""

import inspect
from typing import Any

from adamx._base import (
    GradientTransformation,
    OptState,
    Params,
    Updates,
)


def chain(*args: GradientTransformation) -> GradientTransformation:
    """Applies transformations in turn, each to the updates of the one before.

        updates, state[i] = args[i].update(updates, state[i], params, **extra_args)

    Args:
      *args: Transformations of adamx or Optax, at least one. Each gets the extra
        arguments that its `update` takes.

    Returns:
      A transformation. State: a tuple of the states, in order.

    Raises:
      TypeError: An argument that is no transformation.
      ValueError: No argument; at update, a state with another number of parts.

    Differs from Optax: an empty chain raises; `identity` says it.

    Example:
      >>> tx = adamx.chain(adamx.clip(1.0), adamx.scale(-0.1))
      >>> print(tx.update(jnp.array([5.0]), tx.init(jnp.zeros(1)))[0])
      [-0.1]
    """
    return in_turn("chain", [(f"argument {i + 1}", tx) for i, tx in enumerate(args)])


def named_chain(*args: tuple[str, GradientTransformation]) -> GradientTransformation:
    """Applies named transformations in turn; `state[name]` is the state of each.

    Args:
      *args: Pairs `(name, transformation)` with names that differ, at least one.

    Returns:
      A transformation. State: a dictionary from names to states.

    Raises:
      TypeError: An argument that is no pair of a name and a transformation.
      ValueError: No argument, or a name given twice.

    Example:
      >>> tx = adamx.named_chain(("clip", adamx.clip(1.0)), ("down", adamx.scale(-0.1)))
      >>> list(tx.init(jnp.zeros(1)))
      ['clip', 'down']
    """
    who = "named_chain"
    for pair in args:
        if not (type(pair) is tuple and len(pair) == 2 and isinstance(pair[0], str)):
            raise TypeError(
                f"{who}: expected pairs (name, transformation), got {pair!r}."
            )
    names = [name for name, _ in args]
    if len(set(names)) < len(names):
        raise ValueError(f"{who}: expected names that differ, got {names}.")
    inner = in_turn(who, list(args))

    def init(params: Params) -> OptState:
        return dict(zip(names, inner.init(params), strict=True))

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        # Not in order: JAX sorts the keys of a dictionary.
        if not isinstance(state, dict) or set(state) != set(names):
            got = list(state) if isinstance(state, dict) else type(state).__name__
            raise ValueError(
                f"{who}: expected a state with the names {names}, got {got}; make it "
                "with this transformation's init."
            )
        updates, states = inner.update(
            updates, tuple(state[name] for name in names), params, **extra_args
        )
        return updates, dict(zip(names, states, strict=True))

    return GradientTransformation(init, update)


def in_turn(who: str, members: list[tuple[str, Any]]) -> GradientTransformation:
    """The transformation that both chains are; a member's name is for messages."""
    if not members:
        raise ValueError(
            f"{who}: expected at least one transformation, got none; adamx.identity() "
            "does nothing."
        )
    txs = [as_transformation(who, name, tx) for name, tx in members]

    def init(params: Params) -> OptState:
        return tuple(tx.init(params) for tx in txs)

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        if not isinstance(state, tuple | list) or len(state) != len(txs):
            got = (
                len(state) if isinstance(state, tuple | list) else type(state).__name__
            )
            raise ValueError(
                f"{who}: expected a state of {len(txs)} parts, got {got}; make it with "
                "this transformation's init."
            )
        states = []
        for tx, part in zip(txs, state, strict=True):
            updates, part = tx.update(updates, part, params, **extra_args)
            states.append(part)
        return updates, tuple(states)

    return GradientTransformation(init, update)


def as_transformation(who: str, name: str, tx: Any) -> GradientTransformation:
    """Checks that `tx` has `init` and `update`; lets `update` take extra arguments."""
    functions = getattr(tx, "init", None), getattr(tx, "update", None)
    if isinstance(tx, type) or not all(map(callable, functions)):
        got, do = f"a {type(tx).__name__}", "make it with adamx or Optax"
        if callable(tx) and hasattr(tx, "__name__"):
            kind = "class" if isinstance(tx, type) else "function"
            got, do = f"the {kind} {tx.__name__}", f"call it: {tx.__name__}(...)"
        raise TypeError(
            f"{who}: expected a gradient transformation as {name}, got {got}; {do}."
        )
    if type(tx) is GradientTransformation:
        return tx
    parameters = inspect.signature(tx.update).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return GradientTransformation(tx.init, tx.update)
    taken = {p.name for p in parameters} - {"updates", "state", "params"}

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        extra_args = {k: v for k, v in extra_args.items() if k in taken}
        return tx.update(updates, state, params, **extra_args)

    return GradientTransformation(tx.init, update)
