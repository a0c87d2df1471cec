"""Rules on paths: regular expressions, multipliers, depths, widths."""

import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import find
from flax import nnx
from mistakes import rejected

import adamx

PARAMS = {
    "embed": {"embedding": jnp.ones((5, 4))},
    "dense": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
}
RULES = {r"embed": 0.5, r"bias$": 0.0, r"": 1.0}


DENSE = {"dense": True, "embed": False}


def ones(tree):
    return jax.tree.map(jnp.ones_like, tree)


def raises(kind, text):
    return pytest.raises(kind, match="^" + re.escape(text))


def step(tx, grads, params=PARAMS):
    return tx.update(grads, tx.init(params), params)[0]


def bits(x):
    return np.asarray(x).tobytes()


# ---- regular expressions


def test_the_first_match_answers():
    answers = adamx.by_path(RULES)(PARAMS)
    assert answers == {
        "embed": {"embedding": 0.5},
        "dense": {"kernel": 1.0, "bias": 0.0},
    }
    swapped = adamx.by_path({r"e": 2, r"kernel": 3, r"": 4})(PARAMS)
    assert swapped["dense"]["kernel"] == 2  # "dense" has an e, too
    compiled = adamx.by_path({re.compile("KERNEL", re.IGNORECASE): 1, r"": 2})(PARAMS)
    assert compiled["dense"] == {"kernel": 1, "bias": 2}


def test_a_parameter_that_nothing_matches_is_an_error():
    with raises(
        ValueError,
        "by_path: no regular expression matches 'dense/bias'; have 'kernel', "
        "'^embed'; add '' last, for all others.",
    ):
        adamx.by_path({r"kernel": 1, r"^embed": 2})(PARAMS)


def test_an_expression_that_matches_nothing_is_an_error():
    with raises(
        ValueError,
        "by_path: 'kernal' matches no parameter; have 'dense/bias', 'dense/kernel', "
        "'embed/embedding'.",
    ):
        adamx.by_path({r"kernal": 1, r"": 2})(PARAMS)


@pytest.mark.parametrize(
    ("rule", "kind", "text"),
    [
        ({}, ValueError, "by_path: expected regular expressions, got none."),
        (
            {r"(": 1},
            ValueError,
            "by_path: expected a regular expression, got '(': missing ), unterminated "
            "subpattern at position 0.",
        ),
        ({3: 1}, TypeError, "by_path: expected a regular expression as a string, got"),
        (
            {re.compile(b"w"): 1},
            TypeError,
            "by_path: expected a regular expression as a string, got",
        ),
        (
            {r"": 1, r"kernel": 2},
            ValueError,
            "by_path: expected '' as the last regular expression, got '', 'kernel'; it "
            "matches everything.",
        ),
    ],
)
def test_wrong_rules_are_errors_at_once(rule, kind, text):
    with raises(kind, text):
        adamx.by_path(rule)


def test_what_is_left_out_counts_for_a_match():
    """The decay mask of the dense group names the embedding, which it never sees."""
    mask = adamx.by_path({r"kernel|embedding": True, r"bias": False, r"^none": True})
    holes = PARAMS | {"none": None}
    dense = adamx.masked(adamx.add_decayed_weights(1.0, mask), DENSE)
    updates = step(dense, ones(holes), holes)
    means = jax.tree.map(lambda u: float(u.mean()), updates)
    assert means == {
        "embed": {"embedding": 1.0},
        "dense": {"kernel": 2.0, "bias": 1.0},
        "none": None,
    }
    typo = adamx.add_decayed_weights(1.0, adamx.by_path({r"kernal": True, r"": False}))
    with raises(ValueError, "by_path: 'kernal' matches no parameter"):
        adamx.masked(typo, DENSE).init(PARAMS)


def test_trees_without_leaves_match_everything():
    rule = adamx.by_path({r"kernel": 1})
    assert rule({}) == {}
    assert rule({"a": None}) == {"a": None}
    assert rule({"a": adamx.MaskedNode()}) == {"a": adamx.MaskedNode()}


