"""The learning-rate range test: one short run in which the rate grows."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adamx.lab.comparison import versions
from adamx.lab.lr_result import LrRange
from adamx.lab.optimizers import Constructor, choose
from adamx.lab.plan import check_runs, tuple_of
from adamx.lab.problem import Problem, prepare
from adamx.lab.sweep import Make, make_step
from adamx.lab.task import Task

FEWEST = 10  # steps


def lr_range(
    task: Task,
    optimizers: Mapping[str, Constructor] | Iterable[str] | None = None,
    low: float = 1e-6,
    high: float = 10.0,
    *,
    steps: int = 300,
    seeds: int | Sequence[int] = 1,
    batch_size: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> LrRange:
    """Finds the range of learning rates in which a task trains, in one short run.

        rate of step i      r = low·(high / low)^(i / (steps - 1))
        smoothed loss       s = 0.9·s + 0.1·loss, bias-corrected
        diverges            where s > 2·min s, or is not finite
        falls fastest       where ds / d(log r) is least, before the minimum of s

    A tenth of the rate where it diverges is the one to try first. On the digits, with
    300 steps and three seeds, it is at most 3.2 times too large or too small against
    the best constant rate of `compare`, for each of the eight usual optimizers. The
    rate where the loss falls fastest is up to 5 times too small, and is for the middle
    of a grid. Both are orders of magnitude, and depend on `steps`: with 1,000 steps
    small rates have the time to bring the loss down, and the two are up to 12.5 and 26
    times too small; with 100 they are up to 9.1 and 4.2 times too large
    (`benchmarks/lr_range.py`).

    Args:
      task: What to train.
      optimizers: As in `compare`; without weight decays.
      low: The rate of the first step, > 0; so low that nothing happens there.
      high: The rate of the last one, < 1e37; so high that the loss diverges.
      steps: Of each run, ≥ 10.
      seeds: How many seeds, ≥ 1, or the seeds themselves; medians over them count.
      batch_size: Examples in a batch, ≥ 1; None is the task's.
      progress: Called as `progress(optimizer, steps, steps)` when one is done, such as
        a `Progress()`; None is silence.

    Returns:
      The losses, and what follows; `print(result.table())` shows it.

    Raises:
      ValueError: An argument is out of its range, or a name unknown.
      TypeError: A constructor returned no transformation.

    Example:
      >>> def batch(key, step):
      ...     return jax.random.normal(jax.random.fold_in(key, step), (8,)) + 9
      >>> def loss(mean, batch):
      ...     return jnp.mean((batch - mean) ** 2)
      >>> task = adamx.lab.Task("mean", jax.random.normal, loss, batch)
      >>> result = adamx.lab.lr_range(task, {"sgd": adamx.sgd}, 1e-4, 1e3, steps=70)
      >>> 1 < result.diverges("sgd") < 10  # from 1 on, steps of sgd leave the parabola
      True

    Differs from Smith: the rate grows geometrically, where there it grows by the same
      amount in each step, and the loss of batches counts, where there accuracy does.

    Reference: Smith, 2017, section 3.3, https://arxiv.org/abs/1506.01186
    """
    who = "lr_range"
    if not 0 < low < high < 1e37:
        raise ValueError(
            f"{who}: expected 0 < low < high < 1e37, got low={low:g}, high={high:g}."
        )
    if steps < FEWEST:
        raise ValueError(f"{who}: expected steps ≥ {FEWEST}, got {steps}.")
    seeds = tuple_of(seeds)
    batch_size = int(task.batch_size if batch_size is None else batch_size)
    check_runs(who, task, seeds, batch_size)
    recipes = choose(who, task, optimizers)
    problem = prepare(task, seeds, steps, batch_size)
    rates = np.geomspace(low, high, steps).astype(np.float32)
    losses = {}
    for name, recipe in recipes.items():
        losses[name] = run(problem, recipe.make, rates)
        if progress is not None:
            progress(name, steps, steps)
    config = {
        "description": task.description,
        "optimizers": list(recipes),
        "seeds": list(seeds),
        "batch_size": None if callable(task.data) else batch_size,
        "loss_unit": task.loss_unit,
    }
    return LrRange(task.name, config, versions(), rates, losses)


def run(problem: Problem, make: Make, rates: np.ndarray) -> np.ndarray:
    """Trains from all seeds in one compiled program; gives losses f32[seeds,steps]."""
    step = make_step(problem, make)
    numbers = np.arange(len(rates), dtype=np.int32)

    @jax.jit
    def train(params, source, data, frozen):
        def one_seed(params, source):
            def body(carry, now):
                i, rate = now
                batch = problem.draw(data, source, i)
                params, state = carry
                *carry, (loss, _) = step(params, state, (rate,), batch, frozen)
                return tuple(carry), loss

            begin = params, make(jnp.float32(rates[0])).init(params)
            return jax.lax.scan(body, begin, (numbers, rates))[1]

        return jax.vmap(one_seed)(params, source)

    losses = train(problem.params, problem.source, problem.data, problem.frozen)
    return np.where(np.isfinite(losses), losses, np.float32(np.nan))
