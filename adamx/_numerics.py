"""The delicate operations, each once, with its reason.

A scalar that every element meets biases every element by its own error, and biases,
unlike roundings, do not average out. So the few scalars of a step are computed in
float64, which XLA has on every platform whether or not the user has switched x64 on;
elements meet them as the sum of two numbers of their own dtype.
"""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._base import Array, is_number

MAX_COUNT = np.iinfo(np.int32).max


class Wide(NamedTuple):
    """A scalar in float64, in float32, and as the sum of two float32 numbers."""

    value: Array  # f64[]
    single: Array  # f32[]
    power: Array  # f32[]; the nearest power of two
    rest: Array  # f32[]; at most half of it


def float64() -> Any:
    """The context in which scalars are computed."""
    return jax.enable_x64(True)


def hyperparameter(x: Any) -> Any:
    """A number as one of Python's; an array as f64[].

    A float32 stands for the decimal as which it prints: 0.999 is meant, not the
    0.99900001287 that is stored, whether it came as a number or in an array.
    """
    if is_number(x):
        return float(str(x))
    return meant(as_float64(x), x, 0)


def complement(b: Any) -> Any:
    """1 - b, of a number or a float32 from its decimal digits: 0.999 gives 0.001."""
    if is_number(b):
        return float(1 - Fraction(str(b)))
    with float64():
        rest = 1 - as_float64(b)
    return meant(rest, b, 1)


def meant(value: Array, x: Array, i: int) -> Array:
    """`decimal(x)[i]` of an x below float64, with the derivative of its neighbor."""
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.dtype.itemsize == 8:
        return value
    exact = decimal(lax.stop_gradient(x))[i]
    with float64():
        away = exact - lax.stop_gradient(value)
        return value + jnp.where(jnp.isfinite(away), away, 0)


def as_float64(x: Any) -> Array:
    """An array of any real dtype in float64, exactly."""
    with float64():
        return jnp.asarray(x).astype(jnp.float64)


