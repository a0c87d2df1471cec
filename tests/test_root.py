"""Adam with a root for its second moment: no scale, no lost square."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from cases import find
from compare import actual, faults
from jax import lax
from mistakes import rejected
from oracle import abs_sq, average, one_minus_power
from streams import sample

import adamx
from adamx._numerics import power_of_two
from adamx._optimizers import adam_root

X64 = jax.config.jax_enable_x64
GRADS = np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32)
# From 1.5e-33 to 6.6e35; beyond these some mu_hat is no normal number, or |g| is cut.
POWERS = (-109, -70, -1, 30, 119)


def runner(tx):
    """A compiled function from gradients to all updates and the last state."""

    @jax.jit
    def run(grads):
        def step(state, g):
            updates, state = tx.update(g, state)
            return state, updates

        state, updates = lax.scan(step, tx.init(grads[0]), grads)
        return updates, state

    return run


def is_invariant(tx):
    """Whether updates are the same bits for gradients of any size, and states scale."""
    run = runner(tx)
    want, state = run(GRADS)
    for k in POWERS:
        scale = np.float32(2.0) ** k
        got, scaled = run(GRADS * scale)
        same = np.array_equal(got, want)
        for x, y in zip(scaled[1:], state[1:], strict=True):
            same = same and np.array_equal(x, y * scale)
        if not same:
            return False
    return bool(jnp.isfinite(want).all())


def test_updates_do_not_depend_on_the_size_of_gradients():
    assert is_invariant(adamx.scale_by_adam_root())


def test_adam_itself_depends_on_it():
    assert not is_invariant(adamx.scale_by_adam(eps=0.0))


def test_without_a_scale_they_do(monkeypatch):
    monkeypatch.setattr(adam_root, "power_of_two", lambda x: [jnp.ones_like(x)] * 2)
    assert not is_invariant(adamx.scale_by_adam_root())


def test_it_is_adam_where_no_square_is_lost():
    """Updates to 3e-6 of their largest, and its moments before their correction."""
    ours, state = runner(adamx.scale_by_adam_root(eps=1e-3))(GRADS)
    theirs, raw = runner(adamx.scale_by_adam(eps=1e-3))(GRADS)
    np.testing.assert_allclose(ours, theirs, atol=3e-6)
    c1, c2 = one_minus_power(0.9, len(GRADS)), one_minus_power(0.999, len(GRADS))
    mu_hat, nu_root = (np.asarray(x, np.float64) for x in state[1:])
    np.testing.assert_allclose(mu_hat * c1, raw.mu, atol=1e-6)
    np.testing.assert_allclose(nu_root**2 * c2, raw.nu, rtol=1e-5)


def keeps_signs(tx):
    """Whether a constant gradient gives exactly its sign at every step."""
    g = np.array([3e-38, -1e-20, 0.3, -7.7, 1e20, -1.6e38], np.float32)
    updates, _ = runner(tx)(np.tile(g, (1000, 1)))
    return np.array_equal(updates, np.tile(np.sign(g), (1000, 1)))


def test_a_constant_gradient_gives_its_sign_at_every_step():
    assert keeps_signs(adamx.scale_by_adam_root())


def test_with_a_scale_that_rounds_it_does_not(monkeypatch):
    monkeypatch.setattr(adam_root, "power_of_two", lambda x: (1 / x, x))
    assert not keeps_signs(adamx.scale_by_adam_root())


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_it_is_right_from_one_end_of_the_range_to_the_other(dtype):
    """Sizes that change by up to 70 decades from step to step, against the oracle."""

    def draw(rng, shape):
        return 10.0 ** rng.uniform(-36, 36, size=shape) * rng.choice([-1, 1], shape)

    case = find("scale_by_adam_root")
    params = {"w": np.zeros(23, dtype)}
    grads = sample(5, {"w": (100, 23)}, dtype, draw)
    assert faults(case, actual(case, params, grads), case.step, params, grads) == []


@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_zero_gradients_give_zero_updates(eps):
    zeros = np.zeros((3, 2), np.float32)
    updates, state = runner(adamx.scale_by_adam_root(eps=eps))(zeros)
    chex.assert_trees_all_equal((updates, *state[1:]), (zeros, zeros[0], zeros[0]))


def test_a_spike_is_forgotten():
    """√0.9 a step. Squared it would be infinite, and a mean of that for ever."""
    grads = np.full((2000, 1), -1.0, np.float32)
    grads[10] = 3e38

    def last(library, name):
        tx = getattr(library, name)(b1=0.5, b2=0.9, eps=0.0)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = runner(tx)(grads)
        return float(updates[-1, 0]), float(jax.tree.leaves(state)[-1][0])

    u, nu_root = last(adamx, "scale_by_adam_root")
    assert u == pytest.approx(-1.0, rel=1e-6)
    assert nu_root == pytest.approx(1.0, rel=1e-6)
    assert last(optax, "scale_by_adam") == (0.0, np.inf)


def test_the_largest_numbers_stay_finite():
    """Differences overflow from 1.7e38 on, where gradients are cut."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(50, 7))
    largest = (signs * float(np.finfo(np.float32).max)).astype(np.float32)
    updates, state = runner(adamx.scale_by_adam_root())(largest)
    chex.assert_tree_all_finite((updates, state))
    np.testing.assert_array_equal(updates[0], signs[0])
    np.testing.assert_allclose(np.abs(state.nu_root), 1.7014118e38, rtol=1e-6)
    both = jax.lax.complex(largest, -largest)
    updates, state = runner(adamx.scale_by_adam_root())(both)
    chex.assert_tree_all_finite((updates, state))
    np.testing.assert_allclose(np.abs(updates[0]), 1.0, rtol=1e-6)


