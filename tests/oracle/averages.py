"""Averages of parameters, each with what its row has before it or inside; plateaus."""

import numpy as np

from oracle.adam import scale_by_adam
from oracle.moments import sgd
from oracle.scalars import complement, one_minus_power


def ema_params(state, g, p, t, decay=0.999, debias=True, warmup=False):
    """Averages where SGD leads (Tarvainen & Valpola, 2017, section 2)."""
    u, _ = sgd({}, g, p, t, 0.1)
    w = complement(decay) / (one_minus_power(decay, t) if debias else 1.0)
    w = max(w, 9 / (10 + t)) if warmup else w
    old = state.get("ema", p)
    return u, {"ema": old + w * (p + u - old)}


def tail_average(state, g, p, t, begin, every=1):
    """Averages some of where SGD leads (Izmailov et al., 2018, Algorithm 1)."""
    u, _ = sgd({}, g, p, t, 0.1)
    n, total = state.get("sum", {"n": 0, "of": np.zeros_like(p)}).values()
    if t >= begin and (t - begin) % every == 0:
        n, total = n + 1, total + p + u
    return u, {"mean": total / max(n, 1), "sum": {"n": n, "of": total}}


def lookahead(state, g, p, t, sync_period, slow_step_size):
    """Lookahead (Zhang et al., 2019, Algorithm 1) around Adam at a rate of 0.01."""
    u, new = scale_by_adam(state, g, p, t)
    u, slow = -0.01 * u, state.get("slow", p)
    if t % sync_period == 0:
        slow = slow + slow_step_size * (p + u - slow)
        u = slow - p
    return u, new | {"slow": slow}


def plateaus(
    values,
    factor=0.1,
    patience=10,
    rtol=1e-4,
    atol=0.0,
    cooldown=0,
    min_scale=0.0,
    mode="min",
):
    """The scale after each value, by the rule of PyTorch's ReduceLROnPlateau."""
    sign = 1 if mode == "min" else -1
    best, scale, bad, waits, scales = np.inf, 1.0, 0, 0, []
    for value in values:
        margin = 0.0 if np.isinf(best) else rtol * abs(best) + atol
        if sign * value < best - margin:
            best, bad = sign * value, 0
        else:
            bad += 1
        if waits > 0:
            waits, bad = waits - 1, 0
        if bad > patience:
            scale, waits, bad = max(scale * factor, min_scale), cooldown, 0
        scales.append(scale)
    return scales


def reduce_on_plateau(state, g, p, t, accumulation_size=1, **kwargs):
    """Scales by the plateaus of the norms of all gradients so far."""
    norms = [*state.get("norms", {"all": []})["all"]]
    norms.append(np.sqrt(sum(np.sum(np.abs(x) ** 2) for x in g)))
    whole = len(norms) // accumulation_size
    parts = np.reshape(norms[: whole * accumulation_size], (whole, accumulation_size))
    scale = [1.0, *plateaus(parts.mean(axis=1), **kwargs)][-1]
    return [scale * x for x in g], {"scale": scale, "norms": {"all": norms}}
