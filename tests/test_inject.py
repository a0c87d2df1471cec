"""Hyperparameters in the state: the bits of the plain run, settable, never compiled."""

from fractions import Fraction

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES, USUAL
from flax import nnx
from flax.training.train_state import TrainState
from streams import at_step, make_params, make_stream

import adamx
from adamx._numerics import complement, decimal, hyperparameter

SHAPES = {"w": (8, 3), "b": {"x": (5,)}}
PARAMS = make_params(shapes=SHAPES)
GRADS = make_stream("normal", shapes=SHAPES, steps=6)
MATRICES = {"w": (8, 4), "b": {"x": (4, 4)}}


def raises(kind, text):
    return pytest.raises(kind, match="^" + text)


# ---- what a float32 stands for


def test_a_float32_is_the_decimal_that_it_prints_as(rng):
    sizes = 10.0 ** rng.uniform(-13, 21, 1000)
    short = [float(f"{rng.integers(1, 10**6)}e{e}") for e in rng.integers(-20, 14, 500)]
    known = [0.999, 0.99999, 3e-4, 1e-8, 1e-16, 0.0, 1.0, 16777216.0, -0.3, 0.1]
    values = np.array([*sizes, *rng.uniform(0, 1, 1000), *short, *known], np.float32)
    numbers, rests = jax.jit(jax.vmap(decimal))(values)
    for value, number, rest in zip(values, numbers, rests, strict=True):
        assert float(number) == float(str(value))
        assert abs(value) > 1e6 or float(rest) == float(1 - Fraction(str(value)))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e-45, 3.4e38])
def test_what_has_no_short_decimal_stays(value):
    got = float(jax.jit(hyperparameter)(jnp.float32(value)))
    np.testing.assert_allclose(got, float(np.float32(value)), rtol=1e-7, atol=1e-44)


def test_arrays_and_numbers_give_the_same_scalars():
    for b in (0.9, 0.999, 0.99999, 0.95):
        assert float(complement(jnp.float32(b))) == complement(b)
        assert float(hyperparameter(jnp.bfloat16(0.9))) == 0.9
    assert float(hyperparameter(jnp.int32(3))) == 3.0


def test_a_sweep_over_b2_is_exact():
    """1 - float32(0.99999) is 0.14 % off; the first step of Adam shows it."""
    grads = jnp.full(3, 0.1)

    def first(b2):
        tx = adamx.scale_by_adam(b2=b2, eps=0.0)
        return tx.update(grads, tx.init(grads))[1].nu

    swept = jax.vmap(first)(jnp.array([0.9, 0.99999], jnp.float32))
    np.testing.assert_array_equal(swept[1], first(0.99999))


# ---- the bits of the plain run


def trajectory(tx, params, grads):
    """The updates of each step and the last state."""
    update, state, updates = jax.jit(tx.update), tx.init(params), []
    for i in range(len(jax.tree.leaves(grads)[0])):
        u, state = update(at_step(grads, i), state, params)
        updates.append(u)
        params = jax.tree.map(np.add, params, jax.tree.map(np.asarray, u))
    return updates, state


OPTIMIZERS = {
    case.name: case
    for case in reversed(CASES)
    if "learning_rate" in case.kwargs and not callable(case.kwargs["learning_rate"])
}
# Their scalars have equal bits, too, but XLA contracts other products in the plain
# program: a learning rate of 1 is no multiplication there, and constants are shared.
CONTRACTED = {"lars", "lion", "mars"}
CONTRACTS_ALIKE = jax.__version_info__ < (0, 11)
CONTRACTED |= {"schedule_free_adamw", "schedule_free_sgd"}


@pytest.mark.parametrize(
    "name",
    [
        name if name in USUAL else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in OPTIMIZERS
    ],
)
def test_injected_is_plain(name):
    case = OPTIMIZERS[name]
    injected = adamx.inject_hyperparams(getattr(adamx, name))(**case.kwargs)
    shapes = MATRICES if name == "muon" else SHAPES
    params = make_params(shapes=shapes)
    grads = make_stream("normal", shapes=shapes, steps=4)
    plain = trajectory(case.tx, params, grads)
    updates, state = trajectory(injected, params, grads)
    assert "learning_rate" in state.hyperparams
    assert {x.dtype for x in state.hyperparams.values()} == {jnp.dtype(jnp.float32)}
    if CONTRACTS_ALIKE and name not in CONTRACTED:
        chex.assert_trees_all_equal((updates, state.inner_state), plain)
    chex.assert_trees_all_close(updates, plain[0], rtol=5e-7, atol=1e-6)