def test_a_hole_of_optax_may_hide_many_leaves():
    """There the tree ends at "dense", and what would match inside is unknown."""
    mask = adamx.by_path({r"dense/kernel": True, r"": False})
    inner = adamx.add_decayed_weights(1.0, mask)
    theirs = optax.masked(inner, {"embed": True, "dense": False})
    chex.assert_trees_all_equal(step(theirs, ones(PARAMS)), ones(PARAMS))


def test_update_answers_as_init_does():
    """Though gradients may be None, and have another dtype."""
    tx = adamx.partition(
        {"slow": adamx.sgd(0.5), "fast": adamx.sgd(1.0)},
        adamx.by_path({r"bias": "slow", r"": "fast"}),
    )
    grads = ones(PARAMS)
    grads["dense"]["bias"] = None
    updates = jax.jit(tx.update)(grads, tx.init(PARAMS), PARAMS)[0]
    assert updates["dense"]["bias"] is None
    np.testing.assert_array_equal(updates["dense"]["kernel"], -1)


@pytest.mark.parametrize("by", ["selective", "partition"])
def test_a_frozen_group_holds_no_bytes(by):
    if by == "selective":
        mask = adamx.by_path({r"^embed": True, r"": False})
        tx = adamx.selective_transform(adamx.adam(0.1), freeze_mask=mask)
    else:
        labels = adamx.by_path({r"^embed": "freeze", r"": "train"})
        groups = {"train": adamx.adam(0.1), "freeze": adamx.set_to_zero()}
        tx = adamx.partition(groups, labels)
    state = tx.init(PARAMS)
    assert jax.tree.leaves(state.inner_states["freeze"]) == []
    numbers = 4 * 3 + 3  # of the dense layer
    assert sum(x.size for x in jax.tree.leaves(state)) == 2 * numbers + 1
    updates = tx.update(ones(PARAMS), state, PARAMS)[0]
    np.testing.assert_array_equal(updates["embed"]["embedding"], 0)
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.1, rtol=1e-6)


# ---- numbers by path


def test_multipliers_leave_bits_or_round_once():
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), PARAMS)
    grads = jax.tree.map(lambda g: g.astype(jnp.bfloat16), grads)
    tx = adamx.scale_by_path(adamx.by_path({r"embed": 0.3, r"bias$": 0.0, r"": 1}))
    updates = step(tx, grads)
    assert bits(updates["dense"]["kernel"]) == bits(grads["dense"]["kernel"])
    g = np.asarray(grads["embed"]["embedding"]).astype(np.float64)
    once = jnp.asarray((0.3 * g).astype(np.float32)).astype(jnp.bfloat16)
    assert bits(updates["embed"]["embedding"]) == bits(once)


def test_zero_gives_zeros_whatever_the_updates():
    grads = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), PARAMS)
    updates = step(adamx.scale_by_path(adamx.by_path(RULES)), grads)
    np.testing.assert_array_equal(updates["dense"]["bias"], 0)
    assert np.isnan(updates["dense"]["kernel"]).all()


def test_at_the_end_they_scale_the_decay_and_before_it_they_do_not():
    """As PyTorch's parameter groups, and as its other use."""
    half = adamx.scale_by_path(adamx.by_path({r"embed": 0.5, r"": 1.0}))
    end = step(adamx.chain(adamx.adamw(0.1, weight_decay=0.2), half), ones(PARAMS))
    group = step(adamx.adamw(0.05, weight_decay=0.2), ones(PARAMS))
    chex.assert_trees_all_equal(end["embed"], group["embed"])
    whole = step(adamx.adamw(0.1, weight_decay=0.2), ones(PARAMS))
    chex.assert_trees_all_equal(end["dense"], whole["dense"])
    before = step(
        adamx.chain(
            adamx.scale_by_adam(),
            half,
            adamx.add_decayed_weights(0.2),
            adamx.scale_by_learning_rate(0.1),
        ),
        ones(PARAMS),
    )
    np.testing.assert_allclose(end["embed"]["embedding"], -0.06, rtol=1e-6)
    np.testing.assert_allclose(before["embed"]["embedding"], -0.07, rtol=1e-6)


