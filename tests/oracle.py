"""The oracle: every transformation in float64 NumPy, written from its paper.

Each function is one step of one algorithm on one array (`clip_by_global_norm` on a
list of arrays) and imports nothing of what it judges:

    update, state = step(state, g, p, t, **hyperparameters)

`state` is a dict of arrays, empty at first; `p` is the parameter before the step; `t`
counts from 1. Names of functions, hyperparameters and state entries are adamx's own.
"""

import numpy as np

# ---- scalars


def complement(b):
    """1 - b as its decimal digits say: 0.99999 gives 1e-5, not 1.00000000000655e-05."""
    return round(1 - b, 15)


def one_minus_power(b, t):
    """1 - b**t without cancellation."""
    return -np.expm1(t * np.log1p(-complement(b))) if b > 0 else 1.0


def at(value, t):
    """A number, or the value of a schedule at step t: schedules count from 0."""
    return value(t - 1) if callable(value) else value


def abs_sq(x):
    """|x|², real."""
    return np.square(np.real(x)) + np.square(np.imag(x))


def average(old, new, b):
    """b·old + (1 - b)·new."""
    return b * old + complement(b) * new


# ---- blocks without a memory of gradients


def identity(state, g, p, t):
    """Leaves g as it is."""
    return g, state


def set_to_zero(state, g, p, t):
    """Puts 0 in the place of g."""
    return np.zeros_like(g), state


def scale(state, g, p, t, step_size):
    """Multiplies by a number."""
    return step_size * g, state


def scale_by_schedule(state, g, p, t, step_size_fn):
    """Multiplies by the value of a schedule."""
    return at(step_size_fn, t) * g, state


def scale_by_learning_rate(state, g, p, t, learning_rate=None, flip_sign=True):
    """Multiplies by -learning_rate, the step downhill; None is 1."""
    rate = 1.0 if learning_rate is None else at(learning_rate, t)
    return (-rate if flip_sign else rate) * g, state


def add_decayed_weights(state, g, p, t, weight_decay=0.0):
    """Adds weight_decay·p (Loshchilov & Hutter, 2019)."""
    return g + at(weight_decay, t) * p, state


def bias_correction(state, g, p, t, b1=0.9, b2=0.999):
    """Multiplies by √(1 - b2ᵗ) / (1 - b1ᵗ) (Kingma & Ba, 2015, end of section 2)."""
    return g * np.sqrt(one_minus_power(b2, t)) / one_minus_power(b1, t), state


def clip(state, g, p, t, max_delta):
    """Clips each entry to ±max_delta."""
    return np.clip(g, -max_delta, max_delta), state


def clip_by_global_norm(state, g, p, t, max_norm):
    """Scales a list of arrays down to norm max_norm (Pascanu et al., 2013)."""
    norm = np.sqrt(sum(np.sum(abs_sq(x)) for x in g))
    return [x * max_norm / norm if norm >= max_norm else x for x in g], state


def clip_by_block_rms(state, g, p, t, threshold):
    """Scales an array down to an RMS of threshold (Shazeer & Stern, 2018)."""
    rms = np.sqrt(np.mean(abs_sq(g))) if g.size else 0.0
    return g / max(1.0, rms / threshold), state


def adaptive_grad_clip(state, g, p, t, clipping, eps=1e-3, axis=None):
    """Clips the norm of each unit to clipping·|p| (Brock et al., 2021, equation 3)."""
    if axis is None:
        axis = {2: 0, 3: 0, 4: (0, 1, 2), 5: (0, 1, 2, 3)}.get(g.ndim)

    def norm(x):
        return np.sqrt(np.sum(abs_sq(x), axis=axis, keepdims=True))

    limit = clipping * np.maximum(norm(p), eps)
    clipped = g * limit / np.maximum(norm(g), 1e-6)
    return np.where(norm(g) < limit, g, clipped), state


def centralize(state, g, p, t):
    """Subtracts the mean over all axes but the first (Yong et al., 2020)."""
    if g.ndim < 2:
        return g, state
    return g - np.mean(g, axis=tuple(range(1, g.ndim)), keepdims=True), state


def zero_nans(state, g, p, t):
    """Puts 0 in the place of NaN, and remembers whether there was one."""
    return np.where(np.isnan(g), 0, g), {"found_nan": np.any(np.isnan(g))}


# ---- first moments


def trace(state, g, p, t, decay, nesterov=False):
    """Sums gradients with decaying weights (Polyak, 1964; Sutskever et al., 2013)."""
    v = g + decay * state.get("trace", 0.0)
    return (g + decay * v if nesterov else v), {"trace": v}


def ema(state, g, p, t, decay, debias=True):
    """Averages gradients with decaying weights that sum to 1 if debias."""
    mean = average(state.get("ema", 0.0), g, decay)
    return mean / (one_minus_power(decay, t) if debias else 1.0), {"ema": mean}


def sgd(state, g, p, t, learning_rate, momentum=None, nesterov=False):
    """Gradient descent (Robbins & Monro, 1951), with momentum."""
    if momentum is not None:
        g, state = trace(state, g, p, t, momentum, nesterov)
    return -at(learning_rate, t) * g, state


# ---- second moments


def scale_by_rss(
    state, g, p, t, initial_accumulator_value=0.1, eps=1e-7, eps_in_sqrt=True
):
    """Divides by the root of the sum of squares (Duchi et al., 2011)."""
    s = state.get("sum_of_squares", initial_accumulator_value) + abs_sq(g)
    root = np.sqrt(s + eps) if eps_in_sqrt else np.sqrt(s) + eps
    return np.where(s > 0, g / np.where(s > 0, root, 1), 0), {"sum_of_squares": s}


