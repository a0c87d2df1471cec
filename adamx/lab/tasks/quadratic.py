"""A badly scaled quadratic: what a learning rate for each coordinate is good for."""

import jax
import jax.numpy as jnp
import numpy as np

from adamx.lab.task import Task

COORDINATES = 100
CONDITION = 1e4


def quadratic() -> Task:
    """Makes the task of minimizing ½ Σ h·x², with h from 1 down to 10⁻⁴.

    Starts at x ~ N(0, 1). The condition number is 10⁴: the steepest coordinate forbids
    the rate that the flattest needs. There is no noise and no data; needs no network.

    Returns:
      A task that trains 39 runs of 500 steps in less than a second on two cores.

    Example:
      >>> task = adamx.lab.quadratic()
      >>> float(task.loss(jnp.ones(100, jnp.float32), task.data(None, 0)))  # ½ Σ h
      5.62...
    """
    curvature = jnp.asarray(np.geomspace(1, 1 / CONDITION, COORDINATES), jnp.float32)

    def init(key):
        return jax.random.normal(key, (COORDINATES,), jnp.float32)

    def loss(x, batch):
        del batch
        return jnp.sum(curvature * x**2) / 2

    return Task(
        "quadratic",
        init,
        loss,
        data=nothing,
        steps=500,
        target_loss=1e-3,
        description=(
            f"½ Σ h·x² of {COORDINATES} coordinates, h from 1 to 1/{CONDITION:,.0f}"
        ),
    )


def nothing(key, step):
    """Makes the batch of a task without data."""
    del key, step
    return ()
