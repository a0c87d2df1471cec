"""Measures what each way to keep weights in 16 bits loses of many small steps.

Weights of a layer, N(0, 0.02²) in bfloat16, take 5,000 steps of the size of a learning
rate: a direction of each weight's own and noise, as those of Adam. The errors are rms
over rms of the distance moved, against a float64 sum of the same steps: of what the
weights and the state together stand for, and of the weights, which a model sees.

    python benchmarks/weights.py [--quick] [--json PATH]

Exits with 1 if a way breaks one of `LIMITS`.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from report import begin, finish, show

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from drift import WAYS, drift, moves  # found by the line above

RATES = [1e-3, 1e-4, 1e-5, 1e-6]
STEPS = 5000
# The largest error over all rates of what weights and state stand for.
LIMITS = {
    "float32": 1e-4,
    "master_weights": 1e-4,
    "master_weights, 24 bits": 1e-2,
    "kahan_sum": 5e-3,
}


def bytes_of(way):
    """Bytes of a weight, and of what the state has for it."""
    size = 1024
    dtype = jnp.float32 if way == "float32" else jnp.bfloat16
    state = jax.eval_shape(WAYS[way].init, jax.ShapeDtypeStruct((size,), dtype))
    kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state) if x.ndim)
    return jnp.dtype(dtype).itemsize, kept // size


def main():
    """Measures, prints, and compares with the limits."""
    parser = argparse.ArgumentParser(description="Measures weights in 16 bits.")
    parser.add_argument("--quick", action="store_true", help="fewer weights")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    head = begin()
    streams = {rate: moves(rate, STEPS, 512 if args.quick else 4096) for rate in RATES}
    errors = {
        way: {f"{rate:g}": drift(way, updates) for rate, updates in streams.items()}
        for way in WAYS
    }
    for i, what in enumerate(["weights and state", "weights"]):
        rows = [
            {"way": way, "bytes": "{} + {}".format(*bytes_of(way))}
            | {rate: both[i] for rate, both in errors[way].items()}
            for way in WAYS
        ]
        show(f"error / distance moved of {what}, by learning rate", rows)
    worst = {way: max(both[0] for both in errors[way].values()) for way in WAYS}
    return finish(LIMITS, {"bfloat16": worst}, head | {"errors": errors}, args.json)


if __name__ == "__main__":
    sys.exit(main())
