"""Measures training steps of Flax models: loss, gradients, and AdamW.

A transformer of characters and a network of dense layers on random data, jitted, all
donated. Optax's and adamx's transformations in the same loop, and `fused_adamw`; in
turn, A B C C B A, the quotients medians over pairs.

    python benchmarks/training_time.py [--quick] [--json PATH]

Exits with 1 if adamx breaks one of `LIMITS`.
"""

import argparse
import statistics
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
from report import begin, finish, show
from step_time import MAKERS, PLAIN
from timing import interleave, ratio, seconds

LIMITS = {"chain / optax": 1.03, "fused / optax": 1.0}


class Dense(nn.Module):
    """Wide layers on few examples, where the optimizer is much of the work."""

    @nn.compact
    def __call__(self, x):
        """Images to logits."""
        for _ in range(4):
            x = nn.relu(nn.Dense(1_024)(x))
        return nn.Dense(10)(x)


class Transformer(nn.Module):
    """Four layers of width 128."""

    @nn.compact
    def __call__(self, ids):
        """Characters to logits."""
        x = nn.Embed(256, 128)(ids)
        for _ in range(4):
            h = nn.LayerNorm()(x)
            x += nn.SelfAttention(4)(h, nn.make_causal_mask(ids))
            x += nn.Dense(128)(nn.gelu(nn.Dense(512)(nn.LayerNorm()(x))))
        return nn.Dense(256)(nn.LayerNorm()(x))


def tasks():
    """Models, inputs, labels."""
    key, image = jax.random.key(0), jnp.ones((64, 784))
    ids = jax.random.randint(key, (8, 64), 0, 256)
    return {
        "dense, batches of 64": (Dense(), image, ids.ravel()[:64] % 10),
        "transformer, 8 × 64 characters": (Transformer(), ids, ids),
    }


def make_step(model, name):
    """A training step and the `init` of its state."""
    optimizer_step, init = MAKERS[name]()

    def loss_of(params, x, y):
        logits = nn.log_softmax(model.apply(params, x))
        return -jnp.mean(jnp.take_along_axis(logits, y[..., None], axis=-1))

    def step(params, state, x, y):
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        return *optimizer_step(params, grads, state), loss

    return jax.jit(step, donate_argnums=(0, 1)), init


def measure_training(model, x, y, rounds):
    """Milliseconds of a step, and quotients."""
    steps, states = {}, {}
    for name in PLAIN:
        steps[name], init = make_step(model, name)
        params = jax.jit(model.init)(jax.random.key(1), x)
        states[name] = params, init(params)

    def measure(name):
        def some(state):
            for _ in range(10):
                *state, _ = steps[name](*state, x, y)
            return state

        states[name], time = seconds(some, states[name])
        return time / 10

    interleave(1, measure, PLAIN)
    taken = interleave(rounds, measure, PLAIN)
    row = {f"{name}, ms": 1e3 * statistics.median(taken[name]) for name in PLAIN}
    return row | {f"{x} / optax": ratio(taken, x) for x in ("chain", "fused")}


def main():
    """Measures, prints, and compares adamx with its limits."""
    parser = argparse.ArgumentParser(description="Measures training steps.")
    parser.add_argument("--quick", action="store_true", help="a few rounds")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    head, rounds = begin(), 3 if args.quick else 15
    rows = [
        {"model": name} | measure_training(model, x, y, rounds)
        for name, (model, x, y) in tasks().items()
    ]
    show("Training steps with AdamW", rows)
    figures = {row["model"]: row for row in rows}
    return finish(LIMITS, figures, head | {"training": rows}, args.json)


if __name__ == "__main__":
    sys.exit(main())
