"""Wrappers that leave steps out, around Adam on a list of arrays."""

import numpy as np

from oracle.adam import scale_by_adam


def finite(g):
    """Whether no array of a list holds a NaN or an infinity."""
    return all(np.isfinite(x).all() for x in g)


def adam_of_lists(state, g, p):
    """The state as reports show it and Adam's next updates, with a counter of its own.

    What is no array of a report is in dicts.
    """
    t = state.get("taken", {"t": 0})["t"] + 1
    moments = state.get("moments", {i: {} for i in range(len(g))})
    updates, new = [], {}
    for i, (x, y) in enumerate(zip(g, p, strict=True)):
        u, new[i] = scale_by_adam(moments[i], x, y, t)
        updates.append(u)
    return updates, inside(new, t)


def inside(moments, t):
    """The part of a state that is Adam's."""
    arrays = {name: [m[name] for m in moments.values()] for name in ("mu", "nu")}
    return {"taken": {"t": t}, "moments": moments, **arrays}


def step_if(condition, state, g, p):
    """Adam's step, or none."""
    if condition:
        return adam_of_lists(state, g, p)
    zeros = [np.zeros_like(x) for x in g]
    start = {i: {"mu": x, "nu": np.abs(x)} for i, x in enumerate(zeros)}
    moments, taken = state.get("moments", start), state.get("taken", {"t": 0})
    return zeros, inside(moments, taken["t"])


def apply_if_finite(state, g, p, t, max_consecutive_errors):
    """Leaves out steps that are not finite, up to so many in a row."""
    good = finite(g)
    in_a_row = 0 if good else state.get("notfinite_count", 0) + 1
    u, new = step_if(good or in_a_row > max_consecutive_errors, state, g, p)
    total = state.get("total_notfinite", 0) + (not good)
    return u, new | {
        "notfinite_count": np.float64(in_a_row),
        "last_finite": np.bool_(good),
        "total_notfinite": np.float64(total),
    }


def dynamic_loss_scale(
    state,
    g,
    p,
    t,
    initial_scale,
    growth_interval,
    growth_factor=2.0,
    backoff_factor=0.5,
    min_scale=1.0,
    max_scale=2.0**24,
):
    """Adapts the scale of a loss (Micikevicius et al., 2018, section 3.2)."""
    scale = state.get("loss_scale", np.float64(initial_scale))
    g = [x / scale for x in g]
    good = finite(g)
    u, new = step_if(good, state, g, p)
    count = state.get("growth_count", 0) + 1 if good else 0
    if not good:
        scale = max(scale * backoff_factor, min_scale)
    elif count == growth_interval:
        scale, count = min(scale * growth_factor, max_scale), 0
    total = state.get("total_notfinite", 0) + (not good)
    return u, new | {
        "loss_scale": np.float64(scale),
        "growth_count": np.float64(count),
        "total_notfinite": np.float64(total),
    }


def skip_spikes(state, g, p, t, sigmas=6.0, window=128, min_steps=None):
    """Leaves out steps whose norm is far above the last ones, as OLMo-core does."""
    values = state.get("window", {"values": []})["values"]
    enough = len(values) >= (window // 2 if min_steps is None else min_steps)
    x = np.sqrt(sum(np.sum(np.abs(y) ** 2) for y in g))
    limit = np.inf
    if enough and np.any(values):
        deviation = max(np.std(values, ddof=1), 2.0**-23 * abs(np.mean(values)))
        limit = np.mean(values) + sigmas * deviation
    fine = np.isfinite(x) and x <= limit
    if np.isfinite(x):
        values = [*values, min(x, limit)][-window:]
    u, new = step_if(fine, state, g, p)
    return u, new | {
        "window": {"values": values},
        "values": np.array([0.0] * (window - len(values)) + values),
        "known": np.float64(len(values)),
        "last_skipped": np.bool_(not fine),
        "total_skipped": np.float64(state.get("total_skipped", 0) + (not fine)),
    }
