"""Some rows of a table: what a gradient or an update is where most rows have none."""

import dataclasses
import functools
import math
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._base import Array, describe
from adamx._dtypes import compute_dtypes, convert, is_complex, plus
from adamx._kernels import kernel
from adamx._kernels import rows as kernel_rows

# What XLA may know of the ids of `SparseRows`.
KNOWN: Any = {"indices_are_sorted": True, "unique_indices": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseRows:
    """A gradient or an update that is zero but for some rows of a table.

    Made by `sum_rows`, taken by `on_rows`, `apply_updates` and `global_norm`; a pytree.
    `table + rows` is the table with the rows added, so that Optax's `apply_updates`
    and what Flax makes of it take it, too; `jnp.zeros(shape) + rows` is the gradient
    as an array. In rows made otherwise an id that comes twice leaves its row undefined.

    Args:
      ids: i32[n], rising, none twice. Those from `num_rows` on stand for nothing, and
        their values are zeros, so that n is the same in each step.
      values: [n, ...], the rows.
      num_rows: Of the table; no array, a program is for one number of them.

    Example:
      >>> rows = adamx.sum_rows(jnp.array([2, 0, 2]), jnp.ones((3, 2)), num_rows=4)
      >>> print(rows.ids, jnp.zeros((4, 2)) + rows)
      [0 2 6] [[1. 1.]
       [0. 0.]
       [2. 2.]
       [0. 0.]]
    """

    ids: Array
    values: Array
    num_rows: int = dataclasses.field(metadata={"static": True})

    __array_ufunc__ = None  # NumPy leaves the sum to `__radd__`

    def of(self, table: Any) -> Array:
        """The rows of a table with these ids; zeros where an id stands for nothing."""
        get = jnp.asarray(table).at[self.ids].get
        return get(mode="fill", fill_value=0, **KNOWN)

    def into(self, table: Any, rows: Array) -> Array:
        """The table with these rows of it replaced."""
        return jnp.asarray(table).at[self.ids].set(rows, mode="drop", **KNOWN)

    def __radd__(self, table: Any) -> Array:
        """The table with the rows added: in float32 or wider, rounded once."""
        if is_complex(self.values.dtype) and not is_complex(table.dtype):
            raise TypeError(
                f"SparseRows: expected a complex table for {describe(self.values)}, "
                f"got {describe(table)}; take their real part."
            )
        inside = compute_dtypes(self.values.dtype, table.dtype)[1]
        if inside != table.dtype:
            return self.into(table, plus(self.of(table), self.values))
        # The same sums, without rows in between.
        table, values = jnp.asarray(table), convert(self.values, inside)
        return table.at[self.ids].add(values, mode="drop", **KNOWN)


def sum_rows(ids: Any, values: Any, num_rows: int) -> SparseRows:
    """Sums the gradients of rows that were looked up, one for each row of the table.

    The rows looked up take the gradient, in place of the table:

        loss, (grads, rows) = jax.value_and_grad(f, (0, 1))(params, table[ids])
        grads["table"] = adamx.sum_rows(ids, rows, table.shape[0])

    `adamx.interop.flax.value_and_row_grad` does so for Flax's `Embed`.

    On CPU, float32 is summed in C++ where adamx was installed with a compiler, to the
    same bits. `jax.export` for CPU refuses that, which another process may lack: start
    the one that exports with ADAMX_NO_KERNEL=1.

    Args:
      ids: Integers of any shape; equal ones are summed. Those outside [0, num_rows)
        stand for nothing: negative ones are padding, not rows from the end.
      values: ids.shape + the shape of a row, floating or complex. Their sums are in
        float32 or wider; on GPUs their order, and the last bits, may vary.
      num_rows: Rows of the table, a whole number.

    Returns:
      `SparseRows` with as many ids as there are in `ids`.

    Raises:
      ValueError: Values of another shape; a negative `num_rows`.
      TypeError: Ids that are not integers, values that are not floating or complex,
        `num_rows` that is no whole number.

    Example:
      >>> rows = adamx.sum_rows(jnp.array([7, -1, 7]), jnp.array([1.0, 5.0, 2.0]), 10)
      >>> print(rows.ids, rows.values)
      [ 7 11 12] [3. 0. 0.]
    """
    who = "sum_rows"
    ids, values = jnp.asarray(ids), jnp.asarray(values)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"{who}: expected ids as integers, got {describe(ids)}.")
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        raise TypeError(
            f"{who}: expected values of a floating or complex dtype, got "
            f"{describe(values)}."
        )
    if values.shape[: ids.ndim] != ids.shape:
        raise ValueError(
            f"{who}: expected values with a row for each of the ids {describe(ids)}, "
            f"got {describe(values)}."
        )
    whole = isinstance(num_rows, int | np.integer) and not isinstance(num_rows, bool)
    if not whole:
        raise TypeError(
            f"{who}: expected num_rows as a whole number, got {describe(num_rows)}; "
            "it is table.shape[0]."
        )
    n = math.prod(ids.shape)
    last = 2**31 - 1 - n  # ids that stand for nothing come after the rows
    if not 0 <= num_rows <= last:
        raise ValueError(
            f"{who}: expected num_rows in [0, {last}], got {num_rows}; it is "
            "table.shape[0]."
        )
    values = values.reshape((n, *values.shape[ids.ndim :]))
    values = convert(values, *compute_dtypes(values.dtype))
    ids, values = summed(ids.reshape(n), values, int(num_rows))
    return SparseRows(ids, values, int(num_rows))


