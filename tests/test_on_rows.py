"""Optimizers on the touched rows of tables, and nothing elsewhere."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from jax import export, lax
from tables import (
    IDS,
    PARAMS,
    RATE,
    ROWS,
    STEPS,
    TABLE,
    VALUES,
    WIDTH,
    dense,
    dense_at,
    grads_at,
    met,
    raises,
    run,
)
from test_laws import types

import adamx
from adamx.interop.export import register_states

# ---- optimizers on rows, against the oracle

OPTIMIZERS = {
    "adam": (adamx.adam(RATE), oracle.adam, {}),
    "adamw": (adamx.adamw(RATE, weight_decay=0.1), oracle.adamw, {"weight_decay": 0.1}),
    "adagrad": (adamx.adagrad(RATE), oracle.adagrad, {}),
    "sgd": (adamx.sgd(RATE, 0.9), oracle.sgd, {"momentum": 0.9}),
    "rmsprop": (adamx.rmsprop(RATE), oracle.rmsprop, {}),
}


def lazily(step, grads=dense, rows=met, params=TABLE, ids=IDS, values=VALUES):
    """The oracle, row by row, for those that a batch meets; also how often."""
    table, states = params.astype(np.float64), [{} for _ in range(ROWS)]
    for t, (i, v) in enumerate(zip(ids, values, strict=True), 1):
        g = grads(i, v)
        for k in rows(i):
            u, states[k] = step(states[k], g[k], table[k], t, learning_rate=RATE)
            table[k] = table[k] + u
    return table, states


def differs(tx, step, **kwargs):
    """Where adamx and the oracle differ in parameters or in a state."""
    table, states = lazily(step, **kwargs)
    (params, state) = run(tx)[-1]
    worst = np.abs(np.asarray(params["table"]) - table).max()
    for name, moment in states[IDS[0, 0]].items():
        got = np.asarray(adamx.tree_get(state, name)["table"])
        if np.shape(moment):
            worst = max(worst, np.abs(got[IDS[0, 0]] - moment).max())
    return worst > 2e-6


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_touched_rows_are_those_of_the_oracle_and_others_stay(name):
    inner, step, kwargs = OPTIMIZERS[name]
    tx = adamx.on_rows(inner)
    assert not differs(tx, functools.partial(step, **kwargs))
    walk = run(tx)
    for i in range(STEPS):
        others = np.setdiff1d(np.arange(ROWS), met(IDS[i]))
        for old, new in zip(*map(jax.tree.leaves, walk[i : i + 2]), strict=True):
            if np.shape(old) == TABLE.shape:
                old, new = np.asarray(old)[others], np.asarray(new)[others]
                assert old.tobytes() == new.tobytes()
    # The other leaf has had its dense gradients.
    alone = run(
        inner, lambda i: {"bias": jnp.asarray(VALUES[i, 0])}, {"bias": PARAMS["bias"]}
    )
    chex.assert_trees_all_close(walk[-1][0]["bias"], alone[-1][0]["bias"], rtol=1e-6)


def not_summed(ids, values):
    """The last of equal ids wins."""
    total = np.zeros((ROWS, WIDTH))
    known = (ids >= 0) & (ids < ROWS)
    total[ids[known]] = values[known]
    return total


def from_the_end(ids, values):
    """Padding goes to the last row."""
    return dense(np.where(ids == -1, ROWS - 1, ids), values)


MISTAKES = {
    "equal ids not summed": {"grads": not_summed},
    "equal ids summed twice": {
        "grads": lambda i, v: 2 * dense(i, v) - not_summed(i, v)
    },
    "padding is the last row": {
        "grads": from_the_end,
        "rows": lambda ids: np.append(met(ids), ROWS - 1),
    },
    "ids past the end are the last row": {"rows": lambda ids: [*met(ids), ROWS - 1]},
    "rows that are not met decay": {"rows": lambda ids: range(ROWS)},
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(name):
    inner, step, kwargs = OPTIMIZERS["adamw"]
    step = functools.partial(step, **kwargs)
    assert differs(adamx.on_rows(inner), step, **MISTAKES[name])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_rows_are_the_dense_optimizer(name):
    inner = OPTIMIZERS[name][0]

    def everything(i):
        values = RNG_ALL[i]
        return grads_at(i) | {"table": adamx.sum_rows(np.arange(ROWS), values, ROWS)}

    want = run(inner, lambda i: grads_at(i) | {"table": jnp.asarray(RNG_ALL[i])})
    got = run(adamx.on_rows(inner), everything)
    chex.assert_trees_all_close(got[-1], want[-1], rtol=1e-6, atol=1e-7)


RNG_ALL = np.random.default_rng(1).normal(size=(STEPS, ROWS, WIDTH)).astype(np.float32)


def test_it_is_the_sparse_adam_of_torch():
    """Whose eps is that of Kingma and Ba's efficient form."""
    torch = pytest.importorskip("torch")
    table = torch.tensor(TABLE, requires_grad=True)
    optimizer = torch.optim.SparseAdam([table], lr=RATE, eps=1e-3)
    tx = adamx.on_rows(
        adamx.chain(
            adamx.scale_by_adam(eps=1e-3, debias=False),
            adamx.bias_correction(),
            adamx.scale_by_learning_rate(RATE),
        )
    )
    for i in range(STEPS):
        known = (IDS[i] >= 0) & (IDS[i] < ROWS)
        ids, values = IDS[i][known].astype(np.int64), VALUES[i][known]
        table.grad = torch.sparse_coo_tensor(
            torch.from_numpy(ids)[None],
            torch.from_numpy(values),
            TABLE.shape,
            check_invariants=True,
        )
        optimizer.step()
    params, state = run(tx)[-1]
    np.testing.assert_allclose(params["table"], table.detach(), atol=2e-6)
    moments = optimizer.state[table]
    for name, theirs in [("mu", "exp_avg"), ("nu", "exp_avg_sq")]:
        got = adamx.tree_get(state, name)["table"]
        np.testing.assert_allclose(got, moments[theirs], atol=1e-6)


