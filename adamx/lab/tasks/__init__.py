"""Real problems to train on, by the names that the command line knows."""

from collections.abc import Callable

from adamx.lab.task import Task
from adamx.lab.tasks.counterexample import counterexample
from adamx.lab.tasks.digits import digits
from adamx.lab.tasks.fashion import fashion
from adamx.lab.tasks.grokking import grokking
from adamx.lab.tasks.imdb import imdb
from adamx.lab.tasks.minilm import minilm
from adamx.lab.tasks.mnist import mnist
from adamx.lab.tasks.photographs import photographs
from adamx.lab.tasks.quadratic import quadratic
from adamx.lab.tasks.ratings import ratings
from adamx.lab.tasks.rosenbrock import rosenbrock
from adamx.lab.tasks.shakespeare import shakespeare

TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion": fashion,
    "photographs": photographs,
    "imdb": imdb,
    "shakespeare": shakespeare,
    "grokking": grokking,
    "minilm": minilm,
    "ratings": ratings,
    "quadratic": quadratic,
    "rosenbrock": rosenbrock,
    "counterexample": counterexample,
}
