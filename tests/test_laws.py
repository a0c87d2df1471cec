"""What holds for every transformation, bare and wrapped: types, tracing, composition."""

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, WRAPPED
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from streams import at_step, make_grads, make_params, make_stream

import adamx

ALL = CASES + WRAPPED
SHAPES = {"w": (2, 3), "b": {"x": ()}}
PARAMS = make_params(shapes=SHAPES)
GRADS = make_stream("normal", shapes=SHAPES, steps=3)
every = pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)


def walk(tx, params=PARAMS, grads=GRADS, state=None, **extra_args):
    """The updates of each step, and the last state."""
    state = tx.init(params) if state is None else state
    updates = []
    for i in range(3):
        u, state = tx.update(at_step(grads, i), state, params, **extra_args)
        updates.append(u)
    return updates, state


def types(tree):
    """The structure, and the shape, the dtype and the weak type of each array."""
    leaves, structure = jax.tree.flatten(tree)
    avals = [
        jax.typeof(x) if isinstance(x, np.ndarray | jax.Array) else x for x in leaves
    ]
    return structure, [(x.shape, x.dtype, x.weak_type) for x in avals]


def assert_close(got, want, ulps=8):
    """Equal up to the contraction of a multiplication and an addition."""
    eps = float(jnp.finfo(jnp.float32).eps)
    chex.assert_trees_all_close(got, want, rtol=ulps * eps, atol=ulps * eps)


# ---- types


@every
def test_init_needs_shapes_only(case):
    tx = case.make()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS)
    eager = tx.init(PARAMS)
    assert not any(weak for _, _, weak in types(eager)[1])
    assert types(jax.eval_shape(tx.init, PARAMS)) == types(eager)
    chex.assert_trees_all_equal(tx.init(shapes), eager)


@every
def test_types_are_fixed_by_init(case):
    """Also where gradients and parameters differ in dtype."""
    tx = case.make()
    pairs = [
        ("float32", "float32"),
        ("bfloat16", "bfloat16"),
        ("bfloat16", "float32"),
        ("float32", "bfloat16"),
        ("float16", "float16"),
        ("float16", "float32"),
    ]
    for params_dtype, grads_dtype in pairs:
        params, grads = (
            make_params(params_dtype, SHAPES),
            make_grads(grads_dtype, SHAPES),
        )
        state = jax.eval_shape(tx.init, params)
        updates, new = jax.eval_shape(tx.update, grads, state, params)
        assert types(new) == types(state), (params_dtype, grads_dtype)
        assert types(updates) == types(grads), (params_dtype, grads_dtype)


@every
def test_trees_of_every_kind(case):
    """No leaves, a bare array, holes, arrays without entries; each leaf as by itself."""
    tx = case.make()
    assert tx.update({}, tx.init({}), {})[0] == {}
    tree = {
        "w": jnp.ones((2, 2)),
        "none": None,
        "empty": jnp.zeros((0, 3)),
        "s": jnp.ones(()),
    }
    updates, state = tx.update(tree, tx.init(tree), tree)
    assert types(updates) == types(tree)
    assert types(state) == types(tx.init(tree))
    if not case.wrap:
        bare = jnp.full(3, 0.5)
        got, _ = tx.update(bare, tx.init(bare), bare)
        want, _ = tx.update([bare], tx.init([bare]), [bare])
        chex.assert_trees_all_equal([got], want)


# ---- purity and tracing


@every
def test_update_is_pure(case):
    """The same call gives the same bits, and leaves NumPy arrays as they were."""
    tx = case.make()
    params, grads = jax.tree.map(np.copy, (PARAMS, GRADS))
    first, second = walk(tx, params, grads), walk(tx, params, grads)
    chex.assert_trees_all_equal(first, second)
    chex.assert_trees_all_equal((params, grads), (PARAMS, GRADS))


@every
def test_scan_is_a_loop_is_one_trace(case):
    """With the state donated to each step, as a training loop does it."""
    tx = case.make()
    chex.clear_trace_counter()
    traced_once = chex.assert_max_traces(tx.update, n=1)
    update = jax.jit(traced_once, donate_argnums=1)
    state, updates = tx.init(PARAMS), []
    for i in range(3):
        u, state = update(at_step(GRADS, i), state, PARAMS)
        updates.append(u)

    def body(state, g):
        updates, state = tx.update(g, state, PARAMS)
        return state, updates

    scan_state, scan_updates = jax.jit(lambda s: lax.scan(body, s, GRADS))(
        tx.init(PARAMS)
    )
    scan_updates = [at_step(scan_updates, i) for i in range(3)]
    assert_close((updates, state), (scan_updates, scan_state))
    assert_close((updates, state), walk(tx))


