"""The compiled program: one optimizer at all learning rates and seeds at once."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import adamx
from adamx.lab.task import Task

CHUNK_SECONDS = 0.1  # between looks at the progress bar and at Ctrl-C
FRESH_BATCHES = 32  # that measure the final training loss where data is a function


class Problem(NamedTuple):
    """A task made ready to train: what all its optimizers share."""

    task: Task
    steps: int
    params: Any  # f32[seeds,...]
    source: Any  # per seed: the rows of each batch i32[seeds,steps,batch], or its key
    draw: Callable  # (data, source of one seed, step) -> batch
    data: Any  # None where the task makes its batches
    evaluate: Callable  # (params, data, validation, source) -> {what: f32[seeds,rates]}


class Sweep(NamedTuple):
    """What the runs of one optimizer gave."""

    losses: np.ndarray  # f32[rates,seeds,steps done]; of each batch, before the step
    final: dict[str, np.ndarray]  # f32[rates,seeds]; not finite where a run diverged
    seconds: float  # training without compiling
    compile_seconds: float
    state_bytes_per_parameter: float


def prepare(task: Task, seeds, steps: int, batch_size: int) -> Problem:
    """Makes parameters and batch order of each seed, the same for all optimizers."""
    data = None if callable(task.data) else jax.tree.map(jnp.asarray, task.data)

    def begin(seed):
        init_key, batch_key = jax.random.split(jax.random.key(seed))
        if data is None:
            return task.init(init_key), batch_key
        count = len(jax.tree.leaves(data)[0])
        return task.init(init_key), shuffled_rows(batch_key, count, batch_size, steps)

    params, source = jax.jit(jax.vmap(begin))(np.asarray(seeds, np.uint32))

    def draw(data, source, step):
        if callable(task.data):
            return task.data(source, step)
        return jax.tree.map(lambda x: x[source[step]], data)

    evaluate = evaluator(task, draw, steps)
    return Problem(task, steps, params, source, draw, data, evaluate)


def shuffled_rows(key, count: int, batch_size: int, steps: int) -> jax.Array:
    """Cuts epochs of shuffled rows into batches i32[steps,batch_size]; tails drop."""
    per_epoch = count // batch_size
    rows = jnp.arange(count, dtype=jnp.int32)

    def epoch(number):
        shuffled = jax.random.permutation(jax.random.fold_in(key, number), rows)
        return shuffled[: per_epoch * batch_size].reshape(per_epoch, batch_size)

    epochs = jax.vmap(epoch)(jnp.arange(-(-steps // per_epoch), dtype=jnp.uint32))
    return epochs.reshape(-1, batch_size)[:steps]


def evaluator(task: Task, draw, steps: int):
    """Makes the program that measures trained parameters, one run after another."""

    def training_loss(params, data, source):
        if data is not None:
            return task.loss(params, data)
        fresh = jnp.arange(steps, steps + FRESH_BATCHES, dtype=jnp.int32)
        return jnp.mean(
            jax.lax.map(lambda i: task.loss(params, draw(None, source, i)), fresh)
        )

    def measure(params, data, validation, source):
        final = {"training": training_loss(params, data, source)}
        if validation is not None:
            final["validation"] = task.loss(params, validation)
        if task.accuracy is not None:
            final["accuracy"] = task.accuracy(params)
        finite = jnp.isfinite(final["training"])
        return {
            what: jnp.where(finite, value, jnp.nan).astype(jnp.float32)
            for what, value in final.items()
        }

    @jax.jit
    def evaluate(params, data, validation, source):
        def one_seed(args):
            params, source = args
            return jax.lax.map(lambda p: measure(p, data, validation, source), params)

        return jax.lax.map(one_seed, (params, source))

    return evaluate


def train(
    problem: Problem,
    make: Callable,
    learning_rates,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int], None] = lambda done: None,
) -> Sweep:
    """Trains at every learning rate from every seed; `stop` ends it early.

    An optimizer gets the loss of the batch as the extra argument `obj_fn`, for those
    that look at its curvature; what is evaluated is the average of the parameters for
    those that keep one.
    """
    task, steps = problem.task, problem.steps
    data, source = problem.data, problem.source
    rates = jnp.asarray(learning_rates, jnp.float32)
    seeds = len(jax.tree.leaves(problem.params)[0])

    def start(params):
        return jax.vmap(lambda rate: (params, make(rate).init(params)))(rates)

    def step(params, state, rate, batch):
        loss, grads = jax.value_and_grad(task.loss)(params, batch)
        updates, state = make(rate).update(
            grads, state, params, obj_fn=lambda params: task.loss(params, batch)
        )
        return adamx.apply_updates(params, updates), state, loss.astype(jnp.float32)

    # A batch has no axis of rates: the first layer is one product for all of them.
    step_all = jax.vmap(jax.vmap(step, (0, 0, 0, None)), (0, 0, None, 0))

    # A loop with traced bounds, so that a chunk of any length is the same program.
    def advance(carry, data, source, first, last):
        def body(i, carry):
            params, state, losses = carry
            batch = jax.vmap(lambda source: problem.draw(data, source, i))(source)
            params, state, loss = step_all(params, state, rates, batch)
            return params, state, losses.at[:, :, i].set(loss)

        return jax.lax.fori_loop(first, last, body, carry)

    began = time.perf_counter()
    params, state = jax.jit(jax.vmap(start))(problem.params)
    carry = params, state, jnp.zeros((seeds, len(rates), steps), jnp.float32)
    bounds = np.int32(0), np.int32(0)
    program = jax.jit(advance, donate_argnums=0)
    program = program.lower(carry, data, source, *bounds).compile()

    compiled = time.perf_counter()
    done, chunk = 0, 1
    while done < steps and not stop():
        tick = time.perf_counter()
        last = min(done + chunk, steps)
        carry = program(carry, data, source, np.int32(done), np.int32(last))
        jax.block_until_ready(carry)
        speed = (last - done) / (time.perf_counter() - tick)
        done, chunk = last, max(1, min(4 * chunk, int(speed * CHUNK_SECONDS)))
        report(done)
    trained = time.perf_counter()

    params, state, losses = carry
    averaged = jax.jit(jax.vmap(jax.vmap(adamx.eval_params)))(state, params)
    final = problem.evaluate(averaged, data, task.validation, source)
    return Sweep(
        losses=np.asarray(losses[:, :, :done]).swapaxes(0, 1),
        final={what: np.asarray(value).T for what, value in final.items()},
        seconds=trained - compiled,
        compile_seconds=compiled - began,
        state_bytes_per_parameter=state_bytes(task, make),
    )


def state_bytes(task: Task, make: Callable) -> float:
    """Counts the bytes of optimizer state per parameter, exactly and without a run."""
    params = jax.eval_shape(task.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: make(1e-3).init(params), params)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / count
