"""Runs that come from Optax or PyTorch, or go there: with their state.

`adamx.interop.optax` and `adamx.interop.torch` are imported by their names; each needs
its library, and nothing else in adamx does.
"""
