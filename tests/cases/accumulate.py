"""Several gradients in one step."""

import numpy as np

import adamx
from cases.case import case


def cancelled(case, state, g, p, t):
    """The magnitude: Adam's is too small where the gradients of a window cancel."""
    u, true = case.step(state.get("true", {}), g, p, t)
    size, parts = case.step(state.get("size", {}), np.abs(g), np.abs(p), t)
    return np.maximum(size, np.abs(u)), parts | {"true": true, "size": parts}


TWO = {"opt": adamx.scale_by_adam(), "every_k_schedule": 2}

CASES = [
    case(
        "MultiSteps",
        **TWO,
        aside=("opt",),
        optax=TWO | {"accumulator_dtype": None},  # in float64 its default is float32
        magnitude=cancelled,
        roundings=1,
    ),
]
