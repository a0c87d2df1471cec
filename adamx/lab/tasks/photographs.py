"""Patches of three photographs, which come with scikit-learn and matplotlib."""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import get_data_path
from matplotlib.image import imread
from sklearn.datasets import load_sample_images

from adamx.lab.task import Task
from adamx.lab.tasks.classify import count, images_task
from adamx.lab.tasks.networks import ConvNet

SIDE = 24  # of a patch, in pixels; that of a tile is twice as long
FLAT = 12.0  # standard deviation below which a patch shows nothing, of 255


def photographs() -> Task:
    """Makes the task of saying which of three photographs a patch was cut from.

    The photographs: a temple and a flower, of scikit-learn, and a portrait of Grace
    Hopper, of matplotlib. They are cut into tiles, half of which are to train on, a
    quarter for validation, a quarter to test: no pixel is in two parts. A patch lies
    within one tile and is turned by a multiple of 90 degrees; while training, each of
    its colors gets a random brightness and contrast, so that texture has to tell. Many
    patches overlap: 6,000 of them are far less than 6,000 pictures. Needs no network.

    Returns:
      A task that takes a second to make and trains a convolutional network; its runs
      of 500 steps take some 3 seconds each on two cores.

    Example:
      >>> adamx.lab.photographs().description
      '6,000 patches of 3 photographs, convnet 16-32-64-64-3 with 60,707 parameters'
    """
    hopper = imread(get_data_path() + "/sample_data/grace_hopper.jpg")
    photos = [*load_sample_images().images, hopper]
    rng = np.random.default_rng(0)
    data, validation, test = (
        cut(rng, photos, size, quarters)
        for size, quarters in [(6000, (0, 1)), (1000, (2,)), (1000, (3,))]
    )
    model, described = ConvNet([16, 32, 64], 64, 3), "convnet 16-32-64-64-3"
    task = images_task("photographs", model, described, data, validation, test)
    return task._replace(
        augment=recolor,
        steps=500,
        learning_rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1),
        target_loss=0.4,
        description=(
            f"{len(data[1]):,} patches of {len(photos)} photographs, {described} with "
            f"{count(task.init):,} parameters"
        ),
    )


def cut(rng, photos, size, quarters):
    """Cuts patches u8[size,24,24,3] out of tiles of these quarters, and labels them."""
    patches, labels = [], []
    while len(labels) < size:
        label = len(labels) % len(photos)
        photo = photos[label]
        row, column = rng.integers(np.array(photo.shape[:2]) // (2 * SIDE))
        top, left = 2 * SIDE * np.array([row, column]) + rng.integers(SIDE + 1, size=2)
        patch = photo[top : top + SIDE, left : left + SIDE]
        # The tiles of a quarter lie a knight's move apart.
        if (row + 2 * column) % 4 in quarters and patch.std((0, 1)).max() > FLAT:
            patches.append(np.rot90(patch, rng.integers(4)))
            labels.append(label)
    return np.stack(patches), np.array(labels)


def recolor(key, batch):
    """Gives each color of each patch another brightness and contrast."""
    images, labels = batch
    images = images.astype(jnp.float32)
    shape = 2, len(images), 1, 1, 3
    contrast, brightness = jax.random.uniform(key, shape, minval=0.6, maxval=1.4)
    mean = jnp.mean(images, (1, 2), keepdims=True)
    images = contrast * (images - mean) + brightness * mean
    return jnp.clip(images, 0, 255), labels
