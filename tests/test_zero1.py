"""ZeRO-1: an eighth of the state on each of eight devices, and the same numbers."""

import inspect
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import FIRST
from jax.sharding import PartitionSpec as P
from meshes import (
    AUTO,
    EXPLICIT,
    axes,
    bytes_on_a_device,
    collectives,
    make_mesh,
    on,
)
from streams import at_step, make_params, make_stream

import adamx

STEPS, N = 20, 8
# Split along the first axis, along the second, and not at all.
SHAPES = {"w": (16, 24), "v": (3, 16), "b": (16,), "odd": (3, 5), "x": ()}
SPLIT = {"w": ["data", None], "v": [None, "data"], "b": ["data"]}
PARAMS = make_params(shapes=SHAPES)
GRADS = make_stream("normal", shapes=SHAPES, steps=STEPS)
OPTIMIZERS = [
    case
    for case in FIRST.values()
    if "learning_rate" in inspect.signature(getattr(adamx, case.name)).parameters
    and not case.name.startswith("scale_by_")
]
# Products of matrices, whose operands are gathered.
PRODUCTS = {"muon"}


def step_of(tx):
    """A step with gradients that follow the parameters."""

    def step(params, state, noise):
        grads = jax.tree.map(lambda n, p: 0.1 * (n + p), noise, params)
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state, ()

    return step


def trained(step, params, state, place=lambda x: x):
    """The parameters and the state after all steps; with a compiled program it raises
    where what one step returns does not lie as what the next one takes."""
    for i in range(STEPS):
        params, state, _ = step(params, state, place(at_step(GRADS, i)))
    return params, state


def assert_near(got, want, tolerance=2e-6):
    """Equal to a part of the largest parameter, or of 1."""
    size = max(1.0, *(float(np.max(np.abs(x))) for x in jax.tree.leaves(want)))
    chex.assert_trees_all_close(got, want, rtol=0, atol=tolerance * size)


def assert_layout(params, state, tx):
    """The parameters are whole, and what is like them is split."""
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(params))
    found = []

    def check(x, name):
        found.append(name)
        assert axes(x.sharding, x.ndim) == SPLIT.get(name, [None] * x.ndim)

    names = {name: name for name in SHAPES}
    adamx.tree_map_params(tx, check, state, names, params=params)
    return found


