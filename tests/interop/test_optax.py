"""Runs that change between Optax and adamx in the middle."""

import functools
import re
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax
from streams import make_params, make_stream
from test_errors import raises
from test_parity_optax import DTYPE, TWINS, X64

import adamx
from adamx.interop.optax import convert_state, from_optax, to_optax

SHAPES = {"w": (3, 5), "b": {"x": (7,)}}
HALVES = slice(0, 10), slice(10, 20)


@functools.cache
def inputs(elementwise=False, dtype=DTYPE):
    """Parameters, and the gradients of two halves; one array where that suffices."""
    shapes = {"w": (7,)} if elementwise else SHAPES
    grads = make_stream("normal", dtype, shapes, steps=20)
    halves = [jax.tree.map(lambda x, half=h: x[half], grads) for h in HALVES]
    return make_params(dtype, shapes), *halves


PARAMS, FIRST, LAST = inputs(dtype="float32")
twins = pytest.mark.parametrize("case", TWINS, ids=lambda case: case.id)


@functools.cache  # so that both halves of a run are one program
def trainer(tx):
    """Parameters and state after some steps, and the steps."""

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        # Short ones: what goes by the size of parameters would grow without end.
        updates = jax.tree.map(lambda u, p: (u / 10).astype(p.dtype), updates, params)
        return (adamx.apply_updates(params, updates), state), updates

    return jax.jit(lambda carry, grads: lax.scan(step, carry, grads))


def train(tx, params, state, grads):
    """The same, in the promotion that Optax needs."""
    with jax.numpy_dtype_promotion("standard"):
        (params, state), updates = trainer(tx)((params, state), grads)
    return params, state, updates


def off(case):
    """How far Optax itself is off in ten steps, as in test_parity_optax."""
    if case.stored:
        return 2e-2
    if X64:
        return case.optax_tolerance or 1e-10
    own = case.optax_tolerance or case.optax_float32 or 0.0
    return max(1e-4, own, 2e-3 if case.kwargs.get("b2") == 0.99999 else 0.0)


@twins
def test_a_run_that_begins_in_optax_goes_on_here(case):
    """As it would have gone on there, and back to the bit."""
    theirs, ours = case.make_optax(), case.tx
    start, first, last = inputs(case.elementwise)
    params, state, _ = train(theirs, start, theirs.init(start), first)
    moved = convert_state(ours, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, ours.init(params))
    want, _, far = train(theirs, params, state, last)
    got, state_here, _ = train(ours, params, moved, last)
    for x, y, u in zip(*map(jax.tree.leaves, (got, want, far)), strict=True):
        size = np.sum(np.abs(u), 0) + np.max(np.abs(u))
        assert np.all(np.abs(x - y) <= off(case) * size + 1e-6 * np.abs(y))
    there = convert_state(theirs, state_here, got)
    back = convert_state(ours, there, got)
    assert jax.tree.structure(there) == jax.tree.structure(theirs.init(got))
    chex.assert_trees_all_equal(back, state_here)
    # Every array is there, and it is the same object.
    assert list(map(id, jax.tree.leaves(back))) == list(
        map(id, jax.tree.leaves(state_here))
    )


MASK = {"w": True, "b": {"x": False}}
LABELS = {"w": "a", "b": {"x": "b"}}


def rate(library):
    return library.linear_schedule(0.1, 0.01, 30)


