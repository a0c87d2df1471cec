"""Updates that are exported with `jax.export`, serialized, and called elsewhere.

Example:
  >>> from jax import export
  >>> from adamx.interop.export import register_states
  >>> register_states()
  >>> tx, params = adamx.adamw(0.1), {"w": jnp.ones(2)}
  >>> update = export.export(jax.jit(tx.update), platforms=["cpu", "cuda", "tpu"])
  >>> exported = update(params, tx.init(params), params)
  >>> print(*exported.platforms)
  cpu cuda tpu
"""

import functools
import json

from jax import export

import adamx


@functools.cache  # JAX takes a class once
def register_states() -> None:
    """Registers the classes of states, and `SparseRows`, for what has them in exports.

    `jax.export.Exported.serialize` needs it, and `jax.export.deserialize` in the other
    process, which needs adamx for these classes alone. Both need flatbuffers. In what
    is serialized a class has the name `adamx.NAME`.

    Returns:
      None; to call it again does nothing.

    Example:
      >>> from adamx.interop.export import register_states
      >>> register_states()
    """
    for kind in {x for x in vars(adamx).values() if isinstance(x, type)}:
        if tuple in kind.__bases__ and hasattr(kind, "_fields"):
            export.register_namedtuple_serialization(
                kind, serialized_name=f"adamx.{kind.__name__}"
            )
    export.register_pytree_node_serialization(
        adamx.SparseRows,
        serialized_name="adamx.SparseRows",
        serialize_auxdata=lambda fixed: json.dumps(fixed).encode(),
        deserialize_auxdata=lambda data: tuple(json.loads(data)),
    )
