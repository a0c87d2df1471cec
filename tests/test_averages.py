"""Averages of parameters: what lands is what counts, and `eval_params` finds it."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from cases import find
from flax import nnx
from flax.training.train_state import TrainState
from mistakes import rejected
from oracle.scalars import complement, one_minus_power
from streams import make_params

import adamx

PARAMS = {"w": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}


def train(tx, params=PARAMS, steps=6, grad=lambda p: p, jit=False):
    """Parameters after each step, and the last state."""

    def step(params, state):
        updates, state = tx.update(jax.tree.map(grad, params), state, params)
        return adamx.apply_updates(params, updates), state

    step = jax.jit(step) if jit else step
    state, path = tx.init(params), []
    for _ in range(steps):
        params, state = step(params, state)
        path.append(params)
    return path, state


def noisy(params, steps, dtype="float32"):
    """A chain whose parameters go where random numbers lead, in dtype."""
    steps = [make_params(dtype, params.shape, seed=i) for i in range(steps)]

    def update(updates, state, params=None, **extra_args):
        return jnp.asarray(np.stack(steps))[state], state + 1

    return adamx.GradientTransformation(lambda params: jnp.int32(0), update)


def stacked(path):
    """Bare parameters after each step, in float64."""
    return np.stack([np.asarray(p, np.float64) for p in path])


# ---- the running mean


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_mean_is_of_what_landed(dtype):
    """To a float32 ulp, though a bfloat16 parameter rounds what is added to it."""
    p = jnp.asarray(make_params(dtype, (23,)))
    small = adamx.chain(noisy(p, 30, dtype), adamx.scale(0.01))
    averages = adamx.ema_params(0.9), adamx.tail_average(begin=11, every=4)
    path, state = train(adamx.chain(small, *averages), p, 30, jit=True)
    path = stacked(path)
    weights = 0.1 * 0.9 ** np.arange(30)[::-1] / (1 - 0.9**30)
    ema, mean = state[1].ema, state[2].mean
    assert ema.dtype == mean.dtype == jnp.float32
    np.testing.assert_allclose(ema, weights @ path, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mean, path[10::4].mean(axis=0), rtol=1e-6, atol=1e-6)
    got = adamx.eval_params(state[1], p)
    assert got.dtype == p.dtype
    chex.assert_trees_all_equal(got, ema.astype(p.dtype))


def test_training_goes_on_as_without_averages():
    tx = adamx.ema_params()
    assert tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0] is PARAMS
    tx = adamx.tail_average(0)
    assert tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0] is PARAMS


def test_the_first_parameters_are_all_of_the_first_mean():
    tx = adamx.chain(adamx.sgd(0.3), adamx.ema_params(0.999))
    (params,), state = train(tx, steps=1)
    chex.assert_trees_all_equal(adamx.eval_params(state, params), params)
    chex.assert_trees_all_equal(adamx.eval_params(tx.init(PARAMS), PARAMS), PARAMS)


def test_without_debias_it_is_the_loop_of_optax():
    tx = adamx.chain(adamx.sgd(0.3), adamx.ema_params(0.9, debias=False))
    path, state = train(tx)
    mean = PARAMS
    for params in path:
        mean = optax.incremental_update(params, mean, 0.1)
    chex.assert_trees_all_close(state[1].ema, mean, rtol=1e-6)


@pytest.mark.parametrize("debias", [False, True])
def test_the_warm_up_is_that_of_tensorflow(debias):
    tx = adamx.chain(adamx.sgd(0.3), adamx.ema_params(0.7, debias, warmup=True))
    path, state = train(tx, steps=30)
    mean = float(PARAMS["b"])
    for t, params in enumerate(path, 1):
        decay = min(0.7, (1 + t) / (10 + t))
        w = max((1 - 0.7) / (1 - 0.7**t), 1 - decay) if debias else 1 - decay
        mean += w * (float(params["b"]) - mean)
    assert float(state[1].ema["b"]) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("decay", [0.999, 0.99999])
@pytest.mark.parametrize("t", [1, 2, 100, 10**6])
def test_the_weight_is_exact_at_any_count(decay, t):
    tx = adamx.ema_params(decay)
    state = adamx.EmaParamsState(jnp.int32(t - 1), jnp.zeros([]))
    _, state = tx.update(jnp.ones([]), state, jnp.zeros([]))
    want = complement(decay) / one_minus_power(decay, t)
    assert float(state.ema) == pytest.approx(want, rel=1e-7)


def drift(decay, dtype):
    """Where the mean gets to in 5000 steps at parameters of 2.9, from 1.5."""
    tx, p = adamx.ema_params(decay, False, dtype), jnp.array(2.9)
    start = tx.init(jnp.array(1.5))

    def step(state, _):
        return tx.update(jnp.zeros([]), state, p)[1], None

    return float(jax.lax.scan(step, start, length=5000)[0].ema)


def test_a_bfloat16_mean_arrives_unless_it_is_rounded_to_the_nearest():
    """Then it stalls from a decay of 0.998 on, and before that stops short."""
    nearest = adamx.Storage(jnp.bfloat16, "nearest")
    assert drift(0.998, nearest) == drift(0.999, nearest) == 1.5
    assert 0.2 <= (2.9 - drift(0.99, nearest)) / 2.9 <= 0.4
    for decay in (0.99, 0.998, 0.999):
        assert drift(decay, jnp.bfloat16) == pytest.approx(2.9, rel=0.02)
    assert drift(0.998, jnp.float32) == pytest.approx(2.9, rel=1e-4)


def test_averages_can_be_donated_and_are_kept_in_the_dtype_asked_for():
    for average in (adamx.ema_params, functools.partial(adamx.tail_average, 0)):
        tx = average(accumulator_dtype=jnp.bfloat16)
        params = jax.tree.map(jnp.copy, PARAMS)
        update = jax.jit(tx.update, donate_argnums=(1, 2))
        _, state = update(jax.tree.map(jnp.zeros_like, PARAMS), tx.init(params), params)
        chex.assert_trees_all_equal(adamx.eval_params(state, PARAMS), PARAMS)
        assert state[-1]["w"].dtype == jnp.bfloat16


def test_decays_are_swept_by_vmap():
    p = jnp.array([1.0, 2.0])

    def mean(decay):
        tx = adamx.ema_params(decay)
        _, state = tx.update(p, tx.init(p), p)
        return tx.update(-p, state, p)[1].ema

    decays = jnp.array([0.0, 0.5, 0.9])
    got = jax.jit(jax.vmap(mean))(decays)
    chex.assert_trees_all_close(got, jnp.stack(list(map(mean, decays))), rtol=1e-6)
    np.testing.assert_allclose(got[1], (2 * p * 0.5 + 0.0) / 1.5, rtol=1e-6)


# ---- the tail


def test_until_the_tail_begins_the_parameters_are_evaluated():
    tx = adamx.chain(adamx.sgd(0.5), adamx.tail_average(begin=3, every=2))
    state, params, seen = tx.init(PARAMS), PARAMS, []
    for t in range(1, 7):
        updates, state = tx.update(params, state, params)
        params = adamx.apply_updates(params, updates)
        average = adamx.eval_params(state, params)
        seen += [params["b"]] if t in (3, 5) else []
        want = np.mean(seen) if seen else params["b"]
        assert float(average["b"]) == pytest.approx(float(want), rel=1e-6)
        assert int(state[1].num_averaged) == len(seen)


def test_the_mean_of_many_is_as_good_as_roundings_let_it_be():
    """Each is half an ulp at most, and after 10 000 they add up to some 40."""
    p = 1 + np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    tx = adamx.tail_average(1)

    def step(state, p):
        return tx.update(jnp.zeros([]), state, p)[1], None

    state, _ = jax.lax.scan(step, tx.init(jnp.zeros([], jnp.float32)), p)
    assert float(state.mean) == pytest.approx(np.mean(p, dtype=np.float64), rel=8e-6)


def test_the_tail_may_be_traced_and_differentiated():
    """Before it begins derivatives are 0, not 0 / 0."""

    @jax.jit
    def value(begin, p):
        tx = adamx.tail_average(begin)
        return tx.update(p, tx.init(p), p)[1].mean

    slope = jax.grad(value, argnums=1)
    assert slope(jnp.int32(1), jnp.array(3.0)) == 2
    assert slope(jnp.int32(2), jnp.array(3.0)) == 0


# ---- Lookahead


def run_optax(tx, params, steps, grad):
    """Fast and slow parameters after each step of Optax's lookahead."""
    params = optax.LookaheadParams.init_synced(params)
    state, path = tx.init(params), []
    for _ in range(steps):
        updates, state = tx.update(jax.tree.map(grad, params.fast), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


@pytest.mark.parametrize("reset_state", [False, True])
@pytest.mark.parametrize(
    "fast", [optax.sgd(0.1, 0.9), optax.adam(0.1)], ids=["sgd", "adam"]
)
def test_lookahead_goes_the_way_of_optax(fast, reset_state):
    arguments = {"sync_period": 3, "slow_step_size": 0.4, "reset_state": reset_state}
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), PARAMS)
        grad = jnp.sin
        want = run_optax(optax.lookahead(fast, **arguments), params, 10, grad)
        tx = adamx.lookahead(fast, **arguments)
        path, state = train(tx, params, 10, grad)
        chex.assert_trees_all_close(path, [p.fast for p in want], rtol=1e-12)
        slow = adamx.eval_params(state, path[-1])
        chex.assert_trees_all_close(slow, want[-1].slow, rtol=1e-12)
        assert float(abs(slow["b"] - path[-1]["b"])) > 1e-3


