"""A task: a plain record of what to train."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from adamx import GradientTransformation

Params = Any  # pytree of arrays
Batch = Any  # pytree of arrays


class Task(NamedTuple):
    """What to train: how the parameters start, the loss, the data.

    Attributes:
      name: What tables and plots call it.
      init: `key -> params`, jittable; called once for each seed.
      loss: `(params, batch) -> f32[]`, jittable and differentiable.
      data: A pytree of arrays with one leading axis of examples, cut into shuffled
        batches epoch after epoch; or a jittable function `(key, step) -> batch`.
      validation: A batch whose loss chooses the learning rate; None: the training loss
        chooses.
      accuracy: `params -> f32[]`, the part of the test data that is right, in [0, 1].
      augment: `(key, batch) -> batch`, jittable; what happens to a batch of arrays
        before a step, with a key of its own: noise, crops, the key of a dropout.
      trained: `path -> bool`, such as `"encoder/layer_0/kernel" -> False`; the
        parameters for which it is false stay as they started, have no state, and are
        held once for all runs of a seed. None: all are trained.
      wrap: `transformation -> transformation`, around every optimizer: what belongs to
        the task, such as a projection.
      batch_size: Examples in a batch, ≥ 1; without meaning where `data` is a function.
      steps: Steps of training, ≥ 1.
      learning_rates: The grid that is tried unless another is asked for; None: the
        lab's.
      target_loss: The training loss to which steps are counted.
      loss_unit: The unit of the loss, for axis labels.
      description: A line about data and model.
    """

    name: str
    init: Callable[[jax.Array], Params]
    loss: Callable[[Params, Batch], jax.Array]
    data: Batch | Callable[[jax.Array, jax.Array], Batch]
    validation: Batch | None = None
    accuracy: Callable[[Params], jax.Array] | None = None
    augment: Callable[[jax.Array, Batch], Batch] | None = None
    trained: Callable[[str], bool] | None = None
    wrap: Callable[[GradientTransformation], GradientTransformation] | None = None
    batch_size: int = 64
    steps: int = 500
    learning_rates: Sequence[float] | None = None
    target_loss: float | None = None
    loss_unit: str = ""
    description: str = ""