# ---- what goes inside


def test_clipping_inside_sees_the_norm_of_the_dense_gradient():
    inner = adamx.chain(adamx.clip_by_global_norm(0.5), adamx.sgd(RATE))
    want, got = run(inner, dense_at), run(adamx.on_rows(inner))
    chex.assert_trees_all_close(got[-1][0], want[-1][0], rtol=1e-5)


def test_groups_by_path_with_dense_parameters():
    groups = {"tables": adamx.adagrad(RATE), "others": adamx.adamw(RATE)}
    labels = adamx.by_path({"table": "tables", "": "others"})
    got = run(adamx.on_rows(adamx.partition(groups, labels)))[-1][0]
    alone = run(adamx.on_rows(groups["tables"]))[-1][0]
    chex.assert_trees_all_equal(got["table"], alone["table"])
    dense_alone = run(
        groups["others"],
        lambda i: {"bias": grads_at(i)["bias"]},
        {"bias": PARAMS["bias"]},
    )
    chex.assert_trees_all_close(got["bias"], dense_alone[-1][0]["bias"], rtol=1e-6)


def test_a_step_that_is_not_finite_is_left_out():
    tx = adamx.on_rows(adamx.apply_if_finite(adamx.adam(RATE), None))

    def grads(i):
        g = grads_at(i)
        bad = g["table"].values.at[0, 0].set(jnp.nan)
        spoiled = adamx.SparseRows(g["table"].ids, bad, ROWS)
        return g | {"table": spoiled} if i == 1 else g

    walk = run(tx, grads, steps=2)
    assert walk[2][1].total_notfinite == 1
    chex.assert_trees_all_equal(walk[2][0], walk[1][0])
    chex.assert_trees_all_equal(walk[2][1].inner_state, walk[1][1].inner_state)


def test_schedules_and_decay_masks_inside():
    rate = adamx.linear_schedule(0.1, 0.0, STEPS)
    mask = adamx.by_path(lambda path: path == "table")
    tx = adamx.on_rows(adamx.adamw(rate, weight_decay=0.1, mask=mask))

    def step(state, g, p, t, learning_rate):
        decayed = functools.partial(oracle.adamw, weight_decay=0.1)
        return decayed(state, g, p, t, learning_rate=0.1 * (1 - (t - 1) / STEPS))

    assert not differs(tx, step)


