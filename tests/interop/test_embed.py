"""Gradients of the rows that `Embed` looks up are those of the whole table."""

import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import adamx
from adamx.interop.flax import value_and_row_grad
from adamx.lab.tasks.ratings import Factors

ROWS, WIDTH = 20, 4
IDS = jnp.array([[1, 4, 4], [-1, 19, 0]])  # -1 is the last row, as it is in Embed
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def standard_promotion():
    """Flax itself does not run under strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def is_rows(x):
    return isinstance(x, adamx.SparseRows)


def spread(grads):
    """Gradients in which rows have become tables."""

    def table(x):
        if not is_rows(x):
            return x
        shape = (x.num_rows, *x.values.shape[1:])
        return jnp.zeros(shape, x.values.dtype) + x

    return jax.tree.map(table, grads, is_leaf=is_rows)


def tables_in(grads):
    """The paths of what has rows."""
    leaves = jax.tree_util.tree_leaves_with_path(grads, is_leaf=is_rows)
    return {jax.tree_util.keystr(path) for path, x in leaves if is_rows(x)}


class Linen(nn.Module):
    """A table looked up twice, another one, one row that is always the same."""

    dtype: str = "float32"

    def setup(self):
        self.words = nn.Embed(ROWS, WIDTH, dtype=self.dtype)
        self.kinds = nn.Embed(7, WIDTH)
        self.start = nn.Embed(1, WIDTH)
        self.out = nn.Dense(3)

    def __call__(self, ids):
        x = self.words(ids) * self.words(inputs=ids[::-1])
        return self.out(x + self.kinds(ids % 7) + self.start(0 * ids + 5))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.words = nnx.Embed(ROWS, WIDTH, rngs=rngs)
        self.others = nnx.List([nnx.Embed(7, WIDTH, rngs=rngs)])
        self.start = nnx.Embed(1, WIDTH, rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.out = nnx.Linear(WIDTH, 3, rngs=rngs)

    def __call__(self, ids):
        x = self.words(ids) * self.words(ids[::-1]) + self.others[0](ids % 7)
        return self.out(self.drop(self.norm(x + self.start(0 * ids + 5))))


def square(x):
    return jnp.mean(jnp.asarray(x, jnp.float32) ** 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_of_linen_are_the_dense_ones(dtype):
    model = Linen(dtype)
    params = model.init(KEY, IDS)["params"]

    def loss(params, ids):
        out = model.apply({"params": params}, ids)
        return square(out), out

    got, grads = jax.jit(value_and_row_grad(loss, has_aux=True))(params, IDS)
    want, dense = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, IDS)
    tolerance = 1e-6 if dtype == "float32" else 0.02
    chex.assert_trees_all_close(got, want, rtol=tolerance, atol=tolerance)
    chex.assert_trees_all_close(spread(grads), dense, rtol=tolerance, atol=tolerance)
    tables = ["words", "kinds", "start"]
    assert tables_in(grads) == {f"['{name}']['embedding']" for name in tables}
    assert grads["words"]["embedding"].ids.shape == (2 * IDS.size,)


def test_gradients_of_nnx_are_the_dense_ones_and_the_rest_moves_on():
    model, twin = Nnx(nnx.Rngs(0)), Nnx(nnx.Rngs(0))

    def loss(model, ids, factor):
        return factor * square(model(ids))

    for _ in range(2):
        got, grads = value_and_row_grad(loss)(model, IDS, 2.0)
        want, dense = nnx.value_and_grad(loss)(twin, IDS, 2.0)
        chex.assert_trees_all_close(got, want, rtol=1e-6)
        chex.assert_trees_all_close(
            nnx.to_pure_dict(spread(grads)), nnx.to_pure_dict(dense), atol=1e-6
        )
    assert len(tables_in(grads)) == 3
    for kind in (nnx.BatchStat, nnx.RngCount):
        mine, theirs = (jax.tree.leaves(nnx.state(m, kind)) for m in (model, twin))
        chex.assert_trees_all_close(mine, theirs, rtol=1e-6)
    assert type(model.words) is nnx.Embed


def test_runs_of_nnx_and_linen_train():
    model = Nnx(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, adamx.on_rows(adamx.adam(0.05)), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, grads = value_and_row_grad(lambda m: square(m(IDS)))(model)
        optimizer.update(model, grads)
        return loss

    before = np.asarray(model.words.embedding[...])
    first, *_, last = (step(model, optimizer) for _ in range(30))
    assert last < first / 3
    moved = np.any(before != np.asarray(model.words.embedding[...]), axis=1)
    np.testing.assert_array_equal(np.flatnonzero(moved), [0, 1, 4, 19])


def test_factors_of_ratings_are_those_of_dense_gradients():
    """With an optimizer for which a row without a gradient stays."""
    model, rng = Factors(), np.random.default_rng(0)
    viewers = jnp.asarray(rng.integers(0, 943, (20, 64)))
    films = jnp.asarray(rng.integers(0, 1682, (20, 64)))
    stars = jnp.asarray(rng.integers(1, 6, (20, 64)), jnp.float32)
    params = model.init(KEY, viewers[0], films[0])["params"]

    def loss(params, i):
        guesses = model.apply({"params": params}, viewers[i], films[i])
        return jnp.mean((guesses - stars[i]) ** 2)

    def trained(tx, differentiate):
        @jax.jit
        def step(state, i):
            value, grads = differentiate(loss)(state.params, i)
            return state.apply_gradients(grads=grads), value

        state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)
        for i in range(20):
            state, value = step(state, i)
        return state.params, value

    inner = adamx.chain(adamx.clip_by_global_norm(0.3), adamx.adagrad(0.3))
    got = trained(adamx.on_rows(inner), value_and_row_grad)
    want = trained(inner, jax.value_and_grad)
    chex.assert_trees_all_close(got, want, atol=1e-5)


def test_no_gradient_of_the_size_of_a_table_is_formed():
    rows = 100_000
    model = nn.Embed(rows, WIDTH)
    tx = adamx.on_rows(adamx.adam(0.1))
    params = jax.eval_shape(model.init, KEY, IDS)

    def step(params, state, ids):
        loss = lambda params: square(model.apply(params, ids))  # noqa: E731  # short
        _, grads = value_and_row_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, params)
    run = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, IDS).compile()
    memory, table = run.memory_analysis(), 4 * rows * WIDTH
    assert memory.temp_size_in_bytes < table / 30
    assert memory.alias_size_in_bytes >= 3 * table


class Tied(nn.Module):
    @nn.compact
    def __call__(self, ids):
        words = nn.Embed(ROWS, WIDTH, name="words")
        return words.attend(words(ids) + nn.Embed(7, WIDTH, name="kinds")(ids % 7))


ELSEWHERE = (
    "value_and_row_grad: expected a table that Embed alone looks up, got one that is "
    "used otherwise at ['words']['embedding']: tied to the output, or in a penalty; "
    "its gradient is dense, so leave it out with tables."
)


@pytest.mark.parametrize("use", ["output", "penalty"])
def test_a_table_with_another_use_has_a_dense_gradient(use):
    model = Tied() if use == "output" else Linen()
    params = model.init(KEY, IDS)["params"]

    def loss(params):
        penalty = square(params["words"]["embedding"]) if use == "penalty" else 0.0
        return square(model.apply({"params": params}, IDS)) + penalty

    with pytest.raises(ValueError, match=re.escape(ELSEWHERE)):
        value_and_row_grad(loss)(params)
    mask = adamx.by_path(lambda path: path == "kinds/embedding")
    _, grads = value_and_row_grad(loss, tables=mask)(params)
    assert tables_in(grads) == {"['kinds']['embedding']"}
    chex.assert_trees_all_close(spread(grads), jax.grad(loss)(params), atol=1e-6)


class Scaled(nn.Embed):
    def __call__(self, inputs):
        return 3 * super().__call__(inputs)


def test_what_is_no_plain_lookup_keeps_its_dense_gradient():
    """A subclass, which may do something else with its table, and `remat`."""
    for model in (Scaled(ROWS, WIDTH), nn.remat(nn.Embed)(ROWS, WIDTH)):
        params = model.init(KEY, IDS)

        def loss(params, model=model):
            return square(model.apply(params, IDS))

        _, grads = value_and_row_grad(loss)(params)
        assert tables_in(grads) == set()
        chex.assert_trees_all_close(grads, jax.grad(loss)(params))


def test_a_checkpointed_loss_and_one_without_lookups():
    model = Linen()
    params = model.init(KEY, IDS)["params"]

    def loss(params):
        x = model.apply({"params": params}, IDS)
        return jax.checkpoint(square)(x)

    _, grads = value_and_row_grad(loss)(params)
    chex.assert_trees_all_close(spread(grads), jax.grad(loss)(params), atol=1e-6)
    value, grads = value_and_row_grad(lambda p: square(p["w"]))({"w": jnp.ones(3)})
    assert value == 1
    assert not is_rows(grads["w"])


def test_what_is_no_table():
    params = Linen().init(KEY, IDS)["params"]
    text = (
        "value_and_row_grad: expected tables that Embed looks up, got one that it does "
        "not at ['out']['bias']; leave it out of tables."
    )
    loss = value_and_row_grad(
        lambda p: square(Linen().apply({"params": p}, IDS)), tables=True
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        loss(params)
    with pytest.raises(TypeError, match="expected loss_fn as a function, got 3"):
        value_and_row_grad(3)
    with pytest.raises(TypeError, match="expected has_aux as True or False, got 1"):
        value_and_row_grad(loss, has_aux=1)
