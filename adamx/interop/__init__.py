"""Runs that come from Optax, PyTorch or a checkpoint, or go there: with their state.

`adamx.interop.optax`, `adamx.interop.torch`, `adamx.interop.orbax` and
`adamx.interop.flax` are imported by their names; each needs its library, and nothing
else in adamx does. `adamx.interop.export` is for what `jax.export` makes.
"""
