"""Stochastic rounding: its bits and what it makes of them, with mistakes planted."""

import itertools
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx._rounding import keys_of, random_bits, stochastically

DTYPES = [jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn, jnp.float8_e5m2]
named = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: jnp.dtype(d).name)


# ---- the bits, against a hash in Python's integers


def mixed(x):
    """The bijection, of one integer."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) % 2**32
    x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
    return x ^ (x >> 16)


def key_of(path, count, seed, stream):
    """The key of a leaf, of integers."""
    salt = zlib.crc32(path.encode()) ^ stream ^ mixed(seed)
    return mixed(mixed(count) ^ salt)


def test_the_bits_are_those_of_the_reference_vector():
    (key,) = keys_of(jnp.zeros(4), jnp.int32(1), 0, 0)
    assert int(key) == 0x58F54975
    want = [0x24009C6D, 0xB1313766, 0xCEA49462, 0x884AC058]
    assert random_bits(key, jnp.zeros(4)).tolist() == want


@pytest.mark.parametrize("count", [1, 1000, 2**31 - 1])
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_keys_depend_on_count_path_seed_and_stream(count, seed):
    tree = {"a": {"b": jnp.zeros(2)}, "c": [None, jnp.zeros([])]}
    for stream in (1, 2, 257):
        got = keys_of(tree, jnp.int32(count), seed, stream).tolist()
        assert got == [key_of(path, count, seed, stream) for path in ("a/b", "c/1")]


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (0,), (5, 1, 2)])
def test_bits_depend_on_the_place_in_row_major_order(shape):
    key = 0x12345678
    bits = np.asarray(jax.jit(random_bits)(np.uint32(key), np.zeros(shape)))
    places = np.arange(np.prod(shape, dtype=int)).tolist()
    want = [mixed((i * 0x9E3779B9 + key) % 2**32) for i in places]
    assert bits.dtype == np.uint32
    assert bits.ravel().tolist() == want


N = 2**19
LAGS = [1, 2, 64, 128, 1024]


@jax.jit
def draw(counts, salts):
    """Bits of arrays of one axis: u32[len(counts), N]."""

    def row(count, salt):
        (key,) = keys_of(jnp.zeros([]), count, 0, 0)
        return random_bits(key ^ salt, jnp.zeros(N))

    return jax.vmap(row)(counts, salts)


def chi_square(values):
    """How far values in [0, 256) are from evenly spread, in standard deviations."""
    found = np.bincount(values, minlength=256)
    mean = len(values) / 256
    return (((found - mean) ** 2 / mean).sum() - 255) / np.sqrt(2 * 255)


def correlation(x, y):
    """That of two samples of bits, as a normal deviate."""
    x, y = (np.asarray(z, np.float32) - np.float32(32767.5) for z in (x, y))
    variance = (2.0**32 - 1) / 12
    return float(np.dot(x, y)) / (variance * np.sqrt(len(x)))


def unevenness(rows):
    """What is not random about bits of steps t, t + 1 and of another leaf, u32[3, N].

    All normal deviates, by name.
    """
    found = {}
    halves = {"low": rows & 0xFFFF, "high": rows >> 16}
    for name, half in halves.items():
        for byte in ("lower", "upper"):
            part = half & 0xFF if byte == "lower" else half >> 8
            found[name, byte] = max(map(chi_square, part), key=abs)
        for lag in LAGS:
            found[name, lag] = correlation(half[0, :-lag], half[0, lag:])
        found[name, "next step"] = correlation(half[0], half[1])
        found[name, "other leaf"] = correlation(half[0], half[2])
    found["halves"] = correlation(halves["low"][0], halves["high"][0])
    return {name: z for name, z in found.items() if abs(z) > 4.5}


@pytest.mark.parametrize("count", [1, 12_345])
def test_bits_are_evenly_spread_and_do_not_correlate(count):
    counts, salts = jnp.array([count, count + 1, count]), jnp.array([0, 0, 99])
    rows = np.asarray(draw(counts.astype(jnp.int32), salts.astype(jnp.uint32)))
    assert unevenness(rows) == {}


def test_the_bits_of_one_place_are_even_over_steps():
    @jax.jit
    @jax.vmap
    def at_step(count):
        return random_bits(keys_of(0.0, count, 0)[0], jnp.zeros([]))

    bits = np.asarray(at_step(np.arange(1, 2**17, dtype=np.int32)))
    assert abs(chi_square(bits & 0xFF)) < 4.5
    assert abs(chi_square(bits >> 24)) < 4.5
    assert abs(correlation(bits[1:] & 0xFFFF, bits[:-1] & 0xFFFF)) < 4.5


def test_planted_bits_are_found_out():
    """The same each step, the same for each leaf, without a mix, of the place alone."""
    t = jnp.array([1, 2, 1], jnp.int32)
    same_steps = np.asarray(draw(t * 0 + 1, jnp.array([0, 0, 99], jnp.uint32)))
    assert ("low", "next step") in unevenness(same_steps)
    same_leaves = np.asarray(draw(t, jnp.zeros(3, jnp.uint32)))
    assert ("high", "other leaf") in unevenness(same_leaves)
    places = np.arange(N, dtype=np.uint32)
    raw = np.stack([places * np.uint32(0x9E3779B9) + np.uint32(k) for k in (1, 2, 3)])
    assert ("high", 1) in unevenness(raw)


# ---- the rounding


def halfway(dtype):
    """Pairs of neighbors: ordinary ones, two below the normal numbers, the last two."""
    info = jnp.finfo(dtype)
    low, top = float(info.smallest_subnormal), float(info.max)
    pairs = [(1.25, 1.25 + float(info.eps)), (3.0, 3.0 + 2 * float(info.eps))]
    top_step = float(info.eps) * 2.0 ** np.floor(np.log2(top))
    return [*pairs, (low, 2 * low), (2 * low, 3 * low), (top - top_step, top)]


FRACTIONS = [0.0, 0.001, 0.3, 0.5, 0.999]
DRAWS = 50_000


@jax.jit
def uniform(key):
    """As many random bits as are drawn for one number."""
    return jax.random.bits(key, (DRAWS,), jnp.uint32)


def unlike(dtype, rounding):
    """The numbers that `rounding(x, bits)`, from f32 to `dtype`, does not do right."""
    bits = uniform(jax.random.key(1))
    rows = []
    for (below, above), fraction in itertools.product(halfway(dtype), FRACTIONS):
        x = np.float32(below + fraction * (above - below))
        rows += [(s * x, s * below, s * above) for s in (1, -1)]
    x = np.array([x for x, _, _ in rows], np.float32)
    results = np.asarray(jax.jit(jax.vmap(rounding, (0, None)))(x, bits))
    results = results.astype(np.float64)
    wrong = []
    for (x, below, above), got in zip(rows, results, strict=True):
        chance = (np.float64(x) - below) / (above - below)
        share = (got == above).mean()
        error = np.sqrt(chance * (1 - chance) / DRAWS)
        if not np.isin(got, (below, above)).all():
            wrong.append((x, "no neighbor"))
        elif abs(share - chance) > 5 * error + 2.0**-16 * (0 < chance < 1):
            wrong.append((x, share, chance))
    return wrong


rounded = jax.jit(stochastically, static_argnums=2)


def as_it_is(dtype):
    """The rounding of adamx to a dtype."""
    return lambda x, bits: stochastically(
        jnp.full_like(bits, 0, x.dtype) + x, bits, dtype
    )


@named
def test_the_mean_is_exact_and_the_error_below_one_unit(dtype):
    """Up with the probability of what is cut off, within 5 standard errors."""
    assert unlike(dtype, as_it_is(dtype)) == []


def added_without_a_mask(x, bits):
    """Random bits below those that stay, which the cast then rounds to the nearest."""
    x = jax.lax.bitcast_convert_type(jnp.full(bits.shape, x), jnp.uint32)
    y = jax.lax.bitcast_convert_type(x + (bits & 0xFFFF), jnp.float32)
    return y.astype(jnp.bfloat16)


def too_few_bits(x, bits):
    """Chances in 16ths."""
    return as_it_is(jnp.bfloat16)(x, bits & 0xF000)


def upward(x, bits):
    """Of negative numbers always up."""
    return as_it_is(jnp.bfloat16)(x, jnp.where(x < 0, jnp.uint32(0), bits))


def nearest(x, bits):
    """No chance at all."""
    return jnp.full(bits.shape, x).astype(jnp.bfloat16)


def away_from_zero(x, bits):
    """The largest chance each time."""
    return as_it_is(jnp.bfloat16)(x, bits | 0xFFFF)


def dithered_sum(x, bits):
    """A random number of up to a unit in the last place is added in floating point."""
    unit = 2.0**-7 * jnp.exp2(jnp.floor(jnp.log2(jnp.abs(x))))
    dither = (bits & 0xFFFF).astype(jnp.float32) * 2.0**-16 - 0.5
    return (x + unit * dither * 1.1).astype(jnp.bfloat16)


@pytest.mark.parametrize(
    "mistake",
    [
        added_without_a_mask,
        too_few_bits,
        upward,
        nearest,
        away_from_zero,
        dithered_sum,
    ],
)
def test_a_planted_rounding_is_rejected(mistake):
    assert unlike(jnp.bfloat16, mistake)


@named
def test_what_the_dtype_holds_stays(dtype):
    """All of its numbers, zeros with their signs, NaN and infinity."""
    size = jnp.dtype(dtype).itemsize
    codes = np.arange(256**size, dtype=f"uint{8 * size}")
    numbers = codes.view(jnp.dtype(dtype))
    x = jnp.asarray(numbers.astype(np.float32))
    is_nan = np.isnan(np.asarray(x))
    for bits in (0, 0xFFFF, 0x1234, 0xFFFF0000):
        y = np.asarray(rounded(x, np.full(x.shape, bits, np.uint32), dtype))
        np.testing.assert_array_equal(y.view(codes.dtype)[~is_nan], codes[~is_nan])
        assert np.isnan(y.astype(np.float32)[is_nan]).all()


@named
def test_beyond_the_largest_number_it_is_that_and_infinity_stays(dtype):
    top = float(jnp.finfo(dtype).max)
    far = np.float32(min(top * 1.001, float(np.finfo(np.float32).max)))
    x = np.array([far, -far, np.inf, -np.inf, np.nan], np.float32)
    for bits in (0, 0xFFFF):
        y = rounded(x, np.full(5, bits, np.uint32), dtype)
        y = np.asarray(y).astype(np.float32)
        assert y[:2].tolist() == [top, -top]
        has_infinity = dtype != jnp.float8_e4m3fn
        want = [np.inf, -np.inf] if has_infinity else [np.nan, np.nan]
        np.testing.assert_array_equal(y[2:], [*want, np.nan])


@named
def test_its_derivative_is_that_of_the_identity(dtype):
    """Of what comes back, on average, so training through it goes straight on."""
    x = np.array([0.123, -1.7, 3.0, 0.0, float(jnp.finfo(dtype).tiny) / 3], np.float32)
    weights = np.arange(1, 6, dtype=np.float32)

    def loss(x):
        y = stochastically(x, jnp.full(5, 0x1234, jnp.uint32), dtype)
        return jnp.sum(y.astype(jnp.float32) * weights)

    slope = jax.grad(loss)
    slope, change = jax.jit(lambda x: jax.jvp(slope, (x,), (jnp.ones_like(x),)))(x)
    np.testing.assert_array_equal(slope, weights)
    np.testing.assert_array_equal(change, np.zeros(5))


def test_keys_of_jax_decide_the_stand_alone_rounding():
    x = np.full(64, 1 / 3, np.float32)
    keys = jax.random.split(jax.random.key(3), 2)
    one = jax.jit(adamx.stochastic_round)
    first, again, other = (np.asarray(one(x, keys[i])) for i in (0, 0, 1))
    assert first.dtype == jnp.bfloat16
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    swept = jax.jit(jax.vmap(adamx.stochastic_round, (None, 0)))(x, keys)
    np.testing.assert_array_equal(swept, np.stack([first, other]))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: adamx.stochastic_round(jnp.ones(2), None, jnp.float32),
            "stochastic_round: expected a dtype narrower than float32, got float32.",
        ),
        (
            lambda: adamx.stochastic_round(jnp.ones(2, jnp.int32), None),
            "stochastic_round: expected x as a floating array, got i32[2].",
        ),
        (
            lambda: adamx.stochastic_round(jnp.ones(2), None, "int8"),
            "stochastic_round: expected dtype as a floating dtype, got 'int8'.",
        ),
    ],
)
def test_what_cannot_be_rounded(make, text):
    with pytest.raises(TypeError, match="^" + re.escape(text)):
        make()
