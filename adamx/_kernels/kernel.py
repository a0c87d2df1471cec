"""The C++ kernels: where they are, whether they can be used, and the foreign calls."""

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType

from adamx._base import Array
from adamx._kernels.build import LIBRARY, unwanted

ADAMW = "adamx_adamw"
ADAMW_ROWS, SUM_ROWS = "adamx_adamw_rows", "adamx_sum_rows"
CODED_ADAMW = "adamx_coded_adamw"
TARGETS = (ADAMW, CODED_ADAMW, ADAMW_ROWS, SUM_ROWS)
ROUNDINGS = {"nearest": 1, "stochastic": 2}  # 0, to infinity, is that of parameters


@functools.cache
def load() -> tuple[bool, str]:
    """Registers them once; whether they can be used, and their vectors or why not."""
    if unwanted():
        return False, "ADAMX_NO_KERNEL is set"
    if not LIBRARY.exists():
        return False, "adamx was installed without a C++ compiler"
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.adamx_vectors.restype = ctypes.c_char_p
        vectors = library.adamx_vectors()
        if vectors is None:
            return False, "a processor without fused multiply-add"
        for target in TARGETS:
            handler = jax.ffi.pycapsule(getattr(library, target))
            jax.ffi.register_ffi_target(target, handler, platform="cpu")
    except (OSError, AttributeError, RuntimeError) as error:
        return False, f"the kernels do not load: {error}"
    return True, vectors.decode()


def is_local(arrays: list[Array], shared: Any = ()) -> bool:
    """Whether all arrays are on one device, or alike parts of arrays in `shard_map`.

    XLA cannot divide a foreign call over devices: it would gather its arguments. What
    leaves share must not make their results vary where they do not.
    """
    types = [jax.typeof(x) for x in arrays]
    axes = {kind for t in types for kind in t.sharding.mesh.axis_types}
    kinds = {t.manual_axis_type for t in types}
    inputs = [jax.typeof(x).manual_axis_type.varying for x in jax.tree.leaves(shared)]
    varying = types[0].manual_axis_type.varying
    alike = len(kinds) == 1 and all(x <= varying for x in inputs)
    return axes <= {AxisType.Manual} and alike


GROUP = 32  # leaves in a call: XLA's compilation takes longer for the square of them


def call(
    leaves: list[tuple[Array, ...]],
    decays: list[bool],
    scalars: Array,
    keys: Sequence[Array | np.ndarray],
    groups: Sequence[int] | None = None,
    **settings: Any,
) -> list[tuple[Array, ...]]:
    """New (mu, nu, p) for each (g, mu, nu, p), of float32 or bfloat16.

    The results take the memory of the arguments where that is not needed any more.
    `decays` says where weights decay; `scalars` is in the order of `Scalars` in
    adamw.h; `keys`, u32[leaves], are for the rounding of mu and of nu. With `groups`,
    the lengths of the groups of each leaf, mu and nu are two arrays each, of codes and
    of scales.
    """
    new = []
    for start in range(0, len(leaves), GROUP):
        part = slice(start, start + GROUP)
        own = [k[part] for k in keys]
        lengths = None if groups is None else groups[part]
        new += one_call(leaves[part], decays[part], scalars, own, lengths, **settings)
    return new


def one_call(
    leaves: list[tuple[Array, ...]],
    decays: list[bool],
    scalars: Array,
    keys: Sequence[Array | np.ndarray],
    groups: Sequence[int] | None,
    *,
    nesterov: bool,
    roundings: Sequence[str],
) -> list[tuple[Array, ...]]:
    """As `call`, for a few leaves."""
    n = len(leaves)
    columns = [x for column in zip(*leaves, strict=True) for x in column]
    kept = columns[n:]
    in_codes = {} if groups is None else {"groups": np.array(groups, np.int64)}
    results = jax.ffi.ffi_call(
        CODED_ADAMW if in_codes else ADAMW,
        [jax.typeof(x) for x in kept],
        vmap_method="sequential",
        input_output_aliases={3 + n + i: i for i in range(len(kept))},
    )(
        scalars,
        *keys,
        *columns,
        decays=np.array(decays, np.uint8),
        nesterov=nesterov,
        mu_rounding=np.uint8(ROUNDINGS[roundings[0]]),
        nu_rounding=np.uint8(ROUNDINGS[roundings[1]]),
        **in_codes,
    )
    return [tuple(results[i::n]) for i in range(n)]