def is_narrow(dtype: Any) -> bool:
    """Whether a dtype is floating and narrower than float32."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4


DIGITS = 10  # nine tell any two float32 apart; one more where the logarithm is off
POWERS = np.array([float(f"1e{k}") for k in range(60)])


@jax.jit
def decimal(x: Array) -> tuple[Array, Array]:
    """The shortest decimal that rounds to x, a scalar, and 1 minus it, f64[]."""
    with float64():
        wide = as_float64(x)
        ordinary = (x != 0) & jnp.isfinite(x)
        # A branch, lest XLA compute all of it again in the kernel of every leaf.
        return lax.cond(ordinary, shortest, lambda x, wide: (wide, 1 - wide), x, wide)


def shortest(x: Array, wide: Array) -> tuple[Array, Array]:
    """As `decimal`, of a number that is neither 0 nor infinite."""
    size = jnp.abs(wide)
    places = jnp.arange(DIGITS, dtype=jnp.int32)
    places = places - jnp.floor(jnp.log10(size)).astype(jnp.int32)
    powers = jnp.asarray(POWERS, jnp.float64)
    up, down = powers[jnp.maximum(places, 0)], powers[jnp.maximum(-places, 0)]
    # Whole numbers below 2^53, so that what is made of them is rounded once.
    digits = jnp.round(size * up / down)
    candidates = digits / up * down
    fits = candidates.astype(x.dtype) == jnp.abs(x)
    i = lax.argmax(fits, 0, jnp.int32)
    sign = jnp.where(x < 0, -1.0, 1.0)
    value = jnp.where(fits.any(), candidates[i], size) * sign
    whole = fits.any() & (down[i] == 1) & (up[i] < 1e16)
    return value, jnp.where(whole, (up[i] - sign * digits[i]) / up[i], 1 - value)


def one_minus_power(w: Any, count: Array) -> Array:
    """1 - (1 - w)**count, f64[], for count >= 1; to be called inside `float64()`.

    As `1 - b**count` in float32 it is off by 1.3e-5 at b = 0.999, count = 1, and by
    1.4e-3 at b = 0.99999, because b itself is rounded.
    """
    log_b = jnp.log1p(-jnp.asarray(w, jnp.float64))
    return -jnp.expm1(count.astype(jnp.float64) * log_b)


def least_root(w1: Any, w2: Any, count: Array) -> Array:
    """The least √nu / |mu| of means of g², g after `count` updates; in `float64()`.

    By Cauchy and Schwarz, for weights w of g and v of g², and r = (1 - w1)² / (1 - w2):

        |Σ w·g|² <= Σ (w² / v) · Σ v·g²,    Σ w² / v = (w1² / w2)·(1 + r + … + r^(t-1))

    whatever the gradients. Less a millionth, for what the means have been rounded.
    Below it a mean was lost: by underflow, or in being stored.
    """
    w1, w2 = (jnp.asarray(w, jnp.float64) for w in (w1, w2))
    rest = (2 * w1 - w1 * w1 - w2) / (1 - w2)  # 1 - r
    t = count.astype(jnp.float64)
    total = jnp.where(rest == 0, t, one_minus_power(rest, count) / rest)
    bounded = (total > 0.5) & (total < 1e300)  # not a NaN, of b2 = 0, either
    root = jnp.sqrt(w2 / jnp.where(bounded, total, 1)) / w1
    return jnp.where(bounded, (1 - 1e-6) * root, 0)


def bounded_root(a: Array, mu: Array, least: Any) -> Array:
    """√a, or |mu| times `least_root` where that is more.

    As a constant: of a bound nothing is learned.
    """
    return lax.max(safe_sqrt(a), lax.stop_gradient(jnp.abs(mu) * cast(least, a)))


def split(*scalars: Any) -> tuple[Any, ...]:
    """Scalars computed in float64, ready to meet elements."""
    wide = [jnp.asarray(c, jnp.float64) for c in scalars]
    return tuple(Wide(c, *divided(c, jnp.float32)) for c in wide)


def divided(c: Array, dtype: Any) -> tuple[Array, Array, Array]:
    """A scalar array in a narrower dtype: whole, the nearest power of two, the rest."""
    info = jnp.finfo(dtype)
    whole = jnp.dtype(f"int{info.bits}").type
    one = whole(1 << int(info.nmant))
    single = c.astype(dtype)
    fixed = lax.stop_gradient(single)
    bits = lax.bitcast_convert_type(fixed, whole) + one // whole(2)
    power = lax.bitcast_convert_type(bits & -one, dtype)
    power = jnp.where(jnp.isfinite(power), power, fixed)
    return single, power, (c - power.astype(c.dtype)).astype(dtype)


def parts(c: Any, dtype: Any) -> tuple[Any, Any]:
    """The scalar c as (power, rest) in the real dtype of `dtype`, or as (c, None).

    The second where the dtype holds it, or where no more of it is known.
    """
    dtype = jnp.finfo(dtype).dtype
    if isinstance(c, Wide):
        return (c.power, c.rest) if dtype == jnp.float32 else (c.value, None)
    if is_number(c):
        if float(dtype.type(c)) == c:
            return dtype.type(c), None
        digits, exponent = math.frexp(c)
        power = math.ldexp(round(digits * 2) / 2, exponent)
        return dtype.type(power), dtype.type(c - power)
    c = hyperparameter(c) if c.dtype.itemsize < dtype.itemsize else c
    if c.dtype.itemsize > dtype.itemsize:
        with float64():
            return divided(c, dtype)[1:]
    return c.astype(dtype), None


def cast(c: Any, x: Array) -> Any:
    """The scalar c in the real dtype of x."""
    dtype = jnp.finfo(x.dtype).dtype
    if isinstance(c, Wide):
        return c.single if dtype == jnp.float32 else c.value
    if is_number(c):
        return dtype.type(c)
    return (hyperparameter(c) if c.dtype.itemsize < dtype.itemsize else c).astype(dtype)


def times(x: Array, c: Any) -> Array:
    """x·c for a scalar c known to more digits than x's dtype holds.

    x·2^k is exact. So with fused multiply-add the sum is rounded once, and without it
    what is lost of c is not more than half an ulp of its distance from 2^k: a running
    mean, for which that is 1 - c, is off by at most half an ulp when it has forgotten
    where it started. As the sum of c rounded and the rest, c would be just rounded.
    """
    if is_number(c) and abs(c) == 1:
        return x if c == 1 else -x
    # A negative constant would be contracted otherwise than an array of its value.
    if is_number(c) and c < 0:
        return -times(x, -c)
    power, rest = parts(c, x.dtype)
    # In this order, so that LLVM fuses the rest with its sum.
    return product(x, power) if rest is None else product(x, rest) + product(x, power)


def product(x: Array, c: Any) -> Array:
    """x·c for a real c of x's precision."""
    if jnp.iscomplexobj(x):
        return lax.complex(x.real * c, x.imag * c)
    return x * c


def lerp(x: Array, y: Array, w: Any) -> Array:
    """x + w·(y - x), which has a gain of exactly 1 for a rounded w too.

    The form b·x + (1 - b)·y drifts: by 77 ulp after 1e5 steps at b = 0.999. Above 1/2
    the other end is the nearer one, and what is left of x is small.
    """
    if is_number(w):
        near, far, weight = (x, y, w) if w <= 0.5 else (y, x, 1 - w)
        return near if weight == 0 else near + product(far - near, cast(weight, x))
    with float64():
        w = w.value if isinstance(w, Wide) else as_float64(w)
        is_small, rest = w <= 0.5, 1 - w
    near = x + product(y - x, cast(w, x))
    return jnp.where(is_small, near, y + product(x - y, cast(rest, x)))


