"""Gradient accumulation: what is particular to it."""

import copy
import functools
import inspect

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
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from mistakes import rejected
from streams import at_step, make_params, make_stream

import adamx

SHAPES = {"w": (8, 3), "b": ()}
PARAMS = make_params(shapes=SHAPES)
GRADS = make_stream("normal", shapes=SHAPES, steps=12)
NAN = jax.tree.map(lambda p: np.full_like(p, np.nan), PARAMS)


def stack(*trees):
    return jax.tree.map(lambda *xs: np.stack(xs), *trees)


@functools.cache
def scan_of(tx):
    """A whole run, compiled once for each transformation and number of steps."""

    def step(carry, now):
        params, state = carry
        g, extra = now
        updates, state = tx.update(g, state, params, **extra)
        params = adamx.apply_updates(params, updates)
        return (params, state), (params, state, updates)

    return jax.jit(lambda *args: lax.scan(step, args[:2], args[2:])[1])


def run(tx, grads=GRADS, params=PARAMS, state=None, **extra_args):
    """Parameters, states and updates of all steps; extra arguments have one each."""
    with jax.numpy_dtype_promotion("standard"):  # for Optax
        state = tx.init(params) if state is None else state
        return scan_of(tx)(params, state, grads, extra_args)


def last(tree):
    return at_step(tree, -1)


def means(grads, k):
    """The means of k gradients each."""
    return jax.tree.map(
        lambda g: g.reshape(-1, k, *g.shape[1:]).mean(1, dtype=np.float64), grads
    )


def close(got, want, rtol=1e-5, atol=1e-6):
    chex.assert_trees_all_close(got, want, rtol=rtol, atol=atol)


def near(got, want):
    """Whether `close` would pass."""
    try:
        close(got, want)
    except AssertionError:
        return False
    return True


# ---- windows