def test_what_depends_on_the_size_of_a_table_is_refused():
    table = jnp.zeros((256, 64), jnp.float32)
    rows = adamx.sum_rows(np.array([3]), np.ones((1, 64), np.float32), 256)
    tx = adamx.on_rows(adamx.compress_state(adamx.adam(RATE)))
    text = (
        "on_rows: expected an inner transformation that does with few rows what it "
        "does with a table, got one whose state changes; give compress_state "
        "min_size=0."
    )
    with raises(ValueError, text):
        tx.update(rows, tx.init(table), table)


IN_LESS = [functools.partial(adamx.compress_state, min_size=0), adamx.master_weights]


@pytest.mark.parametrize("wrap", IN_LESS, ids=["compressed", "master"])
def test_states_in_less_memory_have_rows_too(wrap, rng):
    table = jnp.asarray(rng.normal(size=(256, 64)), jnp.float32)
    rows = adamx.sum_rows(
        np.array([3, 9, 9]), rng.normal(size=(3, 64)).astype(np.float32), 256
    )
    tx, plain = adamx.on_rows(wrap(adamx.adam(RATE))), adamx.on_rows(adamx.adam(RATE))
    state = tx.init(table)
    updates, new = tx.update(rows, state, table)
    want, _ = plain.update(rows, plain.init(table), table)
    chex.assert_trees_all_close(updates, want, rtol=1e-6)
    for x, y in zip(*map(jax.tree.leaves, (state, new)), strict=True):
        if np.ndim(x):
            moved = np.any(np.asarray(x) != np.asarray(y), axis=1)
            np.testing.assert_array_equal(np.flatnonzero(moved), [3, 9])


def test_two_tables_of_one_size_and_a_square_parameter():
    """Each array of a state has the rows of its own table."""
    params = {"a": jnp.zeros((5, 5)), "b": jnp.zeros((5, 5)), "c": jnp.zeros((5, 5))}
    values = jnp.ones((1, 5))
    grads = {
        "a": adamx.sum_rows(jnp.array([1]), values, 5),
        "b": adamx.sum_rows(jnp.array([3]), values, 5),
        "c": jnp.ones((5, 5)),
    }
    tx = adamx.on_rows(adamx.adam(RATE))
    _, state = tx.update(grads, tx.init(params), params)
    hit = {
        k: np.flatnonzero(np.any(np.asarray(x) != 0, 1)) for k, x in state[0].mu.items()
    }
    assert {k: list(x) for k, x in hit.items()} == {
        "a": [1],
        "b": [3],
        "c": [*range(5)],
    }


AROUND = {
    "apply_if_finite": lambda tx: adamx.apply_if_finite(tx, None),
    "skip_spikes": adamx.skip_spikes,
    "inject_hyperparams": lambda tx: adamx.inject_hyperparams(lambda rate: tx)(RATE),
}


@pytest.mark.parametrize("name", AROUND)
def test_what_chooses_between_steps_may_be_around(name):
    tx = adamx.on_rows(adamx.adam(RATE))
    got, want = run(AROUND[name](tx)), run(tx)
    chex.assert_trees_all_close(got[-1][0], want[-1][0], rtol=1e-6)


def test_of_a_step_left_out_around_rows_keep_their_ids():
    tx = adamx.apply_if_finite(adamx.on_rows(adamx.adam(RATE)), None)
    g = grads_at(0)
    spoiled = g | {"bias": g["bias"] * jnp.nan}
    state = tx.init(PARAMS)
    updates, new = tx.update(spoiled, state, PARAMS)
    chex.assert_trees_all_equal(new.inner_state, state.inner_state)
    chex.assert_trees_all_equal(adamx.apply_updates(PARAMS, updates), PARAMS)
    np.testing.assert_array_equal(updates["table"].ids, g["table"].ids)


