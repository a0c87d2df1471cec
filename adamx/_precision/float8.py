"""Groups of floats of 8 bits."""

import functools
from typing import Any

import jax.numpy as jnp

from adamx._base import Array, storage_dtype
from adamx._precision.codec import Codec, grouped
from adamx._rounding import stochastically


@functools.lru_cache(typed=True)
def float8_codec(dtype: Any = jnp.float8_e4m3fn, group_size: int = 128) -> Codec:
    """Makes the codec that keeps a group as floats of 8 bits and their scale.

        a = the largest |x| of a group
        code = x·(largest number of the dtype) / a; the smallest one at least for x > 0
               where no entry is negative

    Coarser than `companded_codec`, and of less range: for hardware that has the dtype.

    Args:
      dtype: jnp.float8_e4m3fn or jnp.float8_e5m2.
      group_size: As in `companded_codec`.

    Returns:
      A codec with the parts "codes", of the dtype and the shape of the array, and
      "scales", f32[..., groups].

    Raises:
      TypeError: A dtype that is not floating, or not of 8 bits.
      ValueError: As in `companded_codec`.

    Example:
      >>> codec = adamx.float8_codec()
      >>> encoded = codec.encode(jnp.array([[0.011, 1.0]]), None, True)
      >>> print(codec.decode(encoded, True).round(4))
      [[0.0112 1.    ]]

    Reference: Micikevicius et al., 2022, https://arxiv.org/abs/2209.05433
    """
    who = "float8_codec"
    dtype = storage_dtype(who, "dtype", dtype, real=True)
    if dtype is None or jnp.dtype(dtype).itemsize > 1:
        raise TypeError(
            f"{who}: expected dtype as a floating dtype of 8 bits, got {dtype}."
        )
    info = jnp.finfo(dtype)
    largest, smallest = float(info.max), float(info.smallest_subnormal)

    def encode(r: Array, bits: Array | None, positive: bool) -> Array:
        wide = r * largest
        if positive:
            wide = jnp.where(r > 0, jnp.maximum(wide, smallest), 0)
        return wide.astype(dtype) if bits is None else stochastically(wide, bits, dtype)

    def decode(codes: Array, positive: bool) -> Array:
        del positive
        return codes.astype(jnp.float32) * jnp.float32(1 / largest)

    return grouped(who, jnp.dtype(dtype).name, group_size, encode, decode)
