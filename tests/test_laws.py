"""What holds for every transformation, bare and wrapped."""

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
SHAPES = {"w": (8, 3), "b": {"x": ()}}
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
    tx = case.tx
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS)
    eager = tx.init(PARAMS)
    assert not any(weak for _, _, weak in types(eager)[1])
    assert types(jax.eval_shape(tx.init, PARAMS)) == types(eager)
    assert types(tx.init(shapes)) == types(eager)
    if not case.copies:
        chex.assert_trees_all_equal(tx.init(shapes), eager)


@every
def test_types_are_fixed_by_init(case):
    """Also where gradients and parameters differ in dtype."""
    tx = case.tx
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
    """No leaves, a bare array, holes, arrays without entries."""
    tx = case.tx
    assert tx.update({}, tx.init({}), {})[0] == {}
    tree = PARAMS | {"none": None, "empty": jnp.zeros((0, 3))}
    updates, state = tx.update(tree, tx.init(tree), tree)
    assert types(updates) == types(tree)
    assert types(state) == types(tx.init(tree))
    if not case.wrap and not case.random:  # masks and bits go by the names of arrays
        bare = PARAMS["w"]
        got, _ = tx.update(bare, tx.init(bare), bare)
        want, _ = tx.update([bare], tx.init([bare]), [bare])
        chex.assert_trees_all_equal([got], want)


# ---- purity and tracing


@every
def test_update_is_pure(case):
    """The same call gives the same bits, and leaves NumPy arrays as they were."""
    tx = case.tx
    params, grads = jax.tree.map(np.copy, (PARAMS, GRADS))
    first, second = walk(tx, params, grads), walk(tx, params, grads)
    chex.assert_trees_all_equal(first, second)
    chex.assert_trees_all_equal((params, grads), (PARAMS, GRADS))


@every
def test_compiled_is_eager_but_for_contraction(case):
    """Across the blocks of a chain, XLA may contract what eager blocks round twice."""
    tx = case.tx
    compiled = adamx.GradientTransformation(tx.init, jax.jit(tx.update))
    assert_close(walk(compiled), walk(tx))


@pytest.mark.parametrize("nu_dtype", [None, adamx.Storage(jnp.bfloat16, "stochastic")])
def test_many_leaves_alike_are_each_on_its_own(nu_dtype):
    """Traced eight at a time: with masks and random bits that are their own."""
    keys = [f"{i:02}" for i in range(21)]
    numbers = np.random.default_rng(0).normal(size=(2, 21, 5)).astype(np.float32)
    params, grads = (dict(zip(keys, map(jnp.asarray, x), strict=True)) for x in numbers)
    decayed = {key: i % 3 == 0 for i, key in enumerate(keys)}
    tx = adamx.adamw(0.1, weight_decay=0.5, mask=decayed, nu_dtype=nu_dtype)
    state = tx.init(params)
    got = jax.jit(tx.update)(grads, state, params)
    assert_close(got, tx.update(grads, state, params))


@every
def test_scan_is_a_loop(case):
    def body(state, g):
        updates, state = case.tx.update(g, state, PARAMS)
        return state, updates

    scan = jax.jit(lambda state: lax.scan(body, state, GRADS))
    state, updates = scan(case.tx.init(PARAMS))
    updates = [at_step(updates, i) for i in range(3)]
    assert_close((updates, state), walk(case.tx))


@every
def test_unknown_extra_arguments_are_ignored(case):
    tx = case.tx
    got = walk(tx, value=jnp.ones(()), grad=PARAMS, what=None, value_fn=abs)
    chex.assert_trees_all_equal(got, walk(tx))


@pytest.mark.parametrize(
    "case", [c for c in ALL if c.takes_rate], ids=lambda case: case.id
)
def test_learning_rates_are_vmapped_and_differentiated(case):
    """A sweep is a vmap; the updates are proportional to a constant learning rate."""

    grads = at_step(GRADS, 0)

    def updates(rate):
        tx = case.make(learning_rate=rate)
        return tx.update(grads, tx.init(PARAMS), PARAMS)[0]

    def with_slope(rate):
        return jax.jvp(updates, (rate,), (jnp.ones_like(rate),))

    rates = jnp.array([0.0, 0.5])
    swept, slopes = jax.jit(jax.vmap(with_slope))(rates)
    one = jax.jit(updates)
    for i, rate in enumerate(rates):
        assert_close(at_step(swept, i), one(rate))
        if case.proportional and not case.wrap:
            assert_close(at_step(slopes, i), one(jnp.ones_like(rate)))


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
    a, b, c = adamx.scale(0.5), case.tx, adamx.scale_by_learning_rate(0.1)
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
    """All True is the inner one, all False passes, one label is the inner one."""
    tx = case.tx
    updates, state = walk(tx)
    masked, masked_state = walk(adamx.masked(tx, True))
    chex.assert_trees_all_equal((masked, masked_state.inner_state), (updates, state))
    passed, _ = walk(adamx.masked(tx, False))
    chex.assert_trees_all_equal(passed, [at_step(GRADS, i) for i in range(3)])
    labeled, labeled_state = walk(adamx.partition({"all": tx}, "all"))
    inner = labeled_state.inner_states["all"].inner_state
    chex.assert_trees_all_equal((labeled, inner), (updates, state))


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.elementwise and not c.random],
    ids=lambda case: case.id,
)
def test_splitting_an_array_changes_the_last_bit_at_most(case):
    def split(x):
        return {"a": x[..., :8, :], "b": x[..., 8:, :]}

    params = make_params(shapes=(9, 3))
    grads = make_stream("normal", shapes=(9, 3), steps=3)
    want, _ = walk(case.tx, params, grads)
    got, _ = walk(case.tx, split(params), split(grads))
    assert_close(got, [split(u) for u in want], ulps=2)


# ---- where states go


@every
def test_a_sharded_training_loop(case):
    """On eight devices, with the state donated: one trace, and the same results."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def place(x):
        whole = x.ndim == 0 or x.shape[0] % 8 > 0
        spec = PartitionSpec() if whole else PartitionSpec("data")
        return jax.device_put(x, NamedSharding(mesh, spec))

    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(case.tx.update, n=1), donate_argnums=1)
    params, state = jax.tree.map(place, (PARAMS, case.tx.init(PARAMS)))
    updates = []
    for i in range(3):
        grads = jax.tree.map(place, at_step(GRADS, i))
        u, state = update(grads, state, params)
        updates.append(u)
    if case.name != "set_to_zero":  # a constant is on no device in particular
        for x in jax.tree.leaves((updates, state)):
            assert len(x.sharding.device_set) == 8
    want, want_state = walk(case.tx)
    ulps = max(8, case.max_ulps / 2)
    assert_close(state, want_state, ulps=ulps)
    # Sums over a leaf are formed in another order. Where muon multiplies by the size of
    # the matrix, some 40, entries count as in the oracle: as large as the largest.
    if case.id == "scale_by_muon-aol":
        updates, want = (jax.tree.map(over_largest, x) for x in (updates, want))
        ulps = case.max_ulps
    assert_close(updates, want, ulps=ulps)


def over_largest(x):
    return x / max(1.0, float(np.max(np.abs(x))))


@every
def test_state_survives_serialization(case):
    """And the run goes on with the same bits."""
    tx = case.tx
    _, state = walk(tx)
    data = flax.serialization.to_bytes(state)
    restored = flax.serialization.from_bytes(tx.init(PARAMS), data)
    chex.assert_trees_all_equal(restored, state)
    chex.assert_trees_all_equal(walk(tx, state=restored), walk(tx, state=state))
