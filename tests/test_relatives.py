"""What is particular to AdaMax, RAdam, AdaBelief, Yogi and NAdam."""

import decimal
import functools
import re
from decimal import Decimal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from jax import lax
from mistakes import rejected
from oracle import abs_sq, average, one_minus_power
from oracle.relatives import sma_length
from test_hyperparameters import end
from test_walkthrough import walk

import adamx

EPS = float(jnp.finfo(jnp.ones(()).dtype).eps)
BLOCKS = [
    adamx.scale_by_adamax,
    adamx.scale_by_radam,
    adamx.scale_by_belief,
    adamx.scale_by_yogi,
    adamx.scale_by_nadam,
]
blocks = pytest.mark.parametrize("make", BLOCKS, ids=lambda make: make.__name__)


def first(tx, g, count=0, **start):
    """The update by g at a count, of moments that are 0 or as given."""
    state = tx.init(g)._replace(count=jnp.asarray(count, jnp.int32), **start)
    return tx.update(g, state)[0]


# ---- first steps, bounds and limits


@pytest.mark.parametrize(
    ("tx", "steps"),
    [
        (adamx.adamax(1.0), [1, 1, 1]),
        (adamx.radam(1.0), [0.3, 0.3, 0.148]),
        (adamx.adabelief(1.0), [1.111, 1.168, 3.460]),
        (adamx.yogi(1.0), [0.9912, 0.9937, 0.9845]),
        (adamx.nadam(1.0, momentum_decay=4e-3), [1.0565, 0.7837, 0.9977]),
    ],
)
def test_step_sizes_on_a_constant_gradient(tx, steps):
    updates, _ = walk(tx, jnp.full((50,), 0.3))
    for i, size in zip([0, 1, 49], steps, strict=True):
        assert -updates[i] == pytest.approx(size, rel=3e-3 if size < 0.2 else 5e-4)


def test_adamax_attains_its_bound_and_stays_below():
    """|u| ≤ (1 - b1)(1 - (b1/b2)ᵗ) / ((1 - b1/b2)(1 - b1ᵗ)) ≤ 1.0091."""
    t = np.arange(1, 301)
    fade = 0.9 / 0.999
    bound = 0.1 * (1 - fade**t) / ((1 - fade) * (1 - 0.9**t))
    worst = jnp.asarray(0.999**t)
    noise = jnp.asarray(np.random.default_rng(0).normal(size=300))
    tx = adamx.scale_by_adamax(eps=0.0)
    np.testing.assert_allclose(walk(tx, worst)[0], bound, rtol=1e-5)
    assert np.all(np.abs(walk(tx, noise)[0]) <= bound * (1 + 1e-5))
    assert 1.009 < bound[-1] < 1.0091


def test_the_maximum_of_adamax_fades_at_the_rate_asked_for():
    """One gradient, then 10 000 zeros; a float32 0.999 would be 1.3e-4 off."""
    tx = adamx.scale_by_adamax(eps=0.0)
    _, state = walk(tx, jnp.zeros(10_001).at[0].set(1.0))
    assert float(state.nu) == pytest.approx(0.999**10_000, rel=1e-5)


def test_radam_starts_with_five_steps_of_momentum():
    """ρ is all but t in the first steps, of which the sixth is the first above 5."""
    lengths = [sma_length(0.999, t) for t in range(1, 7)]
    np.testing.assert_allclose(lengths, [1, 2, 3, 4, 5, 6], atol=6e-3)
    assert lengths[4] < 5 < lengths[5]
    grads = jnp.asarray(np.random.default_rng(0).normal(size=(7, 4)))
    plain, _ = walk(adamx.ema(0.9), grads)
    adam, _ = walk(adamx.scale_by_adam(), grads)
    rectified, _ = walk(adamx.scale_by_radam(), grads)
    np.testing.assert_allclose(rectified[:5], plain[:5], rtol=4 * EPS)
    for i in (5, 6):
        length, limit = sma_length(0.999, i + 1), 1999
        r = (length - 4) * (length - 2) * limit
        r = np.sqrt(r / ((limit - 4) * (limit - 2) * length))
        np.testing.assert_allclose(rectified[i], r * adam[i], rtol=1e-5)
    early, _ = walk(adamx.scale_by_radam(threshold=4.5), grads)
    assert not np.allclose(early[4], plain[4], rtol=0.1)