def test_multipliers_may_be_arrays_and_are_swept():
    traces = []

    def means(m):
        traces.append(m)
        tx = adamx.scale_by_path({"embed": m, "dense": 2.0})
        updates = step(tx, ones(PARAMS))
        return updates["embed"]["embedding"][0, 0], updates["dense"]["kernel"][0, 0]

    jitted = jax.jit(means)
    assert [float(jitted(m)[0]) for m in jnp.array([0.0, 0.25])] == [0.0, 0.25]
    assert len(traces) == 1
    swept, fixed = jax.vmap(means)(jnp.array([1.0, 3.0]))
    np.testing.assert_array_equal(swept, [1.0, 3.0])
    np.testing.assert_array_equal(fixed, 2.0)


def test_one_decay_for_all_is_add_decayed_weights():
    grads = jax.tree.map(lambda p: 0.7 * p, PARAMS)
    rule = adamx.by_path({r"": 0.3})
    got = step(adamx.add_decayed_weights_by_path(rule), grads)
    chex.assert_trees_all_equal(got, step(adamx.add_decayed_weights(0.3), grads))


def test_no_decay_is_no_arithmetic():
    params = jax.tree.map(lambda p: jnp.full_like(p, jnp.inf), PARAMS)
    decays = adamx.by_path({r"kernel": 0.1, r"": 0.0})
    updates = step(adamx.add_decayed_weights_by_path(decays), ones(PARAMS), params)
    np.testing.assert_array_equal(updates["dense"]["bias"], 1)
    np.testing.assert_array_equal(updates["dense"]["kernel"], np.inf)


def scaled_in_reverse(state, g, p, t):
    return [m * x for m, x in zip([0.3, 1.5, 0.0], g, strict=True)], state


def decayed_all_alike(state, g, p, t):
    return [x + 0.1 * y for x, y in zip(g, p, strict=True)], state


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("scale_by_path", scaled_in_reverse),
        ("add_decayed_weights_by_path", decayed_all_alike),
    ],
)
def test_wrong_numbers_are_rejected(name, bug):
    assert not rejected(name, find(name).step)
    assert rejected(name, bug)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (adamx.scale_by_path, "multipliers"),
        (adamx.add_decayed_weights_by_path, "weight_decays"),
    ],
)
def test_wrong_numbers_are_errors_with_a_path(make, name):
    who = make.__name__
    with raises(
        ValueError,
        f"{who}: expected {name} at ['dense']['bias'] in [0, inf), got -1.0.",
    ):
        make({"dense": {"kernel": 1.0, "bias": -1.0}, "embed": 1.0})
    with raises(ValueError, f"{who}: expected {name} at ['b'] in [0, inf), got nan."):
        make({"b": float("nan")})
    with raises(
        TypeError,
        f"{who}: expected {name} as numbers or scalar arrays, got 'fast' at ['dense']"
        "['bias'].",
    ):
        make(adamx.by_path({r"bias": "fast", r"": 1.0})).init(PARAMS)
    with raises(TypeError, f"{who}: expected {name} as numbers or scalar arrays, got"):
        make(True)
    with raises(ValueError, f"{who}: expected {name} to cover the parameters, got not"):
        make({"dense": 1.0}).init(PARAMS)
    with raises(ValueError, "add_decayed_weights_by_path: needs the parameters"):
        adamx.add_decayed_weights_by_path(0.1).update(PARAMS, adamx.EmptyState())


# ---- depth


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
        return x + nn.Dense(8)(nn.gelu(nn.Dense(16)(nn.LayerNorm()(x))))


