"""Handwritten digits of 8 by 8 pixels, which come with scikit-learn."""

import numpy as np
from sklearn.datasets import load_digits

from adamx.lab.task import Task
from adamx.lab.tasks.classify import images_task, split
from adamx.lab.tasks.networks import MLP


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
    model = MLP([64, 64, 10])
    task = images_task("digits", model, "MLP 64-64-64-10", data, validation, test)
    return task._replace(steps=500, target_loss=0.1)
