"""Several gradients in one step."""

import numpy as np

from oracle.adam import scale_by_adam


def MultiSteps(state, g, p, t, every_k_schedule=2):
    """Adam on the mean of the gradients of a window; 0 before the window is full."""
    inside = state.get("inside", {"mu": 0 * g, "nu": np.abs(0 * g)})
    window = [*inside.get("window", []), g]
    adam = {"mu": inside["mu"], "nu": inside["nu"]}
    u, acc_grads = 0 * g, np.mean(window, axis=0)
    if len(window) == every_k_schedule:
        u, adam = scale_by_adam(adam, acc_grads, p, t // every_k_schedule)
        window, acc_grads = [], 0 * g
    return u, {"inside": adam | {"window": window}, "acc_grads": acc_grads, **adam}
