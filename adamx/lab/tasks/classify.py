"""Classification: what its tasks share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from sklearn.model_selection import train_test_split

from adamx.lab.task import Task


def cross_entropy(logits, labels):
    """Returns −log p(label) of each example, in nats."""
    log_p = nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]


def is_right(logits, labels):
    """Says of each example whether its label has the largest logit, f32."""
    guesses = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    return (guesses == labels).astype(jnp.float32)


def in_blocks(function, examples, size=250):
    """Returns `function(examples)`, block by block: as much memory as `size` need."""
    count = len(jax.tree.leaves(examples)[0])
    whole = count - count % size
    if count <= size:
        return function(examples)
    blocks = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), examples)
    results = jnp.concatenate(jax.lax.map(function, blocks))
    if whole == count:
        return results
    rest = function(jax.tree.map(lambda x: x[whole:], examples))
    return jnp.concatenate([results, rest])


def split(images, labels, size):
    """Splits `size` examples off, by class and always the same."""
    parts = train_test_split(
        images, labels, test_size=size, random_state=0, stratify=labels
    )
    images, rest_images, labels, rest_labels = parts
    return (images, labels), (rest_images, rest_labels)


def count(init) -> int:
    """Counts the parameters that a task starts with, without making them."""
    params = jax.eval_shape(init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def images_task(name, model, described, data, validation, test) -> Task:
    """Makes the task of classifying images with a Flax model of logits."""
    data, validation, test = (
        (images, labels.astype(np.int32)) for images, labels in (data, validation, test)
    )
    images = data[0]

    def init(key):
        return model.init(key, images[:1])["params"]

    def measured(measure, params, batch):
        def of_block(batch):
            images, labels = batch
            logits: Any = model.apply({"params": params}, images)
            return measure(logits, labels)

        return jnp.mean(in_blocks(of_block, batch))

    _, height, width, *_ = images.shape
    return Task(
        name,
        init,
        loss=lambda params, batch: measured(cross_entropy, params, batch),
        data=data,
        validation=validation,
        accuracy=lambda params: measured(is_right, params, test),
        loss_unit="nats",
        description=(
            f"{len(images):,} images of {height}×{width} pixels, {described} with "
            f"{count(init):,} parameters"
        ),
    )
