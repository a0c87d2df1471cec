"""Every transformation against the oracle: updates and states, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, find
from compare import COUNTS, actual, errors, expected, faults, leaves_of, magnitude
from streams import STREAMS, make_params, make_stream

from adamx._numerics import times

X64 = jax.config.jax_enable_x64
REAL = ["float32", "bfloat16", "float64" if X64 else "float16"]
COMPLEX = "complex128" if X64 else "complex64"
LATE = 10**6


def all_faults(case, dtype, count=0, params_dtype=None):
    """What is wrong with a transformation, over all streams."""
    params = make_params(params_dtype or dtype, case.shapes)
    lines = []
    for stream in STREAMS:
        if stream not in case.without:
            grads = make_stream(stream, dtype, case.shapes)
            results = actual(case, params, grads, count)
            found = faults(case, results, case.step, params, grads, count)
            lines += [f"{stream}: {line}" for line in found]
    return lines


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_matches_the_oracle(case, dtype):
    assert all_faults(case, dtype) == []


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.complex], ids=lambda case: case.id
)
def test_matches_the_oracle_in_complex_numbers(case):
    assert all_faults(case, COMPLEX) == []


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if COUNTS & c.first_state and not c.stored],
    ids=lambda case: case.id,
)
def test_matches_the_oracle_after_a_million_steps(case):
    assert all_faults(case, "float32", count=LATE) == []


@pytest.mark.parametrize("name", ["add_decayed_weights", "adamw", "rmsprop-momentum"])
def test_matches_the_oracle_where_dtypes_differ(name):
    """Gradients and parameters of unlike dtypes lose nothing of either."""
    for params_dtype, dtype in [("bfloat16", "float32"), ("float32", "bfloat16")]:
        assert all_faults(find(name), dtype, params_dtype=params_dtype) == []


@pytest.mark.parametrize(
    "name",
    [
        "scale_by_adam",
        "scale_by_adam-slow",
        "scale_by_adam_root",
        "amsgrad-torch",
        "rmsprop-torch",
    ],
)
def test_long_runs_do_not_drift(name):
    """After 10 000 steps still two ulp; b·x + (1 - b)·y would have drifted to 76."""
    case = find(name)
    params = make_params("float32", case.shapes)
    grads = make_stream("normal", "float32", case.shapes, steps=10_000)
    (got,) = leaves_of(actual(case, params, grads)[0])
    (want,), _ = expected(case.step, case, params, grads)
    (size,), _ = expected(magnitude(case), case, params, grads)
    assert errors(got, want, size, jnp.float32)[-200:].mean() < 2


@pytest.mark.parametrize("b2", [0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999])
def test_bias_correction_is_exact_at_any_count(b2):
    """At single steps t, where a power in float32 is off by up to 24 000 ulp."""
    case = find("bias_correction-slow")
    tx = case.make(b2=b2)
    counts = [0, 1, 2, 6, 99, 255, 256, 999, 65_535, 10**6, 2**24, 2**31 - 2]
    g = jnp.ones([])
    update = jax.jit(lambda state: tx.update(g, state)[0])
    for count in counts:
        state = tx.init(g)._replace(count=jnp.asarray(count, jnp.int32))
        want, _ = case.step({}, 1.0, None, count + 1, b2=b2)
        (got,) = leaves_of(update(state))
        assert abs(got - want) <= 6e-8 * want, (count, got, want)


@pytest.mark.parametrize("b", [0.8, 0.9, 0.95, 0.99, 0.999, 0.9999])
def test_a_decay_is_unbiased_without_fused_multiply_add(b):
    """As on GPUs: b·x has no more than half an ulp of bias in 1 / (1 - b) steps.

    As x·hi + x·lo, of which x·hi is rounded first, 0.9 has 3 ulp.
    """
    x = np.random.default_rng(0).uniform(1, 2, 100_000).astype(np.float32)
    got = times(x, b)
    assert got.dtype == np.float32
    right = np.float64(x) * b
    bias = np.mean((got - right) / np.spacing(np.float32(right)))
    assert abs(bias) < 0.5 * (1 - b) + 0.003  # what the mean of roundings varies by


def test_counts_are_the_number_of_updates():
    case = find("adam")
    params = make_params("float32", case.shapes)
    grads = make_stream("normal", "float32", case.shapes, steps=5)
    _, states = actual(case, params, grads)
    assert states["count"].tolist() == [1, 2, 3, 4, 5]
