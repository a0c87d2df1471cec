"""A wrapper that measures."""

import adamx
from cases.case import NEW, case

CASES = [
    case(
        "record",
        inner=adamx.scale_by_adam(),
        groups=adamx.by_path(lambda path: "w" if path.startswith("w") else "rest"),
        every=2,
        max_norm=1.0,
        aside=("inner", "groups", "every", "max_norm"),
        needs_params=True,
        roundings=1,
        optax=NEW,
    ),
]
