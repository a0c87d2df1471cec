"""The methods of 2020 and later that change Adam's numerator or its order."""

import jax.numpy as jnp
import numpy as np
import oracle
from oracle import at, average, one_minus_power

from cases.case import NEW, STORAGE, case

OUTSIDE = {"learning_rate", "weight_decay", "proximal", *STORAGE}


def inside(case):
    """The arguments of the block that a recipe is made of."""
    return {k: v for k, v in case.kwargs.items() if k not in OUTSIDE}


def outside(case, u, p, t):
    """What a recipe makes of the magnitude of its block."""
    if "learning_rate" not in case.kwargs:
        return u
    decay = case.kwargs.get("weight_decay", 0.0)
    return at(case.kwargs["learning_rate"], t) * (u + decay * np.abs(p))


def lost(mean, size):
    """How much larger the error of a mean of squares is than an ulp of it.

    An x whose terms cancel is off by ulps of their sizes, so x² by 2·|x| times as much,
    and its mean by √(mean·size) at most, where size is the mean of the sizes squared.
    """
    return np.sqrt(size / np.where(mean > 0, mean, 1))


def adan_size(case, state, g, p, t):
    """The magnitude of Adan: g - g_last is exact but for its last bit."""
    kwargs = {"b1": 0.98, "b2": 0.92, "b3": 0.99, "eps_root": 0.0} | inside(case)
    b1, b2, b3 = (kwargs[name] for name in ("b1", "b2", "b3"))
    true, size = state.get("true", {}), state.get("size", {"n": 0.0})
    d = np.abs(g - true.get("g", 0.0)) if t > 1 else np.zeros(g.shape)
    m = average(state.get("m", 0.0), np.abs(g), b1)
    v = average(state.get("v", 0.0), d, b2)
    size = average(size["n"], (np.abs(g) + b2 * d) ** 2, b3)
    _, true = oracle.scale_by_adan(true, g, p, t, **kwargs)
    n = true["n"]
    root = np.sqrt(n / one_minus_power(b3, t) + kwargs["eps_root"]) + 1e-8
    u = m / one_minus_power(b1, t) + b2 * v / one_minus_power(b2, t)
    u = outside(case, u / root * (1 + lost(n, size)), p, t)
    sizes = {"m": m, "v": v, "n": n * lost(n, size), "g": np.abs(g)}
    return u, sizes | {"size": {"n": size}, "true": true}


def mars_size(case, state, g, p, t):
    """The magnitude of MARS: that of x before its norm is limited, limited as x is."""
    kwargs = {"b1": 0.95, "b2": 0.99, "gamma": 0.025, "eps": 1e-8} | inside(case)
    b1, b2, gamma = (kwargs[name] for name in ("b1", "b2", "gamma"))
    true, mean = state.get("true", {}), state.get("size", {"nu": 0.0})
    last = true.get("last", 0.0)
    size = np.abs(g)
    if kwargs.get("optimize_1d") or np.ndim(g) >= 2:
        free, limited = oracle.mars_gradient(g, last, b1, gamma)
        size = size + gamma * b1 / (1 - b1) * np.abs(g - last)
        # The norm of what has canceled is off, too, and so are all entries.
        norm, whole = np.linalg.norm(free.ravel()), np.linalg.norm(size.ravel())
        scale = max(1.0, float(norm))
        size = size / scale + np.abs(limited) * (whole / scale if norm > 1 else 0.0)
    else:
        b1, b2 = 0.9, 0.95
    _, true = oracle.scale_by_mars(true, g, p, t, **kwargs)
    mu = average(state.get("mu", 0.0), size, b1)
    mean = average(mean["nu"], size**2, b2)
    root = np.sqrt(true["nu"] / one_minus_power(b2, t)) + kwargs["eps"]
    u = mu / one_minus_power(b1, t) / root * (1 + lost(true["nu"], mean))
    sizes = {"mu": mu, "nu": true["nu"] * lost(true["nu"], mean), "last": np.abs(g)}
    return outside(case, u, p, t), sizes | {"size": {"nu": mean}, "true": true}


def hundredth(count):
    """A schedule that stays where it is."""
    return 0.01


def share(count):
    """1 / (1 + count) in Python's floats or in the widest of JAX."""
    return 1.0 / (1.0 + (count if isinstance(count, int) else count.astype(float)))


def rising_decay(count):
    """A schedule of a decay b up to 0.9999, where float32 has few digits of 1 - b."""
    return 0.9999 - 0.1 * share(count)