def test_scheduled_is_plain_too():
    schedule = adamx.warmup_cosine_decay_schedule(0.0, 3e-3, 2, 6)
    plain, _ = trajectory(adamx.adamw(schedule), PARAMS, GRADS)
    injected = adamx.inject_hyperparams(adamx.adamw)(schedule)
    updates, state = trajectory(injected, PARAMS, GRADS)
    if schedule(0).dtype == jnp.float32:  # as the state has it
        chex.assert_trees_all_equal(updates, plain)
    chex.assert_trees_all_close(updates, plain, rtol=2e-7)
    assert state.hyperparams["learning_rate"] == schedule(5).astype(jnp.float32)
    assert int(state.hyperparams_states["learning_rate"].count) == 6


def test_a_set_value_is_plain_from_then_on():
    injected = adamx.inject_hyperparams(adamx.adam)(0.1)
    _, state = trajectory(injected, PARAMS, GRADS)
    state.hyperparams["learning_rate"] = jnp.float32(3e-4)
    state.hyperparams["b2"] = 0.99  # a number does as well
    got, after = jax.jit(injected.update)(PARAMS, state)
    plain = adamx.adam(3e-4, b2=0.99)
    want, _ = jax.jit(plain.update)(PARAMS, state.inner_state)
    chex.assert_trees_all_equal(got, want)
    assert after.hyperparams["b2"].dtype == jnp.float32
    assert float(after.hyperparams["learning_rate"]) == float(np.float32(3e-4))


def test_float64_runs_have_the_bits_too():
    with jax.enable_x64(True):
        params = make_params("float64", SHAPES)
        grads = make_stream("normal", "float64", SHAPES, steps=4)
        plain, _ = trajectory(adamx.adamw(1e-3), params, grads)
        injected = adamx.inject_hyperparams(adamx.adamw)(1e-3)
        updates, state = trajectory(injected, params, grads)
        assert state.hyperparams["b2"].dtype == jnp.float32
        if CONTRACTS_ALIKE:
            chex.assert_trees_all_equal(updates, plain)
        chex.assert_trees_all_close(updates, plain, rtol=1e-15)


# ---- what is injected


def names_of(tx, params=PARAMS):
    return set(tx.init(params).hyperparams)


def test_floats_are_injected_and_the_rest_is_left_alone():
    mask = adamx.by_path(lambda path: path.startswith("w"))
    make = adamx.inject_hyperparams(adamx.adamw)
    assert names_of(make(1e-3, mask=mask, mu_dtype="bfloat16")) == {
        *("learning_rate", "b1", "b2", "eps", "eps_root", "weight_decay")
    }
    assert names_of(make(lambda count: 1e-3, mask=lambda params: True)) >= {
        "learning_rate"
    }
    # Numbers of dimensions, steps and iterations are structure.
    factored = adamx.inject_hyperparams(adamx.adafactor)(1e-3, min_dim_size_to_factor=2)
    assert "min_dim_size_to_factor" not in names_of(factored)
    assert "ns_steps" not in names_of(adamx.inject_hyperparams(adamx.muon)(1e-3))
    assert "clip_value_fn" not in names_of(adamx.inject_hyperparams(adamx.adopt)(1e-3))
    # A whole number may stand for a float.
    assert "learning_rate" in names_of(adamx.inject_hyperparams(adamx.sgd)(1))
    assert "eps" in names_of(adamx.inject_hyperparams(adamx.adam)(1e-3, eps=0))


def test_names_choose_and_static_args_exclude():
    only = adamx.inject_hyperparams(adamx.adamw, names="learning_rate")
    assert names_of(only(1e-3)) == {"learning_rate"}
    both = adamx.inject_hyperparams(adamx.adamw, names=["b2", "weight_decay"])
    assert names_of(both(1e-3)) == {"b2", "weight_decay"}
    fewer = adamx.inject_hyperparams(adamx.adamw, static_args=("b1", "eps"))
    assert names_of(fewer(1e-3)) == {
        *("learning_rate", "b2", "eps_root", "weight_decay")
    }


