"""A wrapper that changes nothing: what it is around, and each metric in NumPy."""

import numpy as np

from oracle.adam import scale_by_adam


def record(state, g, p, t):
    """The updates and the state of Adam's ratio, whatever is measured of them."""
    return scale_by_adam(state, g, p, t)


def norm_of_lists(arrays):
    """The norm of arrays as one vector."""
    return np.sqrt(sum(np.sum(np.abs(x) ** 2) for x in arrays))


def over(x, y):
    """x / y, and 0 where y is 0."""
    return x / y if y else 0.0


def metrics(gs, us, ps, nus=(), max_norm=None, eps=1e-8):
    """The metrics of lists of arrays; `nus` has pairs (m or None, v), corrected."""
    g, u, p = map(norm_of_lists, (gs, us, ps))
    dot = sum(np.sum(np.real(np.conj(x) * y)) for x, y in zip(gs, us, strict=True))
    found = {
        "grad_norm": g,
        "update_norm": u,
        "param_norm": p,
        "update_ratio": over(u, p),
        "effective_learning_rate": over(u, g),
        "cosine": over(-dot, g * u),
    }
    if max_norm is not None:
        found["clip_ratio"] = min(1.0, max_norm / g)
    if nus:
        v = np.concatenate([np.ravel(v) for _, v in nus])
        found["small_nu"] = np.mean(v <= eps**2)
    pairs = [(np.ravel(m), np.ravel(v)) for m, v in nus if m is not None]
    if pairs:
        m, v = (np.concatenate(column) for column in zip(*pairs, strict=True))
        counts = v > 0
        signal = np.abs(m[counts]) ** 2 / v[counts]
        found["signal_to_noise"] = np.mean(signal) if signal.size else 0.0
    return found
