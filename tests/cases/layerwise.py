"""Methods that see the norm of an array: its own, or that of its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle

from cases.case import NEW, case, decline


def trusted(case, state, g, p, t):
    """The magnitude of r·‖p‖ / ‖r‖, where r, and so ‖r‖, is what is left of a sum."""
    rate, decay = case.kwargs["learning_rate"], case.kwargs.get("weight_decay", 0.0)

    def direction(state, g, p):
        if case.name == "lars":
            return g + decay * p, state
        u, state = oracle.scale_by_adam(state, g, p, t, eps=1e-6)
        return u + decay * p, state

    r, true = direction(state.get("true", {}), g, p)
    size, sizes = direction(state.get("size", {}), np.abs(g), np.abs(p))
    norm = oracle.norm(r)
    u = size
    if norm and oracle.norm(p):
        u = oracle.norm(p) / norm * (size + np.abs(r) * (oracle.norm(size) / norm))
    new = {"true": true, "size": sizes, **sizes}
    if case.name == "lars":
        u, trace = oracle.trace(state, rate * u, p, t, 0.9)
        return u, new | trace
    return rate * u, new


def columns(params):
    """The axes of Adam-mini: one second moment for each column of a matrix."""
    return jax.tree.map(lambda p: (0,) if len(p.shape) == 2 else (), params)


CASES = [
    case("scale_by_trust_ratio", needs_params=True, elementwise=False),
    case(
        "scale_by_trust_ratio",
        "bounded",
        min_norm=2.0,
        trust_coefficient=0.1,
        eps=0.5,
        needs_params=True,
        elementwise=False,
    ),
    case("scale_by_param_block_norm", needs_params=True, elementwise=False),
    case("scale_by_param_block_rms", needs_params=True, elementwise=False),
    case(
        "lamb",
        learning_rate=0.01,
        weight_decay=0.1,
        needs_params=True,
        elementwise=False,
        magnitude=trusted,
    ),
    # With smaller steps float16 underflows between the blocks of the chain.
    case(
        "lars",
        learning_rate=1.0,
        weight_decay=0.1,
        trust_coefficient=1.0,
        needs_params=True,
        elementwise=False,
        magnitude=trusted,
    ),
    # PyTorch's has the paper's denominator, which differs where there is decay, and
    # the learning rate outside of the momentum, which differs where that changes.
    case(
        "lars",
        "torch",
        learning_rate=1.0,
        trust_coefficient=1.0,
        nesterov=True,
        without=("wide",),  # where it still does
        needs_params=True,
        elementwise=False,
        torch=(
            "pytorch_optimizer.LARS",
            {"lr": 1.0, "trust_coefficient": 1.0, "nesterov": True},
        ),
    ),
    case(
        "fromage",
        learning_rate=0.01,
        needs_params=True,
        elementwise=False,
        proportional=False,
        torch=("pytorch_optimizer.Fromage", {"lr": 0.01}),
    ),
    case(
        "fromage",
        "schedule",
        learning_rate=decline,
        weight_decay=0.1,
        optax=NEW,
        needs_params=True,
        elementwise=False,
    ),
    case("scale_by_novograd", elementwise=False),
    case(
        "scale_by_novograd",
        "bfloat16",
        b1=0.98,
        b2=0.98,
        mu_dtype=jnp.bfloat16,
        nu_dtype=jnp.bfloat16,
        stored=jnp.bfloat16,
        random=True,
        mean_ulps=4.0,  # the errors of 50 steps, up to half a unit each, √25 · 1/2
        elementwise=False,
        complex=False,
        optax=NEW,
    ),
    case(
        "novograd",
        learning_rate=0.01,
        weight_decay=0.1,
        needs_params=True,
        elementwise=False,
        torch=(
            "pytorch_optimizer.NovoGrad",
            {"lr": 0.01, "betas": (0.9, 0.25), "eps": 1e-6, "weight_decay": 0.1},
        ),
    ),
    case("scale_by_stable_adam", optax=NEW, elementwise=False),
    case(
        "stable_adamw",
        learning_rate=0.01,
        weight_decay=0.1,
        roundings=4,  # the direction, the decay, the division and the learning rate
        optax=NEW,
        needs_params=True,
        elementwise=False,
        torch=(
            "optimi.StableAdamW",
            {"lr": 0.01, "weight_decay": 0.1, "triton": False},
        ),
    ),
    case(
        "stable_adamw",
        "code",
        learning_rate=0.01,
        weight_decay=0.1,
        clipping_threshold=0.5,
        variant="code",
        optax=NEW,
        needs_params=True,
        elementwise=False,
    ),
    case(
        "scale_by_adam_mini",
        v_axes=columns,
        aside=("v_axes",),
        optax=NEW,
        elementwise=False,
    ),
    case(
        "adam_mini",
        learning_rate=0.01,
        v_axes=columns,
        weight_decay=0.1,
        aside=("v_axes",),
        optax=NEW,
        needs_params=True,
        elementwise=False,
    ),
]