class LinenTransformer(nn.Module):
    layers: int = 3

    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(11, 8)(ids)
        x = x + self.param("pos_embedding", nn.initializers.zeros, (1, 4, 8))
        for i in range(self.layers):
            x = LinenBlock(name=f"encoderblock_{i}")(x)
        return nn.Dense(11)(nn.LayerNorm()(x))


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, rngs=rngs)
        self.dense = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(2)])


class NnxTransformer(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 8, rngs=rngs)
        self.blocks = nnx.List([NnxBlock(rngs) for _ in range(3)])
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.unembed = nnx.Linear(8, 11, rngs=rngs)


def linen_params():
    ids = jax.ShapeDtypeStruct((2, 4), jnp.int32)
    init = LinenTransformer().init
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return jax.eval_shape(init, jax.random.key(0), ids)["params"]


def nnx_params():
    net = nnx.eval_shape(lambda: NnxTransformer(nnx.Rngs(0)))
    return nnx.state(net, nnx.Param)


def tops(tree):
    """The multipliers in each child of the root."""
    return {key: set(jax.tree.leaves(child)) for key, child in tree.items()}


def test_the_layers_of_a_linen_transformer():
    found = tops(adamx.layerwise_decay(0.5)(linen_params()))
    assert found == {
        "Embed_0": {0.0625},
        "pos_embedding": {0.0625},
        "encoderblock_0": {0.125},
        "encoderblock_1": {0.25},
        "encoderblock_2": {0.5},
        "LayerNorm_0": {1.0},
        "Dense_0": {1.0},
    }


def test_the_layers_of_an_nnx_transformer():
    """Of two numbers in a path the outer one is the layer; an unembedding is above."""
    params = nnx_params()
    found = nnx.to_pure_dict(adamx.layerwise_decay(0.5)(params))
    blocks = {i: set(jax.tree.leaves(x)) for i, x in found.pop("blocks").items()}
    assert blocks == {0: {0.125}, 1: {0.25}, 2: {0.5}}
    assert tops(found) == {"embed": {0.0625}, "norm": {1.0}, "unembed": {1.0}}
    tx = adamx.chain(adamx.sgd(1.0), adamx.scale_by_path(adamx.layerwise_decay(0.5)))
    arrays = jax.tree.map(lambda x: jnp.ones(x.shape), params)
    updates, _ = tx.update(arrays, tx.init(arrays))
    chex.assert_trees_all_equal(
        jax.tree.map(lambda u: -u.mean(), updates),
        jax.tree.map(lambda x: jnp.asarray(x), adamx.layerwise_decay(0.5)(params)),
    )


@pytest.mark.parametrize(
    "path",
    [
        "layers_3/kernel",
        "h/3/attn/kernel",
        "h_3/kernel",
        "blocks.3.attn.weight",
        "encoder/layer/3/dense_0/kernel",
        "Transformer/encoderblock_3/LayerNorm_0/scale",
        "EncoderLayer_3/kernel",
        "model.layers.3.mlp.0.weight",
        "TransformerBlock3/kernel",
        "block_3/embed/kernel",
    ],
)
def test_names_of_layers(path):
    params = {path: jnp.ones(2), "head/kernel": jnp.ones(2)}
    assert adamx.layerwise_decay(0.5, num_layers=5)(params)[path] == 0.25


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("wte", True),
        ("wpe/embedding", True),
        ("cls", True),
        ("cls_token", True),
        ("patch_embed/kernel", True),
        ("embeddings/LayerNorm/scale", True),
        ("pos_emb", True),
        ("position_embeddings", True),
        ("unembed/kernel", False),
        ("LayerNorm_0/scale", False),
        ("Dense_1/kernel", False),
        ("lm_head", False),
        ("layer_norm_1/scale", False),
        ("classifier/kernel", False),
        ("path_h", False),
    ],
)
def test_what_is_below_and_above_the_layers(path, below):
    params = {path: jnp.ones(2), "layers_1/kernel": jnp.ones(2), "top": jnp.ones(2)}
    assert adamx.layerwise_decay(0.5)(params)[path] == (0.125 if below else 1.0)


