"""A rate that falls on plateaus: the rule of PyTorch, value by value."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from cases import find
from flax import nnx
from mistakes import rejected

import adamx

VALUES = np.round(np.random.default_rng(5).normal(size=60), 1).astype(np.float32)
VALUES[20:35] = VALUES[20]  # a plateau, and many equal values


@functools.cache
def compiled(**kwargs):
    """From values to the scale after each, in one program."""
    tx = adamx.reduce_on_plateau(**kwargs)

    def step(state, value):
        updates, state = tx.update(jnp.ones([]), state, value=value)
        return state, updates

    return jax.jit(lambda values: jax.lax.scan(step, tx.init(jnp.ones([])), values)[1])


def scales(values, **kwargs):
    return np.asarray(compiled(**kwargs)(jnp.asarray(values, jnp.float32)))


RULES = [
    {},
    {"patience": 0, "factor": 0.8},
    {"patience": 3, "factor": 0.5, "cooldown": 4},
    {"patience": 2, "factor": 0.5, "min_scale": 0.2},
    {"patience": 2, "factor": 0.5, "rtol": 0.0, "atol": 0.3},
    {"patience": 2, "factor": 0.5, "mode": "max", "rtol": 0.1},
    {"patience": 2, "factor": 0.5, "mode": "max", "rtol": 0.0, "atol": 0.3},
]
SIGNS = {"positive": np.abs(VALUES) + 1, "negative": -np.abs(VALUES) - 1}


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_follows_the_rule(rule, sign):
    values = SIGNS[sign]
    want = oracle.plateaus(values, **rule)
    assert len(set(want)) > 1
    np.testing.assert_allclose(scales(values, **rule), want, rtol=1e-6)


# Of negative values torch has a relative margin on the wrong side.
SAME = [(rule, "positive") for rule in RULES]
SAME += [(rule, "negative") for rule in RULES if "atol" in rule]


@pytest.mark.parametrize(("rule", "sign"), SAME, ids=str)
def test_equals_torch(rule, sign):
    """The rule as it is written in oracle.plateaus, and adamx."""
    torch = pytest.importorskip("torch")
    known = ("patience", "factor", "cooldown", "mode")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        threshold=rule["atol"] if "atol" in rule else rule.get("rtol", 1e-4),
        threshold_mode="abs" if "atol" in rule else "rel",
        min_lr=rule.get("min_scale", 0.0),
        eps=0.0,
        **{name: rule[name] for name in known if name in rule},
    )
    want = []
    for value in SIGNS[sign]:
        theirs.step(float(value))
        want.append(optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(oracle.plateaus(SIGNS[sign], **rule), want, rtol=1e-12)
    np.testing.assert_allclose(scales(SIGNS[sign], **rule), want, rtol=1e-6)


def first_reduction(library, values, **kwargs):
    """After how many values the scale is less than 1; None if never."""
    tx = library.reduce_on_plateau(**kwargs)
    state, g = tx.init(jnp.ones([])), jnp.ones([])
    for i, value in enumerate(values, 1):
        updates, state = tx.update(g, state, value=value)
        if updates < 1:
            return i
    return None


def test_optax_waits_one_less_and_takes_flat_negative_values_for_better():
    flat = np.ones(9, np.float32)
    assert first_reduction(adamx, flat, patience=3) == 1 + 3 + 1
    assert first_reduction(adamx, -flat, patience=3) == 1 + 3 + 1
    with jax.numpy_dtype_promotion("standard"):
        assert first_reduction(optax.contrib, flat, patience=3) == 1 + 3
        assert first_reduction(optax.contrib, -flat, patience=3) is None


def test_the_last_updates_before_a_test_are_averaged():
    values = [3.0, 1.0, 2.5, 1.4, 0.0, 3.9]  # means of 2, 1.95, 1.95
    got = scales(values, patience=0, factor=0.5, accumulation_size=2)
    np.testing.assert_array_equal(got, [1, 1, 1, 1, 1, 0.5])


def test_an_equal_value_is_not_better_however_it_is_rounded():
    tx = adamx.reduce_on_plateau(0.5, patience=0, rtol=0.0)
    state = tx.init(jnp.zeros([], jnp.bfloat16))
    for value in (0.1, 0.3, 0.7):
        first, same = tx.init(jnp.zeros([])), value
        _, state = tx.update(jnp.ones([]), first, value=value)
        _, state = tx.update(jnp.ones([]), state, value=same)
        assert float(state.scale) == 0.5


def test_the_scale_is_float32_whatever_the_parameters_are():
    """In bfloat16 a scale of 0.9 to the power of 20 would be off by a percent."""
    tx = adamx.reduce_on_plateau(0.9, patience=0)
    g = jnp.ones(2, jnp.bfloat16)
    state = tx.init(g)
    for _ in range(21):
        updates, state = tx.update(g, state, value=1)
    assert updates.dtype == jnp.bfloat16
    assert state.scale.dtype == state.best_value.dtype == jnp.float32
    assert float(state.scale) == pytest.approx(0.9**20, rel=1e-6)


def test_an_infinite_value_is_the_worst():
    tx = adamx.reduce_on_plateau(0.5, patience=1)
    state = tx.init(jnp.zeros([]))
    for value, scale in [(np.inf, 1), (np.inf, 0.5), (2.0, 0.5), (np.inf, 0.5)]:
        updates, state = tx.update(jnp.ones([]), state, value=value)
        assert float(updates) == scale
    assert float(state.best_value) == 2


def test_a_nan_is_an_error_where_it_is_known_and_else_changes_nothing():
    tx = adamx.reduce_on_plateau(0.5, patience=0, accumulation_size=2)
    state, g = tx.init(jnp.zeros([])), jnp.ones([])
    _, state = tx.update(g, state, value=3.0)
    for nan in (float("nan"), np.float32("nan"), jnp.array(jnp.nan)):
        text = "reduce_on_plateau: expected value as a number, got nan."
        with pytest.raises(ValueError, match=re.escape(text)):
            tx.update(g, state, value=nan)
    update = jax.jit(tx.update)
    updates, new = update(g, state, value=jnp.array(jnp.nan))
    assert float(updates) == 1
    assert jax.tree.all(jax.tree.map(lambda x, y: x == y, new, state))
    _, new = update(g, new, value=jnp.array(1.0))
    assert float(new.best_value) == 2


def test_numbers_may_be_arrays():
    """A sweep over patience and factor is a vmap."""

    def last(factor, patience):
        tx = adamx.reduce_on_plateau(factor, patience)
        state = tx.init(jnp.ones([]))
        for _ in range(4):
            _, state = tx.update(jnp.ones([]), state, value=jnp.ones([]))
        return state.scale

    got = jax.jit(jax.vmap(last))(jnp.array([0.5, 0.5, 0.25]), jnp.array([0, 1, 9]))
    np.testing.assert_array_equal(got, [0.125, 0.5, 1])


def test_values_arrive_through_chains_of_both_libraries_and_flax():
    tx = adamx.chain(adamx.sgd(1.0), adamx.reduce_on_plateau(0.5, patience=0))
    model = nnx.Dict({"w": nnx.Param(jnp.zeros(1))})
    with jax.numpy_dtype_promotion("standard"):
        opt = nnx.Optimizer(model, optax.chain(tx, optax.identity()), wrt=nnx.Param)
        grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
        for _ in range(2):
            opt.update(model, grads, value=jnp.float32(2.0))
    assert float(model["w"][0]) == -1.5


# ---- mistakes


def with_plateaus(rule):
    """The oracle of the row with another rule."""
    kwargs = {"factor": 0.5, "patience": 2, "cooldown": 3, "min_scale": 0.01}

    def step(state, g, p, t):
        norms = [*state.get("norms", {"all": []})["all"]]
        norms.append(np.sqrt(sum(np.sum(np.abs(x) ** 2) for x in g)))
        means = [np.mean(norms[i : i + 2]) for i in range(0, len(norms) - 1, 2)]
        scale = [1.0, *rule(means, **kwargs)][-1]
        return [scale * x for x in g], {"scale": scale, "norms": {"all": norms}}

    return step


def impatient(values, **kwargs):
    return oracle.plateaus(values, **(kwargs | {"patience": kwargs["patience"] - 1}))


def restless(values, **kwargs):
    return oracle.plateaus(values, **(kwargs | {"cooldown": 0}))


def upside_down(values, **kwargs):
    return oracle.plateaus(values, mode="max", **kwargs)


def a_value_late(values, **kwargs):
    return [1.0, *oracle.plateaus(values, **kwargs)][:-1]


def bottomless(values, **kwargs):
    return oracle.plateaus(values, **(kwargs | {"min_scale": 0.0}))


@pytest.mark.parametrize(
    "bug", [impatient, restless, upside_down, a_value_late, bottomless]
)
def test_wrong_rules_are_rejected(bug):
    assert not rejected("reduce_on_plateau", find("reduce_on_plateau").step)
    assert not rejected("reduce_on_plateau", with_plateaus(oracle.plateaus))
    assert rejected("reduce_on_plateau", with_plateaus(bug))


# ---- errors


@pytest.mark.parametrize(
    ("kind", "text", "kwargs"),
    [
        (ValueError, "expected factor in (0, 1), got 1.0.", {"factor": 1.0}),
        (ValueError, "expected patience in [0, inf), got -1.", {"patience": -1}),
        (
            ValueError,
            "expected patience as a whole number below 2**31, got 2.5.",
            {"patience": 2.5},
        ),
        (ValueError, "expected rtol in [0, 1], got 2.0.", {"rtol": 2.0}),
        (ValueError, "expected atol in [0, inf), got -1.0.", {"atol": -1.0}),
        (ValueError, "expected cooldown in [0, inf), got -1.", {"cooldown": -1}),
        (
            ValueError,
            "expected accumulation_size in [1, inf), got 0.",
            {"accumulation_size": 0},
        ),
        (ValueError, "expected min_scale in [0, 1], got 2.", {"min_scale": 2}),
        (ValueError, "expected mode in ('min', 'max'), got 'low'.", {"mode": "low"}),
    ],
)
def test_says_what_is_wrong(kind, text, kwargs):
    with pytest.raises(kind, match=re.escape(f"reduce_on_plateau: {text}")):
        adamx.reduce_on_plateau(**kwargs)


def test_says_that_it_needs_a_scalar_value():
    tx = adamx.reduce_on_plateau()
    g = jnp.ones(2)
    text = (
        "reduce_on_plateau: needs the value to watch; call tx.update(grads, state, "
        "params, value=loss)."
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        tx.update(g, tx.init(g), g)
    text = "reduce_on_plateau: expected value as a scalar, got bf16[2]."
    with pytest.raises(TypeError, match=re.escape(text)):
        tx.update(g, tx.init(g), g, value=jnp.ones(2, jnp.bfloat16))
    with pytest.raises(TypeError, match="expected value as a scalar, got 'loss'"):
        tx.update(g, tx.init(g), g, value="loss")
