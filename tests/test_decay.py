"""Weight decay: one meaning in every optimizer, its rules, its mask."""

import functools
import inspect

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import find
from flax import nnx
from test_docs import FUNCTIONS

import adamx

RECIPES = sorted(
    name
    for name, f in FUNCTIONS.items()
    if f.__module__.startswith("adamx._optimizers.")
    and "learning_rate" in inspect.signature(f).parameters
    and "weight_decay" in inspect.signature(f).parameters
)
# Where by its paper the decay goes through what follows, or the rate is not alone.
OTHERWISE = {"adadelta", "fromage", "lamb", "lars", "prodigy", "rprop", "stable_adamw"}

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([4.0, -1.0])}
GRADS = {"w": jnp.array([[0.3, 0.2], [-0.1, 1.0]]), "b": jnp.array([-0.5, 0.7])}
RATE, DECAY = 0.01, 0.1


def squares(params):
    """An objective, for those that look at one."""
    return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))


def first(tx, grads=GRADS, params=PARAMS):
    """The updates of the first step."""
    return tx.update(grads, tx.init(params), params, obj_fn=squares)[0]


def make(name):
    """An optimizer, with what it needs beside a learning rate."""
    recipe = getattr(adamx, name)
    needs = {"v_axes": ()} if name == "adam_mini" else {}
    return functools.partial(recipe, **needs)


def mask_name(recipe):
    names = inspect.signature(recipe).parameters
    return "mask" if "mask" in names else "weight_decay_mask"


@pytest.mark.parametrize("name", sorted(set(RECIPES) - OTHERWISE))
def test_decay_is_decoupled_and_goes_with_the_learning_rate(name):
    """A step is less by learning_rate·weight_decay·p where the mask is True."""
    recipe = make(name)
    plain = first(recipe(RATE, weight_decay=0.0))
    decayed = first(
        recipe(RATE, weight_decay=DECAY, **{mask_name(recipe): {"w": True, "b": False}})
    )
    chex.assert_trees_all_close(
        decayed["w"], plain["w"] - RATE * DECAY * PARAMS["w"], rtol=1e-5, atol=1e-8
    )
    chex.assert_trees_all_equal(decayed["b"], plain["b"])


@pytest.mark.parametrize("name", RECIPES)
def test_a_mask_without_decay_is_an_error_that_names_the_optimizer(name):
    recipe = make(name)
    if inspect.signature(recipe).parameters["weight_decay"].default is not None:
        assert recipe(RATE, **{mask_name(recipe): True})
        return
    text = f"{name}: expected no mask without weight_decay; give weight_decay too."
    with pytest.raises(ValueError, match=f"^{text}$"):
        recipe(RATE, mask=True)


# ---- rules


def shares(tx, steps, start=2.0):
    """What is left of a parameter that has no gradient, after each step."""
    p, state, left = jnp.array([start]), None, []
    state = tx.init(p)
    for _ in range(steps):
        updates, state = tx.update(jnp.zeros(1), state, p)
        p = adamx.apply_updates(p, updates)
        left.append(float(p[0]) / start)
    return left


def rates(count):
    """Up, then down."""
    return 0.1 * jnp.where(count < 3, (count + 1) / 3, 3 / (count + 1))


def multipliers(steps):
    return np.array([float(rates(t)) for t in range(steps)]) / 0.1


def test_decay_scaled_by_the_learning_rate():
    want = np.cumprod(1 - DECAY * 0.1 * multipliers(6))
    assert shares(adamx.adamw(rates, weight_decay=DECAY), 6) == pytest.approx(want)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_independent_decay_does_not_know_how_large_the_rate_is(size):
    decay = adamx.independent_weight_decay(1e-2, peak_value=0.1 * size)
    tx = adamx.adamw(lambda count: size * rates(count), weight_decay=decay)
    want = np.cumprod(1 - 1e-2 * multipliers(6))
    assert shares(tx, 6) == pytest.approx(want, rel=1e-6)


def test_independent_decay_is_the_composition_of_the_paper():
    """Algorithm 2: p - multiplier·(learning_rate·u + weight_decay·p)."""
    paper = adamx.chain(
        adamx.scale_by_adam(),
        adamx.scale(0.1),
        adamx.add_decayed_weights(1e-2),
        adamx.scale_by_learning_rate(lambda count: rates(count) / 0.1),
    )
    ours = adamx.adamw(
        rates, weight_decay=adamx.independent_weight_decay(1e-2, peak_value=0.1)
    )
    chex.assert_trees_all_close(first(ours), first(paper), rtol=1e-6)


def test_corrected_decay_goes_with_the_square_of_the_rate():
    decay = adamx.corrected_weight_decay(DECAY, rates, peak_value=0.1)
    want = np.cumprod(1 - DECAY * 0.1 * multipliers(6) ** 2)
    assert shares(adamx.adamw(rates, weight_decay=decay), 6) == pytest.approx(want)


def test_rules_have_the_dtype_of_schedules():
    rate, peak = adamx.cosine_decay_schedule(0.1, 10), jnp.asarray(0.1)
    rule = adamx.independent_weight_decay(DECAY, peak)
    corrected = adamx.corrected_weight_decay(DECAY, rate, peak)(3)
    chex.assert_trees_all_equal_dtypes(rule, corrected, rate(3))


