"""Each wrapper around every optimizer: the laws of a pair.

A wrapper changes no types, takes every tree and hands extra arguments on, whatever it
is around. And what it leaves alone is as without it, to the bit: the runs are loops
whose kernels, one for each leaf of a block, the pair and the bare optimizer share.
That a scan is such a loop, test_laws says of every row.
"""

import functools
import inspect

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES
from jax import lax
from streams import at_step, make_params, make_stream

import adamx


def factory(case):
    """What makes the optimizer of a row."""
    return getattr(adamx, case.name)


# The first row of each.
OPTIMIZERS = {
    case.name: case
    for case in reversed(CASES)
    if "learning_rate" in inspect.signature(factory(case)).parameters
}
HALF_OF_B = adamx.by_path({r"^w": 1.0, r"": 0.5})


def before(last):
    """Puts a transformation in a chain, before the last member."""
    return lambda tx: adamx.chain(tx, last)


WRAPPERS = {
    "MultiSteps": lambda tx: adamx.MultiSteps(tx, 2),
    "apply_if_finite": lambda tx: adamx.apply_if_finite(tx, 3),
    "cautious": lambda tx: adamx.cautious(tx, downhill=True),
    "compress_state": lambda tx: adamx.compress_state(tx, min_size=0),
    "dynamic_loss_scale": lambda tx: adamx.dynamic_loss_scale(tx, 4.0, 2),
    "ema_params": before(adamx.ema_params(0.9)),
    "grokfast": lambda tx: adamx.grokfast(tx, 0.0, 1.0),
    "lookahead": lambda tx: adamx.lookahead(tx, 1, 1.0),
    "master_weights": adamx.master_weights,
    "record": adamx.record,
    "reduce_on_plateau": before(adamx.reduce_on_plateau(0.5, patience=0)),
    "scale_by_path": before(adamx.scale_by_path(HALF_OF_B)),
    "skip_spikes": lambda tx: adamx.skip_spikes(tx, 100.0, 4, min_steps=2),
    "tail_average": before(adamx.tail_average(1)),
}
INJECT = "inject_hyperparams"  # around a factory


def pair(case, wrapper, watch=lambda tx: tx):
    """A wrapper around an optimizer, or around what `watch` makes of that."""
    if wrapper != INJECT:
        return WRAPPERS[wrapper](watch(case.tx))

    @functools.wraps(factory(case))
    def make(*args, **kwargs):
        return watch(factory(case)(*args, **kwargs))

    return adamx.inject_hyperparams(make)(**case.kwargs)


def test_no_wrapper_is_missing():
    """One is what takes a transformation first, or in the case of one a factory."""
    wrappers, packages = set(), ("adamx._wrappers.", "adamx._precision.")
    for name, thing in vars(adamx).items():
        if getattr(thing, "__module__", "").startswith(packages):
            first = next(iter(inspect.signature(thing).parameters.values()), None)
            if first and first.annotation is adamx.GradientTransformation:
                wrappers.add(name)
    assert len(wrappers) > 6
    # The first says, and wraps not; dense gradients go through the second.
    assert wrappers - {"check_numerics", "on_rows"} <= WRAPPERS.keys()


optimizers = pytest.mark.parametrize("case", OPTIMIZERS.values(), ids=OPTIMIZERS)
wrappers = pytest.mark.parametrize("wrapper", [*WRAPPERS, INJECT])


# ---- what only shapes tell: nothing is compiled

# Both dtypes, an array of which the gradient has another one, and holes.
PARAMS = {
    "w": jnp.ones((4, 3), jnp.float32),
    "v": jnp.ones((4, 3), jnp.bfloat16),
    "b": {"x": jnp.ones(2, jnp.float32), "none": None},
    "masked": adamx.MaskedNode(),
}
GRADS = PARAMS | {"b": {"x": jnp.ones(2, jnp.bfloat16), "none": None}}
VALUE = jnp.ones((), jnp.float32)


