"""What the papers say, in numbers: first steps, the counterexample, weight decay."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import adamx

G = jnp.array([0.1, -0.5, 0.3])
FLOAT = {"rtol": 3e-7, "atol": 0}  # two units in the last place of float32


def walk(tx, grads, params=None):
    """Updates of all steps and the last state; `grads` has an axis of steps."""
    params = jnp.zeros_like(grads[0]) if params is None else params

    def step(state, g):
        updates, state = tx.update(g, state, params)
        return state, updates

    state, updates = jax.jit(lambda g: lax.scan(step, tx.init(params), g))(grads)
    return updates, state


def train(tx, params, grad, steps):
    """Parameters after some steps of gradient descent with `tx`."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(grad(params), state, params)
        return (adamx.apply_updates(params, updates), state), None

    (params, _), _ = lax.scan(step, (params, tx.init(params)), None, length=steps)
    return params


# ---- the first two steps of Adam, digit by digit


def test_first_step():
    tx = adamx.scale_by_adam()
    u, state = tx.update(G, tx.init(G))
    assert state.count == 1
    np.testing.assert_allclose(state.mu, [0.01, -0.05, 0.03], **FLOAT)
    np.testing.assert_allclose(state.nu, [1e-5, 2.5e-4, 9e-5], **FLOAT)
    mu_hat = adamx.tree_bias_correction(state.mu, 0.9, state.count)
    nu_hat = adamx.tree_bias_correction(state.nu, 0.999, state.count)
    np.testing.assert_allclose(mu_hat, [0.1, -0.5, 0.3], **FLOAT)
    np.testing.assert_allclose(nu_hat, [0.01, 0.25, 0.09], **FLOAT)
    np.testing.assert_allclose(u, [0.9999999, -0.99999998, 0.99999997], **FLOAT)
    updates, _ = (tx := adamx.adam(1e-3)).update(G, tx.init(G))
    np.testing.assert_allclose(updates, [-0.001, 0.001, -0.001], **FLOAT)


def test_second_step_with_the_same_gradient():
    updates, (state, _) = walk(adamx.adam(1e-3), jnp.stack([G, G]))
    np.testing.assert_allclose(state.mu, [0.019, -0.095, 0.057], **FLOAT)
    np.testing.assert_allclose(state.nu, [1.999e-5, 4.9975e-4, 1.7991e-4], **FLOAT)
    np.testing.assert_allclose(updates[1], [-0.001, 0.001, -0.001], **FLOAT)


def test_second_step_with_another_gradient():
    grads = jnp.stack([G, jnp.array([-0.2, 0.4, 0.3])])
    updates, (state, _) = walk(adamx.adam(1e-3), grads)
    rtol = 2e-6  # mu cancels
    np.testing.assert_allclose(state.mu, [-0.011, -0.005, 0.057], rtol=rtol)
    np.testing.assert_allclose(state.nu, [4.999e-5, 4.0975e-4, 1.7991e-4], **FLOAT)
    want = [3.66103504e-4, 5.81250460e-5, -9.99999967e-4]
    np.testing.assert_allclose(updates[1], want, rtol=rtol)


@pytest.mark.parametrize(
    ("tx", "steps"),
    [
        (adamx.adam(1.0), [1, 1, 1]),
        (adamx.amsgrad(1.0), [1, 1, 1]),
        (adamx.nadam(1.0), [1.4737, 1.1573, 1.00005]),
        (adamx.adagrad(1.0), [0.688, 0.567, 0.140]),
        (adamx.rmsprop(1.0), [3.162, 2.294, 1.0026]),
        (adamx.amsgrad(1.0, variant="paper"), [3.1623, 4.2496, None]),
    ],
)
def test_step_sizes_on_a_constant_gradient(tx, steps):
    updates, _ = walk(tx, jnp.full((50,), 0.3))
    for i, size in zip([0, 1, 49], steps, strict=True):
        if size is not None:
            assert -updates[i] == pytest.approx(size, rel=1e-3 if size < 1 else 1e-4)


def test_bias_correction_factor():
    """√(1 - b2ᵗ) / (1 - b1ᵗ) falls to a minimum at t = 12, then rises to 1."""
    factors, _ = walk(adamx.bias_correction(), jnp.ones(10_000))
    known = {
        1: 0.3162,
        2: 0.2353,
        5: 0.1725,
        10: 0.1532,
        12: 0.1522,
        20: 0.1602,
        100: 0.3086,
        1000: 0.7952,
        10_000: 0.99998,
    }
    for t, factor in known.items():
        assert factors[t - 1] == pytest.approx(factor, abs=5e-5)
    assert int(jnp.argmin(factors)) + 1 == 12


# ---- where Adam fails and AMSGrad converges (Reddi, Kale & Kumar, 2018)


def average_iterate(problem, b1, b2, steps, last):
    """The mean of the last iterates in the box [-1, 1], of Adam and three AMSGrads.

    One run for each step size a; the learning rate is a/√t.
    """

    def run(a):
        def rate(count):
            return a / jnp.sqrt((count + 1).astype(jnp.float32))

        txs = [
            adamx.adam(rate, b1, b2),
            adamx.amsgrad(rate, b1, b2, variant="optax"),
            adamx.amsgrad(rate, b1, b2, variant="torch"),
            adamx.amsgrad(rate, b1, b2, variant="paper"),
        ]

        def step(carry, t):
            xs, states, sums = carry
            g = problem(t).astype(jnp.float32)
            new_xs, new_states = [], []
            for tx, x, state in zip(txs, xs, states, strict=True):
                u, state = tx.update(g, state, x)
                new_xs.append(jnp.clip(x + u, -1, 1))
                new_states.append(state)
            counts = (t > steps - last).astype(jnp.float32)
            sums = [s + counts * x for s, x in zip(sums, new_xs, strict=True)]
            return (new_xs, new_states, sums), None

        zeros = [jnp.zeros((), jnp.float32)] * len(txs)
        carry = zeros, [tx.init(zeros[0]) for tx in txs], zeros
        (_, _, sums), _ = lax.scan(step, carry, jnp.arange(1, steps + 1))
        return jnp.stack(sums) / last

    return jax.jit(jax.vmap(run))