def test_between_returns_the_fast_optimizer_leads():
    """Its updates bit for bit; a return is to the slow parameters, of any dtype."""
    fast = adamx.adam(0.1)
    tx = adamx.lookahead(fast, 2, 0.5)
    params = jax.tree.map(lambda x: (x / 7).astype(jnp.bfloat16), PARAMS)
    state, fast_state = tx.init(params), fast.init(params)
    want, fast_state = fast.update(params, fast_state, params)
    got, state = tx.update(params, state, params)
    chex.assert_trees_all_equal(got, want)
    params = adamx.apply_updates(params, got)
    updates, state = tx.update(params, state, params)
    assert int(state.steps_since_sync) == 0
    assert state.slow["w"].dtype == jnp.float32
    landed = adamx.apply_updates(params, updates)
    chex.assert_trees_all_close(landed, adamx.eval_params(state, landed), rtol=4e-3)


def test_a_reset_is_at_the_new_parameters():
    """Schedule-Free starts anew where the slow parameters are."""
    tx = adamx.lookahead(adamx.schedule_free_sgd(0.1), 2, 0.5, reset_state=True)
    path, state = train(tx, steps=2)
    chex.assert_trees_all_close(state.fast_state.z, path[-1], rtol=1e-6)
    assert int(state.fast_state.step_count) == 1


