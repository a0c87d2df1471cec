"""What others do with states and weights, written from their descriptions.

To hold adamx against: nothing here is made of adamx. States are rounded to what a codec
can hold and stay float32, which is the same arithmetic as codes in memory.

    dynamic  Dettmers et al., 2021, https://arxiv.org/abs/2110.02861 (bitsandbytes)
    root     Gonzalez Ortiz et al., 2026, https://arxiv.org/abs/2602.23349 (FlashOptim)
"""

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

SMALLEST = 4096  # elements of a leaf that is compressed
SHA256 = {  # of the tables that bitsandbytes ships
    True: "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c",
    False: "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398",
}


def dynamic_map(signed):
    """The 256 values of bitsandbytes' codes: seven decades, the finer the higher."""
    f32, values = np.float32, [np.zeros(1), np.ones(1)]
    for e in range(7):
        n = 2 ** (e if signed else e + 1) + 1
        step, k = (f32(1) - f32(0.1)) / f32(n - 1), np.arange(n, dtype=np.float64)
        # In float64 and rounded once, as a fused multiply-add.
        rising = (step * k + f32(0.1)).astype(f32)
        falling = (1 - step * (n - 1 - k)).astype(f32)
        edges = np.where(np.arange(n) < n // 2, rising, falling).astype(f32)
        middles = (edges[:-1] + edges[1:]) / f32(2) * f32(10.0 ** (e - 6))
        values += [middles, -middles] if signed else [middles]
    table = np.sort(np.concatenate(values).astype(f32))
    assert hashlib.sha256(table.astype("<f4").tobytes()).hexdigest() == SHA256[signed]
    return table


def nearest_of(table):
    """Rounds x to the nearest value of a table."""
    middles = (table[:-1] + table[1:]) / 2
    return lambda x: jnp.asarray(table)[jnp.searchsorted(middles, x)]


def linear(top):
    return lambda x: jnp.floor(top * x + 0.5) / top


def quartic(top):
    def curve(x):
        q = jnp.floor(top * jnp.sqrt(jnp.sqrt(jnp.abs(x))) + 0.5) / top
        return jnp.sign(x) * q**4

    return curve


def rational(x):
    q = jnp.floor(127 * 2 * x / (1 + jnp.abs(x)) + 0.5) / 127
    return q / (2 - jnp.abs(q))


def blockwise(curve, size, scale_dtype=jnp.float32):
    """Rounds blocks of `size` consecutive elements by a curve on [-1, 1]."""
    info = jnp.finfo(scale_dtype)

    def rounded(x):
        if x.size < SMALLEST:
            return x
        blocks = jnp.pad(x.ravel(), (0, -x.size % size)).reshape(-1, size)
        scale = jnp.max(jnp.abs(blocks), axis=1, keepdims=True)
        scale = lax.reduce_precision(scale, info.nexp, info.nmant)
        y = scale * curve(blocks / jnp.where(scale > 0, scale, 1))
        return y.ravel()[: x.size].reshape(x.shape)

    return rounded


def bfloat16(x):
    """x in bfloat16, which XLA may not take for x itself."""
    return lax.reduce_precision(x, 8, 7)


def by_root(rounded):
    """Rounds √x instead of x."""
    return lambda x: rounded(jnp.sqrt(x)) ** 2 if x.size >= SMALLEST else x


DYNAMIC = [blockwise(nearest_of(dynamic_map(signed)), 256) for signed in (True, False)]
STATES = {  # how mu and nu are rounded, all to the nearest
    "bfloat16": (bfloat16, bfloat16),
    "quartic": (blockwise(quartic(127), 128), blockwise(quartic(255), 128)),
    "dynamic": tuple(DYNAMIC),
    "root": (
        blockwise(rational, 32, jnp.float16),
        by_root(blockwise(linear(255), 32, jnp.float16)),
    ),
    "linear": (blockwise(linear(127), 256), blockwise(linear(255), 256)),
}


def rounded_adam(states, b1=0.9, b2=0.999, eps=1e-8):
    """Optax's scale_by_adam, whose moments are rounded after each step."""
    inner: Any = optax.scale_by_adam(b1, b2, eps)
    mu_of, nu_of = STATES[states]

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, new = inner.update(updates, state, params)
        mu, nu = jax.tree.map(mu_of, new.mu), jax.tree.map(nu_of, new.nu)
        return updates, new._replace(mu=mu, nu=nu)

    return optax.GradientTransformation(inner.init, update)


def rounded_adamw(states, learning_rate, weight_decay):
    """Optax's adamw with the states of others."""
    return optax.chain(
        rounded_adam(states),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


class MasterCopyState(NamedTuple):
    """State of `master_copy`."""

    inner: Any
    master: Any  # the weights in float32


def master_copy(inner):
    """The usual way: a float32 master in the state, a bfloat16 copy to compute with."""

    def wide(tree):
        return jax.tree.map(lambda x: x.astype(jnp.float32), tree)

    def init(params):
        master = wide(params)
        return MasterCopyState(inner.init(master), master)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, new = inner.update(wide(updates), state.inner, state.master)
        master = optax.apply_updates(state.master, updates)
        move = jax.tree.map(
            lambda x, p: bfloat16(x) - p.astype(jnp.float32), master, params
        )
        return move, MasterCopyState(new, master)

    return optax.GradientTransformation(init, update)