def test_a_factory_of_your_own_needs_no_annotations():
    def make(learning_rate, norm=1.0, steps=3, mask=None):
        assert type(steps) is int
        return adamx.chain(
            adamx.clip_by_global_norm(norm),
            adamx.add_decayed_weights(0.1, mask),
            adamx.scale_by_learning_rate(learning_rate),
        )

    mask = adamx.by_path(lambda path: path.startswith("w"))
    schedule = adamx.exponential_decay(0.5, 1, 0.5)
    tx = adamx.inject_hyperparams(make)(schedule, mask=mask)
    assert names_of(tx) == {"learning_rate", "norm"}
    got, state = trajectory(tx, PARAMS, GRADS)
    want, _ = trajectory(make(schedule, mask=mask), PARAMS, GRADS)
    chex.assert_trees_all_equal(got, want)
    assert float(state.hyperparams["learning_rate"]) == 0.5**6


def test_bfloat16_parameters_keep_float32_hyperparameters():
    """In their dtype 0.999 is 1.0, and Adam divides by 1 - 1."""
    params = make_params("bfloat16", SHAPES)
    grads = make_stream("normal", "bfloat16", SHAPES, steps=4)
    plain, _ = trajectory(adamx.adam(1e-2), params, grads)
    tx = adamx.inject_hyperparams(adamx.adam)(1e-2)
    updates, state = trajectory(tx, params, grads)
    chex.assert_trees_all_equal(updates, plain)
    assert state.hyperparams["b2"].dtype == jnp.float32
    wide = adamx.inject_hyperparams(adamx.adam, hyperparam_dtype=jnp.bfloat16)(1e-2)
    assert wide.init(params).hyperparams["b1"].dtype == jnp.bfloat16


def test_a_factory_of_optax_keeps_its_types():
    """Its updates of bfloat16 gradients would come back in float32."""
    params = make_params("bfloat16", SHAPES)
    tx = adamx.inject_hyperparams(optax.adam)(1e-2)
    with jax.numpy_dtype_promotion("standard"):
        state = tx.init(params)
        updates, new = jax.jit(tx.update)(params, state, params)
        want, _ = optax.adam(1e-2).update(params, optax.adam(1e-2).init(params))
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    chex.assert_trees_all_equal_dtypes(new, state)
    chex.assert_trees_all_close(updates, want, rtol=2e-2)


# ---- nothing is compiled again


def test_sixteen_learning_rates_are_one_program():
    tx = adamx.inject_hyperparams(adamx.adamw)(1e-3)
    step = jax.jit(chex.assert_max_traces(tx.update, n=1))
    state = tx.init(PARAMS)
    _, state = step(PARAMS, state, PARAMS)
    for rate in np.logspace(-5, 0, 16):
        state.hyperparams["learning_rate"] = jnp.float32(rate)
        _, state = step(PARAMS, state, PARAMS)
        assert float(get_rate(state)) == float(np.float32(rate))
    plain = adamx.adamw(1.0)
    want, _ = jax.jit(plain.update)(PARAMS, state.inner_state, PARAMS)
    got, _ = step(PARAMS, state, PARAMS)
    chex.assert_trees_all_close(got, want, rtol=1e-6)


def get_rate(state):
    return adamx.get_hyperparams(state)["learning_rate"]


def test_outside_of_jit_a_step_is_compiled_once():
    made = []

    def make(learning_rate):
        made.append(learning_rate)
        return adamx.sgd(learning_rate)

    tx = adamx.inject_hyperparams(make)(0.5)
    state = tx.init(PARAMS)
    for _ in range(4):
        _, state = tx.update(PARAMS, state)
    assert len(made) == 2  # in init, and in the one trace of update


def test_functions_among_the_extra_arguments_pass():
    def update(updates, state, params=None, *, value_fn, **extra_args):
        return jax.tree.map(lambda u: u * value_fn(2.0), updates), state

    def make(learning_rate):
        seen = adamx.GradientTransformation(lambda params: adamx.EmptyState(), update)
        return adamx.chain(seen, adamx.scale(learning_rate))

    tx = adamx.inject_hyperparams(make)(0.5)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), value_fn=lambda x: 3 * x)
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda p: p * 3, PARAMS))


