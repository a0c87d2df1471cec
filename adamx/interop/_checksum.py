"""A number for the bits of an array, the same wherever and however it lies."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from adamx._base import Array


def checksums_of(arrays: list[Any]) -> list[int]:
    """The checksum of each array, computed where it lies.

    One after the other: of many programs that wait for other devices at once, devices
    that share the threads of a processor may start different ones, and wait for ever.
    """
    return [int(checksum(on_device(x))) for x in arrays]


def on_device(x: Any) -> Any:
    """An array in the memory in which one can compute."""
    if not isinstance(x, jax.Array) or x.sharding.memory_kind in (None, "device"):
        return x
    return jax.device_put(x, x.sharding.with_memory_kind("device"))


@jax.jit
def checksum(x: Array) -> Array:
    """Sums the entries, each mixed with its place.

    For a place the mixing is one to one: one entry that changes is always seen. It is
    that of MurmurHash3's end, in 32 bits.
    """
    bits = bits_of(x)
    place = jnp.ones(bits.shape, jnp.uint32)
    for axis in range(bits.ndim):
        # Of a large array the place wraps around, too.
        stride = jnp.uint32(math.prod(bits.shape[axis + 1 :]) % 2**32)
        place += stride * lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    h = bits + place * jnp.uint32(0x9E3779B9)
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(h ^ (h >> 16), dtype=jnp.uint32)


def bits_of(x: Array) -> Array:
    """The bits as u32, with one more axis where an entry has more than 32."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], -1)
    if x.dtype == jnp.bool:
        return x.astype(jnp.uint32)
    info = jnp.finfo if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo
    size = info(x.dtype).bits
    if size > 32:
        return lax.bitcast_convert_type(x, jnp.uint32)
    return lax.bitcast_convert_type(x, f"uint{size}").astype(jnp.uint32)