def test_radam_becomes_adam():
    tx, twin = adamx.scale_by_radam(), adamx.scale_by_adam()
    g, start = jnp.ones(3), {"mu": jnp.ones(3), "nu": jnp.ones(3)}
    got, want = (first(x, g, 10**6, **start) for x in (tx, twin))
    np.testing.assert_allclose(got, want, rtol=4 * EPS)


@pytest.mark.exhaustive
def test_radam_without_a_variance_is_momentum():
    """Where ρ∞ < 5, with its derivatives; Optax's r is the root of a negative then."""
    grads = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
    plain, _ = walk(adamx.ema(0.9), grads)

    def last(b2, g):
        updates, _ = walk(adamx.scale_by_radam(b2=b2), g)
        return jnp.sum(updates[-1]), updates

    slopes = jax.vmap(jax.grad(last, argnums=(0, 1), has_aux=True), (0, None))
    (by_b2, by_g), swept = jax.jit(slopes)(jnp.array([0.1, 0.5, 0.6, 0.61]), grads)
    for updates in (*swept, walk(adamx.scale_by_radam(b2=0.5), grads)[0]):
        np.testing.assert_allclose(updates, plain, rtol=4 * EPS, atol=EPS)
    np.testing.assert_array_equal(by_b2, 0)
    np.testing.assert_allclose(by_g[:, -1], 0.1 / (1 - 0.9**40), rtol=4 * EPS)


@pytest.mark.exhaustive
def test_a_sweep_of_radam_goes_across_the_threshold():
    g = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
    rates = jnp.array([0.5, 0.6, 0.9, 0.999], jnp.float32)

    def updates(b2):
        return walk(adamx.scale_by_radam(b2=b2), g)[0]

    swept = jax.vmap(updates)(rates)
    for b2, got in zip([0.5, 0.6, 0.9, 0.999], swept, strict=True):
        np.testing.assert_allclose(got, updates(b2), rtol=3e-5)


def test_adabelief_grows_up_to_the_bound_of_eps_root():
    """While g is constant: to g / √(eps_root / (1 - b2)) = 3.2e6·g."""
    tx = adamx.scale_by_belief()
    updates, _ = walk(tx, jnp.full((40_000,), 1e-3))
    assert float(updates[-1]) == pytest.approx(1e-3 / np.sqrt(1e-13), rel=1e-3)
    assert np.all(np.diff(np.asarray(updates)[::100]) >= 0)


def test_adabelief_counts_in_float16():
    """Optax's eps_root is 0 there, and its first step by a gradient of 0 is NaN."""
    g = jnp.array([0.0, 1e-3], jnp.float16)
    updates = first(adamx.scale_by_belief(), g)
    np.testing.assert_allclose(np.asarray(updates, float), [0, 1 / 0.9], rtol=1e-3)
    with jax.numpy_dtype_promotion("standard"):
        assert np.isnan(first(optax.scale_by_belief(), g)[0])


def test_yogi_forgets_by_the_size_of_gradients():
    """Adam's nu has halved after 700 small gradients, Yogi's is as large as before."""
    grads = jnp.concatenate([jnp.ones(200), jnp.full(700, 0.1)])
    _, state = walk(adamx.scale_by_yogi(), grads)
    _, adam = walk(adamx.scale_by_adam(), grads)
    assert float(state.nu) == pytest.approx(0.2 + 1e-6 - 700 * 1e-5, rel=1e-4)
    assert float(adam.nu) < 0.6 * 0.181


@pytest.mark.parametrize("b2", [0.0, 0.5, 0.999])
def test_the_second_moment_of_yogi_is_never_negative(b2):
    sizes = 10.0 ** np.random.default_rng(0).uniform(-8, 8, size=(500, 8))
    tx = adamx.scale_by_yogi(b2=b2)

    def step(state, g):
        _, state = tx.update(g, state)
        return state, state.nu

    nu = jax.jit(lambda g: lax.scan(step, tx.init(g[0]), g)[1])(jnp.asarray(sizes))
    assert np.min(nu) >= 0
    assert np.isfinite(nu).all()


def test_yogi_does_not_move_what_has_no_gradient():
    """Optax's does, since its mu starts at 1e-6; from a mu of 0 the two agree."""
    zeros = jnp.zeros(3)
    ours, twin = adamx.scale_by_yogi(), optax.scale_by_yogi()
    np.testing.assert_array_equal(first(ours, zeros), 0)
    grads = jnp.asarray(np.random.default_rng(0).normal(size=(30, 3)))
    with jax.numpy_dtype_promotion("standard"):
        assert np.all(first(twin, zeros) > 1e-5)
        state = twin.init(zeros)._replace(mu=zeros)
        step = jax.jit(twin.update)
        for g, want in zip(grads, walk(ours, grads)[0], strict=True):
            u, state = step(g, state)
            np.testing.assert_allclose(u, want, rtol=1e-4)