def test_rules_take_tracers():
    def left(decay):
        rule = adamx.independent_weight_decay(decay, peak_value=0.1)
        tx = adamx.adamw(0.1, weight_decay=rule)
        p = jnp.ones(1)
        return (p + first(tx, jnp.zeros(1), p))[0]

    swept = jax.jit(jax.vmap(left))(jnp.array([0.0, 0.25]))
    assert swept.tolist() == [1.0, 0.75]
    assert jax.grad(left)(0.25) == pytest.approx(-1.0)


def test_rules_check_their_arguments():
    rule, corrected = adamx.independent_weight_decay, adamx.corrected_weight_decay
    errors = [
        (lambda: rule(2.0, 0.1), r"weight_decay in \[0, 1\], got 2.0"),
        (lambda: rule(0.1, 0.0), r"peak_value in \(0, inf\), got 0.0"),
        (lambda: corrected(-1.0, rates, 0.1), r"weight_decay in \[0, inf\), got -1.0"),
        (lambda: corrected(0.1, rates, -0.1), r"peak_value in \(0, inf\), got -0.1"),
    ]
    for make, text in errors:
        with pytest.raises(ValueError, match=f"_weight_decay: expected {text}"):
            make()
    with pytest.raises(TypeError, match=r"learning_rate as a schedule, got 0.1; at a"):
        corrected(0.1, 0.1, 0.1)


# ---- caution


def test_cautious_decay_hinders_no_step():
    """It acts where the step goes towards 0, or nowhere, and never away from it."""
    g = jnp.array([1.0, -1.0, 1.0, -1.0, 0.0, 1e-30])
    p = jnp.array([2.0, 2.0, -2.0, -2.0, 2.0, -1e-30])
    tx = adamx.add_decayed_weights(0.5, cautious=True)
    added = first(tx, g, p) - g
    assert added.tolist() == [1.0, 0.0, 0.0, -1.0, 1.0, 0.0]


def test_cautious_decay_after_the_sign_has_turned_would_hinder():
    """So its place is before the learning rate, as its documentation says."""
    case = find("add_decayed_weights-cautious")
    right = first(adamx.chain(case.tx, adamx.scale_by_learning_rate(1.0)))
    wrong = first(adamx.chain(adamx.scale_by_learning_rate(1.0), case.tx))
    assert np.any(np.abs(right["w"] - wrong["w"]) > 0.09)


# ---- the mask


class Block(nn.Module):
    """A part of a Transformer."""

    @nn.compact
    def __call__(self, x, _=None):
        y = nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
        return nn.Dense(4, name="mlp")(nn.RMSNorm(name="ln_2")(x + y)), None


class Transformer(nn.Module):
    """Scanned layers: their biases are stacked, and so of rank 2."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(5, 4, name="embed")(tokens)
        layers = nn.scan(
            Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = layers(name="layers")(x, None)
        return nn.Dense(5, name="head")(x)


def spared(params, **options):
    """The paths that the ready mask leaves out."""
    mask = adamx.decay_mask(**options)(params)
    leaves = jax.tree_util.tree_leaves_with_path(mask)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        for path, decays in leaves
        if not decays
    }


def test_the_mask_leaves_out_biases_and_norms_of_a_transformer():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        tokens = np.zeros((1, 3), np.int32)
        params = Transformer().init(jax.random.key(0), tokens)["params"]
    assert params["layers"]["mlp"]["bias"].ndim == 2
    everything = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    }
    kernels = {path for path in everything if path.endswith("kernel")}
    assert len(kernels) == 6
    assert spared(params) == everything - kernels - {"embed/embedding"}
    assert spared(params, embeddings=False) == everything - kernels


def test_the_mask_knows_the_names_of_other_libraries():
    matrix, vector = jnp.ones((2, 2)), jnp.ones(2)
    haiku = {"linear": {"w": matrix, "b": vector}, "layer_norm": {"offset": vector}}
    torch = {"wte": {"weight": matrix}, "ln_f": {"weight": matrix}, "lm_head": matrix}
    others = {"upscale": {"kernel": matrix}, "normals": matrix, "unbiased": matrix}
    assert spared(others) == set()
    assert spared(haiku) == {"linear/b", "layer_norm/offset"}
    assert spared(torch) == {"ln_f/weight"}
    assert spared(torch, embeddings=False) == {"ln_f/weight", "wte/weight"}
    with pytest.raises(TypeError, match="decay_mask: expected embeddings as True or"):
        adamx.decay_mask(embeddings=1)


def test_the_mask_works_on_an_nnx_model_in_an_optimizer():
    class Net(nnx.Module):
        def __init__(self):
            self.dense = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
            self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))

    params = nnx.state(Net(), nnx.Param)
    assert spared(params) == {"dense/bias", "norm/bias", "norm/scale"}
    tx = adamx.adamw(1.0, weight_decay=1.0, mask=adamx.decay_mask())
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    chex.assert_trees_all_equal(
        updates["dense"]["kernel"].get_value(),
        -params["dense"]["kernel"].get_value(),
    )
    assert not np.any(updates["norm"]["scale"].get_value())
