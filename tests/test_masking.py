"""Masks, labels and rules on paths, over the trees that people have."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict, freeze

import adamx

PARAMS = {
    "dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
    "norm": {"scale": jnp.ones(3)},
}
NOT_KERNEL = {"dense": {"kernel": False, "bias": True}, "norm": {"scale": True}}


class Net(nnx.Module):
    def __init__(self):
        self.dense = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        self.norm = nnx.LayerNorm(3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.norm(self.dense(x))


class Layer(NamedTuple):
    """Stands for an Equinox module: a node with a field that is no array."""

    weight: object
    activation: object


def ones(tree):
    return jax.tree.map(jnp.ones_like, tree)


def decayed(mask, params=PARAMS):
    """Which leaves a mask decays, by path."""
    tx = adamx.add_decayed_weights(0.5, mask)
    updates, _ = tx.update(ones(params), tx.init(params), params)
    leaves = jax.tree_util.tree_leaves_with_path(updates)
    return {jax.tree_util.keystr(p): float(jnp.max(x)) > 1.1 for p, x in leaves}


EXPECTED = {
    "['dense']['bias']": True,
    "['dense']['kernel']": False,
    "['norm']['scale']": True,
}


@pytest.mark.parametrize(
    "mask",
    [
        NOT_KERNEL,
        freeze(NOT_KERNEL),
        {"dense": {"kernel": False, "bias": True}, "norm": True},
        lambda params: jax.tree.map(lambda p: p.ndim == 1, params),
        lambda params: {"dense": {"kernel": False, "bias": True}, "norm": True},
        adamx.by_path(lambda path: path != "dense/kernel"),
        {
            "dense": {"kernel": np.False_, "bias": np.bool_(True)},
            "norm": np.array(True),
        },
    ],
    ids=["tree", "frozen", "prefix", "shapes", "prefix-function", "path", "numpy"],
)
def test_a_mask_may_be_a_tree_a_prefix_a_function_or_a_rule(mask):
    assert decayed(mask) == EXPECTED
    assert decayed(mask, FrozenDict(PARAMS)) == EXPECTED


def test_one_answer_covers_all():
    assert set(decayed(True).values()) == {True}
    assert set(decayed(False).values()) == {False}


@pytest.mark.parametrize("by", ["tree", "function", "path", "state"])
def test_masks_work_with_nnx_in_init_and_in_update(by):
    net = Net()
    state = nnx.state(net, nnx.Param)
    mask = {
        "tree": NOT_KERNEL | {"norm": {"scale": True, "bias": True}},
        "function": lambda params: jax.tree.map(lambda p: p.ndim == 1, params),
        "path": adamx.by_path(lambda path: path != "dense/kernel"),
        "state": jax.tree.map(lambda p: p.ndim == 1, state),
    }[by]
    tx = adamx.chain(adamx.add_decayed_weights(0.5, mask), adamx.sgd(1.0))
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    before = jax.tree.map(jnp.copy, nnx.to_pure_dict(state))
    zeros = jax.tree.map(jnp.zeros_like, state)
    optimizer.update(net, zeros)
    after = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    chex.assert_trees_all_equal(after["dense"]["kernel"], before["dense"]["kernel"])
    chex.assert_trees_all_close(after["norm"]["scale"], 0.5 * before["norm"]["scale"])


def test_partition_and_frozen_groups_work_with_nnx():
    net = Net()
    labels = adamx.by_path(lambda path: "body" if "dense" in path else "head")
    tx = adamx.partition({"body": adamx.set_to_zero(), "head": adamx.sgd(1.0)}, labels)
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    kernel, scale = jnp.copy(net.dense.kernel[...]), jnp.copy(net.norm.scale[...])
    grads = nnx.grad(lambda net: net(jnp.array([[1.0, 3.0]], jnp.float32))[0, 0])(net)
    optimizer.update(net, grads)
    chex.assert_trees_all_equal(net.dense.kernel[...], kernel)
    assert float(jnp.abs(net.norm.scale[...] - scale).max()) > 0.1


def test_none_stays_where_a_model_has_no_array():
    model = [Layer(jnp.ones(2), jnp.tanh), Layer(jnp.ones(2), jnp.sin)]
    arrays = [Layer(jnp.ones(2), None), Layer(jnp.ones(2), None)]
    mask = adamx.by_path(lambda path: path.startswith("0"))
    tx = adamx.chain(adamx.adamw(0.1, mask=mask), adamx.freeze(mask))
    updates, state = tx.update(arrays, tx.init(arrays), model)
    assert updates[0].activation is None
    np.testing.assert_array_equal(updates[0].weight, 0)
    np.testing.assert_allclose(updates[1].weight, -0.1, rtol=1e-6)
    moved = adamx.apply_updates(model, updates)
    assert moved[0].activation is jnp.tanh
    np.testing.assert_allclose(moved[1].weight, 0.9, rtol=1e-6)
    assert state[0][0].mu[0].activation is None


def test_masked_leaves_hold_no_state_and_pass_through():
    tx = adamx.masked(adamx.adam(0.1), NOT_KERNEL)
    state = tx.init(PARAMS)
    assert state.inner_state[0].mu["dense"]["kernel"] == adamx.MaskedNode()
    updates, _ = tx.update(ones(PARAMS), state, PARAMS)
    chex.assert_trees_all_equal(updates["dense"]["kernel"], jnp.ones((2, 3)))
    np.testing.assert_allclose(updates["norm"]["scale"], -0.1, rtol=1e-6)


def test_masked_nests():
    inner = adamx.masked(adamx.scale(2.0), adamx.by_path(lambda p: p.endswith("bias")))
    tx = adamx.masked(inner, {"dense": True, "norm": False})
    updates, _ = tx.update(ones(PARAMS), tx.init(PARAMS), PARAMS)
    means = jax.tree.map(lambda u: float(u.mean()), updates)
    assert means == {"dense": {"kernel": 1.0, "bias": 2.0}, "norm": {"scale": 1.0}}


def test_holes_of_optax_are_holes():
    theirs = optax.masked(
        adamx.adamw(0.1, mask=NOT_KERNEL), {"dense": True, "norm": False}
    )
    ours = adamx.masked(
        adamx.adamw(0.1, mask=NOT_KERNEL), {"dense": True, "norm": False}
    )
    a, _ = theirs.update(ones(PARAMS), theirs.init(PARAMS), PARAMS)
    b, _ = ours.update(ones(PARAMS), ours.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(a, b)


def test_partition_equals_each_optimizer_on_its_own_leaves():
    labels = {"dense": "fast", "norm": "slow"}
    tx = adamx.partition({"fast": adamx.adam(0.1), "slow": adamx.sgd(0.01)}, labels)
    state = tx.init(PARAMS)
    assert set(state.inner_states) == {"fast", "slow"}
    updates, state = jax.jit(tx.update)(ones(PARAMS), state, PARAMS)
    alone, _ = adamx.adam(0.1).update(
        ones(PARAMS["dense"]), adamx.adam(0.1).init(PARAMS["dense"])
    )
    chex.assert_trees_all_equal(updates["dense"], alone)
    np.testing.assert_allclose(updates["norm"]["scale"], -0.01, rtol=1e-6)


def test_partition_has_the_state_and_the_results_of_optax():
    labels = {"dense": {"kernel": "a", "bias": "b"}, "norm": {"scale": "b"}}
    ours = adamx.partition({"a": adamx.adam(0.1), "b": adamx.sgd(0.1)}, labels)
    theirs = optax.partition({"a": optax.adam(0.1), "b": optax.sgd(0.1)}, labels)
    u, s = ours.update(ones(PARAMS), ours.init(PARAMS), PARAMS)
    with jax.numpy_dtype_promotion("standard"):
        v, t = theirs.update(ones(PARAMS), theirs.init(PARAMS), PARAMS)
    chex.assert_trees_all_close(u, v, rtol=2e-5)
    chex.assert_trees_all_close(jax.tree.leaves(s), jax.tree.leaves(t), rtol=2e-5)


def test_clipping_inside_a_partition_is_per_group():
    labels = {"dense": "a", "norm": "b"}
    groups = {k: adamx.clip_by_global_norm(1.0) for k in "ab"}
    tx = adamx.partition(groups, labels)
    big = jax.tree.map(lambda p: 100 * p, PARAMS)
    updates, _ = tx.update(big, tx.init(PARAMS))
    np.testing.assert_allclose(adamx.global_norm(updates), 2**0.5, rtol=1e-6)


def test_frozen_parameters_stay_and_selective_transform_gives_them_no_state():
    mask = adamx.by_path(lambda path: path.startswith("dense"))
    tx = adamx.selective_transform(adamx.adam(0.1), freeze_mask=mask)
    state = tx.init(PARAMS)
    assert len(jax.tree.leaves(state)) == 3
    updates, _ = tx.update(ones(PARAMS), state, PARAMS)
    np.testing.assert_array_equal(updates["dense"]["kernel"], 0)
    np.testing.assert_allclose(updates["norm"]["scale"], -0.1, rtol=1e-6)


def test_integers_can_be_frozen():
    params = {"ids": jnp.arange(3), "w": jnp.ones(3)}
    grads = jax.grad(lambda p: p["w"].sum(), allow_int=True)(params)
    tx = adamx.selective_transform(
        adamx.adam(0.1), freeze_mask={"ids": True, "w": False}
    )
    updates, _ = tx.update(grads, tx.init(params), params)
    moved = adamx.apply_updates(params, updates)
    np.testing.assert_array_equal(moved["ids"], params["ids"])
    np.testing.assert_allclose(moved["w"], 0.9, rtol=1e-6)


@pytest.mark.parametrize("divided", [False, True])
def test_extra_arguments_are_masked_on_request(divided):
    seen = {}

    def update(updates, state, params=None, *, noise, value, **extra_args):
        seen.update(noise=noise, value=value)
        return updates, state

    inner = adamx.GradientTransformation(lambda params: adamx.EmptyState(), update)
    tx = adamx.masked(inner, NOT_KERNEL, mask_compatible_extra_args=divided)
    tx.update(ones(PARAMS), tx.init(PARAMS), PARAMS, noise=PARAMS, value=1.0)
    assert seen["value"] == 1.0
    assert len(jax.tree.leaves(seen["noise"])) == (2 if divided else 3)


def test_a_function_sees_the_same_shapes_without_values_in_init_and_update():
    seen = []

    def mask(params):
        seen.append(jax.tree.map(lambda p: (p.shape, str(p.dtype)), params))
        return True

    tx = adamx.masked(adamx.scale(2.0), mask)
    params = {"w": jnp.ones((2, 3), jnp.bfloat16)}
    state = tx.init(params)
    jax.jit(tx.update)({"w": jnp.ones((2, 3))}, state, params)
    assert seen == [{"w": ((2, 3), "float32")}] * 2


def test_a_rule_knows_no_boxes():
    asked = []
    mask = adamx.by_path(lambda path: asked.append(path) or True)
    tx = adamx.masked(adamx.sgd(1.0), mask)
    net = Net()
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    optimizer.update(net, jax.tree.map(jnp.zeros_like, nnx.state(net, nnx.Param)))
    names = ["dense/bias", "dense/kernel", "norm/bias", "norm/scale"]
    assert asked == names * 2


class Heads(NamedTuple):
    query: object
    value: object


def test_a_field_called_value_keeps_its_name():
    params = {"attention": Heads(jnp.ones(2), jnp.ones(2)), "out": jnp.ones(2)}
    mask = {"attention": Heads(query=True, value=False), "out": True}
    by_path = adamx.by_path(lambda path: path != "attention/value")
    assert decayed(mask, params) == decayed(by_path, params)
    assert list(decayed(by_path, params).values()) == [True, False, True]


def test_masks_inside_a_partition_work_with_nnx():
    net = Net()
    inner = adamx.adamw(0.1, mask=adamx.by_path(lambda path: path.endswith("kernel")))
    frozen = adamx.by_path(lambda path: path == "dense/bias")
    tx = adamx.selective_transform(inner, freeze_mask=frozen)
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    before = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(net, nnx.Param)))
    ones = jax.tree.map(jnp.ones_like, nnx.state(net, nnx.Param))
    optimizer.update(net, ones)
    after = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    chex.assert_trees_all_equal(after["dense"]["bias"], before["dense"]["bias"])
    np.testing.assert_allclose(
        after["norm"]["scale"], before["norm"]["scale"] - 0.1, rtol=1e-6
    )


def test_a_mask_may_meet_a_gradient_of_none():
    params = {"a": jnp.ones(2), "n": jnp.ones(2)}
    tx = adamx.masked(adamx.adam(0.1), {"a": True, "n": False})
    updates, _ = tx.update({"a": jnp.ones(2), "n": None}, tx.init(params), params)
    assert updates["n"] is None


def test_optax_maps_over_masked_states():
    tx = adamx.adamw(0.1, mask=NOT_KERNEL)
    doubled = optax.tree.map_params(tx, lambda x: x + 1, tx.init(PARAMS))
    np.testing.assert_array_equal(doubled[0].mu["norm"]["scale"], 1)
