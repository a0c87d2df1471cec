"""Wrappers that leave steps out."""

import optax

import adamx
from cases.case import NEW, case

CASES = [
    case(
        "apply_if_finite",
        inner=adamx.scale_by_adam(),
        max_consecutive_errors=3,
        aside=("inner",),
        whole_tree=True,
        roundings=2,
        optax={"inner": optax.scale_by_adam(), "max_consecutive_errors": 3},
    ),
    case(
        "dynamic_loss_scale",
        inner=adamx.scale_by_adam(),
        initial_scale=4.0,
        growth_interval=7,
        max_scale=64.0,
        aside=("inner",),
        whole_tree=True,
        roundings=2,
        optax=NEW,
    ),
    case(
        "skip_spikes",
        inner=adamx.scale_by_adam(),
        sigmas=2.0,
        window=16,
        aside=("inner",),
        whole_tree=True,
        elementwise=False,
        roundings=2,
        optax=NEW,
    ),
]
