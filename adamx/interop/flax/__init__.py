"""Gradients of rows that Flax's `Embed` has looked up, and runs as bytes of msgpack.

loss, grads = value_and_row_grad(loss_fn)(model, batch)   # for `adamx.on_rows`
data = to_bytes(params, state)
params, state = from_bytes(tx, params, data)
"""

try:
    from adamx.interop.flax.embed import value_and_row_grad as value_and_row_grad
    from adamx.interop.flax.msgpack import from_bytes as from_bytes
    from adamx.interop.flax.msgpack import to_bytes as to_bytes
except ModuleNotFoundError as error:
    if error.name != "flax":
        raise
    raise ImportError("adamx.interop.flax needs Flax; install flax.") from error