# ---- the scalars of a step, digit by digit


def digits(function):
    """Runs a function in decimal numbers of 60 digits."""

    @functools.wraps(function)
    def run(*args):
        with decimal.localcontext(prec=60):
            return float(function(*map(Decimal, args)))

    return run


@digits
def exact_radam(b2, t):
    """u of a gradient of 1 at step t, of moments that were 0, at b1 = 0."""
    c2, limit = 1 - b2**t, 2 / (1 - b2) - 1
    length = limit - 2 * t * b2**t / c2
    if length < 5:
        return 1
    r = (length - 4) * (length - 2) * limit
    r = r / ((limit - 4) * (limit - 2) * length)
    return (r * c2 / (1 - b2)).sqrt()


@pytest.mark.parametrize("b2", ["0.9", "0.999", "0.9999", "0.99999", "0.999999"])
def test_the_rectification_is_exact_at_any_count(b2):
    """ρ as printed is off in float32, where Optax has it, by more than ρ itself."""
    tx = adamx.scale_by_radam(b1=0.0, b2=float(b2), eps=0.0)
    update = jax.jit(functools.partial(first, tx, jnp.ones(())))
    for t in [1, 4, 5, 6, 7, 10, 50, 1000, 2000, 2001, 100_000, 10**6]:
        assert float(update(t - 1)) == pytest.approx(exact_radam(b2, t), rel=4 * EPS)


def test_the_first_rectified_step_of_optax_is_off():
    """In float32, as of today: 0.6 % at b2 = 0.999, 58 % at 0.9999."""
    g = jnp.ones((), jnp.float32)
    for b2, off in [(0.999, 5e-3), (0.9999, 0.5)]:
        twin = optax.scale_by_radam(b1=0.0, b2=b2, eps=0.0)
        with jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
            theirs = float(jax.jit(functools.partial(first, twin, g))(5))
        assert abs(theirs / exact_radam(b2, 6) - 1) > off


def exact_momenta(b1, decay, steps):
    """For t = 1 to `steps` the momentum that follows, and 1 minus each product."""
    with decimal.localcontext(prec=60):
        b1, x = Decimal(b1), (Decimal("0.96").ln() * Decimal(decay)).exp()
        momenta = [b1 * (1 - x**t / 2) for t in range(1, steps + 2)]
        product, weights = Decimal(1), []
        for m in momenta:
            product *= m
            weights.append(1 - product)
        return momenta, weights


@pytest.mark.parametrize("decay", ["0", "1e-6", "4e-3", "0.3", "20", "1e9"])
@pytest.mark.parametrize("b1", ["0.9", "0.999"])
def test_the_product_of_momenta_is_exact_at_any_count(b1, decay):
    tx = adamx.scale_by_nadam(b1=float(b1), eps=0.0, momentum_decay=float(decay))
    update = jax.jit(functools.partial(first, tx, jnp.ones(())))
    momenta, weights = exact_momenta(b1, decay, 1000)
    for t in [1, 2, 3, 10, 100, 1000]:
        with decimal.localcontext(prec=60):
            ahead = momenta[t] * (1 - Decimal(b1)) / weights[t]
            m = ahead + (1 - momenta[t - 1]) / weights[t - 1]
            c2, w2 = 1 - Decimal("0.999") ** t, Decimal("0.001")
            want = float(m * (c2 / w2).sqrt())
        assert float(update(t - 1)) == pytest.approx(want, rel=4 * EPS)


# ---- variants


def test_nadam_with_a_fast_rise_has_a_constant_momentum():
    grads = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
    want, constant = walk(adamx.nadam(0.1), grads)
    got, rising = walk(adamx.nadam(0.1, momentum_decay=1e9), grads)
    np.testing.assert_allclose(got, want, rtol=16 * EPS, atol=EPS)
    chex.assert_trees_all_equal(rising, constant)
    slow, _ = walk(adamx.nadam(0.1, momentum_decay=4e-3), grads)
    assert np.max(np.abs(slow - want)) > 0.1 * np.max(np.abs(want))


