"""Weights of 16 bits that train as in float32, wherever they are."""

import ast
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import adamx
from adamx._precision.residual import nearest

BF16, F16, F32 = jnp.bfloat16, jnp.float16, jnp.float32
STEPS = 4


def normal(i, shape, dtype, scale=1.0):
    """The numbers of a seed."""
    x = np.random.default_rng(i).normal(size=shape) * scale
    return jnp.asarray(np.asarray(x, np.float32)).astype(dtype)


# All that a tree may hold.
PARAMS = {
    "b": normal(0, (4, 3), BF16),
    "h": normal(1, (5,), F16),
    "w": normal(2, (3,), F32),
    "c": normal(3, (2,), F32).astype(jnp.complex64),
    "none": None,
    "masked": adamx.MaskedNode(),
    "inner": {"scalar": normal(4, (), BF16), "empty": jnp.zeros((0, 2), BF16)},
}
WAYS = {
    "32": adamx.master_weights(adamx.adamw(1e-3, weight_decay=0.1)),
    "24": adamx.master_weights(adamx.adamw(1e-3, weight_decay=0.1), 24),
    "kahan": adamx.chain(adamx.adamw(1e-3), adamx.kahan_sum()),
    "stochastic": adamx.chain(adamx.adamw(1e-3), adamx.round_stochastically()),
}
ways = pytest.mark.parametrize("tx", WAYS.values(), ids=WAYS)
bits = pytest.mark.parametrize("bits", [32, 24])