def types(tree):
    """The structure, and the shape, the dtype and the weak type of each array."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


@pytest.mark.parametrize("empty", [False, True], ids=["full", "empty"])
@wrappers
@optimizers
def test_types_are_fixed_by_init(case, wrapper, empty):
    """As the carry of a scan, too. Those of updates are the gradients', but for one.

    With `master_weights` the updates of narrow parameters are float32.
    """
    tx = pair(case, wrapper)
    params, grads = ({}, {}) if empty else (PARAMS, GRADS)

    def run(params, grads):
        def step(state, _):
            updates, state = tx.update(grads, state, params, value=VALUE)
            return state, updates

        first = tx.init(params)
        return first, *lax.scan(step, first, length=2)

    state = tx.init(params)
    assert not any(weak for _, _, weak in types(state)[1])
    first, last, updates = jax.eval_shape(run, params, grads)
    assert types(first) == types(last) == types(state)
    if wrapper == "master_weights" and not empty:
        grads = grads | {"v": grads["v"].astype(jnp.float32)}
    twice = jax.tree.map(lambda g: jax.ShapeDtypeStruct((2, *g.shape), g.dtype), grads)
    assert types(updates) == types(twice)


@wrappers
@optimizers
def test_extra_arguments_reach_the_optimizer(case, wrapper):
    """Which ignores those that it does not know."""
    seen = {}

    def watch(tx):
        def update(updates, state, params=None, **extra_args):
            seen.update(extra_args)
            return tx.update(updates, state, params, **extra_args)

        return adamx.GradientTransformation(tx.init, update)

    tx = pair(case, wrapper, watch)
    params = {"w": PARAMS["w"]}
    jax.eval_shape(tx.update, params, tx.init(params), params, value=VALUE, what=params)
    assert seen.keys() == {"value", "what"}
    assert types(seen["what"]) == types(params)


@wrappers
@optimizers
def test_states_survive_serialization(case, wrapper):
    """With another number in each array, so that none comes back as another."""
    state = pair(case, wrapper).init(PARAMS)
    leaves, structure = jax.tree.flatten(state)
    numbered = structure.unflatten(
        [
            np.full(x.shape, i % 2 if x.dtype == bool else i, x.dtype)
            for i, x in enumerate(leaves)
        ]
    )
    data = flax.serialization.to_bytes(numbered)
    restored = flax.serialization.from_bytes(state, data)
    chex.assert_trees_all_equal(restored, numbered)
    chex.assert_trees_all_equal_dtypes(restored, numbered)


# ---- what a wrapper leaves alone is as without it

SHAPES = {"w": (4, 3), "b": {"x": (2,)}}
STEPS = 5
START = jax.tree.map(jnp.asarray, make_params(shapes=SHAPES))
ALL = jax.tree.map(jnp.asarray, make_stream("normal", shapes=SHAPES, steps=STEPS))
STREAM = [at_step(ALL, i) for i in range(STEPS)]
BAD = 2  # where a step is put in that is to be left out


def scaled(factor, tree):
    return jax.tree.map(lambda x: x * jnp.asarray(factor, x.dtype), tree)


def run(tx, grads, path=None, values=None):
    """Updates, parameters after them, the last state; `path`: parameters to be at.

    A gradient may be a function of the state.
    """
    params, state = START, tx.init(START)
    updates, reached = [], []
    for i, g in enumerate(grads):
        params = params if path is None else path[i]
        g = g(state) if callable(g) else g
        extra_args = {} if values is None else {"value": values[i]}
        u, state = tx.update(g, state, params, **extra_args)
        params = adamx.apply_updates(params, u)
        updates.append(u)
        reached.append(params)
    return updates, reached, state


@functools.cache
def alone(case):
    """The run of the optimizer without a wrapper."""
    return run(case.tx, STREAM)


def path_of(case):
    """The parameters before each step of that run."""
    return [START, *alone(case)[1][:-1]]


def with_bad(bad):
    """The stream with one more gradient."""
    return [*STREAM[:BAD], bad, *STREAM[BAD:]]


def assert_close(got, want, ulps=8, size=1.0):
    """Equal up to rounding, of what is as large as `size` too."""
    eps = ulps * float(jnp.finfo(jnp.float32).eps)
    chex.assert_trees_all_close(got, want, rtol=eps, atol=eps * size)


def assert_left_out(case, updates, reached, inner_state):
    """The run of the optimizer alone, but for one step that changed nothing."""
    chex.assert_trees_all_equal(updates.pop(BAD), scaled(0.0, START))
    del reached[BAD]
    chex.assert_trees_all_equal((updates, reached, inner_state), alone(case))


@optimizers
def test_a_step_that_is_not_finite_never_was(case):
    bad = STREAM[0] | {"w": STREAM[0]["w"].at[1, 2].set(jnp.nan)}
    updates, reached, state = run(pair(case, "apply_if_finite"), with_bad(bad))
    assert int(state.total_notfinite) == 1
    assert_left_out(case, updates, reached, state.inner_state)


@optimizers
def test_a_spike_never_was(case):
    bad = scaled(1e6, STREAM[0])
    updates, reached, state = run(pair(case, "skip_spikes"), with_bad(bad))
    assert int(state.total_skipped) == 1
    assert_left_out(case, updates, reached, state.inner_state)


@optimizers
def test_scales_of_a_loss_are_divided_out(case):
    """Those of 4 at first, 8 after two steps, 4 after an overflow, and 8 again."""

    def times_scale(g):
        return lambda state: scaled(adamx.loss_scale(state), g)

    bad = STREAM[0] | {"b": {"x": jnp.array([1.0, jnp.inf], jnp.float32)}}
    grads = list(map(times_scale, with_bad(bad)))
    updates, reached, state = run(pair(case, "dynamic_loss_scale"), grads)
    assert float(state.loss_scale) == 8.0
    assert_left_out(case, updates, reached, state.inner_state)


@optimizers
def test_a_window_of_equal_gradients_is_one_of_them(case):
    """Up to contraction: a window ends in one program, not in kernels."""
    twice = [g for g in STREAM for _ in range(2)]
    updates, reached, state = run(pair(case, "MultiSteps"), twice)
    chex.assert_trees_all_equal(updates[::2], [scaled(0.0, START)] * STEPS)
    chex.assert_trees_all_equal(state.acc_grads, scaled(0.0, START))
    assert (int(state.mini_step), int(state.gradient_step)) == (0, STEPS)
    got = updates[1::2], reached[1::2], state.inner_opt_state
    assert_close(got, alone(case))


@optimizers
def test_what_is_recorded_is_as_without(case):
    """One program, so that XLA may contract a product and a sum."""
    updates, reached, state = run(pair(case, "record"), STREAM)
    assert_close((updates, reached, state.inner_state), alone(case))
    metrics = adamx.get_metrics(state)["all"]
    for name, tree in [
        ("grad_norm", STREAM[-1]),
        ("update_norm", updates[-1]),
        ("param_norm", reached[-2]),
    ]:
        entries = [np.ravel(x).astype(float) for x in jax.tree.leaves(tree)]
        want = np.linalg.norm(np.concatenate(entries))
        np.testing.assert_allclose(metrics[name], want, rtol=1e-6)


@pytest.mark.parametrize("wrapper", ["ema_params", "tail_average"])
@optimizers
def test_averages_are_those_of_the_run_without(case, wrapper):
    updates, reached, (inner_state, state) = run(pair(case, wrapper), STREAM)
    chex.assert_trees_all_equal((updates, reached, inner_state), alone(case))
    decay = 0.9 if wrapper == "ema_params" else 1.0
    weights = decay ** np.arange(STEPS)[::-1]

    def mean(*steps):
        return np.average(np.stack(steps).astype(float), axis=0, weights=weights)

    want = jax.tree.map(lambda *x: mean(*x).astype(np.float32), *reached)
    # Also where the optimizer has an average of its own.
    got = adamx.eval_params((inner_state, state), reached[-1])
    assert_close(got, want, ulps=4)


@optimizers
def test_multipliers_of_one_leave_updates_alone(case):
    """And those of 0.5 halve them."""
    tx = pair(case, "scale_by_path")
    updates, _, (inner_state, _) = run(tx, STREAM, path_of(case))
    alone_updates, _, alone_state = alone(case)
    want = [u | {"b": scaled(0.5, u["b"])} for u in alone_updates]
    chex.assert_trees_all_equal((updates, inner_state), (want, alone_state))


@optimizers
def test_before_a_plateau_updates_are_as_without(case):
    """The last one is on it."""
    tx = pair(case, "reduce_on_plateau")
    values = [5.0, 4.0, 3.0, 2.0, 2.0]
    updates, _, (inner_state, _) = run(tx, STREAM, path_of(case), values)
    alone_updates, _, alone_state = alone(case)
    want = [*alone_updates[:-1], scaled(0.5, alone_updates[-1])]
    chex.assert_trees_all_equal((updates, inner_state), (want, alone_state))


@optimizers
def test_a_lookahead_that_goes_all_the_way_is_none(case):
    """Up to the rounding of the parameters, of which the updates are differences."""
    tx = pair(case, "lookahead")
    updates, _, state = run(tx, STREAM, path_of(case))
    alone_updates, alone_reached, alone_state = alone(case)
    chex.assert_trees_all_equal(state.fast_state, alone_state)
    chex.assert_trees_all_equal(state.slow, alone_reached[-1])
    assert_close(updates, alone_updates, ulps=1, size=4.0)


@optimizers
def test_gradients_amplified_by_themselves_are_twice_as_large(case):
    half = [scaled(0.5, g) for g in STREAM]
    updates, reached, state = run(pair(case, "grokfast"), half)
    chex.assert_trees_all_equal((updates, reached, state.inner_state), alone(case))


@optimizers
def test_cautious_updates_are_those_that_go_downhill(case):
    """Divided by the share of them in their array; the state is as without."""

    def leaf(u, g):
        keep = np.asarray(u) * np.asarray(g) < 0
        return np.where(keep, u / max(keep.mean(dtype=np.float32), 1e-3), 0)

    updates, _, state = run(pair(case, "cautious"), STREAM, path_of(case))
    alone_updates, _, alone_state = alone(case)
    chex.assert_trees_all_equal(state, alone_state)
    want = [
        jax.tree.map(leaf, u, g) for u, g in zip(alone_updates, STREAM, strict=True)
    ]
    assert_close(updates, want, ulps=2, size=0.0)


@optimizers
def test_masters_of_bfloat16_are_float32_parameters(case):
    """The same updates, the same state."""
    start = jax.tree.map(lambda p: p.astype(jnp.bfloat16), START)
    params, state = start, pair(case, "master_weights").init(start)
    wide = jax.tree.map(lambda p: p.astype(jnp.float32), start)
    wide_state = case.tx.init(wide)
    for g in STREAM:
        u, state = pair(case, "master_weights").update(g, state, params)
        params = adamx.apply_updates(params, u)
        u, wide_state = case.tx.update(g, wide_state, wide)
        wide = adamx.apply_updates(wide, u)
        chex.assert_trees_all_equal(adamx.to_float32(params, state), wide)
    chex.assert_trees_all_equal(state.inner_state, wide_state)
