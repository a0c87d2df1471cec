"""Training is differentiated: through every optimizer, in all numbers that it has.

The problem has a unit that is never active, and parameters that nothing depends on:
there gradients are exactly 0, where the derivative of √g² is infinite.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES, USUAL, find
from jax import lax

import adamx

RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 2))
START = {
    "w": RNG.normal(size=(4, 3)),
    "b": np.array([0.1, 0.2, -50.0]),
    "v": RNG.normal(size=(3, 2)),
    "alone": RNG.normal(size=3),
}
DIRECTION = jax.tree.map(lambda x: RNG.normal(size=x.shape), START)
DEAD = {"w": np.s_[:, 2], "b": np.s_[2], "v": np.s_[2], "alone": np.s_[:]}


def loss(params):
    """Of a network with three hidden units."""
    inputs, targets = (jnp.asarray(x, params["w"].dtype) for x in (INPUTS, TARGETS))
    hidden = jax.nn.relu(inputs @ params["w"] + params["b"][None])
    return jnp.mean((hidden @ params["v"] - targets) ** 2)


def train(tx, params, steps):
    """The parameters after some steps."""

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    return lax.scan(step, (params, tx.init(params)), length=steps)[0][0]


def start(dtype, way=0.0):
    """The first parameters, and some way in a direction from there."""
    return jax.tree.map(
        lambda x, y: jnp.asarray(x, dtype) + way * jnp.asarray(y, dtype),
        START,
        DIRECTION,
    )


def result(params):
    """The loss, and a number that depends on the other parameters, too."""
    return loss(params) + sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(params))


def numbers(case):
    """The numbers that a factory takes."""
    found = {}
    for name, parameter in inspect.signature(
        getattr(adamx, case.name)
    ).parameters.items():
        value = case.kwargs.get(name, parameter.default)
        if name == "learning_rate" and callable(value):
            value = 0.01
        if isinstance(value, float) and value != 0:
            found[name] = value
    return found


def outcome(case, steps, dtype, changes):
    """The result where numbers are changed by factors 1 + x, and the start by x."""
    *factors, way = changes
    knobs = {
        name: jnp.asarray(value, dtype) * (1 + x)
        for (name, value), x in zip(numbers(case).items(), factors, strict=True)
    }
    return result(train(case.make(**knobs), start(dtype, way), steps))


def unchanged(case, dtype):
    """No change of any number, nor of the start."""
    return jnp.zeros(len(numbers(case)) + 1, dtype)


OPTIMIZERS = {
    case.name: case
    for case in reversed(CASES)
    if "learning_rate" in inspect.signature(getattr(adamx, case.name)).parameters
    and not case.name.startswith("scale_by")
}
optimizers = pytest.mark.parametrize(
    "name",
    [
        name if name in USUAL else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in OPTIMIZERS
    ],
)
LONG = ["adam", "adamw", "sgd-momentum", "rmsprop", "amsgrad", "lion"]
long = pytest.mark.parametrize(
    "name",
    [LONG[0], *(pytest.param(n, marks=pytest.mark.exhaustive) for n in LONG[1:])],
)


def assert_right(case, steps):
    """In float64 derivatives are differences, backward and forward; gives them."""
    with jax.enable_x64(True):
        f = functools.partial(outcome, case, steps, jnp.float64)
        at, h = unchanged(case, jnp.float64), 1e-6
        around = h * jnp.eye(len(at))
        way = jnp.linspace(0.5, 1.5, len(at))

        @jax.jit
        def exact():
            values = jax.vmap(f)(jnp.concatenate([around, -around])).reshape(2, -1)
            along = jax.jvp(f, (at,), (way,))[1]
            return (values[0] - values[1]) / (2 * h), jax.grad(f)(at), along

        differences, slopes, along = map(np.asarray, exact())
        np.testing.assert_allclose(along, slopes @ way, rtol=1e-9)
    np.testing.assert_allclose(slopes, differences, rtol=1e-5, atol=1e-7)
    return slopes


def assert_as_in_float64(case, steps, slopes):
    """Derivatives in float32 are close to those given."""
    f = functools.partial(outcome, case, steps, jnp.float32)
    found = jax.jit(jax.grad(f))(unchanged(case, jnp.float32))
    # What comes in by 1 - b has the rounding of b.
    largest = np.abs(slopes).max()
    np.testing.assert_allclose(found, slopes, rtol=1e-3, atol=1e-4 * largest)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_derivatives_are_right_in_all_numbers(name):
    assert_right(OPTIMIZERS[name], 6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_derivatives_are_right_in_all_numbers_of_all(name):
    slopes = assert_right(OPTIMIZERS[name], 6)
    assert_as_in_float64(OPTIMIZERS[name], 6, slopes)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LONG)
def test_derivatives_are_right_through_100_steps(name):
    slopes = assert_right(find(name), 100)
    assert_as_in_float64(find(name), 100, slopes)
    slopes = dict(zip([*numbers(find(name)), "start"], slopes, strict=True))
    if name == "lion":  # a sign does not change; what it is multiplied by does
        assert slopes["b1"] == slopes["b2"] == 0
    for known in {"learning_rate", "weight_decay", "momentum", "decay"} & set(slopes):
        assert slopes[known] != 0


@long
def test_the_run_that_is_differentiated_is_the_run(name):
    """To the bit, backward and forward; no derivative is lost at gradients of 0."""
    case, params = find(name), start(jnp.float32)

    def run(rate, params):
        params = train(case.make(learning_rate=rate), params, 100)
        return result(params), params

    rate = jnp.asarray(0.01, jnp.float32)
    ends = [jax.jit(run)(rate, params)[1]]
    backward = jax.value_and_grad(run, argnums=(0, 1), has_aux=True)
    (_, end), (of_rate, of_params) = jax.jit(backward)(rate, params)
    ends.append(end)
    ones = jax.tree.map(jnp.ones_like, params)
    (_, end), (along, _) = jax.jit(lambda *x: jax.jvp(run, x, (rate * 0, ones)))(
        rate, params
    )
    ends.append(end)
    for other in ends[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, ends[0])
    assert np.isfinite(of_rate)
    total = sum(jnp.sum(x) for x in jax.tree.leaves(of_params))
    np.testing.assert_allclose(along, total, rtol=1e-3)
    for key, dead in DEAD.items():
        decay = (1 - 0.01 * case.kwargs.get("weight_decay", 0.0)) ** 100
        want = decay * np.cos(ends[0][key][dead])
        np.testing.assert_allclose(of_params[key][dead], want, rtol=1e-5)


# ---- at one gradient, of any size

SIZES = np.float32([0, 1e-45, 1e-37, 1e-30, 1e-22, 1e-18, 1e-8, 1, 1e12, 1e22, 3e38])


def slopes(tx, grads, params):
    """The derivative of the first update: forward, backward, and the second one."""
    state = tx.init(params)
    ones = jnp.ones_like(grads)

    def first(grads):
        return tx.update(grads, state, params)[0]

    def forward(grads):
        return jax.jvp(first, (grads,), (ones,))[1]

    @jax.jit
    def all_of(grads):
        backward = jax.vjp(first, grads)[1](ones)[0]
        return forward(grads), backward, jax.jvp(forward, (grads,), (ones,))[1]

    return all_of(grads)


@pytest.mark.parametrize("eps", [1e-8, 1e-30, 0.5])
def test_adam_is_a_line_of_slope_one_over_eps_at_zero(eps):
    """u = g / (|g| + eps), whose slope is eps / (|g| + eps)², to float32's digits of u.

    Where the mean of squares vanishes, from 3e-18 down, and where squares are cut, from
    2e19 on, the root is what the bound leaves, |g|, of which nothing is learned.
    """
    tx = adamx.scale_by_adam(eps=eps)
    forward, backward, second = slopes(tx, SIZES, SIZES)
    x = SIZES.astype(np.float64)
    want = eps / (x + eps) ** 2
    lost = (x < 3e-18) | (x > 2e19)
    want[lost] = 1 / (x[lost] + eps)
    rounded = 1e-6 / np.where(x > 0, x, np.inf)
    for got in (np.asarray(forward), np.asarray(backward)):
        assert np.all(np.abs(got - want) <= 2e-6 * want + rounded + 1e-38)
    assert np.isfinite(second).all()
    np.testing.assert_array_equal(second[:5], 0)


def test_without_eps_the_slope_at_zero_is_said_to_be_zero():
    """There is none: u is the sign of g."""
    for tx in (adamx.scale_by_adam(eps=0.0), adamx.scale_by_rss(0.0, eps=0.0)):
        for slope in slopes(tx, np.float32([0, 1e-8]), np.zeros(2, np.float32))[:2]:
            np.testing.assert_allclose(slope, 0, atol=1e-6 / 1e-8)
            assert slope[0] == 0


@optimizers
def test_derivatives_at_a_zero_gradient_are_finite_twice(name):
    zeros, params = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    for slope in slopes(OPTIMIZERS[name].tx, zeros, params):
        assert np.isfinite(slope).all()


@optimizers
def test_derivatives_are_finite_at_gradients_of_any_size(name):
    case = OPTIMIZERS[name]
    for size in (1e-37, 1e-22, 1e-8, 1.0, 1e12, 1e25):
        grads = np.float32(size) * np.ones((2, 3), np.float32)
        forward, backward, _ = slopes(case.tx, grads, np.ones_like(grads))
        assert np.isfinite(forward).all(), size
        assert np.isfinite(backward).all(), size


@pytest.mark.exhaustive
def test_optax_has_no_derivative_at_a_zero_gradient():
    """That of one dead unit reaches through the loss all parameters that are alive."""

    def of_params(library):
        tx = library.adam(jnp.asarray(0.01, jnp.float32))

        def end(params):
            return result(train(tx, params, 3))

        with jax.numpy_dtype_promotion("standard"):
            return jax.jit(jax.grad(end))(start(jnp.float32))

    theirs, ours = of_params(optax), of_params(adamx)
    assert np.isnan(theirs["w"][:, :2]).all()
    for slope in jax.tree.leaves(ours):
        assert np.isfinite(slope).all()


# ---- second derivatives, storage, use


def backward_twice(slope, rate):
    """The second derivative from the first."""
    return jax.grad(slope)(rate)


def backward_then_forward(slope, rate):
    """The same, as in a product of the Hessian with a vector."""
    return jax.jvp(slope, (rate,), (jnp.ones_like(rate),))[1]


@pytest.mark.parametrize(
    "order",
    [backward_then_forward, pytest.param(backward_twice, marks=pytest.mark.exhaustive)],
)
def test_second_derivatives_are_right(order):
    """Of the result in the learning rate, through ten steps."""
    with jax.enable_x64(True):
        slope = jax.grad(
            lambda rate: result(train(adamx.adam(rate), start(jnp.float64), 10))
        )
        rate, h = jnp.asarray(0.01), 1e-6

        @jax.jit
        def seconds(rate):
            slopes = jax.vmap(slope)(jnp.stack([rate + h, rate - h]))
            return (slopes[0] - slopes[1]) / (2 * h), order(slope, rate)

        difference, second = map(float, seconds(rate))
    np.testing.assert_allclose(second, difference, rtol=1e-6)
    assert abs(difference) > 1


def test_rounding_is_straight_through():
    """Moments in bfloat16, of which one is rounded at random, have the derivative."""

    def slope(**dtypes):
        def f(rate):
            tx = adamx.adam(rate, **dtypes)
            return result(train(tx, start(jnp.float32), 6))

        return float(jax.jit(jax.grad(f))(jnp.asarray(0.01, jnp.float32)))

    exact, rounded = slope(), slope(mu_dtype=jnp.bfloat16, nu_dtype=jnp.bfloat16)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.01)


def test_a_learning_rate_is_learned():
    """For ten steps of Adam, by Adam on its logarithm; the loss falls to a third."""
    outer = adamx.adam(0.3)

    def after(log_rate):
        return loss(train(adamx.adam(jnp.exp(log_rate)), start(jnp.float32), 10))

    @jax.jit
    def learn(log_rate):
        def step(carry, _):
            log_rate, state = carry
            value, grad = jax.value_and_grad(after)(log_rate)
            update, state = outer.update(grad, state)
            return (log_rate + update, state), value

        return lax.scan(step, (log_rate, outer.init(log_rate)), length=20)

    (log_rate, _), values = learn(jnp.log(jnp.asarray(1e-3, jnp.float32)))
    assert values[-1] < values[0] / 3
    assert 1e-2 < np.exp(log_rate) < 1
