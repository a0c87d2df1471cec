"""The dtypes in which arrays are computed, and the way there and back."""

import functools
from typing import Any

import jax.numpy as jnp

from adamx._base import Array
from adamx._numerics import rounded


@functools.cache
def compute_dtypes(*dtypes: Any) -> tuple[Any, ...]:
    """The dtypes to compute in: float32 or the widest, complex for the complex ones."""
    reals = [jnp.finfo(dtype).dtype for dtype in dtypes]
    real = max(jnp.dtype(jnp.float32), *reals, key=lambda dtype: dtype.itemsize)
    wide = jnp.dtype("complex64" if real.itemsize == 4 else "complex128")
    return tuple(wide if is_complex(dtype) else real for dtype in dtypes)


def is_complex(dtype: Any) -> bool:
    """Whether a dtype is complex."""
    return jnp.issubdtype(dtype, jnp.complexfloating)


def convert(x: Any, dtype: Any, saturate: bool = False) -> Any:
    """x in `dtype`; if asked, at most its largest number: a mean of infinity stays."""
    if x.dtype == dtype:
        return x
    if saturate and not is_complex(dtype):
        limit = float(jnp.finfo(dtype).max)
        x = jnp.clip(x, -limit, limit)
    return x.astype(dtype)


def plus(p: Array, u: Array) -> Array:
    """p + u in float32 or wider, rounded once to p's dtype."""
    inside = compute_dtypes(u.dtype, p.dtype)[1]
    total = convert(p, inside) + convert(u, inside)
    # Not to float16, of which that would lose the smallest numbers.
    total = rounded(total, p.dtype) if p.dtype == jnp.bfloat16 else total
    return convert(total, p.dtype)