@every
def test_unknown_extra_arguments_are_ignored(case):
    tx = case.make()
    got = walk(tx, value=jnp.ones(()), grad=PARAMS, what=None, value_fn=abs)
    chex.assert_trees_all_equal(got, walk(tx))


@pytest.mark.parametrize(
    "case", [c for c in ALL if c.takes_rate], ids=lambda case: case.id
)
def test_learning_rates_are_vmapped_and_differentiated(case):
    """A sweep is a vmap; the updates are proportional to a constant learning rate."""

    def last(rate):
        return walk(case.make(learning_rate=rate))[0][-1]

    rates = [0.0, 1e-3, 0.5]
    swept = jax.vmap(last)(jnp.array(rates))
    for i, rate in enumerate(rates):
        assert_close(at_step(swept, i), last(rate))
    if not case.wrap:
        _, slope = jax.jvp(last, (jnp.float32(0.5),), (jnp.float32(1.0),))
        assert_close(slope, jax.tree.map(lambda u: u / 0.5, last(0.5)))


# ---- composition


@every
def test_identity_in_a_chain_changes_nothing(case):
    tx, i = case.make(), adamx.identity()
    want = walk(tx)
    for chained, place in [(adamx.chain(i, tx), 1), (adamx.chain(tx, i), 0)]:
        updates, state = walk(chained)
        chex.assert_trees_all_equal((updates, state[place]), want)


@every
def test_chain_is_associative(case):
    a, b, c = adamx.scale(0.5), case.make(), adamx.scale_by_learning_rate(0.1)
    flat, (_, middle, _) = walk(adamx.chain(a, b, c))
    left, ((_, left_middle), _) = walk(adamx.chain(adamx.chain(a, b), c))
    right, (_, (right_middle, _)) = walk(adamx.chain(a, adamx.chain(b, c)))
    named, states = walk(adamx.named_chain(("a", a), ("b", b), ("c", c)))
    chex.assert_trees_all_equal(left, flat)
    chex.assert_trees_all_equal(right, flat)
    chex.assert_trees_all_equal(named, flat)
    for other in (left_middle, right_middle, states["b"]):
        chex.assert_trees_all_equal(other, middle)


@every
def test_masks_and_labels_of_one_kind(case):
    """All True is the inner transformation, all False passes, one label is the inner."""
    tx = case.make()
    updates, state = walk(tx)
    masked, masked_state = walk(adamx.masked(tx, True))
    chex.assert_trees_all_equal((masked, masked_state.inner_state), (updates, state))
    passed, _ = walk(adamx.masked(tx, False))
    chex.assert_trees_all_equal(passed, [at_step(GRADS, i) for i in range(3)])
    labeled, labeled_state = walk(adamx.partition({"all": tx}, "all"))
    inner = labeled_state.inner_states["all"].inner_state
    chex.assert_trees_all_equal((labeled, inner), (updates, state))


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.elementwise], ids=lambda case: case.id
)
def test_splitting_an_array_changes_nothing(case):
    whole_params = {"x": make_params(shapes={"x": (9,)})["x"]}
    whole_grads = make_stream("normal", shapes={"x": (9,)}, steps=3)
    split = lambda tree, i: {"a": tree["x"][..., :i], "b": tree["x"][..., i:]}  # noqa: E731
    want, _ = walk(case.make(), whole_params, whole_grads)
    got, _ = walk(case.make(), split(whole_params, 4), split(whole_grads, 4))
    chex.assert_trees_all_equal(got, [split(u, 4) for u in want])


# ---- where states go


@every
def test_sharded_is_unsharded(case):
    """Eight devices: parameters, gradients and states divided along the first axis."""
    shapes = {"w": (8, 3), "b": (16,), "s": ()}
    params, grads = make_params(shapes=shapes), make_grads(shapes=shapes)
    mesh = jax.make_mesh(
        (8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()
    )

    def place(x):
        spec = PartitionSpec("data") if x.ndim else PartitionSpec()
        return jax.device_put(x, NamedSharding(mesh, spec))

    tx = case.make()
    state = jax.tree.map(place, tx.init(params))
    update = jax.jit(tx.update)
    got, new = update(*jax.tree.map(place, (grads, state, params)))
    if case.name != "set_to_zero":  # a constant is on no device in particular
        for x in jax.tree.leaves((got, new)):
            assert len(x.sharding.device_set) == 8
    want = tx.update(grads, tx.init(params), params)
    assert_close((got, new), want)


@every
def test_state_survives_serialization(case):
    """And the run goes on with the same bits."""
    tx = case.make()
    _, state = walk(tx)
    data = flax.serialization.to_bytes(state)
    restored = flax.serialization.from_bytes(tx.init(PARAMS), data)
    chex.assert_trees_all_equal(restored, state)
    chex.assert_trees_all_equal(walk(tx, state=restored), walk(tx, state=state))
