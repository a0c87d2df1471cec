"""The ends of the ranges: sizes, dtypes, counts; and what holds there."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, WRAPPED, find
from compare import COUNTS, fields, with_count
from jax import lax
from streams import make_grads, make_params

import adamx

ALL = CASES + WRAPPED
MAX_COUNT = 2**31 - 1
SHAPES = {"w": (8, 3), "b": {"x": ()}}
PARAMS = make_params(shapes=SHAPES)
GRADS = make_grads(shapes=SHAPES)
every = pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)


def extremes(dtype):
    """Numbers from one end of a dtype's range to the other, and zeros."""
    info = jnp.finfo(dtype)
    largest = 1e30 if info.bits > 16 or dtype == jnp.bfloat16 else 1e3
    sizes = [1e-45, info.smallest_subnormal, info.tiny, 1e-30, 1e-8, 1e-4, 1.0, largest]
    return np.array([[0.0, x, -x] for x in map(float, sizes)]).astype(dtype)


@every
def test_finite_gradients_give_finite_updates(case):
    """In every dtype, at the first count and at the last, together and one by one."""
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        grads = {"w": extremes(dtype), "b": {"x": np.zeros((), dtype)}}
        params = make_params(dtype, SHAPES)
        for count in (0, MAX_COUNT):
            state = with_count(case.tx.init(params), count)
            for _ in range(2):
                updates, state = case.tx.update(grads, state, params)
                found = updates, state
                if case.name == "reduce_on_plateau":  # the best so far is infinite
                    found = updates
                chex.assert_tree_all_finite(found)
            chex.assert_trees_all_equal_shapes_and_dtypes(updates, grads)


@every
def test_counts_stay_at_the_largest_integer(case):
    state = with_count(case.tx.init(PARAMS), MAX_COUNT)
    _, new = case.tx.update(GRADS, state, PARAMS)
    counts = [v for k, v in fields(new).items() if k in COUNTS]
    if case.name == "reduce_on_plateau":  # its count is of values in a mean, and ends
        assert counts == [0]
    else:
        assert all(count == MAX_COUNT for count in counts)


@pytest.mark.parametrize("case", [c for c in ALL if c.odd], ids=lambda case: case.id)
def test_opposite_gradients_give_opposite_updates(case):
    """Bit for bit; with the parameters turned around, too, where they count."""
    tx, minus = case.tx, lambda tree: jax.tree.map(lambda x: -x, tree)
    state, opposite = tx.init(PARAMS), tx.init(minus(PARAMS))
    for _ in range(3):
        u, state = tx.update(GRADS, state, PARAMS)
        v, opposite = tx.update(minus(GRADS), opposite, minus(PARAMS))
        chex.assert_trees_all_equal(v, minus(u))


@every
def test_derivative_at_a_zero_gradient_is_finite(case):
    """Forward and backward, so that training can be differentiated."""
    params = {"w": PARAMS["w"]}
    zeros, ones = (
        jax.tree.map(np.zeros_like, params),
        jax.tree.map(np.ones_like, params),
    )
    state = case.tx.init(params)

    def updates(grads):
        return case.tx.update(grads, state, params)[0]

    @jax.jit
    def derivatives(grads):
        _, forward = jax.jvp(updates, (grads,), (ones,))
        _, transpose = jax.vjp(updates, grads)
        return forward, *transpose(ones)

    chex.assert_tree_all_finite(derivatives(zeros))


def test_adam_is_a_line_of_slope_one_over_eps_at_zero():
    """The first step is g / (|g| + eps)."""
    tx = adamx.scale_by_adam(eps=0.5)

    def first(g):
        return tx.update(g, tx.init(g))[0]

    assert jax.grad(first)(jnp.float32(0)) == pytest.approx(2.0, rel=1e-6)
    assert jax.grad(first)(jnp.float32(1e-30)) == pytest.approx(2.0, rel=1e-6)
    assert jax.grad(first)(jnp.float32(0.5)) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(
    "case", [c for c in CASES if not c.complex], ids=lambda case: case.id
)
def test_complex_parameters_without_a_meaning_are_an_error(case):
    """At init where there is a state, else at the first update."""
    params = make_params("complex64", SHAPES)
    with pytest.raises(TypeError, match=r"expected (real|a complex dtype)"):
        case.tx.update(params, case.tx.init(params), params)