def test_where_the_mean_outlives_the_root_steps_stay_finite():
    """b1² > b2: Adam's ratio doubles with each gradient of 0."""
    grads = np.zeros((400, 1), np.float32)
    grads[0] = 1e10
    updates, state = runner(adamx.scale_by_adam_root(b1=0.99, b2=0.2))(grads)
    chex.assert_tree_all_finite((updates, state))
    np.testing.assert_allclose(updates[1, 0], 0.99 / (1 + 0.99) * 6**0.5, rtol=1e-6)
    assert 1e18 < updates.max() <= 2.0**64


def test_the_scale_is_exact():
    dtypes = [np.float32, np.float64] if X64 else [np.float32]
    for dtype in dtypes:
        info = np.finfo(dtype)
        x = np.array([info.tiny, 1e-30, 0.1, 1, 1.999, 2, 3e37, info.max / 2.1], dtype)
        one, unit = map(np.asarray, power_of_two(jnp.asarray(x)))
        np.testing.assert_array_equal(np.frexp(x * one)[1], 1)
        np.testing.assert_array_equal(x * one * unit, x)
        np.testing.assert_array_equal(np.frexp(unit)[0], 0.5)
        ends = np.array([0, info.smallest_subnormal, info.max], dtype)
        one, unit = map(np.asarray, power_of_two(jnp.asarray(ends)))
        np.testing.assert_array_equal(one[:2], 1)
        np.testing.assert_array_equal(one * unit, 1)
        assert one[2] == info.tiny
        assert 2 <= info.max * one[2] < 4


# ---- derivatives


SIZES = jnp.asarray([0, 1e-45, 1e-37, 1e-22, 1e-8, 1, 1e8, 1e22, 3e38], jnp.float32)


