"""Hyperparameters as arrays and tracers: derivatives, sweeps, extreme values."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx

PARAMS = np.array([0.5, -1.0, 2.0])
GRADS = np.random.default_rng(0).normal(size=(6, 3))

# Each value, and the transformation that it makes.
KNOBS = {
    "learning_rate": (0.1, adamx.adam),
    "b1": (0.9, lambda x: adamx.adam(0.1, b1=x)),
    "b2": (0.99, lambda x: adamx.adam(0.1, b2=x)),
    "eps": (1e-2, lambda x: adamx.adam(0.1, eps=x)),
    "eps_root": (1e-2, lambda x: adamx.adam(0.1, eps_root=x)),
    "nesterov": (0.9, lambda x: adamx.nadam(0.1, b1=x)),
    "weight_decay": (0.3, lambda x: adamx.adamw(0.1, weight_decay=x)),
    "adan": (0.9, lambda x: adamx.adan(0.1, b2=x)),
    "proximal": (0.3, lambda x: adamx.adan(0.1, weight_decay=x, proximal=True)),
    "ademamix": (0.9, lambda x: adamx.ademamix(0.1, b3=x)),
    "alpha": (5.0, lambda x: adamx.ademamix(0.1, alpha=x)),
    "b3_schedule": (
        0.9,
        lambda x: adamx.ademamix(0.1, b3=adamx.ademamix_b3_schedule(x, 9, 0.5)),
    ),
    "adopt": (0.9, lambda x: adamx.adopt(0.1, b1=x)),
    "laprop": (0.9, lambda x: adamx.laprop(0.1, b2=x)),
    "atan2": (2.0, lambda x: adamx.adam_atan2(0.1, b=x)),
    "gamma": (0.1, lambda x: adamx.mars(0.1, gamma=x, optimize_1d=True)),
    "mars": (0.9, lambda x: adamx.mars(0.1, b1=x, optimize_1d=True)),
    "amsgrad": (0.99, lambda x: adamx.amsgrad(0.1, b2=x, variant="torch")),
    "momentum": (0.9, lambda x: adamx.sgd(0.1, momentum=x)),
    "decay": (0.9, lambda x: adamx.rmsprop(0.1, decay=x, bias_correction=True)),
    "ema": (0.9, adamx.ema),
    "bias_correction": (0.9, lambda x: adamx.bias_correction(0.9, x)),
    "schedule_free": (0.9, lambda x: adamx.schedule_free_adamw(0.1, b1=x)),
    "schedule_free_rate": (0.1, lambda x: adamx.schedule_free_sgd(x, 2, r=1.0)),
    "prodigy": (0.9, lambda x: adamx.prodigy(x, estim_lr0=0.1)),
    "max_norm": (0.5, adamx.clip_by_global_norm),
}


def end(make, dtype, value):
    """A number that depends on every parameter after a few steps."""
    tx = make(value)
    params = jnp.asarray(PARAMS, dtype)

    def step(carry, grads):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        return (adamx.apply_updates(params, updates), state), None

    grads = jnp.asarray(GRADS, dtype)
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), grads)
    return jnp.sum(jnp.sin(params))


USUAL = ("learning_rate", "b1", "b2", "eps", "weight_decay", "momentum", "max_norm")


@pytest.mark.parametrize(
    "name",
    [
        name if name in USUAL else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in KNOBS
    ],
)
def test_derivatives_are_right_forward_and_backward(name):
    value, make = KNOBS[name]
    with jax.enable_x64(True):
        exact = functools.partial(end, make, jnp.float64)
        h = 1e-6
        slope = float(exact(value + h) - exact(value - h)) / (2 * h)
    f = functools.partial(end, make, jnp.float32)

    @jax.jit
    def compiled(value):
        forward = jax.jvp(f, (value,), (jnp.ones_like(value),))[1]
        return forward, jax.grad(jax.checkpoint(f))(value)

    found = [jax.grad(f)(value), *compiled(value)]
    np.testing.assert_allclose(np.asarray(found), slope, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", KNOBS)
def test_a_sweep_is_a_vmap(name):
    value, make = KNOBS[name]
    f = functools.partial(end, make, jnp.float32)
    values = np.array([0.9, 1.0]) * value
    together = jax.vmap(f)(jnp.asarray(values, jnp.float32))
    np.testing.assert_allclose(together, [f(v) for v in values], rtol=1e-4)


@pytest.mark.parametrize("eps", [0.0, 1e-37, 1e-45])
def test_zero_gradients_give_zero_steps_for_every_eps(eps):
    for tx in (
        adamx.scale_by_adam(eps=eps),
        adamx.scale_by_amsgrad(eps=eps),
        adamx.scale_by_rms(eps=eps),
        adamx.scale_by_rss(0.0, eps=eps),
    ):
        updates, _ = tx.update(jnp.zeros(2), tx.init(jnp.zeros(2)))
        np.testing.assert_array_equal(updates, 0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float8_e4m3fn])
def test_narrow_moments_saturate_and_recover(dtype):
    tx = adamx.scale_by_adam(b2=0.5, mu_dtype=dtype, nu_dtype=dtype)
    state = tx.init(jnp.zeros(2))
    for g in [1e30, 1e4, 1.0, 1.0]:
        updates, state = tx.update(jnp.full(2, g), state)
        assert np.isfinite(updates).all()
    assert np.isfinite(np.asarray(state.nu, np.float32)).all()
    assert state.nu.dtype == dtype


def test_learning_rates_of_any_dtype_step_downhill():
    for rate in (jnp.uint8(1), jnp.bfloat16(1), np.float16(1), jnp.int32(1), 1):
        updates, _ = adamx.sgd(rate).update(jnp.ones(2), (adamx.EmptyState(),) * 2)
        np.testing.assert_array_equal(updates, -1)


def test_named_states_survive_jit():
    tx = adamx.named_chain(("two", adamx.trace(0.5)), ("one", adamx.scale(-1.0)))
    state = tx.init(jnp.zeros(2))
    for _ in range(2):
        updates, state = jax.jit(tx.update)(jnp.ones(2), state)
    np.testing.assert_array_equal(updates, -1.5)


def test_transformations_of_module_level_functions_pickle_with_optax_imported():
    assert isinstance(adamx.identity(), optax.GradientTransformationExtraArgs)
    tx = adamx.GradientTransformation(adamx.apply_updates, adamx.global_norm)
    copied = pickle.loads(pickle.dumps(tx))
    assert type(copied) is adamx.GradientTransformation
    assert tuple(copied) == tuple(tx)


def test_numpy_parameters_in_float64_are_float32_without_x64():
    tx = adamx.adamw(0.1)
    params = {"w": np.ones(2)}
    updates, state = tx.update({"w": np.ones(2)}, tx.init(params), params)
    moved = adamx.apply_updates(params, updates)
    assert moved["w"].dtype == state[0].mu["w"].dtype == jnp.result_type(float)