STEPS = {"step_count", "mini_step", "gradient_step"}  # counters beside COUNTS
STATEFUL = [c for c in CASES if c.first_state - COUNTS - {"found_nan"} and not c.stored]


@pytest.mark.parametrize("case", STATEFUL, ids=lambda case: case.id)
def test_moments_of_narrow_parameters_are_float32(case):
    for dtype in ("bfloat16", "float16", "float32"):
        shapes = jax.eval_shape(case.tx.init, make_params(dtype, SHAPES))
        for name, tree in fields(shapes).items():
            counts = name in COUNTS or name in STEPS
            for x in jax.tree.leaves(tree) if name != "ns_coeffs" else ():
                wide = jnp.issubdtype(x.dtype, jnp.floating)
                assert not wide or x.dtype == jnp.float32
                assert not counts or x.dtype == jnp.int32


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scale_by_adam", {"mu_dtype": "mu", "nu_dtype": "nu"}),
        ("adam", {"mu_dtype": "mu", "nu_dtype": "nu"}),
        ("adamw", {"mu_dtype": "mu", "nu_dtype": "nu"}),
        ("nadam", {"mu_dtype": "mu", "nu_dtype": "nu"}),
        ("nadamw", {"mu_dtype": "mu", "nu_dtype": "nu"}),
        ("scale_by_amsgrad", {"mu_dtype": "mu", "nu_dtype": "nu"}),
        ("amsgrad", {"mu_dtype": "mu", "nu_dtype": "nu"}),
        ("trace", {"accumulator_dtype": "trace"}),
        ("ema", {"accumulator_dtype": "ema"}),
        ("sgd-momentum", {"accumulator_dtype": "trace"}),
        ("scale_by_adopt", {"mu_dtype": "mu", "nu_dtype": "nu"}),
        ("laprop", {"mu_dtype": "mu", "nu_dtype": "nu"}),
        ("scale_by_adam_atan2", {"mu_dtype": "mu", "nu_dtype": "nu"}),
        ("mars", {"mu_dtype": "mu", "nu_dtype": "nu"}),
    ],
)
def test_moments_are_kept_in_the_dtype_asked_for(name, options):
    """And no other moment is."""
    case = find(name)
    for option, field in options.items():
        tx = case.make(**{option: jnp.bfloat16})
        state = jax.eval_shape(tx.init, PARAMS)
        _, new = jax.eval_shape(tx.update, GRADS, state, PARAMS)
        for found in (fields(state), fields(new)):
            for other, tree in found.items():
                for x in jax.tree.leaves(tree) if other != "count" else ():
                    pairs = ("nu", "nu_max"), ("mu", "last")
                    is_asked = other == field or (field, other) in pairs
                    assert x.dtype == (jnp.bfloat16 if is_asked else jnp.float32)


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "amsgrad-torch"])
def test_second_moments_of_bfloat16_models_decay(name):
    """200 gradients of 1, then 5000 of 0.01; a bfloat16 nu would stay at 0.196."""
    tx = find(name).tx
    params = jnp.ones((), jnp.bfloat16)
    grads = jnp.repeat(jnp.array([1, 0.01], jnp.bfloat16), np.array([200, 5000]))

    def step(state, g):
        return tx.update(g, state, params)[1], None

    state = jax.jit(lambda s: lax.scan(step, s, grads)[0])(tx.init(params))
    small = float(grads[-1]) ** 2
    want = (1 - 0.999**200) * 0.999**5000 + small * (1 - 0.999**5000)
    assert float(state[0].nu) == pytest.approx(want, rel=1e-5)
