"""Rosenbrock's valley: steep walls, a flat and curved floor."""

import jax
import jax.numpy as jnp

from adamx.lab.task import Task
from adamx.lab.tasks.quadratic import nothing


def rosenbrock() -> Task:
    """Makes the task of minimizing (1 − x)² + 100·(y − x²)², which is 0 at (1, 1).

    Starts near Rosenbrock's own start, (−1.2, 1); the seeds differ by about 0.1. There
    is no noise and no data; needs no network.

    Returns:
      A task that trains 39 runs of 2,000 steps in less than a second on two cores.

    Example:
      >>> task = adamx.lab.rosenbrock()
      >>> float(task.loss({"x": jnp.float32(0), "y": jnp.float32(1)}, ()))
      101.0

    Reference: Rosenbrock, 1960, https://doi.org/10.1093/comjnl/3.3.175
    """

    def init(key):
        x, y = 0.1 * jax.random.normal(key, (2,), jnp.float32)
        return {"x": x - 1.2, "y": y + 1}

    def loss(params, batch):
        del batch
        x, y = params["x"], params["y"]
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2

    return Task(
        "rosenbrock",
        init,
        loss,
        data=nothing,
        steps=2000,
        target_loss=1e-2,
        description="(1 − x)² + 100·(y − x²)²",
    )