@pytest.mark.parametrize("case", OPTIMIZERS, ids=lambda case: case.id)
def test_the_run_is_that_of_one_device(case):
    """After 20 steps, with one gather for each parameter and otherwise sums only."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    want, _ = trained(jax.jit(step_of(case.tx)), params, case.tx.init(params))

    mesh = make_mesh()
    tx = adamx.zero1(case.tx, mesh)
    params = jax.device_put(PARAMS, on(mesh))
    state = tx.init(params)
    step = jax.jit(step_of(tx), donate_argnums=(0, 1))
    grads = jax.device_put(at_step(GRADS, 0), on(mesh))
    compiled = step.lower(params, state, grads).compile()
    got, state = trained(
        compiled, params, state, lambda tree: jax.device_put(tree, on(mesh))
    )
    assert_near(got, want)
    assert_layout(got, state, case.tx)
    sent = collectives(compiled)
    assert sent.keys() <= {"all-reduce", "reduce-scatter", "all-gather"}
    if case.name not in PRODUCTS:
        assert 1 <= sent["all-gather"] <= len(SPLIT)


# ---- a model whose batch is on eight devices


X, Y = make_stream("normal", shapes={"x": (8, 16), "y": (8, 24)}, steps=1).values()
X, Y = np.tanh(X[0]), np.tanh(Y[0])


def loss(params, batch):
    x, y = batch
    hidden = x @ params["w"] + params["x"]
    return jnp.mean((jnp.tanh(hidden) - y) ** 2) + sum(
        jnp.sum(params[name] ** 2) for name in ("v", "b", "odd")
    )


def data_parallel(tx):
    def step(params, state, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state, value

    return step


def run(form, tx, kind=AUTO, steps=4):
    """Losses, parameters, state, and what is sent; it is traced once."""
    mesh = make_mesh(kind)
    params = jax.device_put(PARAMS, on(mesh))
    batch = jax.device_put((X, Y), on(mesh, "data"))
    shardings = adamx.state_shardings(
        tx, params, zero1="data" if form != "replicated" else None
    )
    inner, tx = tx, adamx.zero1(tx, mesh) if form == "wrapper" else tx
    chex.clear_trace_counter()
    # Without either form the counter moves to the mesh in the first step.
    step = chex.assert_max_traces(data_parallel(tx), n=1 + (form == "replicated"))
    if form == "shardings":
        state = jax.jit(inner.init, out_shardings=shardings)(params)
        step = adamx.jit_step(step, params, shardings)
    else:
        state = tx.init(params)
        step = jax.jit(step, donate_argnums=(0, 1))
    for x, sharding in zip(*map(jax.tree.leaves, (state, shardings)), strict=True):
        if form != "replicated":
            assert x.sharding.is_equivalent_to(sharding, x.ndim)
    sent = collectives(step.lower(params, state, batch).compile())
    values = []
    for _ in range(steps):
        params, state, value = step(params, state, batch)
        values.append(float(value))
    return values, params, state, sent


TX = adamx.chain(adamx.clip_by_global_norm(1.0), adamx.adamw(0.01, weight_decay=0.1))


@pytest.fixture(scope="module")
def replicated():
    """The run with the whole state on each device."""
    return run("replicated", TX)


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=["Auto", "Explicit"])
@pytest.mark.parametrize("form", ["wrapper", "shardings"])
def test_both_forms_on_both_kinds_of_meshes(form, kind, replicated):
    want, want_params, want_state, before = replicated
    values, params, state, sent = run(form, TX, kind)
    # A global norm is a sum in another order.
    np.testing.assert_allclose(values, want, rtol=1e-6)
    chex.assert_trees_all_close(params, want_params, rtol=0, atol=2e-7)
    assert bytes_on_a_device(want_state) > 4 * bytes_on_a_device(state)
    assert assert_layout(params, state, TX).count("w") == 2
    assert before.keys() == {"all-reduce"}
    assert sent.keys() == {"all-reduce", "all-gather"}
    assert sent["all-gather"] <= len(SPLIT)


@pytest.mark.parametrize("form", ["wrapper", "shardings"])
def test_element_by_element_the_bits_are_those_of_the_whole_state(form):
    tx = adamx.adamw(0.01)
    want = run("replicated", tx)
    for kind in (AUTO, EXPLICIT):
        got = run(form, tx, kind)
        chex.assert_trees_all_equal(got[:3], want[:3])


def test_without_either_form_parameters_would_be_split():
    """The trap, which shows that the tests above can fail."""
    mesh, tx = make_mesh(), adamx.adamw(0.01)
    params = jax.device_put(PARAMS, on(mesh))
    shardings = adamx.state_shardings(tx, params, zero1="data")
    state = jax.jit(tx.init, out_shardings=shardings)(params)
    params, _, _ = jax.jit(step_of(tx))(params, state, params)
    assert axes(params["w"].sharding, 2) == ["data", None]


def test_outside_of_a_jit_and_without_parameters():
    for kind in (AUTO, EXPLICIT):
        mesh = make_mesh(kind)
        tx = adamx.zero1(adamx.adam(0.1), mesh)
        grads = jax.tree.map(jnp.asarray, PARAMS)  # on one device
        updates, state = tx.update(grads, tx.init(grads), value=1.0, value_fn=abs)
        want, _ = adamx.adam(0.1).update(grads, adamx.adam(0.1).init(grads))
        chex.assert_trees_all_close(updates, want, rtol=1e-6)
        assert axes(state[0].nu["v"].sharding, 2) == [None, "data"]
        assert tx.update({}, tx.init({}))[0] == {}
        held = adamx.zero1(adamx.sgd(0.5), mesh)  # no gradient for what is held fixed
        some = grads | {"w": None}
        updates, _ = jax.jit(held.update)(some, held.init(grads), grads)
        assert updates["w"] is None
        np.testing.assert_array_equal(updates["v"], -0.5 * grads["v"])


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=["Auto", "Explicit"])
def test_parameters_that_are_split_themselves_stay_so(kind):
    """The axis of the model first, that of the data on what is left."""
    mesh = make_mesh(kind, (4, 2), ("data", "model"))
    specs = {"w": P(None, "model"), "b": P("model")}
    params = {name: PARAMS[name] for name in specs}
    places = {name: on(mesh, *spec) for name, spec in specs.items()}
    want = params = jax.device_put(params, places)
    plain, tx = adamx.adamw(0.1), adamx.zero1(adamx.adamw(0.1), mesh, specs=specs)
    state = tx.init(params)
    assert axes(state[0].mu["w"].sharding, 2) == ["data", "model"]
    assert axes(state[0].mu["b"].sharding, 1) == ["model"]  # no free axis
    step, before = jax.jit(tx.update, donate_argnums=1), plain.init(want)
    for _ in range(2):
        updates, state = step(params, state, params)
        params = adamx.apply_updates(params, updates)
        u, before = jax.jit(plain.update)(want, before, want)
        want = adamx.apply_updates(want, u)
    chex.assert_trees_all_close(params, want, rtol=1e-6)
    for name, x in params.items():
        assert x.sharding.is_equivalent_to(places[name], x.ndim)
    assert axes(state[0].mu["w"].sharding, 2) == ["data", "model"]


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=["Auto", "Explicit"])
@jax.numpy_dtype_promotion("standard")  # which Optax needs
def test_around_codes_of_eight_bits_and_transformations_of_optax(kind):
    mesh = make_mesh(kind)
    params = {"w": np.linspace(-1, 1, 8 * 512, dtype="f4").reshape(8, 512)}
    params = jax.device_put(params, on(mesh))
    # Codes may differ by one where the last bit of a moment does.
    for inner, near in [
        (adamx.compress_state(adamx.adam(0.01)), 2e-3),
        (optax.adamw(0.01), 1e-7),
    ]:
        tx, want, state = adamx.zero1(inner, mesh), params, inner.init(params)
        got, split = params, tx.init(params)
        whole = bytes_on_a_device(state)
        assert whole > 7.5 * bytes_on_a_device(split)
        for _ in range(3):
            u, state = jax.jit(inner.update)(want, state, want)
            want = adamx.apply_updates(want, u)
            u, split = jax.jit(tx.update)(got, split, got)
            got = adamx.apply_updates(got, u)
        chex.assert_trees_all_close(got, want, rtol=0, atol=near)
        assert whole > 7.5 * bytes_on_a_device(split)


# ---- sweeps


def test_a_sweep_over_devices_sends_nothing():
    """Hyperparameters mapped, and the axis of the sweep split over the mesh."""
    mesh, n = make_mesh(), 16
    rates = jnp.geomspace(1e-3, 1.0, n, dtype=jnp.float32)
    decays = jnp.linspace(0.0, 0.5, n, dtype=jnp.float32)
    start = {"w": jnp.asarray(PARAMS["w"])}
    target = jnp.ones((16, 24), jnp.float32)

    def train(rate, decay):
        tx = adamx.adamw(rate, weight_decay=decay)

        def step(carry, _):
            params, state = carry
            grads = jax.grad(lambda p: jnp.mean((p["w"] - target) ** 2))(params)
            updates, state = tx.update(grads, state, params)
            return (adamx.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (start, tx.init(start)), length=10)
        return params, state

    sweep = jax.jit(jax.vmap(train))
    split = jax.device_put((rates, decays), on(mesh, "data"))
    compiled = sweep.lower(*split).compile()
    got = compiled(*split)
    assert collectives(compiled) == {}
    for x in jax.tree.leaves((got[0], got[1][0].mu, got[1][0].nu)):
        assert axes(x.sharding, x.ndim)[0] == "data"
    want = sweep(rates, decays)
    chex.assert_trees_all_close(got, want, rtol=2e-6, atol=1e-7)
    assert float(jnp.std(want[0]["w"][:, 0, 0])) > 0.01


# ---- errors


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda mesh: adamx.zero1(adamx.adam(0.1), mesh, "model"),
            ValueError,
            "zero1: expected an axis of the mesh, got 'model'; have 'data'.",
        ),
        (
            lambda mesh: adamx.zero1(adamx.adam(0.1), mesh.abstract_mesh),
            TypeError,
            "zero1: expected mesh as a jax.sharding.Mesh, got AbstractMesh(",
        ),
        (
            lambda mesh: adamx.zero1(
                adamx.adam(0.1),
                jax.make_mesh((4, 2), ("data", "model"), axis_types=(AUTO, EXPLICIT)),
            ),
            ValueError,
            "zero1: expected a mesh whose axes are all Auto or all Explicit, got "
            "(data=4, model=2: Auto, Explicit on devices 0 to 7).",
        ),
        (
            lambda mesh: adamx.zero1(adamx.adam(0.1), mesh).update(
                PARAMS, adamx.adam(0.1).init({"w": PARAMS["w"]}), PARAMS
            ),
            ValueError,
            "zero1: the state does not match the parameters at [0].mu['b']; was it "
            "made by this transformation for these params?",
        ),
        (
            lambda mesh: adamx.zero1(adamx.adam(0.1), mesh).update(
                PARAMS, adamx.sgd(0.1, 0.9).init(PARAMS), PARAMS
            ),
            ValueError,
            "zero1: the state does not match the parameters at [0].count; was it made "
            "by this transformation for these params?",
        ),
        (
            lambda mesh: adamx.zero1(adamx.adam(0.1), mesh).update(
                PARAMS | {"z": np.ones(8, "f4")}, adamx.adam(0.1).init(PARAMS), PARAMS
            ),
            ValueError,
            "zero1: updates do not match the params at ['z']: f32[8] against nothing; "
            "were both made from the same params?",
        ),
        (
            lambda mesh: adamx.zero1(
                adamx.adam(0.1), mesh, specs={"w": P("data")}
            ).init(PARAMS),
            ValueError,
            "zero1: expected specs to cover the parameters, got nothing at ['b']; "
            "have w.",
        ),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind, match="^" + re.escape(text)):
        call(make_mesh())
