"""Counts the passes over memory of what stands around AdamW, and times them.

For each step the bytes a parameter that its maths has to move, if each array is read
and written once; those that XLA counts in the compiled program, which on CPU makes
three passes of AdamW and counts both sides of a branch; and the time over that of
Optax's AdamW without anything around it, all in turn in one process. XLA does not see
into the fused kernel, which is not counted. Of accumulation, accumulation.py.

    python benchmarks/passes.py [--quick] [--json PATH]

Exits with 1 if adamx breaks one of `LIMITS`.
"""

import argparse
import functools
import math
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import step_time
from report import begin, finish, show
from step_time import SETTINGS, Steps, chained, fused
from timing import interleave, ratio
from trees import TREES

import adamx

LIMITS = {"over Optax's": 1.8}  # the time of the same around AdamW
TREE = "resnet50"
NORM = 1.0


class Case(NamedTuple):
    """What stands around AdamW."""

    least: float  # bytes a parameter
    adamx: Any
    optax: Any = None  # the same of Optax
    fused: Any = None  # settings of `fused_adamw` that do the same


ADAMW, OPTAX = adamx.adamw(**SETTINGS), optax.adamw(**SETTINGS)
CASES = {
    "nothing": Case(28, ADAMW, OPTAX, {}),
    "clip_by_global_norm": Case(  # gradients are read for their norm first
        32,
        adamx.chain(adamx.clip_by_global_norm(NORM), ADAMW),
        optax.chain(optax.clip_by_global_norm(NORM), OPTAX),
        {"max_norm": NORM},
    ),
    "apply_if_finite": Case(  # as well
        32, adamx.apply_if_finite(ADAMW, 5), optax.apply_if_finite(OPTAX, 5)
    ),
    "record": Case(28, adamx.record(ADAMW)),
    "ema_params": Case(36, adamx.chain(ADAMW, adamx.ema_params(0.999))),
    "compress_state": Case(
        16.1,
        adamx.compress_state(ADAMW),
        fused={"codec": adamx.companded_codec()},
    ),
}


def makers():
    """A function that makes a step and its `init`, for each column of each case."""
    made = {}
    for name, case in CASES.items():
        made[f"{name}, adamx"] = functools.partial(chained, adamx, case.adamx)
        if case.optax:
            made[f"{name}, optax"] = functools.partial(chained, optax, case.optax)
        if case.fused is not None:
            made[f"{name}, fused"] = functools.partial(fused, **case.fused)
    return made


def counted(maker, shapes):
    """Bytes a parameter of the compiled step, as XLA counts them."""
    step, init = maker()
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    compiled = step.lower(params, params, jax.eval_shape(init, params)).compile()
    size = sum(math.prod(shape) for shape in shapes)
    return compiled.cost_analysis()["bytes accessed"] / size


def main():
    """Counts, measures, prints, and compares adamx with its limits."""
    parser = argparse.ArgumentParser(description="Counts passes over memory.")
    parser.add_argument("--quick", action="store_true", help="a small tree")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    head = begin()
    shapes = TREES["gpt2 tiny" if args.quick else TREE]
    made = makers()
    step_time.MAKERS.update(made)
    steps, names = Steps(shapes, list(made)), list(made)
    interleave(1, lambda name: steps.run(name, 1), names)
    taken = interleave(5, lambda name: steps.run(name, 1), names)
    base = "nothing, optax"
    rows, figures = [], {}
    for name, case in CASES.items():
        row: dict[str, Any] = {"around AdamW": name, "least bytes": case.least}
        for column in ("adamx", "optax"):
            key = f"{name}, {column}"
            row[f"{column}, bytes"] = counted(made[key], shapes) if key in made else ""
        for column in ("adamx", "optax", "fused"):
            key = f"{name}, {column}"
            row[f"{column}, time"] = ratio(taken, key, base) if key in made else ""
        row["adamx, ms"] = 1e3 * statistics.median(taken[f"{name}, adamx"])
        rows.append(row)
        if case.optax:
            pair = ratio(taken, f"{name}, adamx", f"{name}, optax")
            figures[name] = {"over Optax's": pair}
    show("Around AdamW: bytes a parameter; time over Optax's AdamW", rows)
    return finish(LIMITS, figures, head | {"tree": TREE, "passes": rows}, args.json)


if __name__ == "__main__":
    sys.exit(main())
