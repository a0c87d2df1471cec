"""Checkpoints of Orbax that fit when they are restored, or say what does not.

Orbax alone makes int8 of float32 where the target says so, takes the state of another
optimizer with fields of the same names, and returns other numbers for a file in which
some have changed.

Example:
  >>> import tempfile
  >>> from adamx.interop.orbax import restore, save_args
  >>> tx, params = adamx.adamw(0.1), {"w": jnp.ones(2)}
  >>> with tempfile.TemporaryDirectory() as folder:
  ...     with ocp.CheckpointManager(folder) as manager:
  ...         _ = manager.save(7, args=save_args(params, tx.init(params)))
  ...         params, state = restore(manager, tx, params)
  >>> print(params["w"], state[0].mu["w"])
  [1. 1.] [0. 0.]
"""

from typing import Any

import jax

from adamx._base import OptState, Params, describe
from adamx.interop._description import check, check_content, description, reading
from adamx.interop._target import ITEMS, filled, items_of, target_of

try:
    import orbax.checkpoint as ocp
except ModuleNotFoundError as error:
    if error.name not in ("orbax", "orbax.checkpoint"):
        raise
    raise ImportError(
        "adamx.interop.orbax needs Orbax; install orbax-checkpoint."
    ) from error


def save_args(params: Params, state: OptState, **items: Any) -> ocp.args.Composite:
    """Makes what a `CheckpointManager` is to save.

        manager.save(step, args=save_args(params, state))

    When, how often, how many to keep, and saving while the training goes on, are the
    manager's business; a save that is cut short leaves the one before as it was. The
    checksums of the arrays are computed on the devices, here and now.

    Args:
      params: The parameters.
      state: The state of the optimizer.
      **items: Arguments of Orbax for what else belongs to the step, by name, such as
        `data=ocp.args.JsonSave({"epoch": 3})`.

    Returns:
      The items "params" and "opt_state", trees of arrays as Orbax has them, where there
      are any; "adamx", their description in JSON; and those of `items`.

    Example:
      >>> from adamx.interop.orbax import save_args
      >>> params = {"w": jnp.ones(2)}
      >>> args = save_args(params, adamx.sgd(0.1).init(params))
      >>> print(*sorted(args.keys()))
      adamx params
    """
    # As JAX takes numbers and NumPy's arrays, float64 included.
    trees = jax.tree.map(
        jax.numpy.asarray, dict(zip(ITEMS, (params, state), strict=True))
    )
    args = {name: ocp.args.StandardSave(tree) for name, tree in items_of(trees).items()}
    return ocp.args.Composite(
        **args, adamx=ocp.args.JsonSave(description(trees)), **items
    )


def restore(
    manager: ocp.CheckpointManager,
    tx: Any,
    params: Params,
    *,
    step: int | None = None,
    shardings: Any = None,
) -> tuple[Params, OptState]:
    """Restores parameters and state of `save_args`, onto whatever devices there are.

    Before an array is read all of them are compared with those of `tx`, by name, shape,
    dtype and the class of their state; what was read is compared with the checksums. A
    state does not show settings, such as `b1`: give `tx` those that the run had.

    Args:
      manager: The manager, or another one with its folder.
      tx: The transformation that the state is for.
      params: The parameters, or their shapes. Each is restored to where it lies, or to
        the sharding of its shape.
      step: Which; None takes the last.
      shardings: Where the state is to lie, from `adamx.state_shardings`; None takes
        that of the parameters.

    Returns:
      The parameters, and a state of the structure, shapes and dtypes of
      `tx.init(params)`.

    Raises:
      ValueError: No such step; one that was not made with `save_args`, or for another
        `tx` or other parameters, with all differences in one message; one that is
        damaged; shardings of another structure.
      TypeError: `tx` is no transformation.

    Example:
      >>> import tempfile
      >>> from adamx.interop.orbax import restore, save_args
      >>> tx, params = adamx.sgd(0.1, momentum=0.9), {"w": jnp.ones(2)}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     with ocp.CheckpointManager(folder) as manager:
      ...         _ = manager.save(7, args=save_args(params, tx.init(params)))
      ...         params, state = restore(manager, tx, params, step=7)
      >>> print(state[0].trace["w"])
      [0. 0.]
    """
    who = "restore"
    target = target_of(who, tx, params, shardings)
    manager.wait_until_finished()
    steps = sorted(manager.all_steps())
    step = steps[-1] if step is None and steps else step
    if step not in steps:
        have = f"one of the steps {', '.join(map(str, steps))}" if steps else "a step"
        got = "none" if step is None else describe(step)
        raise ValueError(f"{who}: expected {have} in {manager.directory}, got {got}.")
    place = f"step {step} in {manager.directory}"
    others = ", ".join(str(x) for x in steps if x != step)
    do = f"restore another step, have {others}" if others else "there is no other step"

    expected = f"{who}: expected what save_args makes, got {place}"
    with reading(expected, do):
        args = ocp.args.Composite(adamx=ocp.args.JsonRestore())
        saved = manager.restore(step, args=args)["adamx"]
    check(who, saved, target, f"{place} is damaged: {do}")
    with reading(expected, do):
        items = items_of(target).items()
        args = {name: ocp.args.StandardRestore(tree) for name, tree in items}
        found = manager.restore(step, args=ocp.args.Composite(**args))
        run = {name: filled(tree, found.get(name)) for name, tree in target.items()}
    check_content(who, saved, run, f"{place} is damaged: {do}")
    return run["params"], run["opt_state"]