@pytest.mark.parametrize(
    ("inner", "name"),
    [
        (
            adamx.MultiSteps(adamx.sgd(RATE), 2).gradient_transformation(),
            "MultiStepsState",
        ),
        (adamx.chain(adamx.sgd(RATE), adamx.ema_params()), "EmaParamsState"),
        (adamx.lookahead(adamx.sgd(RATE), 5, 0.5), "LookaheadWithSlowState"),
        (
            optax.MultiSteps(optax.sgd(RATE), 2).gradient_transformation(),
            "MultiStepsState",
        ),
    ],
)
def test_what_needs_every_row_is_refused(inner, name):
    text = (
        "on_rows: expected an inner transformation that needs no row without a "
        f"gradient, got one with {name}; leave tables to another with adamx.partition, "
        "inside."
    )
    with raises(ValueError, text):
        adamx.on_rows(inner).init(PARAMS)


def test_a_state_without_rows_is_refused():
    """Also where a table has as many rows as columns."""
    tx = adamx.on_rows(adamx.adafactor(RATE, min_dim_size_to_factor=2))
    for n in (4, 8):
        params = {"table": jnp.zeros((n, 4), jnp.float32)}
        rows = adamx.sum_rows(np.arange(3), np.ones((3, 4), np.float32), n)
        text = "expected a state with a row for each row of a table, got f32[4] at"
        with raises(ValueError, f"on_rows: {text}"):
            tx.update({"table": rows}, tx.init(params), params)


def test_tables_that_do_not_match():
    tx = adamx.on_rows(adamx.adam(RATE))
    rows = adamx.sum_rows(IDS[0], VALUES[0], ROWS + 1)
    text = (
        "on_rows: updates do not match the params at ['table']: SparseRows for a table "
        "of shape (12, 3) against f32[11,3]; were both made from the same params?"
    )
    with raises(ValueError, text):
        tx.update(grads_at(0) | {"table": rows}, tx.init(PARAMS), PARAMS)
    with raises(ValueError, text.replace("on_rows", "apply_updates")):
        adamx.apply_updates(PARAMS, {"table": rows, "bias": None})
    with raises(ValueError, "on_rows: expected a state with a row for each row"):
        tx.update(grads_at(0) | {"table": rows}, tx.init(PARAMS))


# ---- rows that were not seen

B1, B2, DECAY = 0.9, 0.99, 0.5
UNSEEN = {"mu": B1, "nu": B2, "params": 1 - RATE * DECAY}


def test_moments_catch_up_with_the_dense_ones():
    inner = adamx.adamw(RATE, B1, B2, weight_decay=DECAY)
    caught = run(adamx.on_rows(inner, unseen=UNSEEN))
    want, lazy = run(inner, dense_at), run(adamx.on_rows(inner))
    seen = met(IDS[-1])
    rows = adamx.tree_get(caught[-1][1], "last_seen")["table"]
    np.testing.assert_array_equal(rows[seen], STEPS)
    assert rows[ROWS - 1] == 0
    behind = []
    for name in ("mu", "nu"):
        mine, dense_one, lazy_one = (
            np.asarray(adamx.tree_get(w[-1][1], name)["table"])[seen]
            for w in (caught, want, lazy)
        )
        np.testing.assert_allclose(mine, dense_one, rtol=1e-5, atol=1e-8)
        behind.append(np.abs(lazy_one - dense_one).max())
    assert min(behind) > 1e-3


def test_decay_catches_up_with_the_dense_one():
    """To the whole path of a row, where no momentum moves it."""
    inner = adamx.chain(adamx.add_decayed_weights(DECAY), adamx.sgd(RATE))
    tx = adamx.on_rows(inner, unseen={"params": 1 - RATE * DECAY})
    got, want = run(tx), run(inner, dense_at)
    for i in range(1, STEPS + 1):
        rows = met(IDS[i - 1])
        np.testing.assert_allclose(
            got[i][0]["table"][rows], want[i][0]["table"][rows], rtol=2e-6
        )
    never = np.asarray(got[-1][0]["table"])[ROWS - 1]
    np.testing.assert_array_equal(never, TABLE[ROWS - 1])


def test_nothing_is_made_up_for_a_dense_gradient():
    inner = adamx.adamw(RATE, B1, B2, weight_decay=DECAY)
    got, want = run(adamx.on_rows(inner, unseen=UNSEEN), dense_at), run(inner, dense_at)
    chex.assert_trees_all_close(got[-1][0], want[-1][0], rtol=1e-6)
    np.testing.assert_array_equal(got[-1][1].last_seen["table"], STEPS)