def test_extra_arguments_reach_the_fast_optimizer():
    seen = []

    def update(updates, state, params=None, *, value, **extra_args):
        seen.append(value)
        return updates, state

    watch = adamx.GradientTransformation(lambda params: adamx.EmptyState(), update)
    tx = adamx.lookahead(watch, 2, 0.5)
    tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=7)
    assert seen == [7]


# ---- mistakes


def before_the_update(state, g, p, t):
    u, _ = oracle.ema_params(state, g, p, t, decay=0.9)
    return u, oracle.ema_params(state, 0 * g, p, t, decay=0.9)[1]


def weight_of_the_next_step(state, g, p, t):
    u, _ = oracle.ema_params(state, g, p, t, decay=0.9)
    w = 0.1 / one_minus_power(0.9, t + 1)
    old = state.get("ema", p)
    return u, {"ema": old + w * (p + u - old)}


def debiased_twice(state, g, p, t):
    true = {"ema": state["true"]["ema"]} if state else {}
    u, true = oracle.ema_params(true, g, p, t, decay=0.9)
    return u, {"ema": true["ema"] / one_minus_power(0.9, t), "true": true}


def never_debiased(state, g, p, t):
    return oracle.ema_params(state, g, p, t, decay=0.9, debias=False)


def tail_a_step_late(state, g, p, t):
    return oracle.tail_average(state, g, p, t, begin=6, every=3)


def tail_of_every_step(state, g, p, t):
    return oracle.tail_average(state, g, p, t, begin=5)


def tail_before_the_update(state, g, p, t):
    u, _ = oracle.tail_average({}, g, p, t, begin=5)
    return u, oracle.tail_average(state, 0 * g, p, t, begin=5, every=3)[1]


