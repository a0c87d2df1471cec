"""Averages of parameters, and a rate that follows a measure."""

import numpy as np

import adamx
from cases.case import NEW, case


def after_sgd(tx):
    """At the end of a chain, where averages belong."""
    return adamx.chain(adamx.sgd(0.1), tx)


def fed_with_the_norm(tx):
    """In a chain, with the norm of the gradients as the value to watch."""

    def update(updates, state, params=None, **extra_args):
        extra_args |= {"value": adamx.global_norm(updates)}
        return tx.update(updates, state, params, **extra_args)

    return adamx.chain(adamx.identity(), adamx.GradientTransformation(tx.init, update))


def of_sums(case, state, g, p, t):
    """The magnitude of averages of p + u, where u leads uphill so that p grows."""
    u, new = case.step(state, -np.abs(g), np.abs(p), t)
    return u + (new["slow"] + np.abs(p) if "slow" in new else 0), new


def of_the_scale(case, state, g, p, t):
    """The magnitude for a scale that the norms of the gradients decide."""
    u, new = case.step(state, g, p, t)
    return [np.abs(x) for x in u], new


PARAMETERS = {
    "needs_params": True,
    "moves": True,
    "copies": True,
    "roundings": 2,
    "magnitude": of_sums,
    "optax": NEW,
}
# The rounding of p + u, of the size of both, enters a mean of which it may be all.
LANDED = PARAMETERS | {"wrap": after_sgd}

CASES = [
    case("ema_params", decay=0.9, **LANDED),
    case("ema_params", "raw", decay=0.99, debias=False, warmup=True, **LANDED),
    case("tail_average", begin=5, every=3, **(LANDED | {"copies": False})),
    case(
        "lookahead",
        fast_optimizer=adamx.adam(0.01),
        sync_period=3,
        slow_step_size=0.3,
        aside=("fast_optimizer",),
        wrap=lambda tx: adamx.chain(adamx.identity(), tx),
        **(PARAMETERS | {"optax": "Optax's takes pairs of parameters: test_averages"}),
    ),
    case(
        "reduce_on_plateau",
        factor=0.5,
        patience=2,
        cooldown=3,
        accumulation_size=2,
        min_scale=0.01,
        wrap=fed_with_the_norm,
        roundings=1,
        magnitude=of_the_scale,
        whole_tree=True,
        elementwise=False,
        optax="Optax's patience is one less",
    ),
]
