"""A task made ready to train: what all optimizers of a comparison share."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import adamx
from adamx.lab.task import Task

FRESH_BATCHES = 32  # that measure the final training loss where data is a function
CHUNK = 4096  # examples that are evaluated at once


class Source(NamedTuple):
    """Where the batches of one seed come from."""

    order: Any  # the rows of each batch i32[steps,batch], or the key of the function
    noise: jax.Array  # the key of what `augment` draws


class Problem(NamedTuple):
    """Parameters, batches and measures, the same for all optimizers."""

    task: Task
    steps: int
    params: Any  # f32[seeds,...]; what is trained
    frozen: Any  # the rest, as the first seed starts it; None where params has a leaf
    source: Source  # of each seed
    data: Any  # None where the task makes its batches
    draw: Callable  # (data, source of one seed, step) -> batch
    # Jitted, for all runs: (params, frozen, data, validation, source), and without the
    # training data (params, frozen, validation) -> {what: f32[seeds,settings]}.
    evaluate: Any
    validate: Any

    @property
    def seeds(self) -> int:
        """How many runs each setting gets."""
        return len(jax.tree.leaves(self.params)[0])

    def loss(self, params, frozen, batch) -> jax.Array:
        """Returns the task's loss of what is trained, joined with what is not."""
        return self.task.loss(join(params, frozen), batch)

    def digest(self) -> bytes:
        """Returns the SHA-256 of all numbers that training starts from."""
        arrays = self.params, self.frozen, self.data, self.task.validation, self.source
        total = hashlib.sha256()
        for leaf in jax.tree.leaves(arrays):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf = jax.random.key_data(leaf)
            total.update(f"{leaf.dtype}{leaf.shape}".encode())
            total.update(np.asarray(leaf).tobytes())
        return total.digest()


def prepare(task: Task, seeds, steps: int, batch_size: int) -> Problem:
    """Makes parameters and batch order of each seed."""
    data = None if callable(task.data) else jax.tree.map(jnp.asarray, task.data)

    def begin(seed):
        key = jax.random.key(seed)
        init_key, batch_key = jax.random.split(key)
        params, _ = split(task, task.init(init_key))
        return params, Source(batch_key, jax.random.fold_in(key, steps))

    params, source = jax.jit(jax.vmap(begin))(np.asarray(seeds, np.uint32))
    if data is not None:
        count = len(jax.tree.leaves(data)[0])
        rows = [shuffled_rows(seed, count, batch_size, steps) for seed in seeds]
        source = source._replace(order=jnp.asarray(np.stack(rows)))
    frozen = None
    if task.trained is not None:
        # Outside a program: what is frozen may be large, and would be a constant of it.
        first, _ = jax.random.split(jax.random.key(seeds[0]))
        _, frozen = split(task, task.init(first))

    def draw(data, source, step):
        if callable(task.data):
            return task.data(source.order, step)
        batch = jax.tree.map(lambda x: x[source.order[step]], data)
        if task.augment is None:
            return batch
        return task.augment(jax.random.fold_in(source.noise, step), batch)

    evaluate, validate = evaluators(task, draw, steps)
    return Problem(task, steps, params, frozen, source, data, draw, evaluate, validate)


def split(task: Task, params):
    """Splits parameters into what is trained and what is not, None for the other."""
    if task.trained is None:
        return params, None
    trained = adamx.by_path(task.trained)(params)
    return (
        jax.tree.map(lambda p, train: p if train else None, params, trained),
        jax.tree.map(lambda p, train: None if train else p, params, trained),
    )


def join(params, frozen):
    """Undoes `split`."""
    if frozen is None:
        return params
    return jax.tree.map(
        lambda p, held: held if p is None else p,
        params,
        frozen,
        is_leaf=lambda leaf: leaf is None,
    )


def shuffled_rows(seed: int, count: int, batch_size: int, steps: int) -> np.ndarray:
    """Cuts epochs of shuffled rows into batches i32[steps,batch_size]; tails drop."""
    per_epoch = count // batch_size
    epochs = [
        np.random.default_rng([seed, epoch]).permutation(count)[
            : per_epoch * batch_size
        ]
        for epoch in range(-(-steps // per_epoch))
    ]
    rows = np.concatenate(epochs).reshape(-1, batch_size)[:steps]
    return rows.astype(np.int32)


def evaluators(task: Task, draw, steps: int):
    """Makes the programs that measure trained parameters, one run after another."""

    def training_loss(params, data, source):
        if data is not None:
            return mean_loss(task, params, data)
        fresh = jnp.arange(steps, steps + FRESH_BATCHES, dtype=jnp.int32)
        return jnp.mean(
            jax.lax.map(lambda i: task.loss(params, draw(None, source, i)), fresh)
        )

    def held_out(params, validation):
        measured = {}
        if validation is not None:
            measured["validation"] = mean_loss(task, params, validation)
        if task.accuracy is not None:
            measured["accuracy"] = task.accuracy(params)
        return measured

    def marked(measured, params):
        finite = jnp.all(
            jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)])
        )
        for what in sorted(measured.keys() - {"accuracy"}):
            finite &= jnp.isfinite(measured[what])
        return {
            what: jnp.where(finite, value, jnp.nan).astype(jnp.float32)
            for what, value in measured.items()
        }

    def over_runs(measure, params, source=None):
        def one_seed(args):
            params, source = args
            return jax.lax.map(lambda p: measure(p, source), params)

        return jax.lax.map(one_seed, (params, source))

    @jax.jit
    def evaluate(params, frozen, data, validation, source):
        def measure(trained, source):
            params = join(trained, frozen)
            final = {"training": training_loss(params, data, source)}
            return marked(final | held_out(params, validation), trained)

        return over_runs(measure, params, source)

    @jax.jit
    def validate(params, frozen, validation):
        def measure(trained, source):
            del source
            return marked(held_out(join(trained, frozen), validation), trained)

        return over_runs(measure, params)

    return evaluate, validate


def mean_loss(task: Task, params, batch) -> jax.Array:
    """Returns the loss of many examples, a chunk at a time."""
    count = len(jax.tree.leaves(batch)[0])
    whole = count // CHUNK
    if whole == 0 or count == CHUNK:
        return task.loss(params, batch)
    chunks = jax.tree.map(
        lambda x: x[: whole * CHUNK].reshape(whole, CHUNK, *x.shape[1:]), batch
    )
    total = jax.lax.map(lambda chunk: task.loss(params, chunk), chunks).sum() * CHUNK
    if rest := count - whole * CHUNK:
        tail = jax.tree.map(lambda x: x[whole * CHUNK :], batch)
        total += task.loss(params, tail) * rest
    return total / count
