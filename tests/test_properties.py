"""Properties over inputs without end: trees, dtypes, masks, hyperparameters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
from hypothesis import given, settings
from hypothesis import strategies as st

import adamx

few = settings(deadline=None, derandomize=True, max_examples=25)

# A few shapes and dtypes, and one transformation of each kind for all examples, so that
# little is compiled.
SHAPES = [(), (3,), (2, 3), (0,)]
DTYPES = ["float32", "bfloat16", "float16"]
ADAMW = adamx.adamw(0.1, weight_decay=0.1)
SGD = adamx.sgd(0.1, momentum=0.9)


@st.composite
def arrays(draw):
    """An array of one of a few shapes and dtypes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.normal(size=draw(st.sampled_from(SHAPES)))
    return np.asarray(x).astype(jnp.dtype(draw(st.sampled_from(DTYPES))))


trees = st.recursive(
    arrays() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=5,
).map(lambda tree: {"model": tree})


def answers(draw, tree, choices):
    """A tree like another with a choice for each leaf."""
    return jax.tree.map(lambda _: draw(st.sampled_from(choices)), tree)


def walk(tx, params):
    """Two updates with the parameters as gradients."""
    state = tx.init(params)
    _, state = tx.update(params, state, params)
    return tx.update(params, state, params)[0]


@few
@given(trees)
def test_a_tree_is_updated_leaf_by_leaf(params):
    """With the structure, shapes and dtypes of the gradients."""
    got = walk(ADAMW, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, params)
    chex.assert_trees_all_equal(got, jax.tree.map(lambda p: walk(ADAMW, p), params))


@few
@given(st.data())
def test_a_mask_divides_a_tree(data):
    """True is the inner one, False nothing; a mask and its opposite are all."""
    params = data.draw(trees)
    mask = answers(data.draw, params, [True, False])
    opposite = jax.tree.map(lambda m: not m, mask)
    got = walk(adamx.masked(ADAMW, mask), params)
    want = jax.tree.map(lambda p, m: walk(ADAMW, p) if m else p, params, mask)
    chex.assert_trees_all_equal(got, want)
    both = adamx.chain(adamx.masked(ADAMW, mask), adamx.masked(ADAMW, opposite))
    chex.assert_trees_all_equal(walk(both, params), walk(ADAMW, params))
    frozen = walk(adamx.selective_transform(ADAMW, freeze_mask=opposite), params)
    want = jax.tree.map(lambda w, m: w if m else jnp.zeros_like(w), want, mask)
    chex.assert_trees_all_equal(frozen, want)


@few
@given(st.data())
def test_labels_divide_a_tree(data):
    params = data.draw(trees)
    txs = {"adamw": ADAMW, "sgd": SGD, "none": adamx.set_to_zero()}
    labels = answers(data.draw, params, list(txs))
    got = walk(adamx.partition(txs, labels), params)
    want = jax.tree.map(lambda p, name: walk(txs[name], p), params, labels)
    chex.assert_trees_all_equal(got, want)


@few
@given(trees, st.floats(0.01, 100))
def test_a_clipped_tree_has_at_most_the_norm(params, max_norm):
    """And the direction that it had, to the accuracy of its narrowest dtype."""
    leaves = [np.asarray(x, np.float64) for x in jax.tree.leaves(params)]
    norm = np.sqrt(sum(np.sum(x**2) for x in leaves))
    np.testing.assert_allclose(adamx.global_norm(params), norm, rtol=1e-6)
    tx = adamx.clip_by_global_norm(max_norm)
    got, _ = tx.update(params, tx.init(params))
    factor = min(1.0, max_norm / norm) if norm > 0 else 1.0
    for x, y in zip(leaves, jax.tree.leaves(got), strict=True):
        eps = float(jnp.finfo(y.dtype).eps)
        np.testing.assert_allclose(
            np.asarray(y, np.float64), x * factor, rtol=eps, atol=1e-6
        )


@few
@given(trees)
def test_updates_are_added_in_the_dtype_of_the_parameters(params):
    """Also float32 updates to narrow parameters, rounded once."""
    updates = jax.tree.map(lambda p: np.float32(0.1) * np.float32(1 + abs(p)), params)
    got = adamx.apply_updates(params, updates)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, params)
    want = jax.tree.map(
        lambda p, u: (np.float32(p) + u).astype(p.dtype), params, updates
    )
    chex.assert_trees_all_equal(got, want)


decays = (st.just(0.0) | st.floats(0.01, 0.9999)).map(lambda b: float(np.float32(b)))


@jax.jit
def traced_adam(b1, b2, eps, grads):
    """The updates of five steps, with traced hyperparameters."""
    tx = adamx.scale_by_adam(b1, b2, eps)
    state, updates = tx.init(grads[0]), []
    for g in grads:
        u, state = tx.update(g, state)
        updates.append(u)
    return jnp.stack(updates)


@few
@given(decays, decays, st.sampled_from([1e-8, 1e-4, 1.0]), st.integers(0, 2**32 - 1))
def test_traced_hyperparameters_are_those_of_the_oracle(b1, b2, eps, seed):
    """As arrays in float32 they lose no more than that, in whatever is made of them."""
    grads = np.random.default_rng(seed).normal(size=(5, 8)).astype(np.float32)
    eps = float(np.float32(eps))
    got = np.asarray(traced_adam(*map(np.float32, (b1, b2, eps)), grads), np.float64)
    state, sizes = {}, {}
    for t, g in enumerate(grads.astype(np.float64), 1):
        want, state = oracle.scale_by_adam(state, g, None, t, b1, b2, eps)
        size, sizes = oracle.scale_by_adam(sizes, np.abs(g), None, t, b1, b2, eps)
        assert np.all(np.abs(got[t - 1] - want) <= 2e-6 * size)


@few
@given(st.integers(1, 99_999), st.integers(1, 2**31 - 1))
def test_corrections_are_exact_for_any_decay_and_count(digits, t):
    """For every decimal b2 = 0.ddddd and every count."""
    b2 = digits / 100_000
    tx = adamx.bias_correction(b1=0.0, b2=b2)
    state = tx.init(())._replace(count=jnp.int32(t - 1))
    got, _ = tx.update(jnp.ones(()), state)
    np.testing.assert_allclose(got, np.sqrt(oracle.one_minus_power(b2, t)), rtol=1.2e-7)


@few
@given(st.lists(st.floats(-4, 4), min_size=1, max_size=4))
def test_a_chain_of_scales_is_their_product(factors):
    tx = adamx.chain(*map(adamx.scale, factors))
    got, _ = tx.update(jnp.ones(3), tx.init(jnp.ones(3)))
    np.testing.assert_allclose(got, np.full(3, np.prod(factors)), rtol=1e-6, atol=1e-37)
