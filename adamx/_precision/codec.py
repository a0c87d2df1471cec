"""Codecs: pairs of pure functions that keep an array in less memory.

Codes have the shape of the array, and are sharded as it is. A scale belongs to a group
of entries along the last axis: no group crosses a row, and nothing is flattened.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._base import Array, describe, storage_dtype
from adamx._numerics import is_narrow
from adamx._rounding import fraction, stochastically

Encoded = dict[str, Array]
LARGEST = 2.0**126  # that can divide: XLA takes the reciprocal, which must be normal
SHORTEST = 16  # of groups: the scales of shorter ones weigh too much


@dataclasses.dataclass(frozen=True)
class Codec:
    """How to keep an array in less memory, for `compress_state`.

    An array of zeros must come back as one, and what is not finite not finite.

    Args:
      name: Under which a state has what is encoded. Another encoding, another name, so
        that a checkpoint of one is not taken for one of the other.
      parts: The names of the arrays that `encode` returns.
      encode: `(x, bits, positive) -> {part: array}`: x is f32[..., n]; bits, u32 of its
        shape, make the result right on average, and None asks for the nearest; positive
        says that no entry is negative, as of a second moment.
      decode: `({part: array}, positive) -> x`.

    Example:
      >>> codec = adamx.companded_codec()
      >>> x = jnp.linspace(-1.0, 1.0, 32, dtype=jnp.float32)
      >>> encoded = codec.encode(x, None, False)
      >>> print(encoded["codes"].dtype, encoded["scales"].shape)
      int8 (1,)
      >>> print(abs(codec.decode(encoded, False) - x).max() < 0.016)
      True
    """

    name: str
    parts: tuple[str, ...]
    encode: Callable[[Array, Array | None, bool], Encoded]
    decode: Callable[[Encoded, bool], Array]


@functools.lru_cache(typed=True)
def plain_codec(dtype: Any) -> Codec:
    """Makes the codec that keeps arrays in another dtype, such as jnp.bfloat16.

    Args:
      dtype: Floating. float16 has no range for second moments.

    Returns:
      A codec with the name of the dtype and one part, "values".

    Raises:
      TypeError: A dtype that is not floating.

    Example:
      >>> codec = adamx.plain_codec(jnp.bfloat16)
      >>> print(codec.encode(jnp.ones(2), None, True)["values"].dtype)
      bfloat16
    """
    dtype = storage_dtype("plain_codec", "dtype", dtype, real=True)
    if dtype is None:
        raise TypeError("plain_codec: expected dtype as a floating dtype, got None.")
    limit = float(jnp.finfo(dtype).max)

    def encode(x: Array, bits: Array | None, positive: bool) -> Encoded:
        del positive
        if bits is not None and is_narrow(dtype):
            return {"values": stochastically(x, bits, dtype)}
        inside = jnp.where(jnp.isinf(x), x, jnp.clip(x, -limit, limit))
        return {"values": inside.astype(dtype)}

    def decode(encoded: Encoded, positive: bool) -> Array:
        del positive
        return encoded["values"].astype(jnp.float32)

    return Codec(jnp.dtype(dtype).name, ("values",), encode, decode)


def grouped(
    who: str,
    name: str,
    group_size: Any,
    encode: Callable[[Array, Array | None, bool], Array],
    decode: Callable[[Array, bool], Array],
) -> Codec:
    """The codec that divides each group by its largest entry and encodes the rest.

    `encode(r, bits, positive)` sees r in [-1, 1], 1 or -1 where the largest is, and
    `decode(codes, positive)` gives it back.
    """
    whole = isinstance(group_size, int | np.integer) and group_size >= SHORTEST
    if not whole or isinstance(group_size, bool):
        raise ValueError(
            f"{who}: expected group_size as a whole number from {SHORTEST}, got "
            f"{describe(group_size)}."
        )

    def encode_groups(x: Array, bits: Array | None, positive: bool) -> Encoded:
        shape, n = x.shape, length(x.shape[-1], group_size)
        x = x.astype(jnp.float32)
        x = split(jnp.where(jnp.isinf(x), x, jnp.clip(x, -LARGEST, LARGEST)), n)
        scales = largest(x)
        r = x / jnp.where(scales > 0, scales, 1)[..., None]
        bits = None if bits is None else split(bits, n)
        return {"codes": join(encode(r, bits, positive), shape), "scales": scales}

    def decode_groups(encoded: Encoded, positive: bool) -> Array:
        codes, scales = encoded["codes"], encoded["scales"]
        r = decode(split(codes, length(codes.shape[-1], group_size)), positive)
        return join(r * scales[..., None], codes.shape)

    parts = ("codes", "scales")
    return Codec(f"{name}_{group_size}", parts, encode_groups, decode_groups)


def largest(x: Array) -> Array:
    """The largest |x| along the last axis, NaN if there is one.

    Positive floats have the order of their bits. XLA's CPU backend hands a maximum of
    floats to a library, and fuses one of integers with what they are made of only along
    another axis than the last: in any other way it writes all of |x| to memory.
    """
    n = x.shape[-1]
    columns = next(k for k in range(min(n, SHORTEST), 0, -1) if n % k == 0)
    bits = lax.bitcast_convert_type(jnp.abs(x), jnp.uint32)
    bits = bits.reshape(*x.shape[:-1], n // columns, columns)
    most = jnp.max(bits, axis=-2, initial=0)
    return jnp.max(lax.bitcast_convert_type(most, jnp.float32), axis=-1, initial=0)


def length(n: int, group_size: Any) -> int:
    """The length of groups along an axis of n.

    The largest divisor of n up to `group_size`, so that nothing is padded; or
    `group_size` itself, if that is too short.
    """
    divisors = (k for k in range(min(n, group_size), 0, -1) if n % k == 0)
    longest = next(divisors, 1)
    return longest if longest >= min(n, SHORTEST) else group_size


def split(x: Array, n: int) -> Array:
    """The last axis as two: groups, and the n entries of each, padded by zeros."""
    missing = -x.shape[-1] % n
    if missing:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
    return x.reshape(*x.shape[:-1], x.shape[-1] // n, n)


def join(x: Array, shape: tuple[int, ...]) -> Array:
    """What `split` made of an array of a shape, back in it."""
    x = x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
    return x if x.shape == shape else x[..., : shape[-1]]


def neighbor(
    y: Array, code: Array, value: Callable[[Array], Array], bits: Array | None
) -> Array:
    """`code` or the next one, y being between their values: the nearest, or by bits.

    By bits it is right on average. In a code whose steps grow, one that is right on
    average in units of codes would have a mean 4 to 10 % too large.
    """
    below, above = value(code), value(code + 1)
    if bits is None:
        return code + (y >= (below + above) / 2).astype(code.dtype)
    return code + (fraction(bits) * (above - below) < y - below).astype(code.dtype)
