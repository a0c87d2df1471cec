"""Addition modulo a prime, which a network first memorizes and then understands."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from adamx.lab.task import Task
from adamx.lab.tasks.classify import count, cross_entropy, is_right
from adamx.lab.tasks.networks import Transformer

PRIME = 59
KNOWN = 0.6  # part of the pairs that are to train on


def grokking() -> Task:
    """Makes the task of adding modulo 59, as a table with gaps.

    A transformer of one layer reads a, b and "=", and answers a + b mod 59. It learns
    the 2,150 pairs that it sees by heart; whether it finds out about the 1,331 that it
    does not see (the task's validation and accuracy) depends on the weight decay: with
    AdamW at 3e-3 and a decay of 1 it does so within 1,000 steps, without decay not at
    all. (a, b) and (b, a) are always on the same side. Needs no network.

    Returns:
      A task whose runs of 1,000 steps take some 5 seconds each on two cores.

    Example:
      >>> adamx.lab.grokking().description
      '2,150 of 3,481 sums modulo 59, transformer 1×64 with 58,044 parameters'

    Reference: Power et al., 2022, https://arxiv.org/abs/2201.02177
    """
    a, b = np.divmod(np.arange(PRIME**2, dtype=np.int32), PRIME)
    equals = np.full_like(a, PRIME)
    questions, sums = np.stack([a, b, equals], axis=1), (a + b) % PRIME
    chosen = np.random.default_rng(0).random((PRIME, PRIME)) < KNOWN
    known = chosen[np.minimum(a, b), np.maximum(a, b)]
    data, held_out = ((questions[rows], sums[rows]) for rows in (known, ~known))
    model = Transformer(PRIME + 1, 3, width=64, layers=1, causal=False)

    def init(key):
        return model.init(key, questions[:1])["params"]

    def measured(measure, params, batch):
        questions, sums = batch
        logits: Any = model.apply({"params": params}, questions)
        return jnp.mean(measure(logits[:, -1], sums))

    return Task(
        "grokking",
        init,
        loss=lambda params, batch: measured(cross_entropy, params, batch),
        data=data,
        validation=held_out,
        accuracy=lambda params: measured(is_right, params, held_out),
        batch_size=128,
        steps=1000,
        learning_rates=(1e-3, 3e-3),
        target_loss=0.1,
        loss_unit="nats",
        description=(
            f"{known.sum():,} of {len(known):,} sums modulo {PRIME}, transformer 1×64 "
            f"with {count(init):,} parameters"
        ),
    )
