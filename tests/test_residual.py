"""A float32 in two parts is put together again, and updates arrive where they aim."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from drift import WAYS, drift, moves

import adamx
from adamx._precision.landing import lead_to
from adamx._precision.master_weights import joined, settled, split
from adamx._precision.residual import nearest, rest, value
from adamx._tree import landed

MANTISSAS = 1 << 23
EXPONENTS = [0, 1, 2, 67, 118, 126, 127, 128, 200, 254]
BF16, F16 = jnp.bfloat16, jnp.float16
I8, I16 = jnp.int8, jnp.int16
OVERFLOW = 0x7F7F8000  # from there on the nearest bfloat16 is infinite


def bits(x):
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


def floats(b):
    return jax.lax.bitcast_convert_type(b, jnp.float32)


# ---- the split


@functools.partial(jax.jit, static_argnums=(0, 1))
def off_by(parts, low, top):
    """The largest error of 2^23 numbers with one sign and exponent, in units of f32."""
    b = top + jnp.arange(MANTISSAS, dtype=jnp.uint32)
    p, residual = parts(floats(b), BF16, low)
    again = bits(joined(p, residual)).astype(jnp.int32)
    error = jnp.abs(again - b.astype(jnp.int32))
    known = b & np.uint32(0x7FFFFFFF) < OVERFLOW - (128 if low == I8 else 0)
    return jnp.where(known, error, 0).max()


def worst(parts, low, exponents=EXPONENTS, signs=(0, 1)):
    tops = [np.uint32(s << 31 | e << 23) for s in signs for e in exponents]
    return max(int(off_by(parts, low, top)) for top in tops)


def test_eight_bits_are_right_to_a_512th_of_a_unit():
    """2^16 float32 make a bfloat16, so 128 of them; with all mantissas."""
    assert worst(split, I8) == 128


@pytest.mark.exhaustive
def test_sixteen_bits_are_exact_for_all_numbers():
    assert worst(split, I16, range(255)) == 0


def test_sixteen_bits_are_exact():
    """For all upper halves, with lower ones at the ends, at ties and between."""
    high = np.arange(1 << 16, dtype=np.uint32)[:, None] << 16
    edges = [0, 1, 2, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF]
    low = np.array([*edges, *np.random.default_rng(0).integers(0, 1 << 16, 249)])
    b = (high | low.astype(np.uint32)).ravel()
    known = (b & np.uint32(0x7FFFFFFF)) < OVERFLOW
    p, residual = split(floats(jnp.asarray(b)), BF16, I16)
    again = np.asarray(bits(joined(p, residual)))
    np.testing.assert_array_equal(again[known], b[known])
    beyond = np.asarray(p.astype(jnp.float32))[~known]
    assert not np.isfinite(beyond).any()
    assert not np.asarray(residual)[~known].any()


def test_nan_and_infinity_stay():
    b = np.array([0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF])
    x = floats(jnp.asarray(b.astype(np.uint32)))
    for dtype, low in [(BF16, I8), (BF16, I16), (F16, I8), (F16, I16)]:
        p, residual = split(x, dtype, low)
        np.testing.assert_array_equal(joined(p, residual), x)
        assert not residual.any()


def test_the_value_of_16_bits_is_what_numpy_says():
    b = np.arange(1 << 16, dtype=np.uint16)
    for kind in (np.float16, ml_dtypes.bfloat16):
        x = b.view(kind)
        got = np.asarray(value(jnp.asarray(x)))
        with np.errstate(invalid="ignore"):
            want = x.astype(np.float32)
        np.testing.assert_array_equal(got, want)
        numbers = ~np.isnan(want)
        assert got[numbers].tobytes() == want[numbers].tobytes()  # -0 too


def test_a_float16_and_its_rest():
    rng = np.random.default_rng(0)
    x = rng.normal(size=1 << 20) * 2.0 ** rng.uniform(-30, 14, size=1 << 20)
    x = np.float32(x[np.abs(x) < 65000])
    half = np.asarray(jnp.asarray(x).astype(F16))
    unit = np.spacing(np.abs(half)).astype(np.float64)
    for low, part in [(I8, 512), (I16, 1 << 17)]:
        p, residual = split(jnp.asarray(x), F16, low)
        away = np.abs(np.asarray(value(p), np.float64) - x)
        assert (away <= unit * (0.5 + 1 / part)).all()
        error = np.abs(np.asarray(joined(p, residual), np.float64) - x)
        assert (error <= unit / part).all()
    assert not error[np.abs(x) >= 2.0**-17].any()


def test_a_rest_that_someone_left_does_no_harm():
    """Half a unit in the last place of what is there now, and no other sign."""
    p = jnp.array([0.0, -0.0, 1.0, -1.0, 1e-40, -3e38, np.inf, -np.inf, np.nan])
    for dtype, low in [(BF16, I8), (BF16, I16), (F16, I8), (F16, I16)]:
        now = p.astype(dtype)
        unit = jnp.finfo(dtype).eps
        for residual in (jnp.iinfo(low).min, -3, 5, jnp.iinfo(low).max):
            x = np.asarray(joined(now, jnp.full(len(p), residual, low)), np.float64)
            want = np.asarray(value(now), np.float64)
            finite = np.isfinite(want)
            np.testing.assert_array_equal(x[~finite], want[~finite])
            tiny = float(jnp.finfo(dtype).smallest_subnormal)
            bound = np.maximum(np.abs(want) * unit, tiny)[finite] * 0.5
            assert (np.abs(x[finite] - want[finite]) <= bound).all()


def ties_to_even_and_saturated(x, dtype, low):
    """Rounds as a cast does, so that 128 units have no place in 8 bits."""
    p = x.astype(dtype)
    whole = bits(x).astype(jnp.int32) - bits(p.astype(jnp.float32)).astype(jnp.int32)
    units = jnp.round(whole / 256).astype(jnp.int32)
    return p, jnp.clip(units, -128, 127).astype(low)


def truncated(x, dtype, low):
    """Leaves bits out instead of rounding them."""
    b = bits(x) & ~np.uint32(0xFF)
    p = nearest(floats(b), dtype, low)
    return p, rest(floats(b), p, low)


def test_wrong_splits_are_found():
    for bug in (ties_to_even_and_saturated, truncated):
        assert worst(bug, I8, [127], [0]) > 128, bug


# ---- landing

SCALES = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]


@functools.partial(jax.jit, static_argnums=(0, 1))
def sample(size, dtype, scale, seed):
    """Masters, moves and parameters: x, u, p."""
    keys = jax.random.split(jax.random.key(seed), 3)
    p = (jax.random.normal(keys[0], (size,), jnp.float32) * 0.02).astype(dtype)
    residual = jax.random.randint(keys[1], (size,), -(2**15), 2**15, jnp.int32)
    u = jax.random.normal(keys[2], (size,), jnp.float32) * scale
    return joined(p, residual.astype(I16)), u, p


def near_ties(dtype, seed=0):
    """Moves that end within two float32 of the middle between two 16-bit numbers."""
    x, u, p = sample(100_000, dtype, 1e-3, seed)
    middle = np.uint32(1 << 15 if dtype == BF16 else 1 << 12)
    off = jax.random.randint(jax.random.key(1), x.shape, -2, 3, jnp.int32)
    b = bits(x + u) & ~(2 * middle - np.uint32(1)) | middle
    return x, floats((b.astype(jnp.int32) + off).astype(jnp.uint32)) - x, p


def check(step, low, x, u, p):
    """How many miss the aim, and the largest error of a master over its move."""
    y = x + u
    d, residual = step(x, u, p, low)
    new = adamx.apply_updates(p, d)
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_array_equal(new, optax.apply_updates(p, d))
    missed = value(new) != value(nearest(y, p.dtype, low))
    error = jnp.abs(joined(new, residual) - y) / jnp.abs(u)
    return int(missed.sum()), float(error.max())


@pytest.mark.parametrize(
    ("dtype", "low"), [(BF16, I8), (BF16, I16), (F16, I8), (F16, I16)]
)
def test_updates_arrive_where_they_aim(dtype, low):
    draws = [sample(100_000, dtype, scale, 0) for scale in SCALES[::2]]
    for x, u, p in [*draws, near_ties(dtype)]:
        missed, _ = check(settled, low, x, u, p)
        assert missed == 0
        if low == I16 and dtype == BF16:
            d, residual = settled(x, u, p, low)
            arrived = joined(adamx.apply_updates(p, d), residual)
            np.testing.assert_array_equal(arrived, x + u)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(4))
def test_millions_of_updates_arrive_where_they_aim(seed):
    for scale in SCALES:
        assert check(settled, I16, *sample(1_000_000, BF16, scale, seed))[0] == 0


def test_what_nearly_cancels_is_right_to_a_float32_of_the_parameter():
    x, _, p = sample(100_000, BF16, 1.0, 0)
    y = x * jax.random.normal(jax.random.key(3), x.shape, jnp.float32) * 1e-6
    d, residual = settled(x, y - x, p, I16)
    arrived = joined(adamx.apply_updates(p, d), residual)
    error = jnp.abs(arrived - (x + (y - x)))
    assert float((error / jnp.abs(value(p))).max()) <= 2.0**-24


def aims_at_y(x, u, p, low):
    d = x + u - value(p)
    return d, rest(x + u, landed("test", p, d), low)


def in_16_bits(x, u, p, low):
    """What a wrapper makes of updates that it rounds."""
    d, _ = lead_to(nearest(x + u, p.dtype, low), p)
    d = value(d.astype(p.dtype))
    return d, rest(x + u, landed("test", p, d), low)


def in_16_bits_against_the_intended(x, u, p, low):
    d, _ = in_16_bits(x, u, p, low)
    return d, rest(x + u, nearest(x + u, p.dtype, low), low)


def test_wrong_steps_are_found():
    """And of the rest, that it is measured from where a parameter arrived."""
    ties, large = near_ties(BF16), sample(100_000, BF16, 1e-2, 0)
    assert check(aims_at_y, I16, *ties)[0] > 1000
    missed, _ = check(in_16_bits, I16, *large)
    assert missed > 1000

    def error(step):
        x, u, p = large
        y = x + u
        d, residual = step(x, u, p, I16)
        off = jnp.abs(joined(adamx.apply_updates(p, d), residual) - y)
        size = jnp.maximum(jnp.abs(u), jnp.abs(y - value(p)))
        return float(jnp.where(size > 1e-4, off / size, 0).max())

    assert error(settled) == 0
    assert 0 < error(in_16_bits) <= 2.0**-7
    assert error(in_16_bits_against_the_intended) > 2.0**-7


# ---- many small steps


def limits(learning_rate):
    """The largest error over the distance moved, and the least of what stalls."""
    hard = learning_rate < 1e-5
    return {
        "float32": (0, 1e-4),
        "master_weights": (0, 1e-4),
        "master_weights, 24 bits": (1e-5, 1e-2),
        "kahan_sum": (1e-5, 5e-3),
        "round_stochastically": (1e-2, 0.5 if hard else 0.15),
        "nearest": (0.5, 1.0),
    }


@pytest.mark.parametrize(
    "learning_rate",
    [pytest.param(1e-3, marks=pytest.mark.exhaustive), 1e-6],
)
def test_small_steps_are_not_lost(learning_rate):
    updates = moves(learning_rate, 5000, 256)
    errors = {way: drift(way, updates)[0] for way in WAYS}
    for way, (low, high) in limits(learning_rate).items():
        assert low <= errors[way] <= high, (way, errors)
    assert errors["master_weights"] == errors["float32"]
