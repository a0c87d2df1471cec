"""Adam with a root for its second moment."""

import jax.numpy as jnp

from cases.case import NEW, case

CASES = [
    case("scale_by_adam_root", optax=NEW),
    case("scale_by_adam_root", "eps", b1=0.5, b2=0.9, eps=1e-4, optax=NEW),
    case(
        "scale_by_adam_root",
        "slow",
        b1=0.99,
        b2=0.99999,
        mean_ulps=5.0,
        max_ulps=32.0,
        optax=NEW,
    ),
    case(
        "scale_by_adam_root",
        "bfloat16",
        b2=0.9,
        mu_dtype=jnp.bfloat16,
        nu_dtype=jnp.bfloat16,
        stored=jnp.bfloat16,
        complex=False,
        optax=NEW,
    ),
]
