"""Real problems on which to hold recipes side by side, with models in Flax.

Small enough that hundreds of runs take minutes, with leaves large enough (4,096
elements and more) that a recipe which compresses states does so.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_sample_images

from adamx.lab.data import load_mnist, load_shakespeare
from adamx.lab.tasks.networks import Transformer, convolve

CONTEXT = 64  # characters


class Problem(NamedTuple):
    """What to train, on what, for how long."""

    name: str
    unit: str  # of the loss
    init: Callable[[jax.Array], Any]  # key -> params
    loss: Callable[[Any, Any], jax.Array]  # params, batch -> f32[]
    batch: Callable[[Any, jax.Array], Any]  # data, key -> batch
    data: Any  # pytree of arrays
    held_out: Any  # a batch on which the trained model is judged
    seeds: int  # paired runs
    steps: int
    learning_rate: float  # the peak of a cosine with a warm-up


def cross_entropy(logits, labels):
    chosen = jnp.take_along_axis(nn.log_softmax(logits), labels[..., None], axis=-1)
    return -chosen.mean()


class MLP(nn.Module):
    """784-64-64-10."""

    @nn.compact
    def __call__(self, images):
        """Maps images u8[n,28,28] to logits f32[n,10]."""
        x = images.reshape(len(images), -1).astype(jnp.float32) / 255
        for _ in range(2):
            x = nn.relu(nn.Dense(64)(x))
        return nn.Dense(10)(x)


def digits():
    """Reads MNIST's digits."""
    images, labels, test_images, test_labels = load_mnist()
    labels, test_labels = labels.astype(np.int32), test_labels.astype(np.int32)
    model = MLP()

    def batch(data, key):
        rows = jax.random.randint(key, [64], 0, len(data[0]))
        return data[0][rows], data[1][rows]

    return Problem(
        name="MNIST, MLP",
        unit="nats",
        init=lambda key: model.init(key, images[:1])["params"],
        loss=lambda params, batch: cross_entropy(
            model.apply({"params": params}, batch[0]), batch[1]
        ),
        batch=batch,
        data=(images, labels),
        held_out=(test_images, test_labels),
        seeds=10,
        steps=2000,
        learning_rate=1e-3,
    )


def plays():
    """Predicts the next character of Shakespeare's plays."""
    text = load_shakespeare()
    alphabet, ids = np.unique(
        np.frombuffer(text.encode("utf-32-le"), "<u4"), return_inverse=True
    )
    ids = ids.astype(np.int32)
    cut = int(0.9 * len(ids))
    model = Transformer(len(alphabet), CONTEXT, width=64, layers=2)

    def windows(ids, starts):
        return ids[starts[:, None] + jnp.arange(CONTEXT + 1)]

    def loss(params, ids):
        return cross_entropy(model.apply({"params": params}, ids[:, :-1]), ids[:, 1:])

    def batch(ids, key):
        return windows(ids, jax.random.randint(key, [8], 0, len(ids) - CONTEXT))

    return Problem(
        name="Shakespeare, transformer",
        unit="nats a character",
        init=lambda key: model.init(key, jnp.zeros([1, CONTEXT], jnp.int32))["params"],
        loss=loss,
        batch=batch,
        data=ids[:cut],
        held_out=windows(
            ids, np.linspace(cut, len(ids) - CONTEXT - 1, 256).astype(int)
        ),
        seeds=5,
        steps=1000,
        learning_rate=3e-3,
    )


class Denoiser(nn.Module):
    """Predicts the noise in a patch, at half the resolution inside."""

    @nn.compact
    def __call__(self, noisy):
        """Maps patches f32[n,k,k,3] to cleaner ones."""
        x = nn.relu(nn.Conv(32, (3, 3), 2, conv_general_dilated=convolve)(noisy))
        x = nn.relu(nn.Conv(32, (3, 3), conv_general_dilated=convolve)(x))
        x = nn.Dense(12)(x)  # two by two pixels of three colors
        n, height, width, _ = x.shape
        x = x.reshape(n, height, width, 2, 2, 3).swapaxes(2, 3)
        return noisy - x.reshape(noisy.shape)


def photographs():
    """Takes noise out of scikit-learn's two photographs, patch by patch."""
    photos = np.stack(load_sample_images().images).astype(np.float32) / 255
    held_out = photos[:, :, 512:]  # no pixel of it is trained on
    model, side = Denoiser(), 16

    def cut(photos, key, size):
        rows = jax.random.split(key, 4)
        _, height, width, _ = photos.shape
        which = jax.random.randint(rows[0], [size], 0, 2)
        top = jax.random.randint(rows[1], [size], 0, height - side)
        left = jax.random.randint(rows[2], [size], 0, width - side)
        patch = jax.vmap(
            lambda i, y, x: jax.lax.dynamic_slice(
                photos, (i, y, x, 0), (1, side, side, 3)
            )[0]
        )(which, top, left)
        return patch, 0.1 * jax.random.normal(rows[3], patch.shape)

    def loss(params, batch):
        clean, noise = batch
        restored = model.apply({"params": params}, clean + noise)
        return 1e3 * ((restored - clean) ** 2).mean()

    return Problem(
        name="photographs, convnet",
        unit="10^-3 of full scale squared",
        init=lambda key: model.init(key, jnp.zeros([1, side, side, 3]))["params"],
        loss=loss,
        batch=lambda photos, key: cut(photos, key, 16),
        data=photos[:, :, :512],
        held_out=cut(held_out, jax.random.key(0), 512),
        seeds=6,
        steps=1000,
        learning_rate=1e-3,
    )


PROBLEMS = {"digits": digits, "plays": plays, "photographs": photographs}