def rounded(x: Array, dtype: Any) -> Array:
    """x with the digits of a narrower dtype, which XLA may not give back to it."""
    if dtype is None:
        return x
    info = jnp.finfo(dtype)
    return lax.reduce_precision(x, info.nexp, info.nmant)


def increment(count: Array) -> Array:
    """count + 1, staying at 2**31 - 1: wrapped, it would make 1 - b**count negative."""
    return lax.min(count, jnp.int32(MAX_COUNT - 1)) + 1


def abs_sq(x: Array) -> Array:
    """|x|², real."""
    return x.real**2 + x.imag**2 if jnp.iscomplexobj(x) else x * x


def capped_sq(x: Array) -> Array:
    """|x|², or the largest number where that overflows."""
    return at_most_max(abs_sq(x))


@jax.custom_jvp
def at_most_max(x: Array) -> Array:
    """x, or the largest number where it overflowed: means of infinity stay infinite."""
    return lax.min(x, jnp.full_like(x, jnp.finfo(x.dtype).max))


@at_most_max.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    # `lax.min` would multiply dx, which may have overflowed as well, by 0.
    return at_most_max(x), jnp.where(jnp.isinf(x), 0, dx)


def safe_sqrt(x: Array) -> Array:
    """√x with derivative 0 at 0, where that of `jnp.sqrt` is infinite.

    Not by a rule of its own: jax 0.10 forgets that in a scan that is differentiated
    backward and then forward.
    """
    zero = x == 0
    return jnp.where(zero, 0, lax.sqrt(jnp.where(zero, 1, x)))


def ratio(x: Array, y: Array, floor: Any) -> Array:
    """x / y for y >= floor >= 0; 0 where y is 0, which a positive floor excludes.

    Not for a y that is itself a root: XLA would multiply by its reciprocal, which
    rounds twice.
    """
    far_from_underflow = is_number(floor) and floor > 1e-30
    return quotient(x, y) if far_from_underflow else safe_divide(x, y)


def power_of_two(x: Array) -> tuple[Array, Array]:
    """2^-k and 2^k such that 2^-k·x is in [1, 2), for x >= 0: products are exact.

    From the bits of the exponent, without a division. Next to the largest number 2^-k·x
    is in [2, 4), so that 2^-k is normal; below the least normal one k is 0, so that
    derivatives at 0 are not large.
    """
    info = jnp.finfo(x.dtype)
    whole = jnp.dtype(f"int{info.bits}").type
    last = 2 ** int(info.nexp) - 2  # exponents are stored as k + last / 2
    one, largest = (whole(i << int(info.nmant)) for i in (1, last - 1))
    k = lax.bitcast_convert_type(x, whole) & (largest + 2 * one)
    k = jnp.where(k == 0, whole(last // 2) * one, lax.min(k, jnp.full_like(k, largest)))
    scale = lax.bitcast_convert_type(largest + one - k, x.dtype)
    return scale, lax.bitcast_convert_type(k, x.dtype)


def safe_divide(x: Array, y: Array) -> Array:
    """x / y for a real y >= 0, and 0 where y is 0; a NaN stays one."""
    zero = y == 0
    return jnp.where(zero, 0, quotient(x, jnp.where(zero, 1, y)))


def quotient(x: Array, y: Array) -> Array:
    """x / y for a real y."""
    if jnp.iscomplexobj(x):
        return lax.complex(_divide(x.real, y), _divide(x.imag, y))
    return _divide(x, y)


@jax.custom_jvp
def _divide(x: Array, y: Array) -> Array:
    """x / y, real, without a y² in its derivative, which may overflow or vanish."""
    return x / y


@_divide.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> Any:
    u = _divide(*primals)
    return u, _divide(tangents[0] - u * tangents[1], primals[1])


def agreement(x: Array, y: Array) -> Array:
    """The sign of x·y, or of Re(conj(x)·y), where the product itself may underflow."""
    if jnp.iscomplexobj(x):
        x, y = safe_divide(x, jnp.abs(x)), safe_divide(y, jnp.abs(y))
        return jnp.sign(x.real * y.real + x.imag * y.imag)
    return jnp.sign(x) * jnp.sign(y)


def is_zero(c: Any) -> bool:
    """Whether a scalar is known to be 0 before the program runs."""
    return is_number(c) and c == 0


def unit_norm(x: Array, axes: Any = None) -> Array:
    """√(Σ |x|²) over `axes`, which are kept, free of overflow and underflow."""
    x = jnp.abs(x)
    # The norm does not depend on the scale, so neither do its derivatives.
    largest = lax.stop_gradient(jnp.max(x, axes, keepdims=True, initial=0))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return safe_sqrt(jnp.sum(abs_sq(x / scale), axes, keepdims=True)) * scale