@pytest.mark.parametrize("k", [1, 4])
def test_k_small_batches_are_one_large_batch(k):
    """The weight decay, the schedule and the bias correction of 12 / k steps."""
    inner = adamx.adamw(adamx.linear_schedule(0.1, 0.02, 4), weight_decay=0.1)
    params, states, updates = run(adamx.MultiSteps(inner, k))
    large = jax.tree.map(lambda g: g.astype(np.float32), means(GRADS, k))
    want, inner_states, _ = run(inner, large)
    close(jax.tree.map(lambda p: p[k - 1 :: k], params), want)
    close(last(states.inner_opt_state), last(inner_states))
    for u in jax.tree.leaves(updates):
        ends = np.arange(12) % k == k - 1
        assert np.all(u[ends] != 0)
        assert not np.any(u[~ends])
    assert states.mini_step.tolist() == [(i + 1) % k for i in range(12)]
    assert states.gradient_step.tolist() == [(i + 1) // k for i in range(12)]
    assert not any(np.any(a[k - 1 :: k]) for a in jax.tree.leaves(states.acc_grads))


def lengths(count):
    """Windows of 1, 2, 3, ... gradients."""
    return count + 1


@pytest.mark.parametrize(("k", "use_grad_mean"), [(3, True), (lengths, False)])
def test_trajectories_are_those_of_optax(k, use_grad_mean):
    got, states, _ = run(adamx.MultiSteps(adamx.adam(0.1), k, use_grad_mean))
    want, theirs, _ = run(optax.MultiSteps(optax.adam(0.1), k, use_grad_mean))
    close(got, want, rtol=1e-4, atol=1e-5)
    close(tuple(states)[:2], tuple(theirs)[:2])
    close(states.acc_grads, theirs.acc_grads)


@pytest.mark.parametrize("mean", [True, False])
def test_a_run_goes_on_in_optax_and_back_in_the_middle_of_a_window(mean):
    tx = adamx.MultiSteps(adamx.trace(0.9), 4, mean)
    twin = optax.MultiSteps(optax.trace(0.9), 4, mean)
    for i in (6, 8):
        early, late = (
            jax.tree.map(lambda g, rows=rows: g[rows], GRADS)
            for rows in (slice(i - 6, i), slice(i, i + 4))
        )
        params, state, _ = map(last, run(tx, early))
        want = last(run(tx, late, params, state)[0])
        for first, second in [(tx, twin), (twin, tx)]:
            params, state, _ = map(last, run(first, early))
            like = jax.tree.structure(second.init(PARAMS))
            state = jax.tree.unflatten(like, jax.tree.leaves(state))
            close(last(run(second, late, params, state)[0]), want)


def test_schedules_of_windows_count_inner_updates_and_are_rounded_up():
    tx = adamx.MultiSteps(adamx.sgd(1.0), lambda n: 1.0 + 0.6 * n)  # 1, 1.6, 2.2, 2.8
    states = run(tx)[1]
    assert states.gradient_step.tolist() == [1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4]


def test_a_window_that_has_become_shorter_ends():
    """Optax's would go on."""
    states = run(adamx.MultiSteps(adamx.sgd(1.0), 8))[1]
    state = at_step(states, 5)
    assert int(state.mini_step) == 6
    _, state = adamx.MultiSteps(adamx.sgd(1.0), 3).update(NAN, state, PARAMS)
    assert (int(state.mini_step), int(state.gradient_step)) == (0, 1)


def test_flush_ends_a_window_early():
    """With the mean of the gradients that came; an empty window is left alone."""
    tx = adamx.MultiSteps(adamx.sgd(1.0, momentum=0.9), 5)
    params, states, _ = run(tx)
    params, state = at_step((params, states), 6)
    assert int(state.mini_step) == 2
    flush = jax.jit(tx.flush)
    u, flushed = flush(state, params)
    g = jax.tree.map(lambda x: x[5:7].mean(0), GRADS)
    want, inner = tx.inner_opt.update(g, state.inner_opt_state, params)
    close((u, flushed.inner_opt_state), (want, inner))
    fifth = jax.tree.map(lambda x: x * 2 / 5, g)  # as if the window were full
    assert not near(u, tx.inner_opt.update(fifth, state.inner_opt_state, params)[0])
    assert (int(flushed.mini_step), int(flushed.gradient_step)) == (0, 2)
    u, again = flush(flushed, params)
    chex.assert_trees_all_equal(again, flushed)
    assert not any(map(np.any, jax.tree.leaves(u)))


def test_flush_finds_its_part_of_a_state():
    tx = adamx.MultiSteps(adamx.sgd(1.0), 5)
    around = adamx.chain(adamx.identity(), adamx.apply_if_finite(tx, 3))
    _, state = around.update(PARAMS, around.init(PARAMS), PARAMS)
    u, flushed = tx.flush(state, PARAMS)
    want, inner = tx.flush(state[1].inner_state, PARAMS)
    chex.assert_trees_all_equal((u, flushed[1].inner_state), (want, inner))
    chex.assert_trees_all_equal_structs(flushed, state)
    assert int(flushed[1].inner_state.gradient_step) == 1
    text = "MultiSteps: expected one MultiStepsState in the state to flush, got "
    with pytest.raises(ValueError, match=text + "0; make it with this"):
        tx.flush(adamx.sgd(0.1).init(PARAMS), PARAMS)
    with pytest.raises(ValueError, match=text + "2; make it with this"):
        tx.flush((state, state), PARAMS)


def test_has_updated_says_when_a_window_ended():
    tx = adamx.MultiSteps(adamx.sgd(1.0), 3)
    assert not tx.has_updated(tx.init(PARAMS))
    ended = jax.vmap(tx.has_updated)(run(tx)[1])
    assert ended.tolist() == [False, False, True] * 4


def test_extra_arguments_reach_the_inner_transformation():
    """Those of the gradient with which the window ends; functions, too."""

    def update(updates, state, params=None, *, value, call=None, **extra_args):
        return jax.tree.map(lambda u: u * 0 + (call or abs)(value), updates), state

    inner = adamx.GradientTransformation(lambda p: adamx.EmptyState(), update)
    tx = adamx.MultiSteps(inner, 2)
    for chained in (optax.chain(tx), adamx.chain(tx), tx):
        state, seen = chained.init(jnp.zeros(())), []
        for value in (1.0, 2.0):
            u, state = chained.update(jnp.ones(()), state, None, value=value)
            seen.append(float(u))
        assert seen == [0.0, 2.0]
    _, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())), value=1.0, call=abs)
    u, _ = tx.update(jnp.ones(()), state, value=1.0, call=lambda x: 5 * x)
    assert float(u) == 5.0
    u, _ = tx.flush(state, value=7.0)
    assert float(u) == 7.0


# ---- weights


