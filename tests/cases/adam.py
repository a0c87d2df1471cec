"""Adam and its nearest relatives."""

import jax.numpy as jnp

from cases.case import NEW, case, decline

CASES = [
    case("scale_by_adam"),
    case("scale_by_adam", "b1=0", b1=0.0, b2=0.9),
    case(
        "scale_by_adam",
        "short",
        b1=0.1,
        b2=0.1,
        without=("sparse",),  # after 38 zeros nu is below the least float32
    ),
    case("scale_by_adam", "slow", b1=0.99, b2=0.99999, mean_ulps=5.0, max_ulps=32.0),
    case("scale_by_adam", "nesterov", nesterov=True),
    case("scale_by_adam", "eps_root", eps=1e-4, eps_root=1e-4),
    case("scale_by_adam", "raw", debias=False, optax=NEW),
    case(
        "scale_by_adam",
        "bfloat16",
        mu_dtype=jnp.bfloat16,
        stored=jnp.bfloat16,
        complex=False,
    ),
    # Rounded stochastically: each step by up to an ulp, at random.
    case(
        "scale_by_adam",
        "bfloat16 nu",
        nu_dtype=jnp.bfloat16,
        stored=jnp.bfloat16,
        random=True,
        optax=NEW,
    ),
    case("scale_by_amsgrad"),
    case("scale_by_amsgrad", "mu", bias_correction_nu=False),
    case("scale_by_amsgrad", "nu", bias_correction_mu=False, b2=0.99),
    case("scale_by_amsgrad", "torch", variant="torch", optax=NEW),
    case("scale_by_amsgrad", "paper", variant="paper", optax=NEW),
    case("adam", learning_rate=0.01, torch=("Adam", {"lr": 0.01})),
    case("adam", "schedule", learning_rate=decline, b1=0.95, b2=0.99),
    case(
        "adamw",
        learning_rate=0.01,
        weight_decay=0.1,
        needs_params=True,
        torch=("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ),
    case(
        "adamw", "schedule", learning_rate=0.01, weight_decay=decline, needs_params=True
    ),
    case("nadam", learning_rate=0.01),
    case("nadamw", learning_rate=0.01, weight_decay=0.1, needs_params=True),
    case("amsgrad", learning_rate=0.01),
    case(
        "amsgrad",
        "torch",
        learning_rate=0.01,
        variant="torch",
        optax=NEW,
        torch=("Adam", {"lr": 0.01, "amsgrad": True}),
    ),
    case(
        "amsgrad",
        "decay",
        learning_rate=0.01,
        weight_decay=0.1,
        variant="torch",
        optax=NEW,
        needs_params=True,
        torch=("AdamW", {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
    ),
]