def without_the_fast_step(state, g, p, t):
    """Returns to between slow and where the parameters were before the update."""
    u, new = oracle.lookahead(state, g, p, t, sync_period=3, slow_step_size=0.3)
    slow = state.get("slow", p)
    new["slow"] = slow + 0.3 * (p - slow) if t % 3 == 0 else slow
    return (new["slow"] - p if t % 3 == 0 else u), new


def the_other_part_of_the_way(state, g, p, t):
    return oracle.lookahead(state, g, p, t, sync_period=3, slow_step_size=0.7)


def parameters_stay_fast(state, g, p, t):
    u, _ = oracle.lookahead(state, g, p, t, sync_period=10**9, slow_step_size=0.3)
    return u, oracle.lookahead(state, g, p, t, sync_period=3, slow_step_size=0.3)[1]


def a_return_too_early(state, g, p, t):
    return oracle.lookahead(state, g, p, t, sync_period=2, slow_step_size=0.3)


@pytest.mark.parametrize(
    ("name", "bugs"),
    [
        (
            "ema_params",
            [
                before_the_update,
                weight_of_the_next_step,
                debiased_twice,
                never_debiased,
            ],
        ),
        (
            "tail_average",
            [tail_a_step_late, tail_of_every_step, tail_before_the_update],
        ),
        (
            "lookahead",
            [
                without_the_fast_step,
                the_other_part_of_the_way,
                parameters_stay_fast,
                a_return_too_early,
            ],
        ),
    ],
)
def test_wrong_averages_are_rejected(name, bugs):
    assert not rejected(name, find(name).step)
    for bug in bugs:
        assert rejected(name, bug), bug


# ---- finding averages

AVERAGES = {
    "ema_params": adamx.chain(adamx.sgd(0.1), adamx.ema_params(0.5)),
    "tail_average": adamx.chain(adamx.sgd(0.1), adamx.tail_average(2)),
    "lookahead": adamx.lookahead(adamx.sgd(0.1), 2, 0.5),
    "schedule_free": adamx.schedule_free_sgd(0.1),
    "schedule_free with x": adamx.schedule_free_sgd(0.1, store_x=True),
}
WRAPPERS = [
    lambda tx: adamx.chain(adamx.identity(), adamx.chain(tx), adamx.scale(1.0)),
    lambda tx: adamx.named_chain(("first", adamx.identity()), ("second", tx)),
    lambda tx: adamx.masked(tx, True),
    lambda tx: adamx.partition({"x": tx, "y": tx}, {"w": "x", "b": "y"}),
    lambda tx: optax.chain(optax.identity(), tx),
    lambda tx: optax.apply_if_finite(tx, 3),
    lambda tx: optax.partition({"x": tx, "y": tx}, {"w": "x", "b": "y"}),
]
each = pytest.mark.parametrize("tx", AVERAGES.values(), ids=AVERAGES)


@functools.cache
def alone(tx):
    """The averages after three steps, which are not the parameters."""
    path, state = train(tx, steps=3)
    averages = adamx.eval_params(state, path[-1])
    assert averages["b"] != path[-1]["b"]
    return averages


@each
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_averages_are_found_wherever_they_are(tx, wrap):
    with jax.numpy_dtype_promotion("standard"):
        path, state = train(wrap(tx), steps=3)
    got = adamx.eval_params(state, path[-1])
    chex.assert_trees_all_close(got, alone(tx), rtol=1e-6)


def test_averages_are_found_in_multi_steps():
    tx = AVERAGES["ema_params"]
    steps = optax.MultiSteps(tx, 1).gradient_transformation()
    with jax.numpy_dtype_promotion("standard"):
        path, state = train(steps, steps=3)
    got = adamx.eval_params(state, path[-1])
    chex.assert_trees_all_close(got, alone(tx), rtol=1e-6)


@each
def test_parameters_without_an_average_stay(tx):
    for library in (adamx, optax):
        groups = {"averaged": tx, "plain": adamx.sgd(0.1)}
        both = library.partition(groups, {"w": "averaged", "b": "plain"})
        with jax.numpy_dtype_promotion("standard"):
            path, state = train(both, steps=3)
        got = adamx.eval_params(state, path[-1])
        chex.assert_trees_all_close(got["w"], alone(tx)["w"], rtol=1e-6)
        assert got["b"] is path[-1]["b"]


