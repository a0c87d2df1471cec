"""A table, batches of rows for it, and runs over them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx

ROWS, WIDTH, STEPS = 11, 3, 12
RNG = np.random.default_rng(0)
# A batch has ids that come twice, padding, ids past the end; the last row is never met.
IDS = RNG.integers(0, ROWS - 1, (STEPS, 8)).astype(np.int32)
IDS[:, 2], IDS[:, 5], IDS[:, 6] = IDS[:, 1], -1, ROWS + 1
VALUES = RNG.normal(size=(STEPS, 8, WIDTH)).astype(np.float32)
TABLE = RNG.normal(size=(ROWS, WIDTH)).astype(np.float32)
PARAMS = {"table": jnp.asarray(TABLE), "bias": jnp.ones(WIDTH, jnp.float32)}
RATE = 0.05


def dense(ids, values, rows=ROWS):
    """The gradient of the whole table, in float64."""
    total = np.zeros((rows, *values.shape[1:]))
    known = (ids >= 0) & (ids < rows)
    np.add.at(total, ids[known], values[known].astype(np.float64))
    return total


def met(ids):
    """The rows that a batch meets."""
    return np.unique(ids[(ids >= 0) & (ids < ROWS)])


def grads_at(i):
    rows = adamx.sum_rows(IDS[i], VALUES[i], ROWS)
    return {"table": rows, "bias": jnp.asarray(VALUES[i, 0])}


def dense_at(i):
    table = jnp.asarray(dense(IDS[i], VALUES[i]), jnp.float32)
    return grads_at(i) | {"table": table}


def run(tx, grads=grads_at, params=PARAMS, steps=STEPS, apply=adamx.apply_updates):
    """Parameters and states, from the first to the last."""

    @jax.jit
    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return apply(params, updates), state

    walk = [(params, tx.init(params))]
    for i in range(steps):
        walk.append(step(*walk[-1], grads(i)))
    return walk


def raises(kind, text):
    return pytest.raises(kind, match="^" + re.escape(text))
