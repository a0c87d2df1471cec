"""Numbers of their own for some parameters, by rules on their paths."""

import adamx
from cases.case import NEW, case


def own(name, **fields):
    """A row whose rules go by the names of its arrays."""
    return case(
        name,
        aside=("multipliers", "weight_decays"),
        elementwise=False,
        whole_tree=True,
        wrap=lambda tx: tx,
        optax=NEW,
        **fields,
    )


def own_number(numbers, others):
    """A rule that works for any tree: the number of the last name in a path."""
    return lambda path: numbers.get(path.split("/")[-1], others)


CASES = [
    own(
        "scale_by_path",
        multipliers=adamx.by_path(own_number({"w": 0.3, "x": 0.0}, 1.5)),
    ),
    own(
        "add_decayed_weights_by_path",
        weight_decays=adamx.by_path(own_number({"w": 0.1, "x": 0.0}, 0.5)),
        needs_params=True,
    ),
]