def to(dtype, tree):
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def types(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


def assert_same(got, want):
    """Bit by bit."""
    chex.assert_trees_all_equal_structs(got, want)
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


# ---- as in float32

WEIGHTS = {"w": normal(0, (40, 50), BF16, 0.02), "b": {"x": normal(1, (50,), BF16)}}


def stream(steps):
    """Gradients that are the same in bfloat16 and in float32."""
    rng = np.random.default_rng(7)
    sizes = 10.0 ** rng.uniform(-3, 1, size=steps)

    def draw(p):
        g = rng.normal(size=(steps, *p.shape)) * sizes.reshape(-1, *[1] * p.ndim)
        return jnp.asarray(g.astype(ml_dtypes.bfloat16).astype(np.float32))

    return jax.tree.map(draw, WEIGHTS)


GRADS = stream(STEPS)


def run(tx, params, grads, apply_updates=adamx.apply_updates):
    """The parameters and the state after a scan over gradients."""

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        return (apply_updates(params, updates), state), None

    return jax.jit(lambda carry: lax.scan(step, carry, grads)[0])(
        (params, tx.init(params))
    )


def eagerly(tx, params, grads=GRADS, steps=STEPS):
    """The same in a loop."""
    state = tx.init(params)
    for i in range(steps):
        g = jax.tree.map(lambda x: x[i], grads)  # noqa: B023  # used at once
        updates, state = tx.update(g, state, params)
        params = adamx.apply_updates(params, updates)
    return params, state


def whole_optimizer(library):
    schedule = library.warmup_cosine_decay_schedule(0.0, 1e-3, 20, 300)
    return library.chain(
        library.clip_by_global_norm(50.0), library.adamw(schedule, weight_decay=0.1)
    )


@functools.cache
def float32_run(library):
    return run(
        whole_optimizer(library),
        to(F32, WEIGHTS),
        stream(300),
        library.apply_updates,
    )


@pytest.mark.parametrize(
    "library", [adamx, pytest.param(optax, marks=pytest.mark.exhaustive)]
)
def test_masters_are_those_of_a_float32_run_bit_for_bit(library):
    """With decay, a schedule and clipping, over 300 steps; those of Optax, too."""
    tx, grads = whole_optimizer(library), stream(300)
    with jax.numpy_dtype_promotion("standard"):
        params, state = run(
            adamx.master_weights(tx), WEIGHTS, grads, library.apply_updates
        )
        want, want_state = float32_run(library)
    assert_same(adamx.to_float32(params, state), want)
    assert_same(state.inner_state, want_state)
    assert_same(params, jax.tree.map(lambda x: nearest(x, BF16, jnp.int16), want))
    moved = jax.tree.map(lambda x, p: jnp.abs(x - p).mean(), want, to(F32, WEIGHTS))
    assert all(x > 1e-3 for x in jax.tree.leaves(moved))


@pytest.mark.exhaustive
def test_masters_of_24_bits_are_nearly_those():
    tx, grads = whole_optimizer(adamx), stream(300)
    params, state = run(adamx.master_weights(tx, 24), WEIGHTS, grads)
    want, _ = float32_run(adamx)
    masters = adamx.to_float32(params, state)
    near, _ = run(tx, WEIGHTS, grads)
    for name, limit in [("w", 2e-3), ("b", 2e-2)]:
        x, y, z, p = (
            np.asarray(jax.tree.leaves(tree[name])[0], np.float64)
            for tree in (masters, want, near, WEIGHTS)
        )
        moved = np.sqrt(np.mean((y - p) ** 2))
        assert np.sqrt(np.mean((x - y) ** 2)) < limit * moved
        assert np.sqrt(np.mean((z - y) ** 2)) > 10 * limit * moved  # without


def test_a_loop_trains_as_one_that_keeps_float32_parameters():
    """Gradients are taken at the 16-bit weights in both; losses are equal."""
    x = normal(2, (64, 40), F32)
    y = jnp.tanh(x @ normal(3, (40, 50), F32) * 0.3)

    def loss_fn(params):
        out = jnp.tanh(x @ params["w"].astype(F32))
        return jnp.mean((out * params["b"]["x"].astype(F32)[None] - y) ** 2)

    tx = adamx.adamw(3e-3)
    ours = adamx.master_weights(tx)

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = ours.update(grads, state, params)
        return loss, adamx.apply_updates(params, updates), state

    @jax.jit
    def usual_step(masters, state):
        params = jax.tree.map(lambda x: nearest(x, BF16, jnp.int16), masters)
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(to(F32, grads), state, masters)
        return loss, adamx.apply_updates(masters, updates), state

    params, state = WEIGHTS, ours.init(WEIGHTS)
    masters = to(F32, WEIGHTS)
    usual, losses = tx.init(masters), []
    for _ in range(60):
        loss, params, state = step(params, state)
        want, masters, usual = usual_step(masters, usual)
        losses.append(float(loss))
        assert losses[-1] == pytest.approx(float(want), rel=1e-6)
    assert losses[-1] < 0.5 * losses[0]
    got = adamx.to_float32(params, state)
    chex.assert_trees_all_close(got, masters, atol=1e-5, rtol=1e-5)


@bits
def test_a_parameter_that_someone_changes_takes_its_master_along(bits):
    tx = adamx.master_weights(adamx.sgd(1e-4), bits)
    params, state = eagerly(tx, WEIGHTS)
    changed = jax.tree.map(lambda p: p * jnp.asarray(-3, BF16), params)
    masters = adamx.to_float32(changed, state)
    _, state = tx.update(jax.tree.map(jnp.zeros_like, changed), state, changed)
    assert_same(adamx.to_float32(changed, state), masters)
    for x, p in zip(*map(jax.tree.leaves, (masters, changed)), strict=True):
        p = np.asarray(p)
        unit = np.spacing(np.abs(p)).astype(np.float64)
        off = np.abs(np.asarray(x, np.float64) - p.astype(np.float64))
        assert (off <= unit / 2).all()


# ---- the other ways


def test_kahan_sum_is_its_formula():
    params, state = eagerly(adamx.kahan_sum(), WEIGHTS["w"], GRADS["w"])
    p, c = np.asarray(WEIGHTS["w"]), np.zeros((40, 50), ml_dtypes.bfloat16)
    for g in np.asarray(GRADS["w"]):
        c = (c.astype(np.float32) + g).astype(ml_dtypes.bfloat16)
        new = (p.astype(np.float32) + c.astype(np.float32)).astype(ml_dtypes.bfloat16)
        step = new.astype(np.float32) - p.astype(np.float32)
        c = (c.astype(np.float32) - step).astype(ml_dtypes.bfloat16)
        p = new
    np.testing.assert_array_equal(params, p)
    np.testing.assert_array_equal(state.kahan, c)
    got = adamx.to_float32(params, state)
    np.testing.assert_array_equal(got, p.astype(np.float32) + c.astype(np.float32))


@pytest.mark.parametrize("dtype", [BF16, F16])
@pytest.mark.parametrize("sign", [-1, 1])
def test_stochastic_rounding_of_weights_is_right_on_average(dtype, sign):
    """At 0.3 of a unit, and of what can be kept nothing is changed."""
    n, unit = 100_000, float(jnp.finfo(dtype).eps)
    tx = adamx.round_stochastically()
    p = jnp.full(n, sign, dtype)
    step, state = tx.update(jnp.full(n, 0.3 * unit * sign, F32), tx.init(p), p)
    new = adamx.apply_updates(p, step)
    units = (np.asarray(new, np.float64) - sign) / (unit * sign)
    assert set(units) == {0.0, 1.0}
    assert abs(units.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / n)
    assert_same(step, new.astype(F32) - p.astype(F32))
    again, _ = tx.update(jnp.full(n, unit * sign, F32), state, p)
    np.testing.assert_array_equal(again, np.full(n, unit * sign, np.float32))


def test_random_bits_differ_by_step_leaf_seed_and_stream():
    p = {"a": jnp.ones(4096, BF16), "b": jnp.ones(4096, BF16)}
    u = jax.tree.map(lambda p: jnp.full(4096, 2.0**-8, F32), p)  # half a unit
    draws = []
    for seed in (0, 1):
        tx = adamx.round_stochastically(seed)
        state = tx.init(p)
        for _ in range(2):
            up, state = tx.update(u, state, p)
            draws += [up["a"] > 0, up["b"] > 0]
    key, _ = adamx._rounding.keys_of(p, jnp.int32(1), 0)  # that of moments
    draws.append(adamx._rounding.random_bits(key, p["a"]) >> np.uint32(31) > 0)
    for i, x in enumerate(draws):
        for y in draws[:i]:
            assert abs(float(jnp.mean(x == y)) - 0.5) < 5 * 0.5 / 64


# ---- types, trees, errors


@pytest.mark.parametrize(
    ("name", "narrow"),
    [("32", True), ("24", False), ("kahan", False), ("stochastic", True)],
)
def test_types_are_fixed_by_init(name, narrow):
    """In a scan whose arguments are donated, for gradients of either kind."""
    tx = WAYS[name]
    grads = PARAMS if narrow else PARAMS | {k: to(F32, PARAMS[k]) for k in "bh"}
    carry = jax.tree.map(jnp.copy, (PARAMS, tx.init(PARAMS)))
    before = types(carry)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        return (adamx.apply_updates(params, updates), state), updates

    chex.clear_trace_counter()
    f = jax.jit(
        chex.assert_max_traces(lambda c: lax.scan(step, c, length=2), n=1),
        donate_argnums=0,
    )
    for _ in range(2):
        carry, updates = f(carry)
    assert types(carry) == before
    assert updates["b"].dtype == updates["h"].dtype == F32
    assert (updates["w"].dtype, updates["c"].dtype) == (F32, jnp.complex64)


@ways
def test_init_needs_shapes_only(tx):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS)
    want = types(tx.init(PARAMS))
    assert types(tx.init(shapes)) == want
    assert types(jax.eval_shape(tx.init, shapes)) == want
    assert not any(x.any() for x in jax.tree.leaves(tx.init(PARAMS)))
    updates, _ = tx.update({}, tx.init({}), {})
    assert updates == {}