def test_groups_see_the_depth_of_the_whole_tree():
    params = {"embed": jnp.ones(2), "h_0": jnp.ones(2), "h_1": jnp.ones(2)}
    by_layer = adamx.scale_by_path(adamx.layerwise_decay(0.5))
    tx = adamx.partition(
        {"a": by_layer, "b": by_layer}, {"embed": "a", "h_0": "b", "h_1": "b"}
    )
    updates = step(tx, ones(params), params)
    got = {name: float(u[0]) for name, u in updates.items()}
    assert got == {"embed": 0.25, "h_0": 0.5, "h_1": 1.0}  # nothing is above h_1


def test_a_depth_of_ones_own():
    params = {"stem": 1.0, "stage1": 1.0, "stage2": 1.0, "top": 1.0}
    depths = {"stem": 0, "stage1": 1, "stage2": 2}
    multipliers = adamx.layerwise_decay(0.5, depth=depths.get)
    assert multipliers(params) == {
        "stem": 0.125,
        "stage1": 0.25,
        "stage2": 0.5,
        "top": 1.0,
    }
    given = adamx.layerwise_decay(0.5, depth=depths.get, num_layers=3)
    assert given(params) == {
        "stem": 0.0625,
        "stage1": 0.125,
        "stage2": 0.25,
        "top": 1.0,
    }


def test_wrong_depths_are_errors():
    who = "layerwise_decay"
    with raises(ValueError, f"{who}: expected decay in (0, 1], got 1.5."):
        adamx.layerwise_decay(1.5)
    with raises(ValueError, f"{who}: expected num_layers as an integer from 1, got 0."):
        adamx.layerwise_decay(0.5, num_layers=0)
    with raises(TypeError, f"{who}: expected depth as a function of a path, got 3."):
        adamx.layerwise_decay(0.5, depth=3)
    two = {"encoder/block_0": 1.0, "decoder/block_0": 1.0}
    with raises(
        ValueError,
        f"{who}: expected one stack of layers with numbers in the paths, such as "
        "'layers_0', got 'decoder/block', 'encoder/block'; say with depth what is "
        "where.",
    ):
        adamx.layerwise_decay(0.5)(two)
    scanned = {"layers": {"kernel": 1.0}}
    with raises(
        ValueError,
        f"{who}: expected one stack of layers with numbers in the paths, such as "
        "'layers_0', got none in 'layers/kernel'; say with depth what is where.",
    ):
        adamx.layerwise_decay(0.5)(scanned)
    with raises(
        ValueError,
        f"{who}: expected num_layers = 2 layers, got layer 4 at 'h/4'.",
    ):
        adamx.layerwise_decay(0.5, num_layers=2)({"h/4": 1.0})
    with raises(
        TypeError,
        f"{who}: expected depth as an integer from 0 or None, got 0.5 at 'w'.",
    ):
        adamx.layerwise_decay(0.5, depth=lambda path: 0.5)({"w": 1.0})
    assert adamx.layerwise_decay(0.5)({}) == {}


# ---- width


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def mlp_shapes(n):
    return {
        "in": {"kernel": shape(8, n), "bias": shape(n)},
        "hidden": {"kernel": shape(n, n), "bias": shape(n)},
        "conv": {"kernel": shape(3, 3, n, 2 * n)},
        "norm": {"scale": shape(n)},
        "embed": {"embedding": shape(100, n)},
        "head": {"kernel": shape(n, 10), "bias": shape(10)},
        "temperature": shape(),
    }


