"""Classification of images: what its tasks share."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from sklearn.model_selection import train_test_split

from adamx.lab.task import Task


class MLP(nn.Module):
    """A multilayer perceptron on flattened images; ReLU between the layers."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, images):
        """Maps images u8[n,...] to logits f32[n,classes]."""
        x = images.reshape(len(images), -1).astype(jnp.float32) / 255
        for width in self.widths[:-1]:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.widths[-1])(x)


def split(images, labels, size):
    """Splits `size` examples off, by class and always the same."""
    parts = train_test_split(
        images, labels, test_size=size, random_state=0, stratify=labels
    )
    images, rest_images, labels, rest_labels = parts
    return (images, labels), (rest_images, rest_labels)


def images_task(name, data, validation, test, hidden) -> Task:
    """Makes the task of classifying images into ten classes with an MLP."""
    model = MLP([*hidden, 10])
    data, validation, (test_images, test_labels) = (
        (images, labels.astype(np.int32)) for images, labels in (data, validation, test)
    )
    images = data[0]

    def init(key):
        return model.init(key, images[:1])["params"]

    def logits(params, images) -> Any:
        return model.apply({"params": params}, images)

    def loss(params, batch):
        images, labels = batch
        log_p = jax.nn.log_softmax(logits(params, images))
        return -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], axis=-1))

    def accuracy(params):
        guesses = jnp.argmax(logits(params, test_images), axis=-1)
        return jnp.mean(guesses.astype(jnp.int32) == test_labels)

    params = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))
    widths = "-".join(map(str, [images[0].size, *hidden, 10]))
    return Task(
        name,
        init,
        loss,
        data,
        validation,
        accuracy,
        loss_unit="nats",
        description=(
            f"{len(images):,} images of {images.shape[1]}×{images.shape[2]} pixels, "
            f"MLP {widths} with {sum(leaf.size for leaf in params):,} parameters"
        ),
    )
