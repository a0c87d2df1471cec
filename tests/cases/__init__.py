"""The table of transformations: one row gives a transformation all its tests.

The rows stand in the files of this folder, each of which has a list `CASES`.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import adamx
from cases.case import Case

CASES: list[Case] = []
for found in pkgutil.iter_modules(__path__):
    module = importlib.import_module(f"cases.{found.name}")
    CASES += getattr(module, "CASES", [])


def wrapped(case_id: str, label: str, wrap: Callable[..., Any]) -> Case:
    """A row of the table with something around it, for which there is no oracle."""
    return dataclasses.replace(find(case_id), label=label, wrap=wrap)


def find(case_id: str) -> Case:
    """The row with that name."""
    return next(case for case in CASES if case.id == case_id)


# The first row of each name.
FIRST = {case.name: case for case in reversed(CASES)}

# With these everything that has to do with several optimizers is tested always, with
# all others in .ci/run.
USUAL = {"adam", "adamw", "sgd", "muon", "schedule_free_adamw"}

IS_MATRIX = adamx.by_path(lambda path: path.startswith("w"))
GROUPS = adamx.by_path(lambda path: "body" if path.startswith("w") else "head")

WRAPPED = [
    wrapped("adamw", "masked", lambda tx: adamx.masked(tx, IS_MATRIX)),
    wrapped("adam", "frozen", lambda tx: adamx.chain(tx, adamx.freeze(IS_MATRIX))),
    wrapped(
        "amsgrad",
        "selective",
        lambda tx: adamx.selective_transform(tx, freeze_mask=IS_MATRIX),
    ),
    wrapped(
        "adam",
        "partition",
        lambda tx: adamx.partition({"body": tx, "head": adamx.sgd(0.1)}, GROUPS),
    ),
    wrapped(
        "nadamw",
        "clipped",
        lambda tx: adamx.named_chain(
            ("clip", adamx.clip_by_global_norm(1.0)), ("nadamw", tx)
        ),
    ),
]
