"""Codes of 8 bits, spaced as a fourth root is."""

import functools
from typing import Any

import jax.numpy as jnp
from jax import lax

from adamx._base import Array
from adamx._precision.codec import Codec, grouped, neighbor


@functools.lru_cache(typed=True)
def companded_codec(group_size: int = 128) -> Codec:
    """Makes the codec of 8 bits that are spaced as the fourth root is.

        a = the largest |x| of a group
        signed:      code = sign(x)·q, q in 0 … 127, for sign(x)·a·(q / 127)^4
        positive:    code = q in 0 … 255, for a·(q / 255)^4, q > 0 where x > 0

    q is the nearest to (|x| / a)^(1/4), or by chance one of two, so that x is right on
    average. A number 2^-32 of the largest still has a code, 2^-28 if it has a sign, and
    no positive one that of 0: of a second moment of 0 a step would explode. Two roots
    one way, two squares the other, and no table.

    Args:
      group_size: The most entries along the last axis that share a scale, at least 16.
        An axis of n has groups of the largest divisor of n up to it; if that is less
        than 16, of this size, the last of them shorter.

    Returns:
      A codec with the parts "codes", i8 or u8 of the shape of the array, and "scales",
      f32[..., groups]: 1.03 bytes an entry in groups of 128.

    Raises:
      ValueError: A group size below 16, or that is no whole number.

    Example:
      >>> codec = adamx.companded_codec()
      >>> encoded = codec.encode(jnp.array([[1e-12, 1.0]]), None, True)
      >>> print(encoded["codes"], codec.decode(encoded, True))
      [[  1 255]] [[2.3650448e-10 1.0000000e+00]]

    Reference: Dettmers et al., 2021, https://arxiv.org/abs/2110.02861 (groups); Li,
      Chen & Zhu, 2023, https://arxiv.org/abs/2309.01507 (no code of zero); Gonzalez
      Ortiz et al., 2026, https://arxiv.org/abs/2602.23349 (companding)
    """

    def encode(r: Array, bits: Array | None, positive: bool) -> Array:
        top = top_of(positive)
        q = top * lax.sqrt(lax.sqrt(jnp.abs(r)))
        if bits is not None:
            low = jnp.minimum(jnp.floor(q), top - 1)
            q = neighbor(jnp.abs(r), low, lambda q: fourth_power(q, top), bits)
        if positive:
            q = jnp.where(r > 0, jnp.maximum(q, 1), q)
            return nearest(q, jnp.uint8)
        return nearest(jnp.where(r < 0, -q, q), jnp.int8)

    def decode(codes: Array, positive: bool) -> Array:
        q = codes.astype(jnp.float32)
        y = fourth_power(q, top_of(positive))
        return y if positive else jnp.where(q < 0, -y, y)

    return grouped("companded_codec", "companded8", group_size, encode, decode)


def top_of(positive: bool) -> int:
    """The code of the largest entry."""
    return 255 if positive else 127


def fourth_power(q: Array, top: int) -> Array:
    """(q / top)^4."""
    square = jnp.square(q * jnp.float32(1 / top))
    return square * square


def nearest(q: Array, dtype: Any) -> Array:
    """The nearest whole number to |q| < 2^22, of which the low bits are all there are.

    A number near 1.5·2^23 has no fraction, and its bits count up. A conversion has to
    ask whether q is in range, for each element.
    """
    return lax.bitcast_convert_type(q + jnp.float32(1.5 * 2**23), jnp.int32).astype(
        dtype
    )