# ---- reading


def test_hyperparameters_are_found_in_any_state():
    make = adamx.inject_hyperparams(adamx.adam, names=("learning_rate", "b1"))
    tx = optax.chain(
        optax.clip(1.0),
        optax.apply_if_finite(adamx.chain(adamx.identity(), make(0.25)), 3),
    )
    assert float(get_rate(tx.init(PARAMS))) == 0.25
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    opt = nnx.Optimizer(model, make(0.5), wrt=nnx.Param)
    assert float(get_rate(opt.opt_state)) == 0.5
    loop = TrainState.create(apply_fn=None, params=PARAMS, tx=make(0.125))
    assert float(get_rate(loop.opt_state)) == 0.125


def test_two_groups_are_told_apart_by_their_paths():
    make = adamx.inject_hyperparams(adamx.sgd)
    tx = adamx.partition(
        {"body": make(0.5), "head": make(0.25)},
        adamx.by_path(lambda path: "body" if path.startswith("w") else "head"),
    )
    found = adamx.get_hyperparams(tx.init(PARAMS))
    assert {name: float(x) for name, x in found.items()} == {
        "inner_states/body/inner_state/learning_rate": 0.5,
        "inner_states/head/inner_state/learning_rate": 0.25,
    }


def test_injection_inside_injection():
    inner = adamx.inject_hyperparams(adamx.adam, names="learning_rate")
    outer = adamx.inject_hyperparams(
        lambda max_norm: adamx.chain(adamx.clip_by_global_norm(max_norm), inner(0.5))
    )
    found = adamx.get_hyperparams(outer(2.0).init(PARAMS))
    assert {n: float(x) for n, x in found.items()} == {
        "max_norm": 2.0,
        "learning_rate": 0.5,
    }


# ---- errors


def test_errors_of_injection():
    inject = adamx.inject_hyperparams
    with raises(ValueError, "inject_hyperparams: expected names among the argum"):
        inject(adamx.adamw, names="lr")
    with raises(ValueError, r".* of sgd, \(learning_rate, .*\), got 'rate'\."):
        inject(adamx.sgd, static_args=["rate"])
    with raises(ValueError, r".*expected \['b1'\] in static_args or in names, g"):
        inject(adamx.adam, static_args="b1", names=["b1", "b2"])
    with raises(TypeError, "inject_hyperparams: expected inner_factory as a f"):
        inject(adamx.adam(1e-3))
    with raises(TypeError, "inject_hyperparams: expected hyperparam_dtype as a"):
        inject(adamx.adam, hyperparam_dtype=jnp.int32)
    with raises(TypeError, r"inject_hyperparams: expected momentum as a number, "):
        inject(adamx.sgd, names="momentum")(0.1)
    with raises(TypeError, "inject_hyperparams: expected a gradient transforma"):
        inject(lambda learning_rate: None)(0.1).init(PARAMS)
    with raises(ValueError, r"inject_hyperparams: expected a scalar as learning_"):
        inject(adamx.sgd)(lambda count: jnp.ones(2)).init(PARAMS)


def test_errors_of_states():
    tx = adamx.inject_hyperparams(adamx.sgd)(0.1)
    state = tx.init(PARAMS)
    state.hyperparams["learning_rate"] = jnp.ones(2, jnp.float32)
    text = r"inject_hyperparams: expected a scalar as learning_rate in the state, got f"
    with raises(ValueError, text):
        tx.update(PARAMS, state)
    other = adamx.inject_hyperparams(adamx.sgd)(0.1, momentum=0.9).init(PARAMS)
    text = r"inject_hyperparams: expected hyperparams \['learning_rate'\] in the st"
    with raises(ValueError, text):
        tx.update(PARAMS, other)
    with raises(ValueError, "inject_hyperparams: expected a InjectStatefulHyperp"):
        tx.update(PARAMS, adamx.sgd(0.1).init(PARAMS))
    with raises(
        ValueError, "get_hyperparams: expected a state of inject_hyperparams, "
    ):
        adamx.get_hyperparams(adamx.sgd(0.1).init(PARAMS))