@each
def test_averages_are_found_in_flax(tx):
    """In a TrainState, and in nnx with its variables and without."""
    loop = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    for _ in range(3):
        loop = loop.apply_gradients(grads=loop.params)
    got = adamx.eval_params(loop.opt_state, loop.params)
    chex.assert_trees_all_close(got, alone(tx), rtol=1e-6)

    model = nnx.Dict({name: nnx.Param(x) for name, x in PARAMS.items()})
    opt = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for _ in range(3):
        opt.update(model, nnx.state(model, nnx.Param))
    params = nnx.state(model, nnx.Param)
    boxed = adamx.eval_params(opt.opt_state, params)
    assert jax.tree.structure(boxed) == jax.tree.structure(params)
    bare = adamx.eval_params(nnx.as_pure(opt.opt_state), nnx.as_pure(params))
    for got in (boxed, bare):
        want = jax.tree.leaves(alone(tx))
        chex.assert_trees_all_close(jax.tree.leaves(got), want, rtol=1e-6)
    nnx.update(model, boxed)
    assert float(model["b"][...]) == pytest.approx(float(alone(tx)["b"]), rel=1e-6)


def test_of_two_averages_the_last_or_the_outermost_counts():
    ema, tail = adamx.ema_params(0.5), adamx.tail_average(1)
    path, state = train(adamx.chain(adamx.sgd(0.1), ema, tail), steps=3)
    got = adamx.eval_params(state, path[-1])
    chex.assert_trees_all_equal(got, adamx.eval_params(state[2], path[-1]))
    inside = adamx.lookahead(AVERAGES["ema_params"], 2, 0.5)
    path, state = train(inside, steps=3)
    chex.assert_trees_all_equal(adamx.eval_params(state, path[-1]), state.slow)


# ---- errors


@pytest.mark.parametrize(
    ("kind", "text", "make"),
    [
        (
            ValueError,
            "ema_params: expected decay in [0, 1), got 1.0.",
            lambda: adamx.ema_params(1.0),
        ),
        (
            TypeError,
            "ema_params: expected warmup as True or False, got 10.",
            lambda: adamx.ema_params(0.9, warmup=10),
        ),
        (
            TypeError,
            "ema_params: expected accumulator_dtype as a floating or complex dtype, "
            "got 'int8'.",
            lambda: adamx.ema_params(0.9, accumulator_dtype="int8"),
        ),
        (
            ValueError,
            "tail_average: expected begin in [0, inf), got -1.",
            lambda: adamx.tail_average(-1),
        ),
        (
            ValueError,
            "tail_average: expected every in [1, inf), got 0.",
            lambda: adamx.tail_average(1, 0),
        ),
        (
            TypeError,
            "tail_average: expected begin as an integer, got f32[].",
            lambda: adamx.tail_average(jnp.float32(3)),
        ),
        (
            ValueError,
            "lookahead: expected sync_period in [1, inf), got 0.",
            lambda: adamx.lookahead(adamx.sgd(0.1), 0, 0.5),
        ),
        (
            ValueError,
            "lookahead: expected slow_step_size in [0, 1], got 1.5.",
            lambda: adamx.lookahead(adamx.sgd(0.1), 5, 1.5),
        ),
        (
            TypeError,
            "lookahead: expected reset_state as True or False, got 1.",
            lambda: adamx.lookahead(adamx.sgd(0.1), 5, 0.5, 1),
        ),
        (
            TypeError,
            "lookahead: expected a gradient transformation as fast_optimizer, got the "
            "function sgd; call it: sgd(...).",
            lambda: adamx.lookahead(adamx.sgd, 5, 0.5),
        ),
    ],
)
def test_says_what_is_wrong(kind, text, make):
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == text


@pytest.mark.parametrize("name", ["ema_params", "tail_average", "lookahead"])
def test_says_what_is_missing_or_does_not_match(name):
    tx = AVERAGES[name]
    state = tx.init(PARAMS)
    text = f"{name}: needs the parameters; call tx.update(grads, state, params)."
    with pytest.raises(ValueError, match=re.escape(text)):
        tx.update(PARAMS, state)
    text = "eval_params: the parameters do not match the state; were both made from the"
    with pytest.raises(ValueError, match=re.escape(text)):
        adamx.eval_params(state, [jnp.ones(2)] * 3)
