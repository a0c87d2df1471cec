"""Dynamic codes: as many bits for the size as the size leaves, as in bitsandbytes."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._base import Array
from adamx._precision.codec import Codec, grouped, neighbor


def dynamic_map(decades: int, positive: bool) -> np.ndarray:
    """What the dynamic codes stand for, to the bit of those in checkpoints of others.

    In the decade 10^(e - decades + 1), e = 0, 1, …, there are 2^e steps from 0.1 to 1,
    twice as many if none are needed for a sign, and the values are their middles; 0 and
    1 come to it. All in float32, as they are made there.

    Reference: Dettmers, 2015, https://arxiv.org/abs/1511.04561
    """
    f32, tenth = np.float32, np.float64(np.float32(0.1))
    values = [f32(0), f32(1)]
    for e in range(decades):
        n = 2 ** (e + positive)
        step = np.float64(f32(f32(1 - f32(0.1)) / f32(n)))
        k = np.arange(n + 1)
        # From the nearer end, each by a product and a sum that are rounded once.
        edges = np.where(k < (n + 1) // 2, step * k + tenth, 1 - step * (n - k))
        edges = edges.astype(f32)
        middles = (edges[:-1] + edges[1:]) / f32(2) * f32(10.0 ** (e - decades + 1))
        values += list(middles) if positive else [*middles, *-middles]
    return np.sort(np.array(values, f32))


@functools.lru_cache(typed=True)
def dynamic256_codec(group_size: int = 256) -> Codec:
    """Makes the codec of 8 bits that bitsandbytes and torchao use.

        a = the largest |x| of a group
        code = that of the nearest of 256 values, or by chance of a neighbor, of x / a

    For comparison and exchange: where there are signs, an entry below 2.75e-7 of the
    largest becomes 0. Two things differ from those: groups are along the last axis, and
    no entry that is positive has the code of 0.

    Args:
      group_size: As in `companded_codec`.

    Returns:
      A codec with the parts "codes", u8 of the shape of the array, and "scales",
      f32[..., groups].

    Raises:
      ValueError: As in `companded_codec`.

    Example:
      >>> codec = adamx.dynamic256_codec()
      >>> encoded = codec.encode(jnp.array([[-0.5, 1.0]]), None, False)
      >>> print(encoded["codes"], codec.decode(encoded, False).round(3))
      [[ 35 255]] [[-0.50100005  1.        ]]

    Reference: Dettmers et al., 2021, https://arxiv.org/abs/2110.02861
    """

    def encode(r: Array, bits: Array | None, positive: bool) -> Array:
        # Places among the values above 0, of which that of 1 is the last.
        last, y = 254 if positive else 127, jnp.abs(r)
        low = jnp.clip(place_below(y, positive), -1, last - 1)
        place = neighbor(y, low, lambda place: value_at(place, positive), bits)
        if positive:
            return jnp.where(y > 0, jnp.maximum(place, 0) + 1, 0).astype(jnp.uint8)
        # There is no -1: the scale of a group is nearest to -0.993.
        down = 126 - jnp.minimum(place, last - 1)
        return jnp.where(r < 0, down, 128 + place).astype(jnp.uint8)

    def decode(codes: Array, positive: bool) -> Array:
        code = codes.astype(jnp.int32)
        if positive:
            return value_at(code - 1, positive)
        down = code < 127
        y = value_at(jnp.where(down, 126 - code, code - 128), positive)
        return jnp.where(down, -y, y)

    return grouped("dynamic256_codec", "dynamic256", group_size, encode, decode)


@functools.lru_cache(typed=True)
def int4_codec(group_size: int = 128) -> Codec:
    """Makes a codec of 4 bits, with which an optimizer is another one.

        a = the largest |x| of a group
        signed:      code + 8 = the place of x / a among 16 dynamic values
        positive:    code + 9 = k in 1 … 16, for a·k / 16

    What is below a / 16 counts as a / 16, 0 too. In most of a second moment that is
    most entries: their steps are as much too small as their root is too large. On the
    gradients of a transformer the steps of Adam are 39 % off, those of
    `companded_codec` 6 % (`benchmarks/fidelity.py`).

    Args:
      group_size: As in `companded_codec`.

    Returns:
      A codec with the parts "codes", i4 of the shape of the array, and "scales",
      f32[..., groups]: 0.53 bytes an entry where two of them share a byte.

    Raises:
      ValueError: As in `companded_codec`.

    Example:
      >>> codec = adamx.int4_codec()
      >>> encoded = codec.encode(jnp.array([[0.3, -1.0]]), None, False)
      >>> print(codec.decode(encoded, False))
      [[ 0.21249999 -0.8875    ]]

    Reference: Li, Chen & Zhu, 2023, section 4, https://arxiv.org/abs/2309.01507
    """
    book = [float(x) for x in dynamic_map(3, positive=False)]

    def signed(place: Array) -> Array:
        value = jnp.full(place.shape, book[0], jnp.float32)
        # By comparisons: a gather is refused where places are sharded.
        for i, x in enumerate(book[1:], 1):
            value = jnp.where(place == i, jnp.float32(x), value)
        return value

    def encode(r: Array, bits: Array | None, positive: bool) -> Array:
        if positive:
            low = jnp.clip(jnp.floor(r * 16), 0, 15)
            k = neighbor(r, low, lambda k: k / 16, bits)
            return (jnp.maximum(k, 1) - 9).astype(jnp.int4)
        low = jnp.zeros(r.shape, jnp.int32)
        for x in book[1:-1]:
            low = low + (r >= jnp.float32(x)).astype(jnp.int32)
        return (neighbor(r, low, signed, bits) - 8).astype(jnp.int4)

    def decode(codes: Array, positive: bool) -> Array:
        place = codes.astype(jnp.int32) + 8
        return (place + 1).astype(jnp.float32) / 16 if positive else signed(place)

    return grouped("int4_codec", "int4", group_size, encode, decode)


def value_at(place: Array, positive: bool) -> Array:
    """The value of a place among those above 0 in 7 decades; 0 below the first."""
    last = 254 if positive else 127
    m = jnp.clip(place, 0, last - 1) + (2 if positive else 1)
    bits = 31 - lax.clz(m)  # 2^bits steps in the decade
    n = jnp.left_shift(jnp.ones_like(m), bits)
    middle = ((m - n).astype(jnp.float32) + 0.5) / n.astype(jnp.float32)
    size = jnp.full(m.shape, 1e-6, jnp.float32)
    for e in range(1, 7):
        size = jnp.where(bits == e + positive, jnp.float32(10.0 ** (e - 6)), size)
    value = size * (jnp.float32(0.1) + jnp.float32(0.9) * middle)
    return jnp.where(place < 0, 0, jnp.where(place >= last, 1, value))


def place_below(y: Array, positive: bool) -> Array:
    """The last place whose value is at most y, or -1."""
    size = jnp.full(y.shape, 1e-6, jnp.float32)
    first = jnp.zeros(y.shape, jnp.int32)
    for e in range(1, 7):
        inside = y >= jnp.float32(10.0 ** (e - 7))
        size = jnp.where(inside, jnp.float32(10.0 ** (e - 6)), size)
        first = jnp.where(inside, 2 ** (e + positive) - 1 - positive, first)
    n = (first + (2 if positive else 1)).astype(jnp.float32)
    steps = jnp.floor((y / size - jnp.float32(0.1)) / jnp.float32(0.9) * n - 0.5)
    # Off by one where it was rounded, and at the ends of decades.
    place = first + jnp.maximum(steps, -1).astype(jnp.int32) - 1
    for _ in range(3):
        place = place + (y >= value_at(place + 1, positive)).astype(jnp.int32)
    return place