def rising_weight(count):
    """A schedule of a weight."""
    return 5.0 - 5.0 * share(count)


CASES = [
    case(
        "scale_by_adan",
        magnitude=adan_size,
        optax="Optax has 1 - b2 in the place of b2",
    ),
    case(
        "scale_by_adan",
        "bfloat16",
        mu_dtype=jnp.bfloat16,
        nu_dtype=jnp.bfloat16,
        stored=jnp.bfloat16,
        random=True,
        without=("switching",),  # where g stays, g - g_last is the rounding of g_last
        magnitude=adan_size,
        complex=False,
        optax=NEW,
    ),
    case("scale_by_adan", "b2=0.5", b2=0.5, magnitude=adan_size),  # 1 - b2 is b2
    case(
        "adan",
        learning_rate=0.01,
        eps_root=0.0,
        weight_decay=0.1,
        needs_params=True,
        magnitude=adan_size,
        optax="Optax has 1 - b2 in the place of b2",
        torch=(
            "pytorch_optimizer.Adan",
            {"lr": 0.01, "weight_decay": 0.1, "weight_decouple": True},
        ),
    ),
    case(
        "adan",
        "proximal",
        learning_rate=hundredth,  # no number, to which updates would be proportional
        eps_root=0.0,
        weight_decay=0.1,
        proximal=True,
        needs_params=True,
        magnitude=adan_size,
        optax="Optax has no proximal decay",
        torch=("optimi.Adan", {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-8}),
    ),
    case("scale_by_ademamix"),
    case(
        "scale_by_ademamix",
        "bfloat16",
        mu_dtype=jnp.bfloat16,
        nu_dtype=jnp.bfloat16,
        stored=jnp.bfloat16,
        random=True,
        complex=False,
        optax=NEW,
    ),
    case("scale_by_ademamix", "schedules", b3=rising_decay, alpha=rising_weight),
    case(
        "ademamix",
        learning_rate=0.01,
        weight_decay=0.1,
        needs_params=True,
        torch=(
            "pytorch_optimizer.AdEMAMix",
            {"lr": 0.01, "weight_decay": 0.1, "weight_decouple": True},
        ),
    ),
    # Since nu starts at its full size, b2·nu + (1 - b2)·|g|² of the oracle drifts by an
    # ulp of float64 a step where |g| is constant.
    case("scale_by_adopt", max_ulps=32.0),
    case(
        "scale_by_adopt",
        "unclipped",
        use_clipping=False,
        nesterov=True,
        eps=0.1,  # with 1e-6 a first gradient of 0 sends float16 out of its range
        mean_ulps=4.0,  # x falls by decades, and mu keeps the roundings of the first
        max_ulps=32.0,
    ),
    case(
        "adopt",
        learning_rate=0.01,
        weight_decay=0.1,
        needs_params=True,
        max_ulps=32.0,  # as above
        optax="Optax's has no weight decay",
        torch=(
            "adam_atan2_pytorch.adopt.Adopt",
            {
                "lr": 0.01,
                "betas": (0.9, 0.9999),
                "weight_decay": 0.1,
                "decoupled_wd": False,
            },
        ),
    ),
    case("scale_by_laprop", optax=NEW),
    case("laprop", learning_rate=0.01, weight_decay=0.1, needs_params=True, optax=NEW),
    case("scale_by_adam_atan2", optax=NEW, complex=False, without=("tiny",)),
    case(
        "adam_atan2",
        learning_rate=0.01,
        weight_decay=0.1,
        needs_params=True,
        optax=NEW,
        complex=False,
        without=("tiny",),  # where squares vanish, the angle is a right one
        torch=("adam_atan2_pytorch.AdamAtan2", {"lr": 0.01, "weight_decay": 0.1}),
    ),
    case("scale_by_mars", elementwise=False, optax=NEW, magnitude=mars_size),
    case(
        "mars",
        learning_rate=0.01,
        weight_decay=0.1,
        needs_params=True,
        elementwise=False,
        magnitude=mars_size,
        optax=NEW,
        torch=("pytorch_optimizer.MARS", {"lr": 0.01, "weight_decay": 0.1}),
        torch_tolerance=3e-6,  # it adds 1e-15 to nu, and eps before nu is corrected
    ),
    case(
        "scale_by_mars",
        "optimize_1d",
        optimize_1d=True,
        gamma=1.0,
        elementwise=False,
        optax=NEW,
        magnitude=mars_size,
    ),
]