def test_weights_make_a_mean_over_tokens():
    weights = np.array([1, 5, 2, 0, 3, 3, 7, 1, 1, 4, 4, 0], np.int32)
    tx = adamx.MultiSteps(adamx.sgd(1.0), 4, weighted=True)
    _, states, updates = run(tx, weight=weights)
    for i in range(3):
        rows = slice(4 * i, 4 * i + 4)
        want = jax.tree.map(
            lambda g, rows=rows: -np.average(g[rows], 0, weights[rows]), GRADS
        )
        close(at_step(updates, 4 * i + 3), want)
        plain = jax.tree.map(lambda g, rows=rows: -g[rows].mean(0), GRADS)
        assert not near(at_step(updates, 4 * i + 3), plain)
    assert states.weight_sum.tolist() == [1, 6, 8, 0, 3, 6, 13, 0, 1, 5, 9, 0]
    assert states.mini_step.tolist() == [1, 2, 3, 0] * 3


def test_equal_weights_are_none():
    plain = run(adamx.MultiSteps(adamx.adam(0.1), 4))[0]
    tx = adamx.MultiSteps(adamx.adam(0.1), 4, weighted=True)
    close(run(tx, weight=np.full(12, 0.25, np.float32))[0], plain)


@pytest.mark.parametrize("mean", [True, False])
def test_gradients_of_weight_zero_may_be_nan(mean):
    tx = adamx.MultiSteps(adamx.sgd(1.0), 2, mean, weighted=True)
    update = jax.jit(tx.update)
    g = at_step(GRADS, 0)
    state = update(NAN, tx.init(PARAMS), PARAMS, weight=0)[1]
    u, state = update(g, state, PARAMS, weight=2)
    close(u, jax.tree.map(lambda x: -x if mean else -2 * x, g))
    state = update(g, state, PARAMS, weight=0)[1]
    u, state = update(NAN, state, PARAMS, weight=0)
    assert not any(map(np.any, jax.tree.leaves(u)))
    assert int(state.gradient_step) == 2


# ---- gradients that are skipped


def with_notes(updates, gradient_step, params):
    """Skips NaN, and notes things of every dtype."""
    skip, _ = adamx.skip_not_finite(updates, gradient_step, params)
    return skip, (gradient_step, 1, skip)


LARGE = functools.partial(adamx.skip_large_updates, max_squared_norm=1e12)


@pytest.mark.parametrize("skip", [LARGE, with_notes])
def test_a_run_without_the_skipped_gradients_is_the_same_to_the_bit(skip):
    tx = adamx.MultiSteps(adamx.adamw(0.1), 3, should_skip_update_fn=skip)
    inf = jax.tree.map(lambda p: np.full_like(p, np.inf), PARAMS)
    bad = {1: NAN, 4: inf, 5: NAN}  # as third to last, as last, in a row
    rows, kept = [at_step(GRADS, i) for i in range(12)], []
    for i, g in bad.items():
        rows.insert(i, g)
    kept = [i for i in range(15) if i not in bad]
    got, states, updates = run(tx, stack(*rows))
    want, clean, _ = run(tx)
    pick = functools.partial(jax.tree.map, lambda x: x[np.array(kept)])
    got, states_kept = pick((got, states))
    chex.assert_trees_all_equal(got, want)
    chex.assert_trees_all_equal(states_kept, clean)
    for i in bad:
        before, after = at_step(states, i - 1), at_step(states, i)
        skipped = before._replace(skip_state=after.skip_state)
        chex.assert_trees_all_equal(after, skipped)
        assert not any(np.any(u[i]) for u in jax.tree.leaves(updates))


def test_skip_states_are_those_of_optax():
    g = {"a": jnp.array([3.0, jnp.nan, jnp.inf]), "b": jnp.array(4.0)}
    for library in (adamx, optax):
        skip, state = library.skip_not_finite(g, 0, None)
        assert bool(skip) is bool(state["should_skip"]) is True
        assert state["num_not_finite"] == 2
        for limit, value, want in [(24.0, 3.0, True), (26.0, 3.0, False)]:
            g = {"a": jnp.array([value]), "b": jnp.array(4.0)}
            skip, state = library.skip_large_updates(g, 0, None, limit)
            assert bool(skip) == bool(state["should_skip"]) == want
            assert float(state["norm_squared"]) == 25.0
            assert set(state) == {"should_skip", "norm_squared"}
        assert library.skip_large_updates(NAN, 0, None, 1.0)[0]
        g = {"a": jnp.array([3.0, jnp.nan, jnp.inf]), "b": jnp.array(4.0)}


