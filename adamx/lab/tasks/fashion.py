"""Pictures of clothes of 28 by 28 pixels: Fashion-MNIST."""

from adamx.lab.data import load_fashion_mnist
from adamx.lab.task import Task
from adamx.lab.tasks.classify import images_task, split
from adamx.lab.tasks.networks import ConvNet


def fashion() -> Task:
    """Makes the task of telling clothes apart on pictures: Fashion-MNIST.

    A convolutional network; 55,000 images of ten classes to train on, 5,000 for
    validation (a fixed, stratified split of the 60,000), 10,000 to test. The first call
    fetches 31 MB with `apt-get`, on Debian; a copy of the package serves anywhere.

    Returns:
      A task whose runs of 500 steps take some 3 seconds each on two cores.

    Raises:
      DataUnavailable: The images are not in the cache and cannot be fetched.
    """
    images, labels, *test = load_fashion_mnist()
    data, validation = split(images, labels, 5000)
    model = ConvNet([16, 32], 64, 10)
    task = images_task("fashion", model, "convnet 16-32-64-10", data, validation, test)
    rates = 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1
    return task._replace(steps=500, learning_rates=rates, target_loss=0.5)