def test_nadam_without_a_rise_is_bit_for_bit_what_it_was():
    grads = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3)))
    for make, base in [(adamx.nadam, adamx.adam), (adamx.nadamw, adamx.adamw)]:
        want = walk(base(0.1, nesterov=True), grads)
        chex.assert_trees_all_equal(walk(make(0.1), grads), want)
        chex.assert_trees_all_equal(
            walk(make(0.1, nesterov=False), grads), walk(base(0.1), grads)
        )


def test_rows_of_variants_differ():
    """By more than rounding: eps counts where gradients are as small."""
    grads = 1e-8 * jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
    a, _ = walk(adamx.scale_by_radam(), grads)
    b, _ = walk(adamx.scale_by_radam(variant="torch"), grads)
    np.testing.assert_array_equal(a[:5], b[:5])
    assert np.all(np.abs(b[5:]) < 0.6 * np.abs(a[5:]))


# ---- mistakes that somebody has made


def moments(state, g):
    """The new moments of Adam."""
    mu = average(state.get("mu", 0.0), g, 0.9)
    return mu, average(state.get("nu", 0.0), abs_sq(g), 0.999)


def adamax_eps_in_the_denominator(state, g, p, t):
    mu, _ = moments(state, g)
    nu = np.maximum(0.999 * state.get("nu", 0.0), np.abs(g))
    return mu / one_minus_power(0.9, t) / (nu + 1e-8), {"mu": mu, "nu": nu}


def adamax_corrected_twice(state, g, p, t):
    u, new = oracle.scale_by_adamax(state, g, p, t)
    return u * one_minus_power(0.999, t), new


def adamax_not_corrected(state, g, p, t):
    u, new = oracle.scale_by_adamax(state, g, p, t)
    return u * one_minus_power(0.9, t), new


def adamax_of_an_average(state, g, p, t):
    mu, _ = moments(state, g)
    nu = average(state.get("nu", 0.0), np.abs(g), 0.999)
    return mu / one_minus_power(0.9, t) / (nu + 1e-8), {"mu": mu, "nu": nu}


def radam_length_in_float32(state, g, p, t):
    one, b2 = np.float32(1), np.float32(0.999)
    power = b2 ** np.float32(t)
    limit = np.float32(1999)
    length = limit - np.float32(2 * t) * power / (one - power)
    u, new = oracle.scale_by_radam(state, g, p, t)
    true = sma_length(0.999, t)
    if true < 5:
        return u, new
    size, true_size = ((x - 4) * (x - 2) / x for x in (float(length), true))
    return u * np.sqrt(size / true_size), new


def radam_never_rectified(state, g, p, t):
    return oracle.scale_by_adam(state, g, p, t)


def radam_skips_its_first_steps(state, g, p, t):
    u, new = oracle.scale_by_radam(state, g, p, t)
    return (u if t > 5 else 0 * u), new


def radam_with_a_threshold_of_4(state, g, p, t):
    return oracle.scale_by_radam(state, g, p, t, threshold=4.0)


def radam_with_the_eps_of_torch(state, g, p, t):
    return oracle.scale_by_radam(state, g, p, t, variant="torch")


def radam_not_normalized_late(state, g, p, t):
    u, new = oracle.scale_by_radam(state, g, p, t, threshold=50.0)
    return u, new


def belief_in_the_old_mean(state, g, p, t):
    mu, _ = moments(state, g)
    gap = g - state.get("mu", 0.0)
    nu = average(state.get("nu", 0.0), abs_sq(gap), 0.999) + 1e-16
    root = np.sqrt(nu / one_minus_power(0.999, t)) + 1e-16
    return mu / one_minus_power(0.9, t) / root, {"mu": mu, "nu": nu}


def belief_without_eps_root(state, g, p, t):
    return oracle.scale_by_belief(state, g, p, t, eps_root=0.0)


def belief_adds_eps_root_once(state, g, p, t):
    mu, _ = moments(state, g)
    nu = average(state.get("nu", 0.0), abs_sq(g - mu), 0.999)
    root = np.sqrt(nu / one_minus_power(0.999, t) + 1e-16) + 1e-16
    return mu / one_minus_power(0.9, t) / root, {"mu": mu, "nu": nu}


def belief_rectified(state, g, p, t):
    u, new = oracle.scale_by_belief(state, g, p, t)
    unit = np.ones_like(g)
    return u * oracle.scale_by_radam({}, unit, p, t)[0], new


def yogi_mu_starts_like_nu(state, g, p, t):
    return oracle.scale_by_yogi({"mu": 1e-6} | state, g, p, t)


