"""Rounding to narrow dtypes that loses nothing on average.

A moment in bfloat16 has 8 bits. Where a step changes it by less than half of the last
one, rounding to the nearest undoes the step, and the moment stands still. Rounded up
with the probability of what is cut off, it is right on average.

The random bits are a hash of the number of the step and of the place of an element in
its array and tree: no key in the state, and the same bits on any mesh.
"""

import dataclasses
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType

from adamx._base import Array, check_choice, describe, is_number, storage_dtype
from adamx._numerics import is_narrow
from adamx._rules import is_hole, places

ROUNDINGS = ("nearest", "stochastic")
MOMENTS, WEIGHTS, CODES = 1, 2, 3  # streams of random bits


@dataclasses.dataclass(frozen=True)
class Storage:
    """A dtype in which to keep a moment, and how to round to it.

    For every argument `mu_dtype`, `nu_dtype`, `accumulator_dtype` and `state_dtype`,
    which take a plain dtype as well. A state without a count, as that of `trace`, has
    no random bits, and rounds to the nearest or raises.

    Args:
      dtype: Floating, such as jnp.bfloat16.
      rounding: "nearest"; or "stochastic", up or down with probabilities that make the
        mean exact. None is stochastic where a mean is slower than the dtype can follow
        when it is rounded to the nearest: 1 - decay <= 0.02 for bfloat16, 0.0025 for
        float16; else nearest, of which the error is smaller.
      seed: Of the random bits; members of an ensemble take different ones. The bits of
        an element depend on nothing but the seed, the number of the step, the path of
        its array and its place there, so they are the same on any mesh and after a
        restart. Under `shard_map` each shard has the bits of the first.

    Raises:
      ValueError: A rounding that is neither.
      TypeError: A dtype that is not floating; a seed that is not a whole number.

    Example:
      >>> every_run_the_same = adamx.Storage(jnp.bfloat16, "stochastic", seed=1)
      >>> state = adamx.scale_by_adam(nu_dtype=every_run_the_same).init(jnp.zeros(2))
      >>> state.nu.dtype
      dtype(bfloat16)

    Reference: Zamirai et al., 2020, https://arxiv.org/abs/2010.06192
    """

    dtype: Any
    rounding: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the values."""
        storage_dtype("Storage", "dtype", self.dtype)
        if self.dtype is None:
            raise TypeError("Storage: expected dtype as a floating dtype, got None.")
        if self.rounding is not None:
            check_choice("Storage", "rounding", self.rounding, ROUNDINGS)
        check_seed("Storage", self.seed)


def check_seed(who: str, seed: Any) -> None:
    """Raises unless `seed` is a whole number of 32 bits."""
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**32:
        raise TypeError(
            f"{who}: expected seed as a whole number in [0, 2**32), got "
            f"{describe(seed)}."
        )


def storage_of(
    who: str,
    name: str,
    given: Any,
    *weights: Any,
    real: bool = False,
    counted: bool = True,
    instead: str = "wrap the optimizer in compress_state, which counts",
) -> Storage | None:
    """How to keep means of these weights a step; None is float32 or wider.

    Without a weight it is no mean, and rounded to the nearest unless asked otherwise.
    A state that is not `counted` has no random bits; the error says what to do instead.
    """
    if given is None:
        return None
    is_storage = isinstance(given, Storage)
    dtype = storage_dtype(who, name, given.dtype if is_storage else given, real)
    rounding, seed = (given.rounding, given.seed) if is_storage else (None, 0)
    if not is_narrow(dtype):
        return Storage(dtype, "nearest", seed)
    chosen = rounding
    if chosen is None:
        slow = any(stalls(dtype, w) for w in weights)
        chosen = "stochastic" if slow else "nearest"
    if chosen == "stochastic" and not counted:
        why = "" if rounding else ", which does not follow so slow a mean otherwise"
        accept = "" if rounding else f', or take Storage("{dtype.name}", "nearest")'
        raise ValueError(
            f"{who}: expected {name} without stochastic rounding, for which the state "
            f"has no count, got {dtype.name}{why}; {instead}{accept}."
        )
    return Storage(dtype, chosen, seed)


def stalls(dtype: Any, w: Any) -> bool:
    """Whether a mean of weight w hardly moves in `dtype` if rounded to the nearest.

    It stands still from w·|g - mean| < |mean|·2^-(bits of the mantissa + 1); 5 times
    that is still off by 5 %. What is not known before the program runs may.
    """
    return not is_number(w) or w <= 0.02 * 2.0 ** (7 - int(jnp.finfo(dtype).nmant))


def stochastic_round(x: Array, key: Array, dtype: Any = jnp.bfloat16) -> Array:
    """Rounds to a neighbor in a narrow dtype, to each so often that the mean is x.

        y = the neighbor above x with the probability (x - below) / (above - below),
            else the one below

    Args:
      x: Floating array.
      key: A key of `jax.random`.
      dtype: Floating and narrower than float32: bfloat16, float16 or one of 8 bits.

    Returns:
      An array like x in `dtype`. What `dtype` holds stays as it is, NaN and infinity
      among it; beyond the largest number it is that, or infinity if x is.

    Raises:
      TypeError: An x or a dtype that is not floating, or a dtype not narrower than
        float32.

    Example:
      >>> third = jnp.full(10_000, 1 / 3)
      >>> y = adamx.stochastic_round(third, jax.random.key(0))
      >>> print(jnp.unique(y), f"{y.astype(jnp.float32).mean():.4f}")
      [0.332031 0.333984] 0.3333

    Reference: Connolly, Higham & Mary, 2021, section 2.
    """
    who = "stochastic_round"
    dtype = storage_dtype(who, "dtype", dtype, real=True)
    if dtype is None or not is_narrow(dtype):
        raise TypeError(f"{who}: expected a dtype narrower than float32, got {dtype}.")
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise TypeError(f"{who}: expected x as a floating array, got {describe(x)}.")
    x = jnp.asarray(x)
    return stochastically(x, jax.random.bits(key, x.shape, jnp.uint32), dtype)


def stochastically(
    x: Array, bits: Array, dtype: Any, *, saturate: bool = False
) -> Array:
    """As `stochastic_round`, by the low 16 of given bits, u32 of the shape of x.

    If asked, infinity becomes the largest number.
    """
    x = x.astype(jnp.float32)
    y = neighbor(x, bits, jnp.dtype(dtype))
    stays = jnp.isnan(x) if saturate else ~jnp.isfinite(x)
    return _straight(x, jnp.where(stays, x, y)).astype(dtype)


@jax.custom_jvp
def _straight(x: Array, y: Array) -> Array:
    """y, with the derivative of x: what is right on average."""
    del x
    return y


@_straight.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> Any:
    return _straight(*primals), tangents[0]


def neighbor(x: Array, bits: Array, dtype: Any) -> Array:
    """The one of the two neighbors of x, f32, in a dtype that 16 bits choose."""
    info = jnp.finfo(dtype)
    cut = 23 - int(info.nmant)
    unit, low = np.uint32(1 << cut), bits & np.uint32(0xFFFF)
    chance = low >> np.uint32(16 - cut) if cut < 16 else low << np.uint32(cut - 16)
    own = lax.bitcast_convert_type(x, jnp.uint32)
    sign, most = own & np.uint32(1 << 31), np.float32(info.max).view(np.uint32)
    # The mantissa of a float32 overflows into its exponent, as it should.
    size = lax.min((own ^ sign) + chance, jnp.full_like(own, most))
    size = size & ~(unit - np.uint32(1))
    y = lax.bitcast_convert_type(size | sign, jnp.float32)
    if dtype != jnp.bfloat16:
        # Its smallest numbers are evenly spaced. (Those of bfloat16 are float32's.)
        step = float(info.smallest_subnormal)
        steps = jnp.abs(x) / step
        whole = jnp.floor(steps)
        # Not floor(steps + chance), a sum that would be rounded.
        up = (steps - whole) + fraction(bits) >= 1
        even = (whole + up.astype(jnp.float32)) * step
        y = jnp.where(jnp.abs(x) < float(info.tiny), jnp.copysign(even, x), y)
    return y


def fraction(bits: Array) -> Array:
    """The low 16 of u32 bits as a number in [0, 1), f32."""
    return (bits & jnp.uint32(0xFFFF)).astype(jnp.float32) * 2.0**-16


def mix(x: Any) -> Any:
    """A bijection of 32 bits in which each bit of the result depends on all of x's.

    Source: https://github.com/skeeto/hash-prospector (lowbias32).
    """
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def keys_of(tree: Any, count: Array, seed: int, stream: int = MOMENTS) -> Array:
    """A key for each leaf of a tree at step `count`, u32[leaves]; streams differ."""
    paths = ["/".join(names) for _, names, x in places(tree) if not is_hole(x)]
    (seed,) = mix(np.array([seed], np.uint32))
    salts = [zlib.crc32(path.encode()) ^ stream ^ int(seed) for path in paths]
    return mix(mix(count.astype(jnp.uint32)) ^ np.array(salts, np.uint32))


def random_bits(key: Array, like: Array) -> Array:
    """u32 of the shape of `like`, from a key and each element's place in the array."""
    place = jnp.zeros([], jnp.uint32)
    stride, spread = 1, 0x9E3779B9
    for axis in reversed(range(like.ndim)):
        along = lax.broadcasted_iota(
            jnp.uint32, like.shape, axis, out_sharding=explicit_sharding(like)
        )
        place = place + along * np.uint32(stride * spread % 2**32)
        stride *= like.shape[axis]
    return mix(place + key)


def explicit_sharding(x: Array) -> Any:
    """The sharding of x where its type has one, else None."""
    sharding = jax.typeof(x).sharding
    is_explicit = AxisType.Explicit in sharding.mesh.axis_types
    return sharding if is_explicit else None