WRAPPED = {
    "chain": lambda lib: lib.chain(
        lib.clip_by_global_norm(1.0),
        lib.adamw(rate(lib), weight_decay=rate(lib), mask=MASK),
    ),
    "named_chain": lambda lib: lib.named_chain(
        ("clip", lib.clip(1.0)), ("adam", lib.adam(0.1))
    ),
    "masked": lambda lib: lib.masked(lib.adam(0.1), MASK),
    "partition": lambda lib: lib.partition(
        {"a": lib.adam(0.1), "b": lib.sgd(rate(lib), 0.9)}, LABELS
    ),
    "MultiSteps": lambda lib: lib.MultiSteps(lib.adamw(0.1), 3),
    "MultiSteps that skips": lambda lib: lib.MultiSteps(
        lib.adamw(0.1), 3, should_skip_update_fn=lib.skip_not_finite
    ),
    "apply_if_finite": lambda lib: lib.apply_if_finite(lib.adam(0.1), 3),
    "injected": lambda lib: lib.inject_hyperparams(lib.adamw)(0.1),
    "injected schedule": lambda lib: lib.inject_hyperparams(lib.adamw)(rate(lib)),
    "inside of each other": lambda lib: lib.chain(
        lib.zero_nans(),
        lib.MultiSteps(
            lib.masked(lib.inject_hyperparams(lib.lamb)(rate(lib)), MASK), 2
        ),
        lib.ema(0.9),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_states_inside_of_others(name):
    """In the middle of a window, of a schedule, of a group."""
    if X64 and "skips" in name:
        pytest.skip("Optax counts in int64 there, which has no place in an int32")
    ours, theirs = WRAPPED[name](adamx), WRAPPED[name](optax)
    if not hasattr(theirs, "_fields"):
        theirs = theirs.gradient_transformation()
    with jax.numpy_dtype_promotion("standard"):
        start = theirs.init(PARAMS)
    params, state, _ = train(theirs, PARAMS, start, FIRST)
    want, _, _ = train(theirs, params, state, LAST)
    moved = convert_state(ours, state, params)
    got, end, _ = train(ours, params, moved, LAST)
    chex.assert_trees_all_close(got, want, rtol=1e-4, atol=1e-4)
    back = convert_state(ours, convert_state(theirs, end, got), got)
    chex.assert_trees_all_equal(back, end)


def test_bfloat16_moments_become_float32_ones():
    params = make_params("bfloat16", {"w": (3, 5)})
    grads = make_stream("normal", "bfloat16", {"w": (3, 5)}, steps=5)
    theirs, ours = optax.adam(0.1), adamx.adam(0.1)
    params, state, _ = train(theirs, params, theirs.init(params), grads)
    moved = convert_state(ours, state, params)
    assert moved[0].mu["w"].dtype == jnp.float32
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), (state[0].mu, state[0].nu))
    chex.assert_trees_all_equal((moved[0].mu, moved[0].nu), exact)
    text = "^" + re.escape("convert_state: expected bf16[3,5], got f32[3,5] at [0].mu")
    with pytest.raises(ValueError, match=text):
        convert_state(theirs, moved, params)
    # As the docstring has it.
    wide = {"w": jax.ShapeDtypeStruct((3, 5), jnp.float32)}
    chex.assert_trees_all_equal(convert_state(theirs, moved, wide)[0].nu, exact[1])


def test_second_moments_of_complex_parameters_are_real():
    params = {"w": jnp.ones(3, jnp.complex64)}
    theirs, ours = optax.adam(0.1), adamx.adam(0.1)
    grads = {"w": jnp.array([1j, 2, 3 + 4j], jnp.complex64)}
    with jax.numpy_dtype_promotion("standard"):
        _, state = theirs.update(grads, theirs.init(params))
    assert state[0].nu["w"].dtype == jnp.complex64
    moved = convert_state(ours, state, params)
    np.testing.assert_allclose(moved[0].nu["w"], 1e-3 * np.array([1, 4, 25]), 1e-6)
    chex.assert_trees_all_equal(convert_state(theirs, moved, params), state)
    spoiled = state[0]._replace(nu={"w": state[0].nu["w"] + jnp.complex64(1j)})
    text = "^" + re.escape("convert_state: expected f32[3], got c64[3] at [0].nu['w']")
    with pytest.raises(ValueError, match=text):
        convert_state(ours, (spoiled, state[1]), params)


def test_arrays_of_a_checkpoint_will_do():
    state = optax.adam(0.1).init(PARAMS)
    stored = jax.tree.map(np.asarray, state)
    stored = (stored[0]._replace(count=3), stored[1])
    moved = convert_state(adamx.adam(0.1), stored, PARAMS)
    assert moved[0].count == 3
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(moved))


SMALL = {"b": jnp.ones(2), "w": jnp.ones((2, 3))}
END = "give the settings, and params of the dtypes, with which the state was made."


@pytest.mark.parametrize(
    ("tx", "twin", "params", "text"),
    [
        (
            adamx.adam(0.1),
            optax.amsgrad(0.1),
            SMALL,
            "expected ScaleByAdamState, got ScaleByAmsgradState at [0]; expected "
            "nothing, got f32[2] at [0].nu_max['b']; expected nothing, got f32[2,3] at "
            "[0].nu_max['w']",
        ),
        (
            adamx.adam(0.1),
            optax.adabelief(0.1),
            SMALL,
            "expected ScaleByAdamState, got ScaleByBeliefState at [0]",
        ),
        (
            adamx.adam(lambda count: 0.1),
            optax.adam(0.1),
            SMALL,
            "expected i32[], got nothing at [1].count",
        ),
        (
            adamx.sgd(0.1, 0.9),
            optax.chain(optax.clip(1.0), optax.sgd(0.1, 0.9)),
            SMALL,
            "expected f32[2], got nothing at [0].trace['b']; expected f32[2,3], got "
            "nothing at [0].trace['w']; expected nothing, got f32[2] at "
            "[1][0].trace['b']; expected nothing, got f32[2,3] at [1][0].trace['w']",
        ),
        (
            optax.sgd(0.1, 0.9),
            adamx.sgd(0.1, 0.9),
            {"b": SMALL["b"], "v": jnp.ones(1)},
            "expected f32[1], got nothing at [0].trace['v']; expected nothing, got "
            "f32[2,3] at [0].trace['w']",
        ),
        (
            optax.sgd(0.1, 0.9),
            adamx.sgd(0.1, 0.9),
            {"b": SMALL["b"], "w": jnp.ones((3, 2))},
            "expected f32[3,2], got f32[2,3] at [0].trace['w']",
        ),
        (
            optax.sgd(0.1, 0.9),
            adamx.sgd(0.1, 0.9, accumulator_dtype=jnp.bfloat16),
            {"b": jnp.ones(2, jnp.float16), "w": SMALL["w"]},
            "expected f16[2], got bf16[2] at [0].trace['b']",
        ),
        (
            adamx.lookahead(adamx.sgd(0.1), 5, 0.5),
            optax.lookahead(optax.sgd(0.1), 5, 0.5),
            SMALL["b"],
            "expected LookaheadWithSlowState, got LookaheadState at the root; expected "
            "f32[2], got nothing at .slow",
        ),
    ],
)
def test_what_does_not_match_is_named_by_its_path(tx, twin, params, text):
    start = SMALL
    if isinstance(params, jax.Array):  # lookahead has parameters in pairs
        start = optax.LookaheadParams(params, params)
    with raises(ValueError, f"convert_state: {text}; {END}"):
        convert_state(tx, twin.init(start), params)