def yogi_nu_starts_at_0(state, g, p, t):
    return oracle.scale_by_yogi(state, g, p, t, initial_accumulator_value=0.0)


def yogi_as_adam(state, g, p, t):
    return oracle.scale_by_adam({"nu": 1e-6} | state, g, p, t, eps=1e-3)


def yogi_sign(state, g, p, t):
    mu, _ = moments(state, g)
    nu = state.get("nu", 1e-6)
    nu = nu + 1e-3 * np.sign(nu - abs_sq(g)) * abs_sq(g)
    root = np.sqrt(nu / one_minus_power(0.999, t)) + 1e-3
    return mu / one_minus_power(0.9, t) / root, {"mu": mu, "nu": nu}


def yogi_not_corrected(state, g, p, t):
    _, new = oracle.scale_by_yogi(state, g, p, t)
    return new["mu"] / (np.sqrt(new["nu"]) + 1e-3), new


def nadam_with_a_constant_momentum(state, g, p, t):
    return oracle.scale_by_adam(state, g, p, t, nesterov=True)


def nadam_as_in_keras(state, g, p, t):
    return oracle.scale_by_nadam(state, g, p, t, momentum_decay=1.0)


def nadam_with_a_power_for_the_product(state, g, p, t):
    mu, nu = moments(state, g)
    now, following = (oracle.momentum(0.9, 4e-3, s) for s in (t, t + 1))
    m = following * mu / (1 - following ** (t + 1)) + (1 - now) * g / (1 - now**t)
    root = np.sqrt(nu / one_minus_power(0.999, t)) + 1e-8
    return m / root, {"mu": mu, "nu": nu}


def nadam_of_a_mean_with_rising_momentum(state, g, p, t):
    now = oracle.momentum(0.9, 4e-3, t)
    mu = now * state.get("mu", 0.0) + (1 - now) * g
    old = (mu - 0.1 * g) / 0.9
    u, new = oracle.scale_by_nadam(state | {"mu": old}, g, p, t)
    return u, new


def nadam_not_corrected_for_the_next_step(state, g, p, t):
    mu, nu = moments(state, g)
    m = (0.9 * mu + 0.1 * g) / one_minus_power(0.9, t)
    root = np.sqrt(nu / one_minus_power(0.999, t)) + 1e-8
    return m / root, {"mu": mu, "nu": nu}


BUGS = {
    "scale_by_adamax": [
        adamax_eps_in_the_denominator,
        adamax_corrected_twice,
        adamax_not_corrected,
        adamax_of_an_average,
    ],
    "scale_by_radam": [
        radam_length_in_float32,
        radam_never_rectified,
        radam_skips_its_first_steps,
        radam_with_a_threshold_of_4,
        radam_with_the_eps_of_torch,
        radam_not_normalized_late,
    ],
    "scale_by_belief": [
        belief_in_the_old_mean,
        belief_without_eps_root,
        belief_adds_eps_root_once,
        belief_rectified,
    ],
    "scale_by_yogi": [
        yogi_mu_starts_like_nu,
        yogi_nu_starts_at_0,
        yogi_as_adam,
        yogi_sign,
        yogi_not_corrected,
    ],
    "scale_by_nadam": [
        nadam_with_a_constant_momentum,
        nadam_as_in_keras,
        nadam_with_a_power_for_the_product,
        nadam_of_a_mean_with_rising_momentum,
        nadam_not_corrected_for_the_next_step,
    ],
}