def test_theorem_1():
    """Slope 3, then twice -1: the minimum is at -1, and Adam goes to +1."""
    problem = lambda t: jnp.where(t % 3 == 1, 3.0, -1.0)  # noqa: E731
    run = average_iterate(problem, b1=0.0, b2=0.1, steps=3000, last=300)
    for adam, *amsgrads in run(np.float32([0.1, 0.5, 0.9])):
        assert adam > 0.95
        assert max(amsgrads) < -0.95


def test_synthetic_online_problem():
    """Slope 1010 in one of 101 steps, else -10: the minimum is at -1."""
    problem = lambda t: jnp.where(t % 101 == 1, 1010.0, -10.0)  # noqa: E731
    run = average_iterate(problem, b1=0.9, b2=0.99, steps=100_000, last=1010)
    for adam, *amsgrads in run(np.float32([0.5, 1.0, 2.0])):
        assert adam > 0.9
        assert max(amsgrads) < -0.9


def test_amsgrad_never_forgets_a_large_gradient():
    """One gradient of 10 among ones: AMSGrad's steps stay small, Adam's grow back."""
    grads = jnp.ones(3000).at[100].set(10.0)
    adam, _ = walk(adamx.scale_by_adam(), grads)
    amsgrad, state = walk(adamx.scale_by_amsgrad(), grads)
    assert adam[-1] > 0.98
    assert amsgrad[-1] == pytest.approx(1 / np.sqrt(float(state.nu_max)), rel=1e-6)
    assert amsgrad[-1] < 0.75


# ---- weight decay (Loshchilov & Hutter, 2019)

RATE, DECAY = 0.01, 0.1
L2 = adamx.chain(adamx.add_decayed_weights(DECAY), adamx.adam(RATE))
DECOUPLED = adamx.adamw(RATE, weight_decay=DECAY)


def test_without_gradients_decoupled_decay_is_geometric():
    p = jnp.array([1.0, -20.0, 1e-3])
    got = train(DECOUPLED, p, jnp.zeros_like, 100)
    np.testing.assert_allclose(got, p * (1 - RATE * DECAY) ** 100, rtol=1e-5)


def test_without_gradients_l2_takes_full_steps():
    """Adam normalizes the decay away: every parameter moves by the learning rate."""
    p = jnp.array([1.0, -20.0, 0.5])
    got = train(L2, p, jnp.zeros_like, 1)
    np.testing.assert_allclose(got, p - RATE * np.sign(p), rtol=1e-5, atol=1e-8)


def test_l2_decays_parameters_with_large_gradients_less():
    """With gradients of ±s, L2 shrinks p by RATE·DECAY·p / s, AdamW whatever s."""
    s = jnp.array([1.0, 100.0])
    grads = jnp.outer(jnp.where(jnp.arange(2000) % 2 == 0, 1.0, -1.0), s)
    p = jnp.ones(2)

    def shrinkage(tx):
        updates, _ = walk(tx, grads, p)
        return -np.mean(updates[-1000:], axis=0)

    np.testing.assert_allclose(shrinkage(DECOUPLED), RATE * DECAY, rtol=1e-2)
    small, large = shrinkage(L2)
    assert small == pytest.approx(RATE * DECAY, rel=2e-2)
    assert large == pytest.approx(RATE * DECAY / 100, rel=5e-2)


def test_for_plain_descent_l2_and_decoupled_decay_are_one():
    decay = adamx.add_decayed_weights(DECAY)
    p = jnp.array([1.0, -2.0])
    l2 = train(adamx.chain(decay, adamx.sgd(RATE)), p, jnp.cos, 20)
    decoupled = train(
        adamx.chain(adamx.identity(), decay, adamx.scale_by_learning_rate(RATE)),
        p,
        jnp.cos,
        20,
    )
    chex.assert_trees_all_equal(l2, decoupled)


def test_tiny_decay_is_not_lost():
    """RATE·DECAY = 1e-8 still decays; 1 - 1e-8 in float32 is 1."""
    tx = adamx.adamw(1e-4, weight_decay=1e-4)
    p = jnp.array([2.0])
    updates, _ = tx.update(jnp.zeros(1), tx.init(p), p)
    np.testing.assert_allclose(updates, [-2e-8], rtol=1e-6)


def test_decay_independent_of_the_learning_rate():
    """The paper's own rule, as the module of weight decay composes it."""
    tx = adamx.chain(
        adamx.scale_by_adam(),
        adamx.scale(RATE),
        adamx.add_decayed_weights(DECAY),
        adamx.scale_by_learning_rate(0.5),
    )
    p = jnp.array([2.0])
    updates, _ = tx.update(jnp.ones(1), tx.init(p), p)
    np.testing.assert_allclose(updates, [-0.5 * (RATE + DECAY * 2)], rtol=1e-6)