def test_codes_are_no_floats():
    """What is encoded has no twin: nothing is cast, everything is named."""
    tx = adamx.compress_state(adamx.adam(0.1))
    state = optax.adam(0.1).init(SMALL)
    with pytest.raises(ValueError, match=r"got nothing at \.inner_state\[0\]\.count"):
        convert_state(tx, state, SMALL)
    codes = jax.tree.map(lambda x: x.astype(jnp.int8), state)
    with raises(ValueError, "convert_state: expected i32[], got i8[] at [0].count; ex"):
        convert_state(adamx.adam(0.1), codes, SMALL)


# ---- transformations


def test_extra_arguments_pass_in_both_directions():
    def update(updates, state, params=None, *, value, **extra_args):
        return updates, state + value

    def init(params):
        return jnp.float32(0)

    ours = to_optax(adamx.GradientTransformation(init, update))
    theirs = from_optax(optax.GradientTransformationExtraArgs(init, update))
    assert type(ours) is optax.GradientTransformationExtraArgs
    assert type(theirs) is adamx.GradientTransformation
    g = jnp.ones(1)
    for tx in (
        ours,
        theirs,
        optax.chain(ours, optax.identity()),
        adamx.chain(adamx.identity(), theirs),
        optax.masked(to_optax(theirs), True),
    ):
        _, state = tx.update(g, tx.init(g), g, value=jnp.float32(3), other=1)
        assert jax.tree.leaves(state) == [3.0]


def test_old_transformations_get_no_extra_arguments():
    double = optax.GradientTransformation(
        lambda params: (), lambda updates, state, params=None: (2 * updates, state)
    )
    u, _ = from_optax(double).update(jnp.ones(1), (), None, value=1.0)
    assert u == 2


@pytest.mark.parametrize("wrong", [adamx.adam, optax.adam, None, 3])
def test_what_is_no_transformation(wrong):
    for f in (to_optax, from_optax):
        with pytest.raises(TypeError, match=f"^{f.__name__}: expected a gradient tr"):
            f(wrong)
    with raises(
        TypeError, "convert_state: expected a gradient transformation as tx, g"
    ):
        convert_state(wrong, (), SMALL)


# ---- the module


def test_without_optax_one_line_says_what_to_install():
    code = "import sys; sys.modules['optax'] = None; import adamx.interop.optax"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ImportError: adamx.interop.optax needs optax; install optax."


def test_a_state_that_flax_keeps_in_variables():
    """As nnx.Optimizer does; and TrainState does not."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        theirs = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
        grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
        theirs.update(model, grads)
        params = nnx.state(model, nnx.Param)
        moved = convert_state(adamx.adam(0.1), theirs.opt_state, params)
        want = adamx.adam(0.1).init(params)
        assert jax.tree.structure(moved) == jax.tree.structure(want)
        assert moved[0].count == 1
        for got, x in zip(
            jax.tree.leaves(moved), jax.tree.leaves(theirs.opt_state), strict=True
        ):
            np.testing.assert_array_equal(got, x)
        ours = nnx.Optimizer(model, adamx.adam(0.1), wrt=nnx.Param)
        variables = jax.tree.leaves(
            ours.opt_state, is_leaf=lambda x: isinstance(x, nnx.Variable)
        )
        for variable, x in zip(variables, jax.tree.leaves(moved), strict=True):
            variable[...] = x
        ours.update(model, grads)
        assert ours.opt_state[0].count[...] == 2