@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_derivatives_are_finite_from_zero_to_the_largest_number(eps):
    """u = g / (|g| + eps): the slope at 0 is 1 / eps, and for eps = 0 said to be 0."""
    tx = adamx.scale_by_adam_root(eps=eps)
    state, ones = tx.init(SIZES), jnp.ones_like(SIZES)

    def first(g):
        return tx.update(g, state)[0]

    def forward(g):
        return jax.jvp(first, (g,), (ones,))[1]

    @jax.jit
    def slopes(g):
        backward = jax.vjp(first, g)[1](ones)[0]
        return forward(g), backward, jax.jvp(forward, (g,), (ones,))[1]

    forth, back, second = slopes(SIZES)
    x = np.asarray(SIZES, np.float64)
    x = np.where(x < np.finfo(np.float32).tiny, 0, x)
    want = eps / np.where(x + eps > 0, x + eps, 1) ** 2
    for got in (np.asarray(forth), np.asarray(back)):
        rounded = np.where(x > 0, 1e-6 / np.where(x > 0, x, 1), 0)
        assert np.all(np.abs(got - want) <= 1e-6 * want + rounded)
    assert np.isfinite(second[jnp.asarray([0, 1, 4, 5, 6, 7, 8])]).all()
    assert second[0] == 0


def test_derivatives_are_those_of_adam():
    """Of a sum over 20 steps, in all gradients; at 1e-30, where Adam has none, too."""
    weights = np.random.default_rng(1).normal(size=(20, 40)).astype(np.float32)

    def slopes(tx):
        run = runner(tx)
        return jax.jit(jax.grad(lambda g: jnp.sum(weights * run(g)[0])))

    grads = GRADS[:20]
    want = slopes(adamx.scale_by_adam(eps=0.0))(grads)
    scale, root = float(jnp.abs(want).max()), slopes(adamx.scale_by_adam_root())
    for k in (0, -100):
        got = np.asarray(root(grads * np.float32(2.0) ** k), np.float64) * 2.0**k
        np.testing.assert_allclose(got, want, atol=1e-5 * scale)


# ---- storage


@pytest.mark.parametrize(
    ("rounding", "low", "high"), [(None, 0.995, 1.005), ("nearest", 3.0, 4.0)]
)
def test_a_root_in_bfloat16_follows_if_rounded_stochastically(rounding, low, high):
    """2000 gradients of size 1, then 3000 of 0.3; to the nearest the root stays."""
    sizes = np.repeat(np.float32([1.0, 0.3]), [2000, 3000])[:, None]
    noise = np.random.default_rng(0).normal(size=(5000, 64)).astype(np.float32)
    storage = adamx.Storage(jnp.bfloat16, rounding)

    def mean_root(dtype):
        _, state = runner(adamx.scale_by_adam_root(nu_dtype=dtype))(noise * sizes)
        return float(np.mean(np.asarray(state.nu_root, np.float64)))

    assert low < mean_root(storage) / mean_root(None) < high


# ---- mistakes


def step(state, g, p, t, shift=0, order=2.0, b1=0.9, b2=0.999):
    """The oracle, to make mistakes in."""
    means = state.get("means", {"mu": 0.0, "nu": 0.0})
    size = abs_sq(g) ** (order / 2)
    mu, nu = average(means["mu"], g, b1), average(means["nu"], size, b2)
    mu_hat = mu / one_minus_power(b1, t)
    nu_root = (nu / one_minus_power(b2, t + shift)) ** (1 / order)
    u = np.where(nu_root > 0, mu_hat / np.where(nu_root > 0, nu_root, 1), 0)
    return u, {"means": {"mu": mu, "nu": nu}, "mu_hat": mu_hat, "nu_root": nu_root}


def mean_of_sizes(state, g, p, t):
    return step(state, g, p, t, order=1.0)


def correction_of_the_next_step(state, g, p, t):
    return step(state, g, p, t, shift=1)


def decays_swapped(state, g, p, t):
    return step(state, g, p, t, b1=0.999, b2=0.9)


def with_eps(state, g, p, t):
    return oracle.scale_by_adam_root(state, g, p, t, eps=1e-8)


@pytest.mark.parametrize(
    "bug",
    [mean_of_sizes, correction_of_the_next_step, decays_swapped, with_eps],
)
def test_wrong_formulas_are_rejected(bug):
    assert not rejected("scale_by_adam_root", step)
    assert rejected("scale_by_adam_root", bug)