def test_unseen_of_zero_forgets_and_of_one_does_nothing():
    inner = adamx.sgd(RATE, 0.9)
    lazy = run(adamx.on_rows(inner))[-1]
    kept = run(adamx.on_rows(inner, unseen={"trace": 1.0}))[-1]
    chex.assert_trees_all_close(kept[0], lazy[0], rtol=1e-6)
    ids = [np.array([k]) for k in (0, 1, 0)]

    def grads(i):
        return adamx.sum_rows(ids[i], np.ones((1, 2), np.float32), 2)

    table = jnp.zeros((2, 2), jnp.float32)
    _, state = run(adamx.on_rows(inner, unseen={"trace": 0.0}), grads, table, 3)[-1]
    np.testing.assert_array_equal(state.inner_state[0].trace, np.ones((2, 2)))


@pytest.mark.parametrize(
    ("unseen", "kind", "text"),
    [
        ({"mu": 1.5}, ValueError, "on_rows: expected unseen['mu'] in [0, 1], got 1.5."),
        (
            ["mu"],
            TypeError,
            "on_rows: expected unseen as a dictionary from fields to numbers, got "
            "['mu'].",
        ),
        (
            {"velocity": 0.9},
            ValueError,
            "on_rows: no field 'velocity' in the state; have count, mu, nu.",
        ),
    ],
)
def test_what_cannot_be_made_up(unseen, kind, text):
    with raises(kind, text):
        adamx.on_rows(adamx.adam(RATE), unseen=unseen).init(PARAMS)


def test_the_decay_of_parameters_needs_them():
    tx = adamx.on_rows(adamx.sgd(RATE), unseen={"params": 0.9})
    with raises(
        ValueError,
        "on_rows: needs the parameters; call tx.update(grads, state, params).",
    ):
        tx.update(grads_at(0), tx.init(PARAMS))


# ---- laws

TXS = {
    "adamw": lambda rate: adamx.on_rows(adamx.adamw(rate)),
    "unseen": lambda rate: adamx.on_rows(adamx.adamw(rate), unseen=UNSEEN),
    "narrow": lambda rate: adamx.on_rows(
        adamx.adam(
            rate,
            mu_dtype=jnp.bfloat16,
            nu_dtype=adamx.Storage(jnp.bfloat16, "stochastic"),
        )
    ),
    "groups": lambda rate: adamx.on_rows(
        adamx.chain(
            adamx.clip_by_global_norm(1.0),
            adamx.masked(adamx.trace(0.9), {"table": True, "bias": False}),
            adamx.sgd(rate),
        )
    ),
}
every = pytest.mark.parametrize("name", TXS)


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_types_are_fixed_by_init(name, dtype):
    tx = TXS[name](RATE)
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    state = tx.init(params)
    assert types(tx.init(shapes)) == types(state)
    updates, new = jax.eval_shape(tx.update, grads_at(0), state, params)
    assert types(new) == types(state)
    assert types(updates) == types(grads_at(0))


@every
def test_scan_is_a_loop_without_a_new_trace(name):
    tx = TXS[name](RATE)
    walk = run(tx)

    def body(carry, x):
        params, state = carry
        g = grads_at(0) | {"table": adamx.sum_rows(*x, ROWS), "bias": x[1][0]}
        updates, state = tx.update(g, state, params)
        return (adamx.apply_updates(params, updates), state), None

    scan = jax.jit(lambda carry: lax.scan(body, carry, (IDS, VALUES))[0])
    chex.assert_trees_all_close(scan(walk[0]), walk[-1], rtol=1e-5, atol=1e-6)
    update = jax.jit(chex.assert_max_traces(tx.update, n=1))
    chex.clear_trace_counter()
    for i in range(2):
        update(grads_at(i), walk[i][1], walk[i][0])