def test_the_table_of_the_paper():
    adam = adamx.mup_multipliers(mlp_shapes(64))(mlp_shapes(256))
    assert adam == {
        "in": {"kernel": 1.0, "bias": 1.0},
        "hidden": {"kernel": 0.25, "bias": 1.0},
        "conv": {"kernel": 0.25},
        "norm": {"scale": 1.0},
        "embed": {"embedding": 1.0},
        "head": {"kernel": 0.25, "bias": 1.0},
        "temperature": 1.0,
    }
    sgd = adamx.mup_multipliers(mlp_shapes(64), optimizer="sgd")(mlp_shapes(256))
    assert sgd == {
        "in": {"kernel": 4.0, "bias": 4.0},
        "hidden": {"kernel": 1.0, "bias": 4.0},
        "conv": {"kernel": 1.0},
        "norm": {"scale": 4.0},
        "embed": {"embedding": 4.0},
        "head": {"kernel": 0.25, "bias": 1.0},
        "temperature": 1.0,
    }
    same = adamx.mup_multipliers(mlp_shapes(64), optimizer="sgd")(mlp_shapes(64))
    assert set(jax.tree.leaves(same)) == {1.0}


def attention(n, heads, size):
    def projection():
        return {"kernel": shape(n, heads, size), "bias": shape(heads, size)}

    out = {"kernel": shape(heads, size, n), "bias": shape(n)}
    return {"query": projection(), "value": projection(), "out": out}


AXES = {r"(query|key|value)/kernel": (-3,), r"out/kernel": (-3, -2)}


@pytest.mark.parametrize("sizes", [(32, 8, 4), (32, 2, 16)], ids=["heads", "size"])
def test_attention_needs_to_be_told_its_inputs(sizes):
    """And then it does not matter whether heads grow in number or in size."""
    base, wide = attention(8, 2, 4), attention(*sizes)
    with raises(
        ValueError,
        "mup_multipliers: expected the widths of 'query/kernel' in its last two axes, "
        f"got {list(sizes)} against [8, 2, 4] in base; say with fan_in which axes are "
        "its inputs, such as {'query/kernel$': (0,)}.",
    ):
        adamx.mup_multipliers(base)(wide | {"out": base["out"]})
    assert adamx.mup_multipliers(base, fan_in=AXES)(wide) == {
        "query": {"kernel": 0.25, "bias": 1.0},
        "value": {"kernel": 0.25, "bias": 1.0},
        "out": {"kernel": 0.25, "bias": 1.0},
    }
    sgd = adamx.mup_multipliers(base, optimizer="sgd", fan_in=AXES)(wide)
    assert sgd["query"] == {"kernel": 1.0, "bias": 4.0}
    assert sgd["out"] == {"kernel": 1.0, "bias": 4.0}


def test_a_group_sees_the_widths_of_its_own():
    base = {"in": jnp.ones((8, 4)), "hidden": jnp.ones((4, 4))}
    wide = {"in": jnp.ones((8, 16)), "hidden": jnp.ones((16, 16))}
    tx = adamx.masked(
        adamx.scale_by_path(adamx.mup_multipliers(base)), {"in": False, "hidden": True}
    )
    updates = step(tx, wide, wide)
    assert [float(updates[k][0, 0]) for k in ("in", "hidden")] == [1.0, 0.25]


