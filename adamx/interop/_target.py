"""What a checkpoint is to become: shapes, dtypes and where each array is to lie."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from adamx._base import Params
from adamx._chain import as_transformation
from adamx._parts import only
from adamx._rules import is_box
from adamx._sharding.states import state_shardings

ITEMS = ("params", "opt_state")


def target_of(who: str, tx: Any, params: Params, shardings: Any) -> dict[str, Any]:
    """The parameters and the state as shapes with shardings, by item."""
    tx = as_transformation(who, "tx", tx)
    # The shapes of numbers and of NumPy's arrays, too, as JAX takes them.
    shapes = jax.tree.map(shape, jax.eval_shape(lambda x: x, params))
    with jax.numpy_dtype_promotion("standard"):  # which Optax needs
        state = jax.eval_shape(tx.init, shapes)
    own = [getattr(x, "sharding", None) for x in jax.tree.leaves(params)]
    home = next(filter(None, own), jnp.zeros(()).sharding)
    if isinstance(home, NamedSharding):  # beside which numbers are whole
        home = NamedSharding(home.mesh, PartitionSpec())
        shardings = state_shardings(tx, params) if shardings is None else shardings
    places = [home] * len(jax.tree.leaves(state))
    if shardings is not None:
        places = jax.tree.leaves(shardings)
        like = jax.tree.structure(shardings) == jax.tree.structure(state)
        if not like or not all(isinstance(x, Sharding) for x in places):
            raise ValueError(
                f"{who}: expected shardings like the state, got another tree; make "
                "them with adamx.state_shardings(tx, params)."
            )
    return {
        "params": placed(shapes, [x or home for x in own]),
        "opt_state": placed(state, places),
    }


def shape(x: Any, sharding: Any = None) -> jax.ShapeDtypeStruct:
    """A shape, on its own or with a sharding."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def placed(shapes: Any, shardings: list[Any]) -> Any:
    """Shapes with shardings."""
    leaves, treedef = jax.tree.flatten(shapes)
    return treedef.unflatten(map(shape, leaves, shardings))


def bare(tree: Any) -> Any:
    """A tree as it is saved: no boxes of Flax, None for what has no entries.

    Of such arrays the type says all, and Orbax does not save them.
    """
    return jax.tree.map(
        lambda x: None if only(x).size == 0 else only(x), tree, is_leaf=is_box
    )


def items_of(trees: dict[str, Any]) -> dict[str, Any]:
    """The trees that Orbax saves: it takes none without arrays."""
    found = {name: bare(tree) for name, tree in trees.items()}
    return {name: tree for name, tree in found.items() if jax.tree.leaves(tree)}


def filled(target: Any, found: Any) -> Any:
    """The target with the arrays of a bare tree that was read, where they belong."""
    rest = iter(jax.tree.leaves(found))

    def leaf(x: Any) -> Any:
        y = next(rest) if x.size else jnp.zeros(x.shape, x.dtype)
        return jax.device_put(y, x.sharding)

    return jax.tree.map(leaf, target)