@pytest.mark.parametrize(
    ("name", "bug"),
    [(name, bug) for name, bugs in BUGS.items() for bug in bugs],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_planted_bug_is_rejected(name, bug):
    with np.errstate(all="ignore"):
        assert rejected(name, bug)


# ---- hyperparameters, dtypes, messages


@pytest.mark.parametrize(
    ("value", "make"),
    [
        (0.99, lambda x: adamx.adamax(0.1, b2=x)),
        (0.9, lambda x: adamx.radam(0.1, b2=x)),
        (1e-2, lambda x: adamx.adabelief(0.1, eps_root=x)),
        (0.99, lambda x: adamx.yogi(0.1, b2=x)),
        (1e-3, lambda x: adamx.yogi(0.1, initial_accumulator_value=x)),
        (0.5, lambda x: adamx.nadam(0.1, momentum_decay=x)),
        (0.9, lambda x: adamx.nadam(0.1, b1=x, momentum_decay=0.0)),
    ],
    ids=["adamax", "radam", "adabelief", "yogi", "yogi-start", "nadam", "nadam-b1"],
)
@pytest.mark.exhaustive
def test_derivatives_and_sweeps(value, make):
    with jax.enable_x64(True):
        exact = functools.partial(end, make, jnp.float64)
        slope = float(exact(value + 1e-6) - exact(value - 1e-6)) / 2e-6
    f = functools.partial(end, make, jnp.float32)
    assert jax.grad(f)(value) == pytest.approx(slope, rel=2e-3, abs=1e-5)
    values = np.array([0.9, 1.0]) * value
    together = jax.vmap(f)(jnp.asarray(values, jnp.float32))
    np.testing.assert_allclose(together, [f(v) for v in values], rtol=1e-4)


@pytest.mark.parametrize("option", ["mu_dtype", "nu_dtype"])
@pytest.mark.parametrize(
    "make",
    [
        adamx.adamax,
        adamx.adamaxw,
        adamx.radam,
        adamx.adabelief,
        adamx.yogi,
        functools.partial(adamx.nadam, momentum_decay=4e-3),
        functools.partial(adamx.nadamw, momentum_decay=4e-3),
    ],
)
def test_moments_are_kept_in_the_dtype_asked_for(make, option):
    params = jnp.ones(3, jnp.float32)
    tx = make(0.1, **{option: jnp.bfloat16})
    for state in (tx.init(params), tx.update(params, tx.init(params), params)[1]):
        dtypes = {"mu_dtype": state[0].mu.dtype, "nu_dtype": state[0].nu.dtype}
        assert dtypes.pop(option) == jnp.bfloat16
        assert set(dtypes.values()) == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("eps", [0.0, 1e-37, 1e-45])
@blocks
def test_zero_gradients_give_zero_steps_for_every_eps(make, eps):
    extra = {"eps_root": 0.0} if make is adamx.scale_by_belief else {}
    if make is adamx.scale_by_yogi:
        extra = {"initial_accumulator_value": 0.0}
    tx = make(eps=eps, **extra)
    for count in (0, 100):
        np.testing.assert_array_equal(first(tx, jnp.zeros(2), count), 0)


RANGES = {
    "b1": "[0, 1)",
    "b2": "[0, 1)",
    "eps": "[0, inf)",
    "eps_root": "[0, inf)",
    "threshold": "[4, inf)",
    "initial_accumulator_value": "[0, inf)",
    "momentum_decay": "[0, inf)",
}


@blocks
def test_a_number_out_of_its_range(make):
    names = [name for name in RANGES if name in make.__kwdefaults__ | defaults(make)]
    assert len(names) >= 3
    for name in names:
        text = f"{make.__name__}: expected {name} in {RANGES[name]}, got -0.5."
        with pytest.raises(ValueError, match="^" + re.escape(text)):
            make(**{name: -0.5})


def defaults(make):
    """The names of the positional parameters."""
    return dict.fromkeys(make.__code__.co_varnames[: make.__code__.co_argcount])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: adamx.radam(0.1, variant="paper"),
            "scale_by_radam: expected variant in ('optax', 'torch'), got 'paper'.",
        ),
        (
            lambda: adamx.radam(0.1, mask={"w": True}),
            "radam: expected no mask without weight_decay; give weight_decay too.",
        ),
        (
            lambda: adamx.adabelief(0.1, mask={"w": True}),
            "adabelief: expected no mask without weight_decay; give weight_decay too.",
        ),
        (
            lambda: adamx.yogi(0.1, mask={"w": True}),
            "yogi: expected no mask without weight_decay; give weight_decay too.",
        ),
        (
            lambda: adamx.nadam(0.1, nesterov=False, momentum_decay=4e-3),
            "nadam: expected no momentum_decay with nesterov=False, got 0.004; leave "
            "it out.",
        ),
        (
            lambda: adamx.nadamw(0.1, nesterov=False, momentum_decay=4e-3),
            "nadamw: expected no momentum_decay with nesterov=False, got 0.004; leave "
            "it out.",
        ),
    ],
)
def test_wrong_values_at_construction(make, text):
    with pytest.raises(ValueError, match="^" + re.escape(text) + "$"):
        make()


@blocks
def test_states_of_another_transformation(make):
    params = {"w": jnp.ones(2)}
    text = f"{make.__name__}: expected a ScaleBy"
    with pytest.raises(ValueError, match=text):
        make().update(params, adamx.trace(0.9).init(params), params)