@every
def test_learning_rates_are_vmapped_and_extra_arguments_ignored(name):
    def updates(rate, **extra):
        tx = TXS[name](rate)
        return tx.update(grads_at(0), tx.init(PARAMS), PARAMS, **extra)[0]

    rates = jnp.array([0.1, 0.3], jnp.float32)
    swept = jax.vmap(updates, out_axes=0)(rates)
    one = updates(rates[1], value=jnp.ones(()), what=None)
    got = jax.tree.map(lambda x: x[1], swept)
    chex.assert_trees_all_close(got, one, rtol=1e-5)


def test_eager_is_compiled():
    tx = TXS["adamw"](RATE)
    eager = tx.update(grads_at(0), tx.init(PARAMS), PARAMS)
    compiled = jax.jit(tx.update)(grads_at(0), tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_close(eager, compiled, rtol=1e-6)


def test_transformations_of_optax_inside():
    with jax.numpy_dtype_promotion("standard"):
        got = run(adamx.on_rows(optax.adam(RATE)), apply=optax.apply_updates)[-1][0]
    want = run(adamx.on_rows(adamx.adam(RATE)))[-1][0]
    chex.assert_trees_all_close(got, want, atol=2e-5)


def test_a_table_in_float64():
    with jax.enable_x64(True):
        table = jnp.asarray(TABLE, jnp.float64)
        rows = adamx.sum_rows(IDS[0], VALUES[0].astype(np.float64), ROWS)
        tx = adamx.on_rows(adamx.adam(RATE))
        updates, state = tx.update(rows, tx.init(table), table)
        new = adamx.apply_updates(table, updates)
    assert updates.values.dtype == state[0].mu.dtype == new.dtype == jnp.float64
    step = functools.partial(lazily, ids=IDS[:1], values=VALUES[:1])
    np.testing.assert_allclose(new, step(oracle.adam)[0], rtol=1e-13)


def test_a_complex_table():
    table = jnp.asarray(TABLE * (1 + 2j), jnp.complex64)
    rows = adamx.sum_rows(IDS[0], VALUES[0] * 1j, ROWS)
    tx = adamx.on_rows(adamx.adamw(RATE), unseen={"mu": 0.9, "params": 0.9})
    updates, _ = tx.update(rows, tx.init(table), table)
    new = np.asarray(adamx.apply_updates(table, updates))
    moved = np.flatnonzero(np.any(new != np.asarray(table), axis=1))
    np.testing.assert_array_equal(moved, met(IDS[0]))


# ---- what a program does


def compiled_step(tx, rows=100_000, width=64, ids=256):
    """A jitted step from shapes, table and state donated."""
    table = jax.ShapeDtypeStruct((rows, width), jnp.float32)
    state = jax.eval_shape(tx.init, table)
    looked_up = (
        jax.ShapeDtypeStruct((ids,), jnp.int32),
        jax.ShapeDtypeStruct((ids, width), jnp.float32),
    )

    def step(table, state, ids, values):
        g = adamx.sum_rows(ids, values, rows)
        updates, state = tx.update(g, state, table)
        return adamx.apply_updates(table, updates), state

    return (
        jax.jit(step, donate_argnums=(0, 1)).lower(table, state, *looked_up).compile()
    )


@pytest.mark.parametrize("unseen", [None, UNSEEN])
def test_nothing_of_the_size_of_the_table_is_made_or_copied(unseen):
    plan = compiled_step(adamx.on_rows(adamx.adamw(RATE), unseen=unseen))
    table, touched = 4 * 100_000 * 64, 4 * 256 * 64
    memory = plan.memory_analysis()
    assert memory.alias_size_in_bytes >= 3 * table
    assert memory.temp_size_in_bytes < 12 * touched < table / 30
    assert "copy(f32[100000,64]" not in plan.as_text()


def test_it_is_exported_and_serialized():
    register_states()
    tx = adamx.on_rows(adamx.adamw(RATE), unseen=UNSEEN)
    state = tx.init(PARAMS)
    update = export.export(jax.jit(tx.update), platforms=["cpu", "cuda", "rocm", "tpu"])
    there = export.deserialize(update(grads_at(0), state, PARAMS).serialize())
    got = there.call(grads_at(0), state, PARAMS)
    chex.assert_trees_all_equal(got, jax.jit(tx.update)(grads_at(0), state, PARAMS))
    assert got[0]["table"].num_rows == ROWS