@pytest.mark.parametrize("name", ["residual16", "residual8", "kahan"])
def test_there_is_nothing_for_what_is_not_narrow(name):
    tx = {"residual16": WAYS["32"], "residual8": WAYS["24"], "kahan": WAYS["kahan"]}
    field = adamx.tree_get(tx[name].init(PARAMS), name)
    dtype = {"residual16": jnp.int16, "residual8": jnp.int8}.get(name)
    assert field["w"] == field["c"] == field["masked"] == adamx.MaskedNode()
    assert field["none"] is None
    for x in ("b", "h"):
        assert field[x].dtype == (dtype or PARAMS[x].dtype)
        assert field[x].shape == PARAMS[x].shape


def test_float32_parameters_train_as_without():
    tx = adamx.adamw(1e-3)
    params = {"w": PARAMS["w"], "c": PARAMS["c"]}
    want = tx.update(params, tx.init(params), params)
    for wrap in (adamx.master_weights, lambda tx: adamx.master_weights(tx, 24)):
        updates, state = wrap(tx).update(params, wrap(tx).init(params), params)
        assert_same((updates, state.inner_state), want)


@pytest.mark.parametrize(
    ("kind", "text", "make"),
    [
        (
            ValueError,
            "master_weights: expected bits as 32 or 24, got 16.",
            lambda: adamx.master_weights(adamx.sgd(0.1), 16),
        ),
        (
            TypeError,
            "master_weights: expected a gradient transformation as inner, got the "
            "function sgd; call it: sgd(...).",
            lambda: adamx.master_weights(adamx.sgd),
        ),
        (
            TypeError,
            "round_stochastically: expected seed as a whole number in [0, 2**32), got "
            "0.5.",
            lambda: adamx.round_stochastically(0.5),
        ),
        (
            TypeError,
            "kahan_sum: expected params in bfloat16, float16, float32 or wider, got "
            "f8_e4m3fn[3] at ['w']; keep it in bfloat16.",
            lambda: adamx.kahan_sum().init({"w": jnp.zeros(3, jnp.float8_e4m3fn)}),
        ),
        (
            TypeError,
            "master_weights: expected params of a floating or complex dtype, got "
            "i32[3] at ['w']; leave it out with adamx.masked or adamx.partition.",
            lambda: WAYS["32"].init({"w": jnp.zeros(3, jnp.int32)}),
        ),
        (
            ValueError,
            "to_float32: the parameters do not match the state; were both made from "
            "the same params?",
            lambda: adamx.to_float32([jnp.zeros(2)], WAYS["32"].init(WEIGHTS)),
        ),
        (
            ValueError,
            "from_float32: the parameters do not match the state; were both made from "
            "the same params?",
            lambda: adamx.from_float32(
                WEIGHTS["b"], WEIGHTS["b"], WAYS["32"].init(WEIGHTS)
            ),
        ),
        (
            ValueError,
            "from_float32: expected masters like the params, got f32[2] for bf16[50] "
            "at ['x'].",
            lambda: adamx.from_float32(
                {"x": jnp.zeros(2, F32)}, WEIGHTS["b"], WAYS["32"].init(WEIGHTS["b"])
            ),
        ),
        (
            TypeError,
            "to_float32: expected params of a floating or complex dtype, got i32[2]; "
            "leave it out with adamx.masked or adamx.partition.",
            lambda: adamx.to_float32(jnp.zeros(2, jnp.int32), ()),
        ),
    ],
)
def test_says_what_is_wrong(kind, text, make):
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == text


