"""Scales of losses: as PyTorch and Flax adapt them, and what float16 gains."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.dynamic_scale import DynamicScale
from jax import lax
from sklearn.datasets import load_digits

import adamx


def scales(good, **kwargs):
    """The scale after each step, of gradients that are finite where `good`."""
    tx = adamx.dynamic_loss_scale(adamx.identity(), **kwargs)

    def body(state, g):
        _, state = tx.update(g, state)
        return state, adamx.loss_scale(state)

    grads = jnp.where(good, 1.0, jnp.inf)
    return jax.jit(lambda: lax.scan(body, tx.init(jnp.zeros(())), grads)[1])()


GOOD = np.random.default_rng(2).uniform(size=200) < 0.85


def test_the_scale_is_that_of_torch():
    torch = pytest.importorskip("torch")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4)
    p = torch.nn.Parameter(torch.zeros(()))
    opt, want = torch.optim.SGD([p], 0.0), []
    for ok in GOOD:
        opt.zero_grad()
        scaler.scale(p * (1.0 if ok else float("inf"))).backward()
        scaler.step(opt)
        scaler.update()
        want.append(scaler.get_scale())
    got = scales(GOOD, initial_scale=2.0**10, growth_interval=4, min_scale=1e-30)
    np.testing.assert_array_equal(got, want)
    assert len(set(want)) > 5


def test_the_scale_is_that_of_flax_whose_interval_is_one_longer():
    scaler, want = DynamicScale(growth_interval=3, scale=2.0**10, minimum_scale=8.0), []
    step = jax.jit(
        lambda scaler, x: scaler.value_and_grad(lambda p: p * x)(jnp.zeros(()))[0]
    )
    with jax.numpy_dtype_promotion("standard"):
        for ok in GOOD:
            scaler = step(scaler, 1.0 if ok else jnp.inf)
            want.append(float(scaler.scale))
    got = scales(GOOD, initial_scale=2.0**10, growth_interval=4, min_scale=8.0)
    np.testing.assert_array_equal(got, want)


def test_the_scale_stays_within_its_limits():
    got = scales(np.arange(40) < 20, initial_scale=4.0, growth_interval=1, max_scale=32)
    assert got[:4].tolist() == [8, 16, 32, 32]
    assert got[19:26].tolist() == [32, 16, 8, 4, 2, 1, 1]


class Autoencoder(nn.Module):
    dtype: type

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(32, dtype=self.dtype)(x))
        return nn.Dense(64, dtype=self.dtype)(x)


IMAGES = np.asarray(load_digits().data[:128] / 16, np.float32)


@functools.cache
def gradient(dtype):
    """The compiled loss, its gradient and first parameters of a model in `dtype`."""
    model = Autoencoder(dtype)
    params = jax.jit(model.init)(jax.random.key(0), IMAGES[:1])

    def loss(params):
        error = model.apply(params, IMAGES).astype(jnp.float32) - IMAGES
        return 3e-5 * jnp.mean(error**2)

    scaled = jax.jit(jax.grad(lambda params, scale: loss(params) * scale))
    return jax.jit(loss), scaled, params


@pytest.fixture
def standard_promotion():
    """Flax itself does not run under strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def train(tx, dtype, steps):
    """Final parameters, state and the losses at the start and at the end."""
    loss, scaled, params = gradient(dtype)
    first, state = float(loss(params)), tx.init(params)
    read = jax.jit(adamx.loss_scale)

    @jax.jit
    def update(grads, state, params):
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    for _ in range(steps):
        grads = scaled(params, read(state))
        params, state = update(grads, state, params)
    return params, state, first, float(loss(params))


