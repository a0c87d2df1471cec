"""A checksum sees every bit, and not how an array lies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from meshes import EXPLICIT, make_mesh, on

from adamx.interop._checksum import checksums_of

DTYPES = ["float32", "bfloat16", "float16", "float8_e4m3fn", "complex64", "int32"]
DTYPES += ["int8", "uint8", "int4", "bool"]


def checksum(x):
    return checksums_of([x])[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_bit_and_each_place_counts(dtype):
    x = np.random.default_rng(0).permutation(15).reshape(3, 5) % 7
    x = x.astype(jnp.dtype(dtype))
    found = [checksum(jnp.asarray(x))]
    bits = {"int4": 4, "bool": 1}.get(dtype, 8 * x.dtype.itemsize)
    for bit in range(bits):
        changed = x.copy()
        changed.reshape(-1).view("u1")[bit // 8 + x.dtype.itemsize] ^= 1 << bit % 8
        found.append(checksum(jnp.asarray(changed)))
    assert len(set(found)) == 1 + bits
    for i in range(1, 15):
        changed = x.copy().reshape(-1)
        changed[[0, i]] = changed[[i, 0]]
        if changed[0] != changed[i]:
            assert checksum(jnp.asarray(changed.reshape(3, 5))) != found[0]


def test_one_of_64_bits():
    if not jax.config.read("jax_enable_x64"):
        pytest.skip("without float64 there are none")
    x = np.linspace(0.0, 1.0, 5)
    changed = x.copy()
    changed.view("u8")[2] ^= 1
    assert checksum(jnp.asarray(x)) != checksum(jnp.asarray(changed))


def test_keys_of_random_numbers():
    a, b = (jax.random.split(jax.random.key(seed), 3) for seed in (0, 1))
    assert checksum(a) != checksum(b)


def test_the_layout_does_not_count():
    x = np.random.default_rng(0).normal(size=(16, 8)).astype("f4")
    want = checksum(jnp.asarray(x))
    host = on(make_mesh(), "data").with_memory_kind("pinned_host")
    for sharding in (
        on(make_mesh(), "data"),
        on(make_mesh(), None, "data"),
        on(make_mesh(EXPLICIT), "data"),
        host,
    ):
        assert checksum(jax.device_put(x, sharding)) == want
