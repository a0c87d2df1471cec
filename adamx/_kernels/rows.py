"""The foreign calls on some rows of a table; kernel.py says whether there are any."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from adamx._base import Array
from adamx._kernels.kernel import ADAMW_ROWS, ROUNDINGS, SUM_ROWS


def sum_rows(ids: Array, values: Array, num_rows: int) -> tuple[Array, Array]:
    """As `summed` of _rows.py, for i32[n] and f32[n, ...], of which none is empty."""
    types = [jax.typeof(ids), jax.typeof(values)]
    call = jax.ffi.ffi_call(SUM_ROWS, types, vmap_method="sequential")
    ids, sums = call(ids, values, num_rows=np.int32(num_rows))
    return ids, sums


def call(
    tables: list[tuple[Any, ...]],
    decays: list[bool],
    scalars: Array,
    keys: Sequence[Array | np.ndarray],
    *,
    nesterov: bool,
    roundings: Sequence[str],
) -> list[tuple[Array, ...]]:
    """As `kernel.call`, for (g, mu, nu, p) of which g has `ids` and `values`."""
    results = []
    for i, (g, *kept) in enumerate(tables):
        update = jax.ffi.ffi_call(
            ADAMW_ROWS,
            [jax.typeof(x) for x in kept],
            vmap_method="sequential",
            input_output_aliases={5: 0, 6: 1, 7: 2},
        )
        new = update(
            scalars,
            *(k[i] for k in keys),
            g.ids,
            g.values,
            *kept,
            decays=np.bool_(decays[i]),
            nesterov=nesterov,
            mu_rounding=np.uint8(ROUNDINGS[roundings[0]]),
            nu_rounding=np.uint8(ROUNDINGS[roundings[1]]),
        )
        results.append(tuple(new))
    return results