def test_norms_are_summed_in_float32_and_of_complex_numbers():
    g = [jnp.ones(3000, jnp.bfloat16), jnp.array([3 + 4j], jnp.complex64)]
    _, state = adamx.skip_large_updates(g, 0, None, 1.0)
    assert float(state["norm_squared"]) == 3025.0
    assert not adamx.skip_large_updates({}, 0, None, 1.0)[0]
    assert not adamx.skip_not_finite({}, 0, None)[0]


# ---- dtypes


def test_sixteen_bit_gradients_are_accumulated_and_handed_on_in_float32():
    """A mean that bfloat16 would round to 1, and Optax hands on rounded."""
    seen = []

    def update(updates, state, params=None, **extra_args):
        seen.append(updates.dtype)
        return 256 * (updates - 1), state

    inner = adamx.GradientTransformation(lambda p: adamx.EmptyState(), update)
    for dtype in (jnp.bfloat16, jnp.float16):
        g = jnp.array([[1.0], [1.0078125]], dtype)
        _, states, updates = run(adamx.MultiSteps(inner, 2), g, jnp.zeros(1, dtype))
        assert states.acc_grads.dtype == jnp.float32
        assert updates.dtype == dtype
        assert float(updates[1, 0]) == 1.0
    assert jnp.dtype("float32") in seen  # besides, for the dtype of its answer, dtype


def test_accumulators_are_as_narrow_as_asked_and_never_narrower_than_by_default():
    init = adamx.MultiSteps(adamx.sgd(0.1), 2, accumulator_dtype=jnp.bfloat16).init
    assert init(PARAMS).acc_grads["w"].dtype == jnp.bfloat16
    init = adamx.MultiSteps(adamx.sgd(0.1), 2).init
    with jax.enable_x64(True):
        for dtype in (jnp.complex64, jnp.float64):
            assert init(jnp.zeros(2, dtype)).acc_grads.dtype == dtype


def test_updates_are_wider_than_a_narrow_accumulator():
    tx = adamx.MultiSteps(adamx.sgd(0.1), 1, accumulator_dtype=jnp.bfloat16)
    (u,) = jax.tree.leaves(run(tx, np.ones((1, 2), np.float32), jnp.zeros(2))[2])
    assert u.dtype == jnp.float32
    np.testing.assert_allclose(u, -0.1, rtol=1e-7)


# ---- wherever a transformation goes


def test_it_is_a_transformation():
    tx = adamx.MultiSteps(adamx.sgd(0.1), 2, weighted=True)
    assert isinstance(tx, adamx.MultiSteps)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    init, update = tx
    assert tx.gradient_transformation() == (init, update)
    again = copy.deepcopy(tx)
    assert isinstance(again, adamx.MultiSteps)
    assert types(again.init(PARAMS)) == types(tx.init(PARAMS))


def types(state):
    return jax.tree.structure(state), [x.dtype for x in jax.tree.leaves(state)]


def test_arguments_are_those_of_optax():
    ours, theirs = (
        inspect.signature(library.MultiSteps).parameters for library in (adamx, optax)
    )
    names = [*theirs]
    assert [*ours][: len(names)] == names
    assert all(ours[name].default == theirs[name].default for name in names)
    assert ours["weighted"].kind is inspect.Parameter.KEYWORD_ONLY


def test_loops_of_flax():
    """TrainState and nnx.Optimizer end where a scan ends."""
    tx = adamx.MultiSteps(adamx.adam(0.1), 2)
    want = last(run(tx, jax.tree.map(lambda g: g[:5], GRADS))[0])
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    apply = jax.jit(lambda state, grads: state.apply_gradients(grads=grads))
    model = nnx.Dict({name: nnx.Param(jnp.asarray(p)) for name, p in PARAMS.items()})
    opt = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, opt, grads):
        like = nnx.state(model, nnx.Param)
        opt.update(model, jax.tree.unflatten(jax.tree.structure(like), grads))

    for i in range(5):
        g = at_step(GRADS, i)
        state = apply(state, g)
        with jax.numpy_dtype_promotion("standard"):
            step(model, opt, jax.tree.leaves(g))
    close(state.params, want)
    close(jax.tree.leaves(nnx.state(model, nnx.Param)), jax.tree.leaves(want))
    assert opt.tx.has_updated(state.opt_state) == (5 % 2 == 0)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_on_eight_devices_in_place_and_traced_once(kind):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    tx = adamx.MultiSteps(adamx.adamw(0.1), 2)

    def place(x):
        spec = PartitionSpec("data") if np.ndim(x) else PartitionSpec()
        return jax.device_put(x, NamedSharding(mesh, spec))

    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return adamx.apply_updates(params, updates), state

    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(step, n=1), donate_argnums=(0, 1))
    with jax.set_mesh(mesh):
        params, state = jax.tree.map(place, (PARAMS, tx.init(PARAMS)))
        grads = [jax.tree.map(place, at_step(GRADS, i)) for i in range(4)]
        memory = step.lower(params, state, grads[0]).compile().memory_analysis()
        for g in grads:
            params, state = step(params, state, g)
    want = at_step(run(tx)[0], 3)
    close(params, want)
    assert params["w"].addressable_shards[0].data.shape == (1, 3)
    assert memory.alias_size_in_bytes >= sum(
        x.addressable_shards[0].data.nbytes for x in jax.tree.leaves((params, state))
    )


