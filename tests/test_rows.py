"""Rows of tables: their sums, and where trees are expected."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export
from kernels import needs_kernel
from tables import PARAMS, RATE, ROWS, TABLE, dense, dense_at, grads_at, raises

import adamx
from adamx._kernels import kernel
from adamx._rows import plain, summed
from adamx.interop.export import register_states

# ---- sums of rows


@pytest.mark.parametrize("rows", [1, 7, 300, 10**6])
@pytest.mark.parametrize("shape", [(0,), (1,), (64,), (5, 13)])
def test_sums_are_those_of_the_dense_gradient(rows, shape, rng):
    ids = rng.integers(-3, rows + 3, shape)
    values = rng.normal(size=(*shape, 4)).astype(np.float32)
    got = jax.jit(adamx.sum_rows, static_argnums=2)(ids, values, rows)
    known = got.ids < rows
    assert got.ids.dtype == jnp.int32
    assert np.all(np.diff(got.ids) > 0)  # also of those that stand for nothing
    assert np.all(np.asarray(got.values)[~known] == 0)
    flat, want = ids.ravel(), values.reshape(-1, 4)
    np.testing.assert_array_equal(
        got.ids[known], np.unique(flat[(flat >= 0) & (flat < rows)])
    )
    total = dense(flat, want, rows)
    np.testing.assert_allclose(
        jnp.zeros((rows, 4), jnp.float32) + got, total, atol=1e-5
    )


def test_many_equal_ids_are_summed_the_same_each_time(rng):
    ids, values = rng.integers(0, 9, 5000), rng.normal(size=(5000, 8))
    sums = jax.jit(functools.partial(adamx.sum_rows, num_rows=9))
    first, *others = (sums(ids, values) for _ in range(5))
    np.testing.assert_allclose(first.values[:9], dense(ids, values, 9), atol=1e-3)
    for other in others:
        chex.assert_trees_all_equal(first, other)


@needs_kernel
@pytest.mark.parametrize("shape", [(1,), (64,), (5, 13), (3000,)])
@pytest.mark.parametrize("row", [(), (1,), (3,), (64,), (2, 3)])
def test_sums_are_the_same_bits_on_every_platform(shape, row, rng):
    """In C++ on CPU, elsewhere by XLA, which is made to do it here."""
    for rows in (1, 40, 70_000):
        ids = jnp.asarray(rng.integers(0, rows + 1, np.prod(shape)), jnp.int32)
        values = rng.normal(size=(len(ids), *row)) * 10.0 ** rng.integers(-3, 4)
        values = jnp.asarray(values, jnp.float32).at[::3].set(-0.0)
        got, want = (f(ids, values, rows) for f in (summed, plain))
        for x, y in zip(got, want, strict=True):
            assert (x.dtype, x.shape) == (y.dtype, y.shape)
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_without_the_kernel_sums_are_exported(monkeypatch):
    monkeypatch.setattr(kernel, "load", lambda: (False, "none here"))
    register_states()
    args = np.array([3, -1, 3, 1]), np.arange(4, dtype=np.float32)
    sums = jax.jit(functools.partial(adamx.sum_rows, num_rows=4))
    there = export.export(sums, platforms=["cpu", "cuda", "tpu"])(*args)
    got = export.deserialize(there.serialize()).call(*args)
    np.testing.assert_array_equal(got.values, [3, 2, 0, 0])


def test_sums_are_vmapped_and_differentiated(rng):
    ids = jnp.asarray(rng.integers(-1, 6, (3, 20)), jnp.int32)
    values = jnp.asarray(rng.normal(size=(3, 20, 2)), jnp.float32)
    sums = functools.partial(adamx.sum_rows, num_rows=5)
    got = jax.jit(jax.vmap(sums))(ids, values)
    for i in range(3):
        one = jax.tree.map(lambda x, i=i: x[i], got)
        chex.assert_trees_all_equal(one, sums(ids[i], values[i]))
    weights = jnp.asarray(rng.normal(size=(5, 2)), jnp.float32)

    def total(values):
        return jnp.sum(
            weights * (jnp.zeros((5, 2), jnp.float32) + sums(ids[0], values))
        )

    known = (ids[0] >= 0) & (ids[0] < 5)
    want = jnp.where(known[:, None], weights[ids[0] % 5], 0)
    for gradient in (jax.grad, jax.jacfwd):
        np.testing.assert_array_equal(jax.jit(gradient(total))(values[0]), want)


def test_narrow_values_are_summed_in_float32():
    ones = jnp.ones((1000, 2), jnp.bfloat16)
    rows = adamx.sum_rows(jnp.zeros(1000, jnp.int32), ones, 4)
    assert rows.values.dtype == jnp.float32
    assert rows.values[0, 0] == 1000  # in bfloat16 it is 256


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "uint32"])
def test_ids_of_every_integer_dtype(dtype):
    rows = adamx.sum_rows(np.array([3, 100, 3], dtype), np.ones((3, 1), np.float32), 99)
    np.testing.assert_array_equal(rows.ids, [3, 100, 101])


def test_tables_of_one_and_of_three_axes():
    for shape in [(), (2, 3)]:
        values = np.ones((4, *shape), np.float32)
        rows = adamx.sum_rows(np.array([1, 1, 0, 7]), values, 5)
        table = jnp.zeros((5, *shape), jnp.float32)
        tx = adamx.on_rows(adamx.adam(RATE))
        updates, _ = tx.update(rows, tx.init(table), table)
        moved = np.asarray(adamx.apply_updates(table, updates)).reshape(5, -1)
        np.testing.assert_array_equal((moved != 0).any(1), [True, True] + [False] * 3)


@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        (
            (np.ones(2, np.float32), np.ones((2, 1)), 3),
            TypeError,
            "sum_rows: expected ids as integers, got f32[2].",
        ),
        (
            (np.ones(2, int), np.ones((2, 1), np.int32), 3),
            TypeError,
            "sum_rows: expected values of a floating or complex dtype, got i32[2,1].",
        ),
        (
            (np.ones(2, np.int32), np.ones((3, 1), np.float32), 3),
            ValueError,
            "sum_rows: expected values with a row for each of the ids i32[2], got "
            "f32[3,1].",
        ),
        (
            (np.ones(2, int), np.ones((2, 1)), 3.0),
            TypeError,
            "sum_rows: expected num_rows as a whole number, got 3.0; it is "
            "table.shape[0].",
        ),
        (
            (np.ones(2, int), np.ones((2, 1)), -1),
            ValueError,
            "sum_rows: expected num_rows in [0, 2147483645], got -1; it is "
            "table.shape[0].",
        ),
    ],
)
def test_what_cannot_be_summed(args, kind, text):
    with raises(kind, text):
        adamx.sum_rows(*args)


# ---- rows where trees are expected


def test_norm_and_sum_are_those_of_the_dense_gradient():
    rows, table = grads_at(0), dense_at(0)
    np.testing.assert_allclose(
        adamx.global_norm(rows), adamx.global_norm(table), rtol=1e-6
    )
    want = adamx.apply_updates(PARAMS, table)
    for apply in (adamx.apply_updates, optax.apply_updates):
        chex.assert_trees_all_close(apply(PARAMS, rows), want, rtol=1e-6)
    np.testing.assert_allclose(TABLE + rows["table"], want["table"], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_tables_are_rounded_once(dtype):
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    want = adamx.apply_updates(params, dense_at(1))
    chex.assert_trees_all_equal(adamx.apply_updates(params, grads_at(1)), want)


def test_what_is_beside_rows_stays_as_it_is():
    updates = grads_at(0) | {"bias": None}
    new = adamx.apply_updates(PARAMS, updates)
    assert new["bias"] is PARAMS["bias"]
    rows = updates["table"]
    complex_rows = adamx.SparseRows(rows.ids, rows.values.astype(jnp.complex64), ROWS)
    with raises(
        TypeError,
        "SparseRows: expected a complex table for c64[8,3], got f32[11,3]; take their "
        "real part.",
    ):
        adamx.apply_updates(PARAMS, updates | {"table": complex_rows})


WRAP = "put adamx.on_rows around the whole optimizer."


@pytest.mark.parametrize(
    "tx",
    [
        adamx.adam(RATE),
        adamx.sgd(RATE),
        adamx.clip_by_global_norm(1.0),
        adamx.muon(RATE),
        adamx.MultiSteps(adamx.adam(RATE), 2),
        adamx.partition(
            {"a": adamx.on_rows(adamx.sgd(0.1)), "b": adamx.sgd(0.1)},
            {"table": "a", "bias": "b"},
        ),
    ],
)
def test_a_transformation_without_on_rows_says_so(tx):
    with pytest.raises(TypeError, match=rf"expected an array, got SparseRows.*{WRAP}"):
        tx.update(grads_at(0), tx.init(PARAMS), PARAMS)