def adagrad(state, g, p, t, learning_rate, **kwargs):
    """Adagrad (Duchi et al., 2011)."""
    u, state = scale_by_rss(state, g, p, t, **kwargs)
    return -at(learning_rate, t) * u, state


def scale_by_rms(
    state,
    g,
    p,
    t,
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    bias_correction=False,
):
    """Divides by the root mean square (Tieleman & Hinton, 2012, lecture 6.5)."""
    nu = average(state.get("nu", initial_scale), abs_sq(g), decay)
    nu_hat = nu / one_minus_power(decay, t) if bias_correction else nu
    root = np.sqrt(nu_hat + eps) if eps_in_sqrt else np.sqrt(nu_hat) + eps
    return g / root, {"nu": nu}


def scale_by_stddev(
    state,
    g,
    p,
    t,
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    bias_correction=False,
):
    """Divides by the standard deviation (Graves, 2013, equations 38 to 41)."""
    mu = average(state.get("mu", 0.0), g, decay)
    nu = average(state.get("nu", initial_scale), abs_sq(g), decay)
    c = one_minus_power(decay, t) if bias_correction else 1.0
    variance = np.maximum(nu / c - abs_sq(mu / c), 0)
    root = np.sqrt(variance + eps) if eps_in_sqrt else np.sqrt(variance) + eps
    return g / root, {"mu": mu, "nu": nu}


def rmsprop(
    state,
    g,
    p,
    t,
    learning_rate,
    centered=False,
    momentum=None,
    nesterov=False,
    **kwargs,
):
    """RMSprop; the learning rate of each step goes into the momentum with its step."""
    block = scale_by_stddev if centered else scale_by_rms
    u, moments = block(state, g, p, t, **kwargs)
    u = -at(learning_rate, t) * u
    if momentum is None:
        return u, moments
    u, velocity = trace(state, u, p, t, momentum, nesterov)
    return u, moments | velocity


# ---- the Adam family


def scale_by_adam(
    state,
    g,
    p,
    t,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    nesterov=False,
    debias=True,
):
    """Adam's direction (Kingma & Ba, 2015, Algorithm 1; Dozat, 2016, if nesterov)."""
    mu = average(state.get("mu", 0.0), g, b1)
    nu = average(state.get("nu", 0.0), abs_sq(g), b2)
    c1, c1_next, c2 = 1.0, 1.0, 1.0
    if debias:
        c1, c1_next = one_minus_power(b1, t), one_minus_power(b1, t + 1)
        c2 = one_minus_power(b2, t)
    m = b1 * mu / c1_next + complement(b1) * g / c1 if nesterov else mu / c1
    return m / (np.sqrt(nu / c2 + eps_root) + eps), {"mu": mu, "nu": nu}


def adam(state, g, p, t, learning_rate, **kwargs):
    """Adam (Kingma & Ba, 2015, Algorithm 1)."""
    u, state = scale_by_adam(state, g, p, t, **kwargs)
    return -at(learning_rate, t) * u, state


def adamw(state, g, p, t, learning_rate, weight_decay=1e-4, **kwargs):
    """AdamW (Loshchilov & Hutter, 2019, Algorithm 2, the decay times learning_rate)."""
    u, state = scale_by_adam(state, g, p, t, **kwargs)
    return -at(learning_rate, t) * (u + at(weight_decay, t) * p), state


def nadam(state, g, p, t, learning_rate, nesterov=True, **kwargs):
    """NAdam (Dozat, 2016) at a constant b1."""
    return adam(state, g, p, t, learning_rate, nesterov=nesterov, **kwargs)


def nadamw(state, g, p, t, learning_rate, nesterov=True, **kwargs):
    """NAdam with decoupled weight decay."""
    return adamw(state, g, p, t, learning_rate, nesterov=nesterov, **kwargs)


def scale_by_amsgrad(
    state,
    g,
    p,
    t,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    bias_correction_mu=True,
    bias_correction_nu=True,
    variant="optax",
):
    """AMSGrad's direction (Reddi, Kale & Kumar, 2018, Algorithm 2).

    The paper corrects no bias. Optax takes the maximum of corrected second moments,
    PyTorch corrects the maximum.
    """
    mu = average(state.get("mu", 0.0), g, b1)
    nu = average(state.get("nu", 0.0), abs_sq(g), b2)
    c1, c2 = one_minus_power(b1, t), one_minus_power(b2, t)
    if variant == "paper":
        bias_correction_mu = bias_correction_nu = False
    candidate = nu / c2 if variant == "optax" and bias_correction_nu else nu
    nu_max = np.maximum(state.get("nu_max", 0.0), candidate)
    m = mu / c1 if bias_correction_mu else mu
    v = nu_max / c2 if variant == "torch" else nu_max
    u = m / (np.sqrt(v + eps_root) + eps)
    return u, {"mu": mu, "nu": nu, "nu_max": nu_max}


def amsgrad(state, g, p, t, learning_rate, weight_decay=0.0, **kwargs):
    """AMSGrad (Reddi, Kale & Kumar, 2018), with decoupled weight decay."""
    u, state = scale_by_amsgrad(state, g, p, t, **kwargs)
    return -at(learning_rate, t) * (u + at(weight_decay, t) * p), state
