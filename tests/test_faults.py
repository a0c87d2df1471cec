"""Steps that are left out: as if they had not happened, to the bit."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from jax import lax

import adamx

BAD = [np.nan, np.inf, -np.inf]
STEPS = 6
PARAMS = {
    "a": jnp.linspace(-1, 1, 6, dtype=jnp.float32).reshape(2, 3),
    "b": jnp.ones(3, jnp.bfloat16),
    "c": jnp.ones((), jnp.float16),
}
LEAVES = len(PARAMS)


def shaken(seed):
    """Adds noise from keys of both kinds, which the state holds."""

    def init(params):
        return {"new": jax.random.key(seed), "old": jax.random.PRNGKey(seed + 1)}

    def update(updates, state, params=None, **extra_args):
        new, use = jax.random.split(state["new"])
        old, also = jax.random.split(state["old"])
        size = jax.random.uniform(use) + jax.random.uniform(also)
        noise = jax.tree.map(lambda g: (0.1 * size).astype(g.dtype), updates)
        return jax.tree.map(jnp.add, updates, noise), {"new": new, "old": old}

    return adamx.GradientTransformation(init, update)


def inner():
    schedule = adamx.warmup_cosine_decay_schedule(0.0, 0.1, 3, 10)
    return adamx.chain(shaken(1), adamx.adamw(schedule, weight_decay=0.1))


WRAPPERS = {
    "apply_if_finite": lambda tx: adamx.apply_if_finite(tx, None),
    "dynamic_loss_scale": lambda tx: adamx.dynamic_loss_scale(tx, 2.0**8, 2),
    "skip_spikes": lambda tx: adamx.skip_spikes(tx, window=4),
}


def grads_of(i):
    def leaf(p):
        wave = jnp.sin(3.0 * i + jnp.arange(p.size, dtype=jnp.float32))
        return (wave + 1.5).reshape(p.shape)

    return jax.tree.map(lambda p: leaf(p).astype(p.dtype), PARAMS)


def plant(grads, kinds, place):
    """The gradients with a number of `kinds` in each leaf where it is not 0."""

    def leaf(g, kind):
        flat = g.reshape(-1)
        i = place % flat.size
        value = jnp.where(kind != 0, kind.astype(g.dtype), flat[i])
        return flat.at[i].set(value).reshape(g.shape)

    leaves, treedef = jax.tree.flatten(grads)
    return treedef.unflatten([leaf(g, k) for g, k in zip(leaves, kinds, strict=True)])


def final(tx):
    """From what to plant in each step and which steps to drop to the end of a run.

    What is dropped is dropped by the loop: that step did not happen.
    """

    def run(kinds, place, drop):
        def body(carry, now):
            i, kinds, place, drop = now
            params, state = carry
            scale = adamx.loss_scale(state)
            grads = jax.tree.map(lambda g: g * scale.astype(g.dtype), grads_of(i))
            grads = plant(grads, kinds, place)
            updates, state = tx.update(grads, state, params)
            new = adamx.apply_updates(params, updates), state
            return jax.tree.map(lambda x, y: jnp.where(drop, x, y), carry, new), None

        steps = jnp.arange(STEPS, dtype=jnp.float32), kinds, place, drop
        return lax.scan(body, (PARAMS, tx.init(PARAMS)), steps)[0]

    return jax.jit(jax.vmap(run))


@functools.cache
def lanes():
    """Every kind of fault in every step and leaf alone, and some runs with several."""
    rng = np.random.default_rng(0)
    single = np.zeros((STEPS, LEAVES, len(BAD), STEPS, LEAVES), np.float32)
    for k, bad in enumerate(BAD):
        for step in range(STEPS):
            for leaf in range(LEAVES):
                single[step, leaf, k, step, leaf] = bad
    single = single.reshape(-1, STEPS, LEAVES)
    chances = [0.1, 0.05, 0.05, 0.8]
    several = rng.choice([*BAD, 0.0], (20, STEPS, LEAVES), p=chances)
    kinds = np.concatenate([single, several.astype(np.float32)])
    place = rng.integers(0, 6, size=kinds.shape[:2])
    return kinds, place, (kinds != 0).any(-1)


def as_if_dropped(tx):
    """Lane by lane, whether faults leave what the loop would leave by dropping."""
    kinds, place, faulty = lanes()
    run = final(tx)
    params, state = run(kinds, place, np.zeros_like(faulty))
    want_params, want = run(np.zeros_like(kinds), place, faulty)
    same = np.ones(len(kinds), bool)
    inner = [getattr(s, "inner_state", s) for s in (state, want)]
    got, want = (params, inner[0]), (want_params, inner[1])
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        x, y = map(bits, (x, y))
        same &= (x == y).reshape(len(kinds), -1).all(1)
    return same, state, faulty


def bits(x):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x).view(f"u{np.dtype(x.dtype).itemsize}")


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_fault_at_any_step_in_any_leaf_leaves_no_trace(name):
    """Parameters, moments, counters, schedules and keys of both kinds, to the bit."""
    same, state, faulty = as_if_dropped(WRAPPERS[name](inner()))
    assert same.all(), np.flatnonzero(~same)
    total = "total_skipped" if name == "skip_spikes" else "total_notfinite"
    np.testing.assert_array_equal(getattr(state, total), faulty.sum(1))


def finite(grads):
    return jnp.stack([jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]).all()


def leaves_the_state(tx):
    """The mistake of zeroing updates only: moments and counters go on."""

    def update(updates, state, params=None):
        new, state = tx.update(updates, state, params)
        good = finite(updates)
        return jax.tree.map(lambda u: jnp.where(good, u, 0), new), state

    return adamx.GradientTransformation(tx.init, update)


def counts_all_the_same(tx):
    """The mistake of holding back the moments, but not the counter."""
    tx = adamx.apply_if_finite(tx, None)

    def update(updates, state, params=None):
        updates, new = tx.update(updates, state, params)
        adam, *rest = new.inner_state
        adam = adam._replace(count=state.inner_state[0].count + 1)
        return updates, new._replace(inner_state=(adam, *rest))

    return adamx.GradientTransformation(tx.init, update)


def multiplies_by_zero(tx):
    """The mistake of a flag as a factor, which a NaN survives."""

    def update(updates, state, params=None):
        good = finite(updates)
        updates = jax.tree.map(lambda g: g * good.astype(g.dtype), updates)
        return tx.update(updates, state, params)

    return adamx.GradientTransformation(tx.init, update)


@pytest.mark.parametrize(
    "mistake", [leaves_the_state, counts_all_the_same, multiplies_by_zero]
)
def test_wrong_ways_to_leave_a_step_out_are_seen(mistake):
    same, _, faulty = as_if_dropped(mistake(adamx.adam(0.1)))
    assert not same[faulty.any(1)].any()


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_is_left_out_has_no_part_in_derivatives(name):
    """Of a run with a NaN in it the slope in the learning rate is that without it."""

    def end(rate, wrap, grads):
        tx = wrap(adamx.adam(rate))
        params = jnp.ones(2)
        state = tx.init(params)
        for g in grads:
            g = g * adamx.loss_scale(state).astype(g.dtype)
            updates, state = tx.update(g, state, params)
            params = adamx.apply_updates(params, updates)
        return params.sum()

    good = [jnp.array([1.0, 2.0]), jnp.array([2.0, -1.0])]
    faulty = [good[0], jnp.array([jnp.nan, 1.0]), good[1]]
    slope = jax.jit(jax.grad(end), static_argnums=1)
    got = slope(jnp.asarray(0.1), WRAPPERS[name], faulty)
    want = slope(jnp.asarray(0.1), lambda tx: tx, good)
    np.testing.assert_allclose(got, want, rtol=1e-6)


# ---- apply_if_finite


@pytest.fixture
def standard_promotion():
    """Optax itself does not run under strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize(
    ("limit", "library"),
    [(0, adamx), (1, optax), (3, adamx)],
    ids=["0-adamx", "1-optax", "3-adamx"],
)
@pytest.mark.usefixtures("standard_promotion")
def test_counters_and_the_limit_are_those_of_optax(library, limit):
    """A step past the limit is applied, and the next, until a finite one comes."""
    rng = np.random.default_rng(1)
    good = rng.uniform(size=60) < 0.45
    grads = np.where(good, rng.normal(size=60), np.nan).astype(np.float32)
    inner, runs = library.adam(0.1), []
    for outer in (adamx, optax):
        tx = outer.apply_if_finite(inner, limit)
        state, seen = tx.init(jnp.zeros(())), []
        update = jax.jit(tx.update)
        for g in jnp.asarray(grads, jnp.result_type(float)):
            # Moments that hold a NaN would hide what comes after.
            inner_state = inner.init(jnp.zeros(()))
            u, state = update(g, state._replace(inner_state=inner_state))
            seen.append((u, *state))
        runs.append(jax.tree.map(np.asarray, seen))
    for got, want in zip(*map(jax.tree.leaves, runs), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    # A run of errors is counted on, past the limit too.
    count, longest = 0, 0
    for (u, in_a_row, last, *_), ok in zip(runs[0], good, strict=True):
        count = 0 if ok else count + 1
        longest = max(longest, count)
        assert (in_a_row, last, np.isnan(u)) == (count, ok, count > limit)
    assert longest > limit + 1


def test_without_a_limit_nothing_that_is_not_finite_is_applied():
    tx = adamx.apply_if_finite(adamx.sgd(1.0), None)
    state = tx.init(jnp.zeros(()))
    most = jnp.int32(np.iinfo(np.int32).max)
    state = state._replace(notfinite_count=most, total_notfinite=most)
    for _ in range(2):
        u, state = tx.update(jnp.asarray(jnp.nan), state)
    # Counters stay at their end.
    assert (u, state.notfinite_count, state.total_notfinite) == (0, most, most)
    _, state = tx.update(jnp.ones(()), state)
    assert (state.notfinite_count, state.total_notfinite) == (0, most)


def test_the_limit_may_be_an_array():
    @jax.jit
    @jax.vmap
    def applied(limit):
        tx = adamx.apply_if_finite(adamx.sgd(1.0), limit)
        state, seen = tx.init(jnp.zeros(())), []
        for _ in range(4):
            u, state = tx.update(jnp.asarray(jnp.inf), state)
            seen.append(u != 0)
        return jnp.stack(seen)

    want = [[True] * 4, [False, True, True, True], [False] * 3 + [True]]
    np.testing.assert_array_equal(applied(jnp.array([0, 1, 3])), want)


def test_gradients_of_integers_are_finite():
    params = {"w": jnp.ones(2), "n": jnp.arange(3)}
    grads = jax.grad(lambda p: p["w"].sum(), allow_int=True)(params)
    tx = adamx.masked(adamx.sgd(1.0), {"w": True, "n": False})
    tx = adamx.apply_if_finite(tx, 5)
    updates, state = jax.jit(tx.update)(grads, tx.init(params), params)
    chex.assert_trees_all_equal(adamx.apply_updates(params, updates)["w"], jnp.zeros(2))
    grads["w"] = jnp.array([jnp.nan, 1.0])
    updates, state = tx.update(grads, state, params)
    chex.assert_trees_all_equal(adamx.apply_updates(params, updates), params)


def resets_the_total(state, g, p, t, max_consecutive_errors):
    u, new = oracle.apply_if_finite(state, g, p, t, max_consecutive_errors)
    return u, new | {"total_notfinite": new["notfinite_count"]}


def with_faults(step):
    """What an oracle says of a stream with errors in a row, and then none."""
    state, seen = {}, []
    p = [np.ones(2)]
    for t, bad in enumerate([0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0], 1):
        g = [np.array([np.nan if bad else 1.0, 2.0])]
        u, state = step(state, g, p, t)
        parts = {k: v for k, v in state.items() if not isinstance(v, dict)}
        seen.append([v for _, v in sorted(parts.items())] + u)
    return seen


def run_of(tx):
    """The same of a transformation."""
    p = [jnp.ones(2)]
    state, seen = tx.init(p), []
    update = jax.jit(tx.update)
    for bad in [0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0]:
        u, state = update([jnp.array([jnp.nan if bad else 1.0, 2.0])], state, p)
        parts = state._asdict() | state.inner_state._asdict()
        del parts["inner_state"], parts["count"]
        seen.append([v for _, v in sorted(parts.items())] + u)
    return seen


def agree(got, want):
    """Whether two such runs are the same."""
    rows = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    return all(
        np.allclose(np.float64(x), np.float64(y), 1e-5, equal_nan=True) for x, y in rows
    )


def lowers_on_finite_steps(state, g, p, t, **kwargs):
    u, new = oracle.dynamic_loss_scale(state, g, p, t, **kwargs)
    if np.isfinite(g[0]).all():
        new["loss_scale"] = max(new["loss_scale"] * 0.5, 1.0)
    return u, new


def grows_after_a_fault(state, g, p, t, **kwargs):
    """The count of finite steps is not set back by one that is not."""
    u, new = oracle.dynamic_loss_scale(state, g, p, t, **kwargs)
    if not np.isfinite(g[0]).all():
        new["growth_count"] = state["growth_count"]
    return u, new


@pytest.mark.parametrize(
    ("name", "mistake", "kwargs"),
    [
        ("apply_if_finite", resets_the_total, {"max_consecutive_errors": 3}),
        (
            "dynamic_loss_scale",
            lowers_on_finite_steps,
            {"initial_scale": 4.0, "growth_interval": 2},
        ),
        (
            "dynamic_loss_scale",
            grows_after_a_fault,
            {"initial_scale": 4.0, "growth_interval": 2},
        ),
    ],
)
def test_wrong_counters_are_rejected(name, mistake, kwargs):
    got = run_of(getattr(adamx, name)(adamx.scale_by_adam(), **kwargs))
    assert agree(got, with_faults(functools.partial(getattr(oracle, name), **kwargs)))
    assert not agree(got, with_faults(functools.partial(mistake, **kwargs)))


# ---- errors


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda tx: adamx.apply_if_finite(adamx.adam, 3),
            "apply_if_finite: expected a gradient transformation as inner, got the "
            "function adam; call it: adam(...).",
        ),
        (
            lambda tx: adamx.apply_if_finite(tx, -1),
            "apply_if_finite: expected max_consecutive_errors in [0, inf), got -1.",
        ),
        (
            lambda tx: adamx.apply_if_finite(tx, 1.5),
            "apply_if_finite: expected max_consecutive_errors as a whole number below "
            "2**31, got 1.5.",
        ),
        (
            lambda tx: adamx.dynamic_loss_scale(adamx.adam),
            "dynamic_loss_scale: expected a gradient transformation as inner, got the "
            "function adam; call it: adam(...).",
        ),
        (
            lambda tx: adamx.dynamic_loss_scale(tx, 0.5),
            "dynamic_loss_scale: expected initial_scale in [1.0, 16777216.0], got 0.5.",
        ),
        (
            lambda tx: adamx.dynamic_loss_scale(tx, growth_interval=0),
            "dynamic_loss_scale: expected growth_interval in [1, inf), got 0.",
        ),
        (
            lambda tx: adamx.dynamic_loss_scale(tx, growth_factor=0.5),
            "dynamic_loss_scale: expected growth_factor in [1, inf), got 0.5.",
        ),
        (
            lambda tx: adamx.dynamic_loss_scale(tx, backoff_factor=2.0),
            "dynamic_loss_scale: expected backoff_factor in (0, 1], got 2.0.",
        ),
        (
            lambda tx: adamx.dynamic_loss_scale(tx, min_scale=0),
            "dynamic_loss_scale: expected min_scale in (0, inf), got 0.",
        ),
        (
            lambda tx: adamx.dynamic_loss_scale(tx, min_scale=4.0, max_scale=2.0),
            "dynamic_loss_scale: expected max_scale in [4.0, inf), got 2.0.",
        ),
        (
            lambda tx: adamx.loss_scale((adamx.dynamic_loss_scale(tx).init(()),) * 2),
            "loss_scale: expected one state of dynamic_loss_scale, got 2; put one "
            "around all transformations.",
        ),
        (
            lambda tx: adamx.loss_scale(
                adamx.dynamic_loss_scale(adamx.dynamic_loss_scale(tx)).init(())
            ),
            "loss_scale: expected one state of dynamic_loss_scale, got 2; put one "
            "around all transformations.",
        ),
        (
            lambda tx: adamx.skip_spikes(adamx.adam),
            "skip_spikes: expected a gradient transformation as inner, got the "
            "function adam; call it: adam(...).",
        ),
        (
            lambda tx: adamx.skip_spikes(tx, 0.0),
            "skip_spikes: expected sigmas in (0, inf), got 0.0.",
        ),
        (
            lambda tx: adamx.skip_spikes(tx, window=1),
            "skip_spikes: expected window in [2, inf), got 1.",
        ),
        (
            lambda tx: adamx.skip_spikes(tx, window=8.0),
            "skip_spikes: expected window as an int, got 8.0.",
        ),
        (
            lambda tx: adamx.skip_spikes(tx, window=8, min_steps=9),
            "skip_spikes: expected min_steps in [2, 8], got 9.",
        ),
        (
            lambda tx: adamx.skip_spikes(tx, measure="loss"),
            "skip_spikes: expected measure in ('grad_norm', 'value'), got 'loss'.",
        ),
        (
            lambda tx: call(adamx.skip_spikes(tx, measure="value")),
            "skip_spikes: needs the loss; call tx.update(grads, state, params, "
            "value=loss).",
        ),
        (
            lambda tx: call(adamx.skip_spikes(tx, measure="value"), value=np.ones(2)),
            "skip_spikes: expected value as a real scalar, got f64[2].",
        ),
        (
            lambda tx: adamx.skip_spikes(tx).update((), tx.init(())),
            "skip_spikes: expected a SkipSpikesState, got a EmptyState; make it with "
            "this transformation's init and call tx.update(grads, state, params).",
        ),
    ],
)
def test_wrong_arguments_are_named(make, text):
    with pytest.raises((TypeError, ValueError)) as error:
        make(adamx.clip(1.0))
    assert str(error.value) == text


def call(tx, **extra_args):
    return tx.update(jnp.ones(2), tx.init(jnp.ones(2)), **extra_args)
