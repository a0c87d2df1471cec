"""Sums of 16-bit parameters and updates that keep what rounding takes: Kahan, 1965."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    Params,
    Updates,
    check_state,
)
from adamx._precision.landing import lead_to, rows_of, zeros_of_16_bit
from adamx._precision.residual import value


class KahanSumState(NamedTuple):
    """State of `kahan_sum`."""

    kahan: Any  # like params; what they lack, in their dtype, or a hole


def kahan_sum() -> GradientTransformation:
    """Adds to 16-bit parameters what rounding took from them before.

        c = kahan + u              rounded to the dtype of p
        h = p + c                  rounded to the dtype of p
        u = h - p                  in float32
        kahan = c - (p + u - p)    rounded to the dtype of p

    The last block of a chain, `chain(adamw(1e-3), kahan_sum())`. What moves is
    p + kahan, which `to_float32` gives: two bfloat16 are about 16 bits. It misses
    0.01 % of the distance moved in `benchmarks/weights.py` at a learning rate of 1e-3,
    0.07 % at 1e-6. For as many bytes `master_weights` is exact.

    Returns:
      A transformation. State: `KahanSumState`, one array in the parameter's dtype for
      each bfloat16 or float16; there is nothing for other parameters, whose updates
      pass through. The updates of the former are float32.

    Raises:
      ValueError: At update, no parameters, or trees that do not match.
      TypeError: A parameter not floating or complex, or narrower than 16 bits.

    Example:
      >>> tx = adamx.chain(adamx.sgd(1.0), adamx.kahan_sum())
      >>> params = jnp.ones(1, jnp.bfloat16)
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.full(1, 2**-10), state, params)
      ...     params = adamx.apply_updates(params, updates)
      ...     print(params, state[1].kahan)
      [1] [-0.000976562]
      [1] [-0.00195312]
      [0.996094] [0.000976562]

    Reference: Zamirai et al., 2020, Algorithm 1, https://arxiv.org/abs/2010.06192
    """
    who = "kahan_sum"

    def init(params: Params) -> KahanSumState:
        return KahanSumState(zeros_of_16_bit(who, params))

    def update(
        updates: Updates,
        state: KahanSumState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, KahanSumState]:
        del extra_args
        check_state(who, state, KahanSumState)
        rows, treedef = rows_of(who, updates, params, state.kahan)
        new, kahan = [], []
        for u, p, c in rows:
            if c is not None:
                u, c = compensated(u, p, c)
                kahan.append(c)
            new.append(u)
        kahan = jax.tree.structure(state.kahan).unflatten(kahan)
        return treedef.unflatten(new), KahanSumState(kahan)

    return GradientTransformation(init, update)


@jax.jit
def compensated(u: Array, p: Array, kahan: Array) -> tuple[Array, Array]:
    """The update that adds as much of u and of what is missing as p can take."""
    c = value((value(kahan) + u.astype(jnp.float32)).astype(p.dtype))
    d, reached = lead_to((value(p) + c).astype(p.dtype), p)
    return d, (c - (value(reached) - value(p))).astype(p.dtype)


def total(kahan: Array, p: Array) -> Array:
    """What p stands for, f32; p itself where that is float32 already."""
    return value(p) + value(kahan) if p.dtype == kahan.dtype else p


def split_in_two(x: Array, dtype: Any) -> tuple[Array, Array]:
    """A float32 as the sum of two 16-bit numbers, nearly."""
    p = x.astype(dtype)
    return p, (x.astype(jnp.float32) - value(p)).astype(dtype)