@pytest.mark.parametrize("name", WAYS)
def test_says_what_is_missing_or_does_not_match(name):
    tx = {
        "32": WAYS["32"],
        "24": WAYS["24"],
        "kahan": adamx.kahan_sum(),
        "stochastic": adamx.round_stochastically(),
    }[name]
    who = {"kahan": "kahan_sum", "stochastic": "round_stochastically"}.get(
        name, "master_weights"
    )
    state = tx.init(WEIGHTS)

    def says(text):
        return pytest.raises(ValueError, match="^" + re.escape(f"{who}: {text}"))

    with says("needs the parameters; call tx.update(grads, state, params)."):
        tx.update(WEIGHTS, state)
    with says("expected a "):
        tx.update(WEIGHTS, (), WEIGHTS)
    with says("updates do not match the params at ['w']: bf16[2] against bf16[40,50]"):
        tx.update(WEIGHTS | {"w": jnp.zeros(2, BF16)}, state, WEIGHTS)
    if name != "stochastic":
        small = WEIGHTS | {"w": jnp.zeros(2, BF16)}
        with says("updates do not match the state at ['w']: bf16[2] against "):
            tx.update(small, state, small)
        wide = to(F32, WEIGHTS)
        with says("updates do not match the state at "):
            tx.update(wide, state, wide)


# ---- around and inside


def seen_by(tx, seen):
    def update(updates, state, params=None, **extra_args):
        seen.append((updates, params, extra_args))
        return tx.update(updates, state, params)

    return adamx.GradientTransformation(tx.init, update)


def test_the_inner_sees_masters_float32_gradients_and_extra_arguments():
    seen = []
    tx = adamx.master_weights(seen_by(adamx.sgd(1e-3), seen))
    state = tx.init(PARAMS)
    tx.update(PARAMS, state, PARAMS, value=3)
    ((grads, params, extra),) = seen
    assert extra == {"value": 3}
    for tree in (grads, params):
        assert tree["b"].dtype == tree["h"].dtype == F32
        assert tree["c"].dtype == jnp.complex64
        assert_same(tree["b"], PARAMS["b"].astype(F32))


