"""Weights that take many small steps: how far from where they should be they end."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import adamx

# The steps are given, so that nothing but the sum is at stake.
WAYS = {
    "float32": adamx.identity(),
    "master_weights": adamx.master_weights(adamx.identity()),
    "master_weights, 24 bits": adamx.master_weights(adamx.identity(), 24),
    "kahan_sum": adamx.kahan_sum(),
    "round_stochastically": adamx.round_stochastically(),
    "nearest": adamx.identity(),
}


def moves(learning_rate, steps, size, seed=0):
    """Steps like those of Adam: a direction of its own for each weight, and noise."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=size)
    noise = rng.normal(size=(steps, size))
    return np.float32(-learning_rate * (direction + noise))


def start(size, seed=1):
    """Weights of a layer, as a bfloat16 holds them."""
    p = np.random.default_rng(seed).normal(size=size) * 0.02
    return jnp.asarray(p, jnp.bfloat16)


def end(way, updates, dtype=jnp.bfloat16):
    """The weights after all steps, and what they and the state stand for."""
    tx = WAYS[way]

    def step(carry, u):
        params, state = carry
        u, state = tx.update(u, state, params)
        return (adamx.apply_updates(params, u), state), None

    p = start(updates.shape[1]).astype(jnp.float32 if way == "float32" else dtype)
    run = jax.jit(lambda carry: lax.scan(step, carry, jnp.asarray(updates))[0])
    params, state = run((p, tx.init(p)))
    return params, adamx.to_float32(params, state)


def drift(way, updates):
    """Errors over the distance moved: of what the weights stand for, of the weights."""
    first = np.asarray(start(updates.shape[1]), np.float64)
    moved = updates.sum(0, dtype=np.float64)

    def error(p):
        return rms(np.asarray(p, np.float64) - first - moved) / rms(moved)

    params, masters = end(way, updates)
    return error(masters), error(params)


def rms(x):
    return float(np.sqrt(np.mean(x**2)))
