"""Real problems to train on, by the names that the command line knows."""

from collections.abc import Callable

from adamx.lab.task import Task
from adamx.lab.tasks.digits import digits
from adamx.lab.tasks.mnist import mnist

TASKS: dict[str, Callable[[], Task]] = {"digits": digits, "mnist": mnist}