ADAMW = adamx.adamw(1e-2)
HALF = {"w": "x", "b": "y"}
AROUND = {
    "chain": lambda tx: adamx.chain(adamx.clip(1.0), tx),
    "apply_if_finite": lambda tx: adamx.apply_if_finite(tx, 3),
    "skip_spikes": lambda tx: adamx.skip_spikes(tx, 100.0, 4),
    "loss_scale": lambda tx: adamx.dynamic_loss_scale(tx, 4.0, 2),
    "MultiSteps": lambda tx: adamx.MultiSteps(tx, 2),
    "record": adamx.record,
    "masked": lambda tx: adamx.masked(tx, True),
    "partition": lambda tx: adamx.partition({"x": tx, "y": tx}, HALF),
    "optax.chain": lambda tx: optax.chain(optax.clip(1.0), tx),
    "optax.partition": lambda tx: optax.partition({"x": tx, "y": tx}, HALF),
}
INSIDE = {
    "MultiSteps": lambda tx: adamx.MultiSteps(tx, 2),
    "apply_if_finite": lambda tx: adamx.apply_if_finite(tx, 3),
    "ema_params": lambda tx: adamx.chain(tx, adamx.ema_params(0.9)),
    "lookahead": lambda tx: adamx.lookahead(tx, 2, 0.5),
    "schedule_free": lambda tx: adamx.schedule_free_adamw(1e-2),
    "optax.apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
}
PAIRS = {f"{name}(master_weights)": (wrap, None) for name, wrap in AROUND.items()}
PAIRS |= {f"master_weights({name})": (None, wrap) for name, wrap in INSIDE.items()}
USUAL = [
    "apply_if_finite(",
    "loss_scale(",
    "MultiSteps",
    "partition(",
    "(schedule_free",
]


@pytest.mark.parametrize(
    ("outside", "inside"),
    [
        pytest.param(
            *pair,
            id=name,
            marks=[]
            if any(map(name.__contains__, USUAL)) and "optax" not in name
            else pytest.mark.exhaustive,
        )
        for name, pair in PAIRS.items()
    ],
)
def test_masters_are_those_of_float32_around_and_inside_of_anything(outside, inside):
    """With bfloat16 gradients, too; averages are those of the masters."""
    inner = (inside or (lambda tx: tx))(ADAMW)
    tx = (outside or (lambda tx: tx))(adamx.master_weights(inner))
    plain = (outside or (lambda tx: tx))(inner)
    with jax.numpy_dtype_promotion("standard"):
        params, state = eagerly(tx, WEIGHTS, to(BF16, GRADS))
        want, want_state = eagerly(plain, to(F32, WEIGHTS), to(F32, GRADS))
        assert_same(adamx.to_float32(params, state), want)
        got = adamx.eval_params(state, params)
        averages = adamx.eval_params(want_state, want)
    if averages is want:
        assert_same(got, params)
    else:
        assert_same(got, to(BF16, averages))
        assert_same(adamx.eval_params(state, want), averages)


def test_a_step_that_is_left_out_changes_no_bit():
    bad = jax.tree.map(lambda g: g.at[1].set(jnp.nan), to(BF16, GRADS))
    three = jax.tree.map(lambda g: g[jnp.array([0, 2, 3])], to(BF16, GRADS))
    tx = adamx.apply_if_finite(adamx.master_weights(ADAMW), 3)
    params, state = eagerly(tx, WEIGHTS, bad)
    want = eagerly(adamx.master_weights(ADAMW), WEIGHTS, three, 3)
    assert_same((params, state.inner_state), want)
    inside = adamx.master_weights(adamx.apply_if_finite(ADAMW, 3))
    params, state = eagerly(inside, WEIGHTS, bad)
    assert_same((params, state.residual16), (want[0], want[1].residual16))


# ---- float32, and back


@pytest.mark.parametrize("name", ["32", "24", "kahan"])
def test_a_float32_checkpoint_goes_into_a_run_and_comes_out(name):
    masters = jax.tree.map(lambda p: p.astype(F32) * 1.2345, WEIGHTS)
    tx = WAYS[name]
    params, state = adamx.from_float32(masters, WEIGHTS, tx.init(WEIGHTS))
    assert types(params) == types(WEIGHTS)
    assert types(state) == types(tx.init(WEIGHTS))
    again = adamx.to_float32(params, state)
    if name == "32":
        assert_same(again, masters)
    else:
        chex.assert_trees_all_close(again, masters, rtol=2.0**-16)
    assert_same(adamx.from_float32(again, params, state), (params, state))