@pytest.mark.parametrize("local", [False, True])
def test_in_a_shard_map_that_checks_what_varies(local):
    """Where gradients are summed over devices, and where each has its own.

    Then new states vary over the mesh, and old ones, from `init`, do not.
    """
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    tx = adamx.MultiSteps(adamx.adam(0.1), 2)
    p = jnp.arange(8.0)
    grads = [p + 1, 2 * p - 1]
    spec = PartitionSpec("data")

    def f(p, *grads):
        if local:  # parameters are varying, the first state is not
            state = tx.init(jnp.zeros(1))
        else:
            grads = [lax.psum(g, "data") for g in grads]
            state = tx.init(p)
        for g in grads:
            updates, state = tx.update(g, state, p)
        return updates + 0 * p, state.inner_opt_state[0].mu + 0 * p

    got = jax.jit(jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec))(p, *grads)
    g = sum(grads) / 2
    want = 0.1 * (g if local else jnp.full(8, g.sum()))
    close(got, (-0.1 * jnp.sign(want), want))


def test_a_vmap_is_a_loop():
    tx = adamx.MultiSteps(adamx.trace(0.9), 2, True, adamx.skip_not_finite)
    holes = jax.tree.map(lambda g: -g, GRADS)
    holes["b"][3:6] = np.nan
    rows = [GRADS, holes]
    got = jax.vmap(lambda grads: run(tx, grads)[:2])(stack(*rows))
    for i, grads in enumerate(rows):
        want = run(tx, grads)[:2]
        close(at_step(got, i), want)
    assert got[1].gradient_step[:, -1].tolist() == [6, 4]


def test_calls_outside_of_a_jit_are_compiled_once():
    traces = []

    def update(updates, state, params=None, **extra_args):
        traces.append(extra_args)
        return updates, state

    inner = adamx.GradientTransformation(lambda p: adamx.EmptyState(), update)
    tx = adamx.MultiSteps(inner, 2)
    state = tx.init(PARAMS)
    for i in range(4):
        _, state = tx.update(at_step(GRADS, i), state, PARAMS, value=float(i))
    assert len(traces) == 1


# ---- mistakes


def sum_for_mean(state, g, p, t):
    return oracle.MultiSteps(state, 2 * g, p, t)


def no_reset(state, g, p, t):
    u, new = oracle.MultiSteps(state, g, p, t)
    window = [*state.get("inside", {}).get("window", []), g]
    return u, new | {"acc_grads": np.mean(window, axis=0)}


def inner_at_every_gradient(state, g, p, t):
    inside = {k: v for k, v in state.items() if k in ("mu", "nu")}
    u, adam = oracle.scale_by_adam(inside, g, p, t)
    _, new = oracle.MultiSteps(state, g, p, t)
    return u * (t % 2 == 0), new | adam


def counts_of_gradients(state, g, p, t):
    """Bias corrections for t, where t // 2 updates were made."""
    u, new = oracle.MultiSteps(state, g, p, t)
    if t % 2 == 0:
        u, _ = oracle.scale_by_adam(state["inside"], new_mean(state, g), p, t)
    return u, new


def new_mean(state, g):
    return (state["acc_grads"] + g) / 2


def one_gradient_late(state, g, p, t):
    """Windows that end with the first gradient of the next one."""
    return oracle.MultiSteps(state, g, p, t, every_k_schedule=3)


