"""A float32 number as a 16-bit one and the bits that it lacks.

Bits of a bfloat16 are the upper half of a float32, so that both parts are integers and
nothing is rounded that need not be. Those of a float16 do not nest: there the rest is
in units of a part of its spacing, a power of two, and as exact.

All values are made of bits. XLA may take a float32 that was made a 16-bit number and
then float32 again for the number before, which here would lose what is sought.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._base import Array

SIGN = np.uint32(1 << 31)


def bits_of(x: Array, dtype: Any = jnp.uint32) -> Array:
    """The bits of an array."""
    return lax.bitcast_convert_type(x, dtype)


def from_bits(bits: Array) -> Array:
    """The f32 of given bits."""
    return lax.bitcast_convert_type(bits.astype(jnp.uint32), jnp.float32)


def bits_wide(p: Array) -> Array:
    """The bits of a bfloat16 as a float32."""
    return bits_of(p, jnp.uint16).astype(jnp.uint32) << np.uint32(16)


def units(low: Any) -> int:
    """How many float32 apart the numbers are that a bfloat16 and a rest can hold."""
    return 1 << (16 - jnp.iinfo(low).bits)


def spacing(p: Array) -> Array:
    """The distance between a finite float16 and the next larger one, f32."""
    exponent = (bits_of(p, jnp.uint16).astype(jnp.uint32) >> np.uint32(10)) & 31
    # Of 1 it is 2^-10: 15 is its exponent there, 127 in a float32.
    return from_bits(
        (jnp.maximum(exponent, np.uint32(1)) + np.uint32(102)) << np.uint32(23)
    )


def value(p: Array) -> Array:
    """A bfloat16 or float16 as f32."""
    if p.dtype == jnp.bfloat16:
        return from_bits(bits_wide(p))
    bits = bits_of(p, jnp.uint16).astype(jnp.uint32)
    hidden = jnp.where(bits & np.uint32(0x7C00), np.uint32(0x400), np.uint32(0))
    size = (bits & np.uint32(0x3FF) | hidden).astype(jnp.float32) * spacing(p)
    exact = from_bits(bits_of(size) | (bits & np.uint32(0x8000)) << np.uint32(16))
    return jnp.where(jnp.isfinite(p), exact, p.astype(jnp.float32))


def join(p: Array, low: Array) -> Array:
    """The f32 of which p and the rest are the parts."""
    if p.dtype == jnp.float16:
        part = 2.0 ** -jnp.iinfo(low.dtype).bits
        return value(p) + low.astype(jnp.float32) * part * spacing_if_finite(p)
    bits = bits_wide(p)
    size = (bits & ~SIGN).astype(jnp.int32)
    size = size + low.astype(jnp.int32) * np.int32(units(low.dtype))
    # A p that someone else has put there may be smaller than the rest.
    joined = from_bits(jnp.maximum(size, 0).astype(jnp.uint32) | (bits & SIGN))
    return jnp.where(jnp.isfinite(p), joined, value(p))


def spacing_if_finite(p: Array) -> Array:
    """As `spacing`, and 0 where p is not finite."""
    return jnp.where(jnp.isfinite(p), spacing(p), 0)


def nearest(x: Array, dtype: Any, low: Any) -> Array:
    """The number in a 16-bit dtype of which the rest of x, f32, fits into `low`."""
    if dtype == jnp.float16:
        p, parts = x.astype(dtype), 2.0 ** jnp.iinfo(low).bits
        unit = spacing(p)
        # Middles go up: there is a rest of -1/2, and none of 1/2.
        whole = jnp.floor(jnp.round(x / unit * parts) / parts + 0.5)
        return jnp.where(jnp.isfinite(p), (whole * unit).astype(dtype), p)
    bits = bits_of(x)
    bits = to_units(bits, units(low)) + np.uint32(1 << 15)
    upper = (bits >> np.uint32(16)).astype(jnp.uint16)
    rounded = lax.bitcast_convert_type(upper, jnp.bfloat16)
    # The bits of a NaN may overflow into a number.
    return jnp.where(jnp.isfinite(x), rounded, x.astype(jnp.bfloat16))


def rest(x: Array, p: Array, low: Any) -> Array:
    """What x, f32, has beyond the 16-bit p, in `low`; as much of it as that holds.

    It is 0 where either is not finite, and where a bfloat16 p has the other sign.
    """
    info = jnp.iinfo(low)
    if p.dtype == jnp.float16:
        part = (x - value(p)) / spacing(p) * 2.0**info.bits
        part = jnp.where(jnp.isfinite(x) & jnp.isfinite(p), jnp.round(part), 0)
        return jnp.clip(part, float(info.min), float(info.max)).astype(low)
    unit = units(low)
    ours, theirs = bits_of(x), bits_wide(p)
    beyond = (to_units(ours & ~SIGN, unit)).astype(jnp.int32)
    beyond = (beyond - (theirs & ~SIGN).astype(jnp.int32)) // np.int32(unit)
    same_sign = (ours ^ theirs) < SIGN
    known = jnp.isfinite(x) & jnp.isfinite(p) & same_sign
    return jnp.where(known, jnp.clip(beyond, info.min, info.max), 0).astype(low)


def to_units(bits: Array, unit: int) -> Array:
    """Bits of a float32 rounded to the nearest multiple, ties away from 0."""
    if unit == 1:
        return bits
    return (bits + np.uint32(unit // 2)) & ~np.uint32(unit - 1)