def test_widths_of_an_nnx_model():
    def net(width):
        make = nnx.eval_shape(lambda: nnx.Linear(width, width, rngs=nnx.Rngs(0)))
        return nnx.state(make, nnx.Param)

    found = adamx.mup_multipliers(net(8))(net(16))
    assert nnx.to_pure_dict(found) == {"kernel": 0.5, "bias": 1.0}


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda: adamx.mup_multipliers({}, optimizer="lion"),
            ValueError,
            "mup_multipliers: expected optimizer in ('adam', 'sgd'), got 'lion'.",
        ),
        (
            lambda: adamx.mup_multipliers({"w": (3, 4)}),
            TypeError,
            "mup_multipliers: expected base as a tree of arrays or shapes, got 3 at "
            "'w/0'.",
        ),
        (
            lambda: adamx.mup_multipliers({}, fan_in={"w": 0}),
            TypeError,
            "mup_multipliers: expected fan_in as tuples of integers, got 0.",
        ),
        (
            lambda: adamx.mup_multipliers({"w": shape(3)})({"v": shape(3)}),
            ValueError,
            "mup_multipliers: expected the parameters of base, got nothing for 'w'.",
        ),
        (
            lambda: adamx.mup_multipliers({"w": shape(3)})(
                {"v": shape(3), "w": shape(3)}
            ),
            ValueError,
            "mup_multipliers: expected base like the parameters, got nothing against "
            "[3] at 'v'.",
        ),
        (
            lambda: adamx.mup_multipliers({"w": shape(3)})({"w": shape(3, 3)}),
            ValueError,
            "mup_multipliers: expected base like the parameters, got [3] against "
            "[3, 3] at 'w'.",
        ),
        (
            lambda: adamx.mup_multipliers({"w": shape(3, 3)}, fan_in={"w": (2,)})(
                {"w": shape(6, 6)}
            ),
            ValueError,
            "mup_multipliers: expected fan_in as axes of [6, 6], got (2,) at 'w'.",
        ),
        (
            lambda: adamx.mup_multipliers({"w": shape(3)}, fan_in={"v": (0,)})(
                {"w": shape(6)}
            ),
            ValueError,
            "mup_multipliers: 'v' matches no parameter; have 'w'.",
        ),
    ],
)
def test_wrong_widths_are_errors(call, kind, text):
    with raises(kind, text):
        call()


def forward(params, x):
    first = jnp.tanh(x @ params["in"])
    second = jnp.tanh(first @ params["hidden"])
    return second, second @ params["out"]


def start(width):
    """μP's initial sizes."""
    rng = np.random.default_rng(0)
    sizes = {"in": (8, width), "hidden": (width, width), "out": (width, 4)}
    stds = {"in": 8**-0.5, "hidden": width**-0.5, "out": 1 / width}
    return {
        k: jnp.asarray(stds[k] * rng.normal(size=s), jnp.float32)
        for k, s in sizes.items()
    }


def effect(width, optimizer, mup):
    """How far one update moves the last activations and the outputs (their RMS)."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(16, 8)), jnp.float32)
    y = jnp.asarray(rng.normal(size=(16, 4)), jnp.float32)
    blocks = {"adam": [adamx.scale_by_adam(eps=1e-15)], "sgd": []}[optimizer]
    if mup:
        base = jax.eval_shape(lambda: start(64))
        blocks += [
            adamx.scale_by_path(adamx.mup_multipliers(base, optimizer=optimizer))
        ]
    rate = {"adam": 1e-4, "sgd": 1e-2}[optimizer]
    tx = adamx.chain(*blocks, adamx.scale_by_learning_rate(rate))

    @jax.jit
    def moved(params):
        grads = jax.grad(lambda p: jnp.mean((forward(p, x)[1] - y) ** 2))(params)
        updates, _ = tx.update(grads, tx.init(params), params)
        before, after = (
            forward(params, x),
            forward(adamx.apply_updates(params, updates), x),
        )
        return [
            jnp.sqrt(jnp.mean((b - a) ** 2)) for a, b in zip(before, after, strict=True)
        ]

    return np.array([float(size) for size in moved(start(width))])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_effect_of_an_update_does_not_depend_on_the_width(optimizer):
    """The coordinate check of the paper's appendix, for widths 64 and 1024."""
    narrow, wide = (effect(n, optimizer, mup=True) for n in (64, 1024))
    np.testing.assert_allclose(wide / narrow, 1, atol=0.25)
    plain = effect(1024, optimizer, mup=False) / narrow
    assert plain[-1] > 12
    if optimizer == "adam":
        assert plain[0] > 12
