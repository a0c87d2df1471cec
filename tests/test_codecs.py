"""Codecs against brute force: nearest neighbors, means, ends, groups."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx._precision.codec import length
from adamx._precision.dynamic import dynamic_map

E4M3, E5M2 = jnp.float8_e4m3fn, jnp.float8_e5m2


def codes_of(dtype):
    """Every code of a dtype; of floats the finite ones."""
    if jnp.issubdtype(dtype, jnp.floating):
        every = np.arange(256, dtype=np.uint8).view(dtype)
        return every[np.isfinite(every.astype(np.float32))]
    low, high = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)
    return np.arange(low, high + 1)


CODECS = {
    "companded": (adamx.companded_codec(), jnp.int8, jnp.uint8),
    "dynamic256": (adamx.dynamic256_codec(), jnp.uint8, jnp.uint8),
    "e4m3": (adamx.float8_codec(E4M3), E4M3, E4M3),
    "e5m2": (adamx.float8_codec(E5M2), E5M2, E5M2),
    "int4": (adamx.int4_codec(), jnp.int4, jnp.int4),
}
every = pytest.mark.parametrize("positive", [False, True], ids=["signed", "positive"])
codecs = pytest.mark.parametrize("name", CODECS)


def book_of(name, positive):
    """What each code stands for where the scale is 1, in order."""
    codec, *dtypes = CODECS[name]
    codes = codes_of(dtypes[positive])
    if name == "companded" and not positive:
        codes = codes[1:]  # there is no -128
    encoded = {
        "codes": jnp.asarray(codes[:, None], dtypes[positive]),
        "scales": jnp.ones((len(codes), 1), jnp.float32),
    }
    return np.unique(np.asarray(codec.decode(encoded, positive))[:, 0])


def encode(name, positive, y, bits=None):
    """Encodes and decodes each y, the other entry of its group being 1."""
    codec = CODECS[name][0]

    @jax.jit
    def run(x, bits):
        encoded = codec.encode(x, bits, positive)
        return encoded, codec.decode(encoded, positive)

    x = jnp.stack([jnp.asarray(y, jnp.float32), jnp.ones(len(y), jnp.float32)], 1)
    encoded, decoded = run(x, bits)
    return encoded, np.asarray(decoded)[:, 0].astype(np.float64)


def points(positive, book, rng):
    """Numbers of all sizes, and what codes stand for."""
    sizes = 10.0 ** rng.uniform(-12, 0, 4000)
    y = np.concatenate([sizes, rng.uniform(0, 1, 4000), np.abs(book)])
    sign = 1 if positive else rng.choice([-1, 1], len(y))
    return (y * sign).astype(np.float32)


@every
@codecs
def test_the_code_is_the_nearest(name, positive, rng):
    """In units of what it is spaced evenly in: fourth roots if companded."""
    book = book_of(name, positive)
    y = points(positive, book, rng)
    _, got = encode(name, positive, y)
    if positive:
        book = book[book > 0]  # no positive number has the code of 0

    def scale(x):
        x = np.asarray(x, np.float64)
        return np.sign(x) * np.abs(x) ** 0.25 if name == "companded" else x

    best = np.abs(scale(book)[None] - scale(y)[:, None]).min(1)
    slack = 4e-7 * np.maximum(np.abs(scale(y)), 1e-3)
    assert (np.abs(scale(got) - scale(y)) <= best + slack).all()
    away = np.abs(got[:, None] - np.concatenate([book, [0]])[None]).min(1)
    assert (away <= 4e-7 * np.abs(got)).all()


@every
@codecs
def test_by_chance_the_mean_is_right(name, positive, rng):
    """In units of x, not of codes; the smallest code alone is above what it is for."""
    book = book_of(name, positive)
    low = book[book > 0].min()
    spread = rng.uniform(max(0.01, 1.01 * low), 0.99, 6)
    y = np.concatenate([spread, low * rng.uniform(1.1, 9, 2)])
    y = (y if positive else y * rng.choice([-1, 1], 8)).astype(np.float32)
    y = y[np.abs(y) < 1] if positive else np.clip(y, book[0], 1)
    n = 1 << 15
    bits = jax.random.bits(jax.random.key(1), (len(y) * n, 2), jnp.uint32)
    _, got = encode(name, positive, np.repeat(y, n), bits)
    got = got.reshape(len(y), n)
    place = np.searchsorted(book, y, "right")
    below, above = book[place - 1], book[np.minimum(place, len(book) - 1)]
    slack = 1e-6 * np.abs(y)
    assert (got.min(1) >= below - slack).all()
    assert (got.max(1) <= above + slack).all()
    assert is_mean(got, y, slack + 2.0**-16 * (above - below)).all()


def is_mean(draws, y, slack=0.0):
    """Whether the mean of draws is y, within five standard errors."""
    error = 5 * draws.std(-1) / draws.shape[-1] ** 0.5
    return np.abs(draws.mean(-1) - y) <= error + slack


def test_chances_in_units_of_codes_are_found(rng):
    """What the test above is to catch: at code 3.5 a mean 12 % too large."""
    draws = (np.floor(3.5 + rng.uniform(size=1 << 15)) / 255) ** 4
    assert not is_mean(draws, (3.5 / 255) ** 4)


@every
@codecs
def test_a_code_stays_what_it_is(name, positive):
    """Encoding what was decoded changes nothing, whatever the scale."""
    codec, *dtypes = CODECS[name]
    codes = codes_of(dtypes[positive])
    decode = jax.jit(lambda x: codec.decode(x, positive))
    again = jax.jit(lambda x: codec.encode(codec.decode(x, positive), None, positive))
    book = decode({"codes": codes[:, None], "scales": np.ones((len(codes), 1), "f4")})
    inside = np.abs(np.asarray(book)[:, 0]) <= 1
    if name == "companded" and not positive:
        inside &= codes != -128
    if name in ("e4m3", "e5m2") and positive:
        inside &= codes.astype(np.float32) >= 0
    codes = codes[inside]
    top = codes[np.argmax(np.asarray(book)[inside, 0])]
    pairs = np.stack([codes, np.full_like(codes, top)], 1)
    scales = np.float32(10.0) ** np.linspace(-26, 37.9, 40).astype(np.float32)
    for scale in scales:
        given = {"codes": pairs, "scales": np.full((len(codes), 1), scale)}
        got = again(given)
        assert (np.asarray(got["codes"]) == pairs).all(), scale
        np.testing.assert_allclose(got["scales"], given["scales"], rtol=3e-7)


@every
@codecs
def test_ends(name, positive):
    """Zeros stay zeros, the largest is itself, what is not finite is seen."""
    codec = CODECS[name][0]
    run = jax.jit(lambda x: codec.decode(codec.encode(x, None, positive), positive))
    zeros = jnp.zeros((2, 40))
    np.testing.assert_array_equal(run(zeros), zeros)
    x = zeros.at[0, 3].set(7e-20).at[1, 5].set(3e38)
    got = np.asarray(run(x))
    np.testing.assert_allclose(got[0, 3], 7e-20, rtol=2e-7)
    np.testing.assert_allclose(got[1, 5], 2.0**126, rtol=1e-6)
    if name != "int4":
        assert (np.delete(got[0], 3) == 0).all()
    for bad in (jnp.nan, jnp.inf):
        got = np.asarray(run(jnp.ones((2, 256)).at[0, 3].set(bad)))
        assert not np.isfinite(got[0, 3])
        assert np.isfinite(got[1]).all()


@codecs
@pytest.mark.exhaustive
def test_no_positive_number_has_the_code_of_zero(name):
    codec = CODECS[name][0]
    x = jnp.float32(10.0) ** jnp.linspace(-30, 0, 64, dtype=jnp.float32)
    for bits in (None, jnp.zeros(64, jnp.uint32), jnp.full(64, 2**32 - 1, jnp.uint32)):
        encoded = codec.encode(x, bits, True)
        assert (codec.decode(encoded, True) > 0).all()


@pytest.mark.parametrize("n", [1, 16, 127, 128, 129, 768, 1000, 1009])
def test_groups_along_the_last_axis(n, rng):
    """Each within half a step of its own group's scale, whatever the length."""
    codec = adamx.companded_codec()
    x = (rng.normal(size=(3, n)) * 10.0 ** np.array([[-20], [0], [20]])).astype("f4")
    encoded = codec.encode(jnp.asarray(x), None, False)
    size = length(n, 128)
    assert encoded["codes"].shape == x.shape
    assert encoded["scales"].shape == (3, -(-n // size))
    got = np.asarray(codec.decode(encoded, False))
    padded = np.pad(x, [(0, 0), (0, -n % size)]).reshape(3, -1, size)
    scales = np.abs(padded).max(-1)
    np.testing.assert_array_equal(encoded["scales"], scales)
    scales = np.repeat(scales, size, -1)[:, :n]
    root = (np.abs(x) / scales) ** 0.25
    step = scales * ((root + 0.51 / 127) ** 4 - root**4)
    assert (np.abs(got - x) <= step).all()


def test_lengths_of_groups():
    """The largest divisor, unless it is too short."""
    lengths = {n: length(n, 128) for n in [1, 16, 17, 100, 128, 130, 768, 1000, 1009]}
    want = {1: 1, 16: 16, 17: 17, 100: 100, 128: 128, 130: 65, 768: 128, 1000: 125}
    assert lengths == want | {1009: 128}


def test_the_dynamic_map_is_that_of_bitsandbytes():
    """To the bit; by its SHA-256."""
    known = {
        (7, False): "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c",
        (7, True): "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398",
        (3, False): "721d11e3711326d4ab3439ccf09b717be5c5fac8a780691f145d2fb797c16400",
    }
    for (decades, positive), sha in known.items():
        values = dynamic_map(decades, positive).astype("<f4")
        assert hashlib.sha256(values.tobytes()).hexdigest() == sha
    for positive in (False, True):
        want, got = dynamic_map(7, positive), book_of("dynamic256", positive)
        np.testing.assert_allclose(got, want, rtol=2e-7)


def test_bytes_of_an_entry():
    """Of a matrix of 1,024 columns."""
    codec = {name: codec for name, (codec, *_) in CODECS.items()}
    codec["bfloat16"] = adamx.plain_codec(jnp.bfloat16)
    shape = jax.ShapeDtypeStruct((64, 1024), jnp.float32)
    got = {}
    for name, one in codec.items():
        encoded = jax.eval_shape(lambda x, one=one: one.encode(x, None, True), shape)
        assert tuple(encoded) == one.parts
        got[name] = sum(
            x.size * (0.5 if x.dtype == jnp.int4 else x.dtype.itemsize)
            for x in encoded.values()
        ) / (64 * 1024)
    eight = {name: 1.03125 for name in ("companded", "e4m3", "e5m2")}
    assert got == eight | {"dynamic256": 1.015625, "int4": 0.53125, "bfloat16": 2.0}


def test_a_plain_codec_rounds_once():
    codec = adamx.plain_codec(jnp.bfloat16)
    x = jnp.array([1 / 3, -1e30, 3.4e38, jnp.inf, jnp.nan], jnp.float32)
    for bits in (None, jnp.zeros(5, jnp.uint32)):
        got = codec.decode(codec.encode(x, bits, False), False)
        np.testing.assert_allclose(got[:3], x[:3], rtol=0.008)
        assert got[3] == jnp.inf and jnp.isnan(got[4])  # noqa: PT018  # one line


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: adamx.companded_codec(8),
            ValueError,
            "companded_codec: expected group_size as a whole number from 16, got 8.",
        ),
        (
            lambda: adamx.int4_codec(32.0),
            ValueError,
            "int4_codec: expected group_size as a whole number from 16, got 32.0.",
        ),
        (
            lambda: adamx.float8_codec(jnp.bfloat16),
            TypeError,
            "float8_codec: expected dtype as a floating dtype of 8 bits, got bfloat16.",
        ),
        (
            lambda: adamx.plain_codec(None),
            TypeError,
            "plain_codec: expected dtype as a floating dtype, got None.",
        ),
        (
            lambda: adamx.plain_codec(jnp.int8),
            TypeError,
            "plain_codec: expected dtype as a floating dtype, got",
        ),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value).startswith(text)
