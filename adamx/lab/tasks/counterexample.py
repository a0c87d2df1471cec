"""A convex problem of one parameter that Adam gets wrong and AMSGrad right."""

import jax
import jax.numpy as jnp

import adamx
from adamx.lab.task import Task

RARE, OFTEN, PERIOD = 1010.0, -10.0, 101


def counterexample() -> Task:
    """Makes the task of finding the better end of a line, at which Adam fails.

    The loss of a step is 1010·x once in 101 steps and −10·x in all others, for x in
    [−1, 1]; their mean, 0.1·x, is least at x = −1. The rare gradient that points the
    right way is also the one that makes the second moment large, so that Adam divides
    it by more than the others: it goes to x = 1, the worst point. AMSGrad keeps the
    largest second moment, divides all by the same, and goes to −1. That takes long, at
    a thousandth of a rate of learning per step. Needs no network.

    Returns:
      A task whose validation loss is the mean; 15 runs of 101,000 steps take some
      seconds on two cores.

    Example:
      >>> task = adamx.lab.counterexample()
      >>> best = task.loss({"x": jnp.float32(-1)}, task.validation)
      >>> print(f"{best:.2f}")
      -0.10

    Reference: Reddi, Kale & Kumar, 2018, sections 3 and 5, https://arxiv.org/abs/1904.09237
    """
    mean = (RARE + (PERIOD - 1) * OFTEN) / PERIOD

    def init(key):
        return {"x": jax.random.uniform(key, (), jnp.float32, -1, 1)}

    def loss(params, slopes):
        return jnp.mean(slopes) * params["x"]

    def draw(key, step):
        del key
        return jnp.where((step + 1) % PERIOD == 0, RARE, OFTEN)

    return Task(
        "counterexample",
        init,
        loss,
        draw,
        validation=jnp.array([mean], jnp.float32),
        wrap=within_bounds,
        steps=1000 * PERIOD,
        learning_rates=(1e-3, 3e-3, 1e-2, 3e-2, 0.1),
        description="1010·x once in 101 steps, −10·x in others, x from −1 to 1",
    )


def within_bounds(tx: adamx.GradientTransformation) -> adamx.GradientTransformation:
    """Ends each step of `tx` at the nearest point of [−1, 1]."""

    def update(updates, state, params=None, **extra_args):
        del extra_args
        moved = adamx.apply_updates(params, updates)
        nearest = jax.tree.map(lambda x: jnp.clip(x, -1, 1), moved)
        return jax.tree.map(lambda x, p: x - p, nearest, params), state

    project = adamx.GradientTransformation(lambda params: adamx.EmptyState(), update)
    return adamx.chain(tx, project)
