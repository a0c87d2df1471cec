"""Parameters and streams of gradients, in NumPy, the same on every run.

A stream is a tree like the parameters whose arrays have a leading axis of steps.
"""

import jax
import jax.numpy as jnp
import numpy as np

SHAPES = {"w": (3, 5), "b": {"x": (7,), "y": ()}}  # odd sizes, a scalar, nesting
STEPS = 100


def is_shape(x):
    """Whether x is a shape, so a leaf of a tree of shapes."""
    return isinstance(x, tuple)


def dtype_name(dtype):
    """The name of a dtype, as it stands in the name of a test."""
    return jnp.dtype(dtype).name


def sample(seed, shapes, dtype, draw):
    """A tree of arrays draw(rng, shape) in dtype; with imaginary parts if complex."""
    rng = np.random.default_rng(seed)
    dtype = jnp.dtype(dtype)

    def leaf(shape):
        x = draw(rng, shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            x = x + 1j * draw(rng, shape)
        return np.asarray(x).astype(dtype)

    return jax.tree.map(leaf, shapes, is_leaf=is_shape)


def make_params(dtype="float32", shapes=SHAPES, seed=1):
    """Parameters from a normal distribution."""
    return sample(seed, shapes, dtype, lambda rng, shape: rng.normal(size=shape))


def make_grads(dtype="float32", shapes=SHAPES, seed=2):
    """One gradient from a normal distribution."""
    return make_params(dtype, shapes, seed)


# ---- draws: (rng, (steps, *shape), largest) -> float64 array


def normal(rng, shape, largest):
    """Each entry has its own size, over four decades."""
    return rng.normal(size=shape) * 10.0 ** rng.uniform(-2, 2, size=shape[1:])


def sparse(rng, shape, largest):
    """Nine in ten gradients are exactly 0, and so are some first ones."""
    return rng.normal(size=shape) * (rng.uniform(size=shape) < 0.1)


def zero(rng, shape, largest):
    """Nothing but zeros."""
    return np.zeros(shape)


def tiny(rng, shape, largest):
    """So small that squares vanish in float32."""
    return rng.normal(size=shape) * 1e-30


def large(rng, shape, largest):
    """So large that squares come near the end of the range."""
    return rng.normal(size=shape) * largest


def switching(rng, shape, largest):
    """Of constant size, with a sign that switches at random."""
    return rng.uniform(0.1, 10, size=shape[1:]) * rng.choice([-1.0, 1.0], size=shape)


def wide(rng, shape, largest):
    """The size changes by decades from step to step."""
    low = max(-12, -np.log10(largest))
    sizes = 10.0 ** rng.uniform(low, np.log10(largest), size=shape)
    return sizes * rng.choice([-1.0, 1.0], size=shape)


STREAMS = {f.__name__: f for f in (normal, sparse, zero, tiny, large, switching, wide)}
LARGEST = {"float16": 1e3}  # 1e15 elsewhere: its squares fit into float32


def make_stream(name, dtype="float32", shapes=SHAPES, steps=STEPS):
    """The stream of that name in dtype; its place in STREAMS is its seed."""
    largest = LARGEST.get(dtype_name(dtype), 1e15)
    shapes = jax.tree.map(lambda shape: (steps, *shape), shapes, is_leaf=is_shape)
    return sample(
        100 + list(STREAMS).index(name),
        shapes,
        dtype,
        lambda rng, shape: STREAMS[name](rng, shape, largest),
    )


def at_step(stream, i):
    """The gradients of step i."""
    return jax.tree.map(lambda x: x[i], stream)
