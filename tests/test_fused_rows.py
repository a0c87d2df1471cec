"""Fused steps on rows of tables: the bits of `on_rows`, in place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from kernels import HAS_KERNEL, calls_of, needs_kernel
from meshes import AUTO, EXPLICIT, make_mesh, on
from tables import IDS, PARAMS, VALUES, dense_at, grads_at, raises
from test_fused import as_the_kernel, differences, three

import adamx
from adamx._fused import step as fused_step
from adamx._kernels import kernel, rows

# In ulps; which products XLA fuses with sums, others than on CPU may say.
BAR = 0 if HAS_KERNEL and jax.__version__ == "0.10.2" else 2

# Tables of all widths: shorter than a vector, in a copy or in place, above a block.
TABLES = {"flat": (25,), "one": (30, 1), "w": {"odd": (40, 3), "deep": (20, 3, 5)}}
TABLES |= {"even": (31, 64), "long": (9, 700), "few": (3, 8)}
LEAF = (7, 11)
LOOKUPS = 21


def params_of(dtype="float32"):
    rng = np.random.default_rng(0)
    shapes = TABLES | {"leaf": LEAF}
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), dtype),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def grads_of(i, params, n=LOOKUPS):
    """Rows of all tables, with ids that come twice and some that stand for nothing."""
    rng = np.random.default_rng(100 + i)

    def leaf(p):
        if p.shape == LEAF:
            return jnp.asarray(rng.normal(size=LEAF), p.dtype)
        ids = rng.integers(-2, len(p) + 3, n)
        values = rng.normal(size=(n, *p.shape[1:])) * 10.0 ** rng.uniform(-3, 3)
        return adamx.sum_rows(ids, values.astype(np.float32), len(p))

    return jax.tree.map(leaf, params)


def on_rows_step(tx, clip=None):
    tx, clip = adamx.on_rows(tx), adamx.on_rows(clip or adamx.identity())

    @jax.jit
    def clipped(grads):
        wide = jax.tree.map(fused_step.widened, grads)
        return clip.update(wide, clip.init(None))[0]

    @jax.jit
    def step(params, grads, state):
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    return as_the_kernel(
        lambda params, grads, state: step(params, clipped(grads), state)
    )


@functools.cache
def both(name):
    fused, clip, lazy = three(name)
    return jax.jit(fused.step), on_rows_step(lazy, clip), fused.init


def worst_of(name, dtype="float32", steps=3):
    """How far the fused step is from `on_rows`, from the same states on."""
    fused, lazy, init = both(name)
    params = params_of(dtype)
    state, worst = init(params), 0.0
    for i in range(steps):
        grads = grads_of(i, params)
        got, want = fused(params, grads, state), lazy(params, grads, state)
        assert jax.tree.structure(got) == jax.tree.structure(want)
        worst = max(worst, differences(got, want))
        params, state = want
    return worst


CHOSEN = [
    "decayed",
    "clipped",
    "masked",
    "schedules",
    "nesterov",
    "no eps",
    "arrays",
    "bfloat16",
]
CHOSEN += ["random", "mixed"]


@pytest.mark.parametrize("name", CHOSEN)
def test_it_is_on_rows(name):
    assert worst_of(name) <= BAR


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["masked", "random"])
def test_it_is_on_rows_in_16_bits(name, dtype):
    assert worst_of(name, dtype) <= BAR


@needs_kernel
@pytest.mark.parametrize("name", ["masked", "random"])
def test_each_table_has_its_own(monkeypatch, name):
    """Decays, keys or random bits of another place would be found."""
    right = rows.call

    def wrong(tables, decays, scalars, keys, **settings):
        keys = [jnp.asarray(k) + np.uint32(0x9E3779B9) for k in keys]
        return right(tables, decays[::-1], scalars, keys, **settings)

    monkeypatch.setattr(rows, "call", wrong)
    both.cache_clear()
    found = worst_of(name, steps=2) > 2
    both.cache_clear()
    assert found


@needs_kernel
def test_what_the_kernel_takes():
    fused = adamx.fused_adamw(0.01)
    start = PARAMS, grads_at(0), fused.init(PARAMS)
    assert calls_of(fused.step, *start) == {kernel.ADAMW, kernel.ADAMW_ROWS}
    half = PARAMS | {"table": PARAMS["table"].astype(jnp.float16)}
    start = half, grads_at(0), fused.init(half)
    assert calls_of(fused.step, *start) == {kernel.ADAMW}
    sums = functools.partial(adamx.sum_rows, num_rows=9)
    assert calls_of(sums, IDS[0], VALUES[0]) == {kernel.SUM_ROWS}
    halves = VALUES[0].astype(np.float16)  # summed in float32
    assert calls_of(sums, IDS[0], halves) == {kernel.SUM_ROWS}


def test_without_the_kernel(monkeypatch):
    monkeypatch.setattr(kernel, "load", lambda: (False, "none here"))
    fused = adamx.fused_adamw(0.01, weight_decay=0.1)
    start = PARAMS, grads_at(0), fused.init(PARAMS)
    assert not calls_of(fused.step, *start)
    want = on_rows_step(adamx.adamw(0.01, weight_decay=0.1))(*start)
    assert differences(fused.step(*start), want) <= 2


def test_a_run_changes_between_the_two():
    fused, lazy, init = both("schedules")
    params = params_of()
    want = got = params, init(params)
    for i, step in enumerate([fused, lazy, fused, lazy]):
        grads = grads_of(i, params)
        got, want = step(got[0], grads, got[1]), lazy(want[0], grads, want[1])
    assert differences(got, want) <= 4 * BAR
    assert got[1][0].count == 4


def test_other_rows_stay_and_all_rows_are_the_dense_step():
    fused = adamx.fused_adam(0.1)
    state = fused.init(PARAMS)
    params, state = fused.step(PARAMS, dense_at(0), state)  # moments that are not zero
    new, moments = fused.step(params, grads_at(1), state)
    others = np.setdiff1d(np.arange(11), IDS[1])
    for old, now in [(params, new), (state[0].mu, moments[0].mu)]:
        old, now = np.asarray(old["table"]), np.asarray(now["table"])
        assert old[others].tobytes() == now[others].tobytes()
    values = VALUES[2:4].reshape(16, 3)[:11]
    every = grads_at(2) | {"table": adamx.sum_rows(np.arange(11), values, 11)}
    whole = grads_at(2) | {"table": jnp.asarray(values)}
    got, want = (fused.step(params, g, state) for g in (every, whole))
    assert differences(got, want) == 0


@needs_kernel
def test_ids_that_stand_for_nothing_are_neither_read_nor_written():
    """Wherever they stand, as they may in rows that `sum_rows` has not made."""
    for width in (2, 40):
        ids = jnp.array([-1, -(2**31), 3, 2**31 - 1, 11, 12, 1, 10], jnp.int32)
        table = jnp.ones((11, width), jnp.float32)
        grads = adamx.SparseRows(ids, jnp.ones((8, width), jnp.float32), 11)
        fused = adamx.fused_adam(0.5)
        new, state = fused.step(table, grads, fused.init(table))
        for x in (new - table, state[0].mu, state[0].nu):
            moved = np.asarray(x).all(1)
            np.testing.assert_array_equal(np.flatnonzero(moved), [1, 3, 10])
            assert not np.asarray(x)[~moved].any()


@needs_kernel
def test_the_same_row_twice_is_that_row_alone():
    """What it becomes is not said, but nothing else is touched."""
    n, width = 3000, 40
    table = jnp.ones((n, width), jnp.float32)
    grads = adamx.SparseRows(jnp.full(n, 7, jnp.int32), jnp.ones((n, width)), n)
    fused = adamx.fused_adam(0.5)
    new, _ = fused.step(table, grads, fused.init(table))
    np.testing.assert_array_equal(np.delete(np.asarray(new), 7, 0), 1)


def test_no_ids():
    fused = adamx.fused_adam(0.5)
    none = adamx.sum_rows(np.zeros(0, np.int32), np.zeros((0, 3), np.float32), 11)
    grads = grads_at(0) | {"table": none}
    new, state = jax.jit(fused.step)(PARAMS, grads, fused.init(PARAMS))
    np.testing.assert_array_equal(new["table"], PARAMS["table"])
    assert not state[0].mu["table"].any()
    assert (new["bias"] != PARAMS["bias"]).all()


def test_holes_stay():
    fused = adamx.fused_adam(0.5)
    params = PARAMS | {"c": jnp.ones(3, jnp.float32)}
    state = fused.init(PARAMS | {"c": None})
    new, _ = fused.step(params, grads_at(0) | {"c": None}, state)
    np.testing.assert_array_equal(new["c"], params["c"])
    want, _ = fused.step(PARAMS, grads_at(0), fused.init(PARAMS))
    assert differences({k: new[k] for k in PARAMS}, want) == 0


# ---- transformations of JAX


def test_vmap():
    fused, lazy, init = both("decayed")
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), PARAMS)
    states = jax.vmap(init)(many)
    steps = (jax.jit(jax.vmap(step, (0, None, 0))) for step in (fused, lazy))
    got, want = (step(many, grads_at(0), states) for step in steps)
    assert differences(got, want) <= BAR

    def of_batch(step, ids, values):
        g = grads_at(0) | {"table": adamx.sum_rows(ids, values, 11)}
        return step(PARAMS, g, init(PARAMS))

    batches = (jax.vmap(functools.partial(of_batch, step)) for step in (fused, lazy))
    got, want = (jax.jit(step)(IDS[:3], VALUES[:3]) for step in batches)
    assert differences(got, want) <= BAR


def test_derivatives():
    def loss(make, values, rate):
        rows = adamx.sum_rows(IDS[0], values, 11)
        params, _ = make(rate)(PARAMS, grads_at(0) | {"table": rows}, state)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))

    state = adamx.adam(0.1).init(PARAMS)
    makes = lambda r: adamx.fused_adam(r).step, lambda r: on_rows_step(adamx.adam(r))
    slopes = (jax.jit(jax.grad(functools.partial(loss, m), (0, 1))) for m in makes)
    got, want = (slope(VALUES[0], jnp.float32(0.1)) for slope in slopes)
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)
    assert got[0].any()


def table_step(shape, ids):
    """A compiled training step that looks rows up, table and state donated."""
    fused = adamx.fused_adamw(0.01)
    table = jax.ShapeDtypeStruct(shape, jnp.float32)
    state = jax.eval_shape(fused.init, table)

    def step(table, state, ids):
        rows = table[ids]
        g = adamx.sum_rows(ids, 2 * rows, shape[0])
        return *fused.step(table, g, state), jnp.sum(rows**2)

    ids = jax.ShapeDtypeStruct((ids,), jnp.int32)
    return jax.jit(step, donate_argnums=(0, 1)).lower(table, state, ids).compile()


@needs_kernel
def test_with_donation_nothing_is_copied():
    compiled = table_step((100_000, 64), 256)
    plan = compiled.memory_analysis()
    assert plan.alias_size_in_bytes >= 3 * 4 * 100_000 * 64
    assert plan.temp_size_in_bytes < 4 * (4 * 256 * 64)
    assert "copy(f32[100000,64]" not in compiled.as_text()


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT])
def test_on_a_mesh_that_is_seen(kind):
    fused, _, init = both("decayed")
    params = {"table": jnp.ones((16, 8), jnp.float32)}
    values = np.ones((8, 8), np.float32)

    def step(params, state, ids, values):
        rows = adamx.sum_rows(ids, values, 16)
        return fused(params, {"table": rows}, state)

    args = params, init(params), IDS[0], values
    want = jax.jit(step)(*args)
    mesh = make_mesh(kind)
    with jax.set_mesh(mesh):
        spread = jax.tree.map(
            lambda x: on(mesh, "data") if x.ndim == 2 else on(mesh), args
        )
        args = jax.device_put(args, spread)
        out = (spread[0], spread[1])
        run = step
        if kind is EXPLICIT:
            specs = jax.tree.map(lambda x: x.spec, out)
            run = jax.sharding.auto_axes(step, out_sharding=specs)
        assert not calls_of(run, *args)
        compiled = jax.jit(run, out_shardings=out).lower(*args).compile()
        assert differences(compiled(*args), want) <= 2


def test_elsewhere_it_is_on_rows():
    fused = adamx.fused_adam(0.1)
    program = export.export(jax.jit(fused.step), platforms=["cuda"])
    text = program(PARAMS, grads_at(0), fused.init(PARAMS)).mlir_module()
    assert "custom_call" not in text


def test_errors():
    fused = adamx.fused_adamw(0.1)
    rows = adamx.sum_rows(IDS[0], VALUES[0], 12)
    text = "fused_adamw: updates do not match the state at ['table']: f32[12,3] against"
    with raises(ValueError, text):
        fused.step(PARAMS, grads_at(0) | {"table": rows}, fused.init(PARAMS))
