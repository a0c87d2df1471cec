"""Parameters and states as bytes of Flax's msgpack, which fit or say what does not.

For a file of a run on one machine, that is written and read as a whole;
`adamx.interop.orbax` is for all else. `flax.serialization` alone looks at names, not at
shapes, dtypes or classes.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from adamx._base import OptState, Params
from adamx.interop._description import check, check_content, description, reading
from adamx.interop._target import ITEMS, bare, filled, target_of


def to_bytes(params: Params, state: OptState) -> bytes:
    """Makes bytes of parameters and a state.

    Args:
      params: The parameters, in containers that Flax writes: of an `nnx.State`
        `nnx.to_pure_dict` makes such.
      state: The state of the optimizer.

    Returns:
      What `flax.serialization.msgpack_restore` reads: the trees "params" and
      "opt_state", and "adamx", their description in JSON.

    Example:
      >>> from adamx.interop.flax import to_bytes
      >>> data = to_bytes({"w": jnp.ones(2)}, ())
      >>> print(serialization.msgpack_restore(data)["params"]["w"])
      [1. 1.]
    """
    trees = jax.tree.map(jnp.asarray, dict(zip(ITEMS, (params, state), strict=True)))
    run = {name: jax.tree.map(np.asarray, bare(tree)) for name, tree in trees.items()}
    return serialization.to_bytes(run | {"adamx": json.dumps(description(trees))})


def from_bytes(
    tx: Any, params: Params, data: bytes, *, shardings: Any = None
) -> tuple[Params, OptState]:
    """Makes parameters and a state of the bytes of `to_bytes`.

    They are compared as in `adamx.interop.orbax.restore`.

    Args:
      tx: The transformation that the state is for.
      params: The parameters, or their shapes. Each comes to where it lies, or to the
        sharding of its shape.
      data: The bytes.
      shardings: Where the state is to lie, from `adamx.state_shardings`; None takes
        that of the parameters.

    Returns:
      The parameters, and a state of the structure, shapes and dtypes of
      `tx.init(params)`.

    Raises:
      ValueError: Bytes that are not of `to_bytes`, are damaged, or are for another `tx`
        or other parameters, with all differences in one message; shardings of another
        structure.
      TypeError: `tx` is no transformation.

    Example:
      >>> from adamx.interop.flax import from_bytes, to_bytes
      >>> tx = adamx.sgd(0.1, momentum=0.9)
      >>> shape = jax.ShapeDtypeStruct((2,), jnp.ones(2).dtype)
      >>> params, state = from_bytes(tx, shape, to_bytes(jnp.ones(2), tx.init(shape)))
      >>> print(params, state[0].trace)
      [1. 1.] [0. 0.]
    """
    who = "from_bytes"
    target = target_of(who, tx, params, shardings)
    got = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
    expected, do = f"{who}: expected what to_bytes makes, got {got}", "save it again"
    with reading(expected, do):
        found: Any = serialization.msgpack_restore(data)
        saved = json.loads(found["adamx"])
    check(who, saved, target, f"the bytes are damaged: {do}")
    with reading(expected, do):
        run = {
            name: filled(tree, serialization.from_state_dict(bare(tree), found[name]))
            for name, tree in target.items()
        }
    check_content(who, saved, run, f"the bytes are damaged: {do}")
    return run["params"], run["opt_state"]