def test_parameters_without_a_residual_are_widened_and_rounded():
    masters = jax.tree.map(lambda p: p.astype(F32) * 1.2345, WEIGHTS)
    params, state = adamx.from_float32(masters, WEIGHTS, adamx.sgd(0.1).init(WEIGHTS))
    assert_same(params, to(BF16, masters))
    assert_same(adamx.to_float32(params, state), to(F32, params))
    assert_same(adamx.to_float32(masters, WAYS["32"].init(WEIGHTS)), masters)


# ---- where it runs


def assert_no_collective(text):
    words = r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    assert not re.search(words, text)


@pytest.mark.parametrize("axes", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize(
    "spec",
    [
        ("x", "y"),
        *(
            pytest.param(spec, marks=pytest.mark.exhaustive)
            for spec in [("x", None), (None, "y"), (None, ("x", "y"))]
        ),
    ],
    ids=str,
)
def test_on_eight_devices_the_bits_are_the_same(spec, axes):
    """And no device talks to another."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axes, axes))
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    p, g = normal(0, (8, 16), BF16), normal(1, (2, 8, 16), BF16)
    momentum = adamx.sgd(1e-2, momentum=0.9)
    txs = [
        adamx.master_weights(momentum, 24),
        adamx.chain(momentum, adamx.kahan_sum()),
        adamx.chain(momentum, adamx.round_stochastically()),
    ]

    @jax.jit
    def step(params, states, grads):
        updates = []
        for tx, p, state in zip(txs, params, states, strict=True):
            u, state = tx.update(grads, state, p)
            updates.append((adamx.apply_updates(p, u), state))
        return tuple(zip(*updates, strict=True))

    want = [p] * len(txs), [tx.init(p) for tx in txs]
    for i in range(2):
        want = step(*want, g[i])
    with jax.set_mesh(mesh):

        def place(x):
            return jax.device_put(x, sharding) if x.ndim else x

        p = place(p)
        got = jax.tree.map(place, ([p] * len(txs), [tx.init(p) for tx in txs]))
        text = step.lower(*got, place(g[0])).compile().as_text()
        for i in range(2):
            got = step(*got, place(g[i]))
    assert_no_collective(text)
    assert all(x.sharding == sharding for x in jax.tree.leaves(got) if x.ndim)
    assert_same(jax.tree.leaves(got), jax.tree.leaves(want))


class Net(nnx.Module):
    """Most of it in bfloat16, the scales of a norm in float32."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.dense = nnx.Linear(4, 3, rngs=rngs, param_dtype=BF16)
        self.norm = nnx.LayerNorm(3, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.dense(x))


@pytest.mark.parametrize("bits", [32, pytest.param(24, marks=pytest.mark.exhaustive)])
def test_nnx_optimizer(bits):
    net, inner = Net(), adamx.adamw(1e-2)
    tx = adamx.master_weights(inner, bits)
    params = nnx.state(net, nnx.Param)
    bare = nnx.as_pure(params)
    state, opt = tx.init(bare), nnx.Optimizer(net, tx, wrt=nnx.Param)
    x = normal(2, (8, 4), F32)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):

        @nnx.jit
        def step(net, opt):
            grads = nnx.grad(lambda net: jnp.mean(net(x) ** 3))(net)
            opt.update(net, grads)
            return nnx.as_pure(grads)

        for _ in range(3):
            grads = step(net, opt)
            updates, state = jax.jit(tx.update)(grads, state, bare)
            bare = adamx.apply_updates(bare, updates)
    params = nnx.state(net, nnx.Param)
    assert_same(jax.tree.leaves(params), jax.tree.leaves(bare))
    masters = adamx.to_float32(params, opt.opt_state)
    assert jax.tree.structure(masters) == jax.tree.structure(params)
    want = adamx.to_float32(bare, state)
    assert_same(jax.tree.leaves(masters), jax.tree.leaves(want))
    assert_same(adamx.eval_params(opt.opt_state, params), params)
    again = adamx.from_float32(masters, params, opt.opt_state)
    assert_same(again, (params, opt.opt_state))


