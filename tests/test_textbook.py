"""Textbook laws: what is the same as what, and how far a step goes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from test_walkthrough import walk

import adamx

GRADS = jax.random.normal(jax.random.key(0), (40, 5), jnp.float32)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (
            adamx.scale_by_adam(b1=0.0, b2=0.0),
            adamx.stateless(lambda g, p: jnp.sign(g)),
        ),
        (
            adamx.scale_by_adam(b1=0.0, b2=0.99),
            adamx.scale_by_rms(0.99, eps_in_sqrt=False, bias_correction=True),
        ),
        (
            adamx.scale_by_adam(eps=0.0),
            adamx.chain(
                adamx.scale_by_adam(eps=0.0, debias=False), adamx.bias_correction()
            ),
        ),
        (adamx.adam(0.1), adamx.nadam(0.1, nesterov=False)),
        (adamx.adam(0.1), adamx.adam(lambda count: 0.1)),
        (adamx.adam(0.1), adamx.adamw(0.1, weight_decay=0.0)),
        (adamx.sgd(0.1), adamx.sgd(0.1, momentum=0.0)),
        (
            adamx.sgd(0.1, momentum=0.9),
            adamx.chain(adamx.scale_by_learning_rate(0.1), adamx.trace(0.9)),
        ),
        (adamx.ema(0.9, debias=False), adamx.chain(adamx.scale(0.1), adamx.trace(0.9))),
        (
            adamx.scale_by_amsgrad(variant="paper"),
            adamx.scale_by_amsgrad(bias_correction_mu=False, bias_correction_nu=False),
        ),
    ],
)
def test_two_ways_to_say_the_same(left, right):
    a, b = walk(left, GRADS)[0], walk(right, GRADS)[0]
    np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


def test_the_largest_second_moment_never_decreases():
    grads = [g * 0.9**t for t, g in enumerate(GRADS)]
    for variant in ("optax", "torch", "paper"):
        tx = adamx.scale_by_amsgrad(variant=variant)
        state = tx.init(GRADS[0])
        nu_max = state.nu_max
        for g in grads:
            _, state = tx.update(g, state)
            assert jnp.all(state.nu_max >= nu_max)
            nu_max = state.nu_max
        assert jnp.all(nu_max > 0)


def test_adams_direction_does_not_know_the_scale_of_gradients():
    """With eps = 0 a power of two in the gradients changes no bit."""
    want, _ = walk(adamx.scale_by_adam(eps=0.0), GRADS)
    for k in (-40, 7, 50):
        got, _ = walk(adamx.scale_by_adam(eps=0.0), GRADS * 2.0**k)
        chex.assert_trees_all_equal(got, want)


def test_constant_gradients_give_steps_of_constant_size():
    """|u| = |g| / (|g| + eps) at every step, so a step is at most the learning rate."""
    g = jnp.array([1e-8, 1e-6, 1.0, 1e6])
    for tx in (adamx.scale_by_adam(), adamx.scale_by_amsgrad()):
        u, _ = walk(tx, jnp.broadcast_to(g, (300, 4)))
        want = np.broadcast_to(
            np.asarray(g, float) / (np.asarray(g, float) + 1e-8), u.shape
        )
        np.testing.assert_allclose(u, want, rtol=1e-5)


def test_noise_is_averaged():
    """For independent gradients the root mean square is √((1 - b1) / (1 + b1))."""
    noise = jax.random.normal(jax.random.key(1), (4000, 50), jnp.float32)
    u, _ = walk(adamx.scale_by_adam(b2=0.9999), noise)
    assert float(jnp.sqrt(jnp.mean(u[2000:] ** 2))) == pytest.approx(0.2294, rel=0.02)


def test_learning_rate_zero_moves_nothing_but_the_state():
    updates, (state, _) = walk(adamx.adam(0.0), GRADS)
    assert not updates.any()
    assert state.count == 40
    assert state.mu.all()


def test_warm_up_from_zero_starts_with_a_step_of_zero():
    """A schedule is asked for 0 first: the first update is 0; the moments move."""
    tx = adamx.adam(lambda count: 0.1 * count.astype(jnp.float32))
    updates, _ = walk(tx, jnp.ones(3))
    np.testing.assert_allclose(updates, [0, -0.1, -0.2], rtol=1e-6)


def largest_step(b1, b2, t):
    """The bound of |u| at step t, for any gradients (Cauchy and Schwarz)."""
    r = b1**2 / b2
    c1, c2 = 1 - b1**t, 1 - b2**t
    return (1 - b1) / c1 * np.sqrt(c2 / (1 - b2) * (1 - r**t) / (1 - r))


STEPS = 30
BOUNDED = jax.jit(
    lambda b1, b2, grads: lax.scan(
        lambda state, g: adamx.scale_by_adam(b1, b2, eps=0.0).update(g, state)[::-1],
        adamx.scale_by_adam().init(grads[0]),
        grads,
    )[1]
)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.sampled_from([(0.9, 0.999), (0.9, 0.99), (0.9, 0.95), (0.95, 0.99), (0.5, 0.9)]),
    st.lists(st.integers(-40, 40), min_size=STEPS, max_size=STEPS),
    st.integers(0, 2**STEPS - 1),
)
def test_no_gradients_make_steps_beyond_the_bound(decays, exponents, signs):
    sizes = np.ldexp(1.0, np.array(exponents)).astype(np.float32)
    minus = np.array([(signs >> i) & 1 for i in range(STEPS)])
    u = BOUNDED(*map(jnp.float32, decays), jnp.asarray(np.where(minus, -sizes, sizes)))
    bound = largest_step(*decays, np.arange(1, STEPS + 1))
    assert np.all(np.abs(u) <= bound * (1 + 1e-5))


def test_the_bound_is_reached():
    """By gradients that grow by b2/b1 in each step."""
    for b1, b2 in [(0.9, 0.999), (0.9, 0.99), (0.9, 0.95)]:
        grads = jnp.asarray((b2 / b1) ** np.arange(200.0), jnp.float32)
        u, _ = walk(adamx.scale_by_adam(b1, b2, eps=0.0), grads)
        np.testing.assert_allclose(
            u, largest_step(b1, b2, np.arange(1, 201)), rtol=3e-5
        )