@pytest.mark.usefixtures("standard_promotion")
def test_powers_of_two_change_no_bit_of_a_real_run():
    tx = adamx.adamw(1e-3)
    params, state, *_ = train(tx, jnp.float32, 12)
    scaled = adamx.dynamic_loss_scale(tx, 2.0**10, growth_interval=2)
    got, scaled_state, *_ = train(scaled, jnp.float32, 12)
    assert scaled_state.loss_scale == 2.0**16
    chex.assert_trees_all_equal((got, scaled_state.inner_state), (params, state))


@pytest.mark.usefixtures("standard_promotion")
def test_a_float16_model_learns_with_a_scale_and_not_without():
    """Gradients of a small term, averaged over 8 192 pixels, are below 6e-8."""
    tx = adamx.adam(1e-2)
    scaling = adamx.dynamic_loss_scale(tx, 2.0**40, max_scale=2.0**40)
    params, _, first16, plain = train(tx, jnp.float16, 40)
    _, state, _, scaled = train(scaling, jnp.float16, 40)
    *_, first, single = train(tx, jnp.float32, 40 - int(state.total_notfinite))
    assert single < 0.3 * first
    assert plain == first16
    chex.assert_trees_all_equal(params, gradient(jnp.float16)[2])
    assert scaled == pytest.approx(single, rel=0.02)
    # From a scale with which the first gradients overflow.
    assert state.total_notfinite >= 1
    assert state.loss_scale == 2.0 ** (40 - int(state.total_notfinite))


def test_inner_sees_float32_and_updates_leave_as_gradients_came():
    seen = []

    def watch(updates, params):
        seen.append(jax.tree.map(lambda g: g.dtype, updates))
        return updates

    tx = adamx.dynamic_loss_scale(adamx.stateless(watch), 2.0**10)
    tx = adamx.chain(tx, adamx.stateless(watch))
    grads = {"h": jnp.array([6e-8], jnp.float16), "w": jnp.ones(1, jnp.float32)}
    updates, _ = tx.update(grads, tx.init(grads))
    assert seen[0] == {"h": jnp.float32, "w": jnp.float32}
    assert seen[1] == {"h": jnp.float16, "w": jnp.float32}
    # A gradient below float16's range reaches inner as it is.
    scaled = adamx.dynamic_loss_scale(adamx.scale(2.0**24), 2.0**10)
    updates, _ = scaled.update(grads, scaled.init(grads))
    want = np.float32(np.float16(6e-8)) * 2.0**14
    np.testing.assert_array_equal(updates["h"], np.float16([want]))
    assert want > 0


def test_the_scale_is_found_anywhere():
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    tx = adamx.dynamic_loss_scale(adamx.adam(0.1), 8.0)
    for around in (
        tx,
        adamx.chain(adamx.clip(1.0), tx),
        adamx.named_chain(("a", adamx.partition({"x": tx}, "x"))),
        adamx.apply_if_finite(adamx.masked(tx, {"w": True, "b": False}), 3),
        optax.chain(optax.clip(1.0), optax.apply_if_finite(tx, 3)),
    ):
        scale = jax.jit(adamx.loss_scale)(around.init(params))
        assert (scale, scale.dtype, scale.shape) == (8, jnp.float32, ())
    for none in (adamx.adam(0.1).init(params), (), optax.adam(0.1).init(params)):
        scale = adamx.loss_scale(none)
        assert (scale, scale.dtype, scale.weak_type) == (1, jnp.float32, False)


@pytest.mark.usefixtures("standard_promotion")
def test_the_scale_is_found_in_the_state_of_nnx():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    tx = adamx.dynamic_loss_scale(adamx.adam(0.1), 8.0)
    opt = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, opt):
        scale = adamx.loss_scale(opt.opt_state)
        grads = nnx.grad(lambda m: m(jnp.ones(2)).sum() * scale * jnp.inf)(model)
        opt.update(model, grads)
        return scale

    before = model.kernel[...]
    assert float(step(model, opt)) == 8
    assert float(adamx.loss_scale(opt.opt_state)) == 4
    np.testing.assert_array_equal(model.kernel[...], before)