@pytest.mark.parametrize(
    "bug",
    [
        sum_for_mean,
        no_reset,
        inner_at_every_gradient,
        counts_of_gradients,
        one_gradient_late,
    ],
)
def test_wrong_accumulators_are_rejected(bug):
    assert not rejected("MultiSteps", find("MultiSteps").step)
    assert rejected("MultiSteps", bug)


# ---- errors

SGD = adamx.sgd(0.1)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: adamx.MultiSteps(adamx.sgd, 2),
            TypeError,
            "MultiSteps: expected a gradient transformation as opt, got the function "
            "sgd; call it: sgd(...).",
        ),
        (
            lambda: adamx.MultiSteps(SGD, 0),
            ValueError,
            "MultiSteps: expected every_k_schedule in [1, inf), got 0.",
        ),
        (
            lambda: adamx.MultiSteps(SGD, -3),
            ValueError,
            "MultiSteps: expected every_k_schedule in [1, inf), got -3.",
        ),
        (
            lambda: adamx.MultiSteps(SGD, 2.5),
            ValueError,
            "MultiSteps: expected every_k_schedule as a whole number, got 2.5.",
        ),
        (
            lambda: adamx.MultiSteps(SGD, "2"),
            TypeError,
            "MultiSteps: expected every_k_schedule as a number in [1, inf) or a scalar "
            "array, got '2'.",
        ),
        (
            lambda: adamx.MultiSteps(SGD, lambda n: jnp.ones(2)).init(PARAMS),
            ValueError,
            "MultiSteps: expected a scalar from the schedule, got f32[2].",
        ),
        (
            lambda: adamx.MultiSteps(SGD, 2, 1),
            TypeError,
            "MultiSteps: expected use_grad_mean as True or False, got 1.",
        ),
        (
            lambda: adamx.MultiSteps(SGD, 2, weighted=None),
            TypeError,
            "MultiSteps: expected weighted as True or False, got None.",
        ),
        (
            lambda: adamx.MultiSteps(SGD, 2, should_skip_update_fn=True),
            TypeError,
            "MultiSteps: expected should_skip_update_fn as a function of updates, "
            "gradient_step and params, got True.",
        ),
        (
            lambda: adamx.MultiSteps(SGD, 2, True, lambda *args: False).init(PARAMS),
            TypeError,
            "MultiSteps: expected a pair (skip, skip_state) from should_skip_update_fn "
            "with skip a bool[], got False.",
        ),
        (
            lambda: adamx.MultiSteps(SGD, 2, True, lambda u, n, p: (u, ())).init(
                jnp.ones(3, jnp.float32)
            ),
            TypeError,
            "MultiSteps: expected a pair (skip, skip_state) from should_skip_update_fn "
            "with skip a bool[], got f32[3].",
        ),
        (
            lambda: adamx.MultiSteps(SGD, 2, accumulator_dtype=jnp.int32),
            TypeError,
            "MultiSteps: expected accumulator_dtype as a floating or complex dtype, "
            "got <class 'jax.numpy.int32'>.",
        ),
        (
            lambda: adamx.MultiSteps(SGD, 2).update(PARAMS, SGD.init(PARAMS)),
            ValueError,
            "MultiSteps: expected a MultiStepsState, got a tuple; make it with this "
            "transformation's init and call tx.update(grads, state, params).",
        ),
        (
            lambda: (tx := adamx.MultiSteps(SGD, 2, weighted=True)).update(
                PARAMS, tx.init(PARAMS)
            ),
            ValueError,
            "MultiSteps: needs the weight of this gradient; call tx.update(grads, "
            "state, params, weight=number_of_tokens), or leave out weighted=True.",
        ),
        (
            lambda: (tx := adamx.MultiSteps(SGD, 2, weighted=True)).update(
                PARAMS, tx.init(PARAMS), weight=-1
            ),
            ValueError,
            "MultiSteps: expected weight in [0, inf), got -1.",
        ),
        (
            lambda: (tx := adamx.MultiSteps(SGD, 2)).update(
                {"w": PARAMS["w"].astype(np.float32)},
                tx.init({"w": np.zeros((3, 8), np.float32)}),
            ),
            ValueError,
            "MultiSteps: updates do not match the state at ['w']: f32[8,3] against "
            "f32[3,8]; were both made from the same params?",
        ),
        (
            lambda: adamx.skip_large_updates(PARAMS, 0, None, -1.0),
            ValueError,
            "skip_large_updates: expected max_squared_norm in (0, inf), got -1.0.",
        ),
    ],
)
def test_messages(make, error, text):
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value).replace("f64", "f32") == text