@functools.partial(jax.jit, static_argnums=2)
def summed(ids: Array, values: Array, num_rows: int) -> tuple[Array, Array]:
    """The ids, sorted, each once, then those that stand for nothing; and the sums."""
    known = (ids >= 0) & (ids < num_rows)
    ids = jnp.where(known, ids, num_rows).astype(jnp.int32)
    fits = values.dtype == jnp.float32 and values.size > 0
    if fits and kernel.load()[0] and kernel.is_local([ids, values]):
        return in_kernel_or_plain(ids, values, num_rows)
    return plain(ids, values, num_rows)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def in_kernel_or_plain(ids: Array, values: Array, num_rows: int) -> tuple[Array, Array]:
    """In C++ on CPU: the same bits, without XLA's sort and its loops on one thread."""
    ways = {"cpu": kernel_rows.sum_rows, "default": plain}
    ways = {k: functools.partial(f, num_rows=num_rows) for k, f in ways.items()}
    return lax.platform_dependent(ids, values, **ways)


@in_kernel_or_plain.defjvp
def _(num_rows: int, primals: Any, tangents: Any) -> Any:
    return jax.jvp(functools.partial(plain, num_rows=num_rows), primals, tangents)


def plain(ids: Array, values: Array, num_rows: int) -> tuple[Array, Array]:
    """As `summed`, for ids in [0, num_rows]."""
    n = ids.shape[0]
    place = lax.iota(jnp.int32, n)
    # One number for both: XLA sorts these seven times as fast as pairs on CPUs.
    with jax.enable_x64(True):
        pairs = ids.astype(jnp.int64) << 32 | place.astype(jnp.int64)
        pairs = lax.sort(pairs, is_stable=False)
        ids, order = (pairs >> 32).astype(jnp.int32), pairs.astype(jnp.int32)
    first = jnp.concatenate([jnp.ones_like(ids[:1], bool), ids[1:] != ids[:-1]])
    group = jnp.cumsum(first, dtype=jnp.int32) - 1
    # Past the end is dropped, so that what stands for nothing leaves zeros.
    target = jnp.where(ids < num_rows, group, n)
    once = (place + num_rows).at[target]
    once = once.set(ids, mode="drop", indices_are_sorted=True)
    # From the values as they lie: one pass less over them than sorting them.
    slot = jnp.zeros_like(place).at[order].set(target, unique_indices=True)
    return once, jnp.zeros_like(values).at[slot].add(values, mode="drop")


def is_rows(x: Any) -> TypeGuard[SparseRows]:
    """Whether x is some rows of a table."""
    return isinstance(x, SparseRows)