def test_train_state():
    tx = WAYS["32"]
    loop = TrainState.create(apply_fn=None, params=WEIGHTS, tx=tx)
    for i in range(STEPS):
        grads = jax.tree.map(lambda x: x[i], GRADS)  # noqa: B023  # used at once
        with jax.numpy_dtype_promotion("standard"):
            loop = loop.apply_gradients(grads=grads)
    params, state = eagerly(tx, WEIGHTS)
    assert_same((loop.params, loop.opt_state), (params, state))


@pytest.mark.parametrize("name", WAYS)
def test_checkpoints(name, tmp_path):
    """Flax's msgpack and Orbax; what another number of bits left is not taken."""
    tx = WAYS[name]
    saved = eagerly(tx, WEIGHTS)
    fresh = WEIGHTS, tx.init(WEIGHTS)
    data = flax.serialization.to_bytes(saved)
    assert_same(flax.serialization.from_bytes(fresh, data), saved)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", saved)
        checkpointer.wait_until_finished()
        assert_same(checkpointer.restore(tmp_path / "run", fresh), saved)
        if name == "32":
            other = WEIGHTS, WAYS["24"].init(WEIGHTS)
            with pytest.raises(ValueError, match="residual"):
                flax.serialization.from_bytes(other, data)
            with pytest.raises(ValueError, match="residual"):
                checkpointer.restore(tmp_path / "run", other)


# ---- memory


def gpt2():
    """Shapes of 124 million parameters, in bfloat16."""
    d = 768
    block = {
        "qkv": {"kernel": (d, 3 * d), "bias": (3 * d,)},
        "out": {"kernel": (d, d), "bias": (d,)},
        "up": {"kernel": (d, 4 * d), "bias": (4 * d,)},
        "down": {"kernel": (4 * d, d), "bias": (d,)},
    }
    tree = {"tokens": (50257, d), "places": (1024, d), "blocks": [block] * 12}
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, BF16),
        tree,
        is_leaf=lambda x: isinstance(x, tuple),
    )


@pytest.mark.parametrize(
    ("tx", "name", "size"),
    [
        (adamx.master_weights(adamx.sgd(0.1)), "residual16", 2),
        (adamx.master_weights(adamx.sgd(0.1), 24), "residual8", 1),
        (adamx.kahan_sum(), "kahan", 2),
        (adamx.round_stochastically(), None, 0),
    ],
)
def test_bytes_per_parameter(tx, name, size):
    params = gpt2()
    state = jax.eval_shape(tx.init, params)
    assert sum(p.size for p in jax.tree.leaves(params)) > 123e6
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state) if x.ndim)
    assert held == size * sum(p.size for p in jax.tree.leaves(params))
    if name:
        for p, x in zip(
            jax.tree.leaves(params),
            jax.tree.leaves(adamx.tree_get(state, name)),
            strict=True,
        ):
            assert (x.shape, x.dtype.itemsize) == (p.shape, size)


PLAN = """
import jax, test_weights
for tx in test_weights.WAYS.values():
    print(test_weights.planned(tx, 8))
"""


def planned(tx, leaves):
    """Bytes that a step with donated arguments needs beside, and how many in place."""

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    params = [jax.ShapeDtypeStruct((256, 256), BF16)] * leaves
    state = jax.eval_shape(tx.init, params)
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params)
    plan = lowered.compile().memory_analysis()
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((params, state)))
    return plan.temp_size_in_bytes, held - plan.alias_size_in_bytes


def test_a_step_is_in_place():
    """Beside, XLA plans for CPUs the updates and a copy of the 16-bit parameters."""
    temporary, elsewhere = planned(WAYS["24"], 4)
    assert temporary <= 4 * 256**2 * (4 + 2) + 4096
    assert elsewhere < 64


@pytest.mark.exhaustive
def test_a_step_needs_no_float32_copy_of_the_parameters():
    """Where XLA does not begin all leaves at once, for threads, it is that of one."""
    flag = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
    done = subprocess.run(
        [sys.executable, "-c", PLAN],
        env=os.environ | {"XLA_FLAGS": flag, "JAX_ENABLE_COMPILATION_CACHE": "0"},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    plans = list(map(ast.literal_eval, done.stdout.splitlines()))
    assert len(plans) == len(WAYS)
    for temporary, elsewhere in plans:
        assert temporary <= 256**2 * (4 + 2) + 4096
        assert elsewhere < 64
