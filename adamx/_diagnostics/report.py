"""What a state says about the last step, and what it holds."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from adamx._base import Array, OptState, Params
from adamx._diagnostics.metrics import ALL, NAMES
from adamx._diagnostics.record import RecordState


def get_metrics(state: OptState) -> dict[str, dict[str, Array]]:
    """Finds the metrics that `record` has put into a state.

    Wherever they are: in chains, masks, groups, wrappers of Optax, the `opt_state` of
    an `nnx.Optimizer`. Of a record inside a record the outer one counts.

    Args:
      state: The state after an update.

    Returns:
      Dictionary: group -> dictionary: name -> f32[], or f64[] where a parameter is
      float64; the names are those of `record`.

    Raises:
      ValueError: A state without metrics, or with those of several transformations.

    Example:
      >>> tx = adamx.record(adamx.sgd(0.5))
      >>> params = jnp.array([3.0, 4.0])
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> print(adamx.get_metrics(state)["all"]["update_norm"])
      2.5
    """
    who = "get_metrics"
    found = records(state)
    if not found:
        raise ValueError(
            f"{who}: expected a state with metrics, got none; wrap the transformation: "
            "adamx.record(tx)."
        )
    if len(found) > 1:
        places = " and ".join(jax.tree_util.keystr(path) for path, _ in found)
        raise ValueError(
            f"{who}: expected one state of record, got {len(found)}, at {places}; give "
            "it one of these."
        )
    ((_, record),) = found
    return {
        group: {name: unboxed(x) for name, x in metrics.items()}
        for group, metrics in record.metrics.items()
    }


def summary(state: OptState, params: Params | None = None) -> str:
    """Formats the metrics of a state, if it has any, and what it holds, as text.

    Args:
      state: Any state, also one of shapes: `jax.eval_shape(tx.init, params)`.
      params: The parameters, or their shapes, for the bytes per parameter; None leaves
        that column out.

    Returns:
      A table with one row for each group of `record`, below it one with a row for each
      field and dtype. Of arrays other than metrics no value is read.

    Raises:
      ValueError: As in `get_metrics`, for several records.

    Example:
      >>> params = jnp.zeros((2, 3), jnp.float32)
      >>> print(adamx.summary(adamx.scale_by_adam().init(params), params))
      field    dtype  entries  bytes  per parameter
      count    int32        1      4           0.67
      mu     float32        6     24           4.00
      nu     float32        6     24           4.00
      total                13     52           8.67
    """
    tables = []
    if records(state):
        metrics = get_metrics(state)
        names = [name for name in NAMES if name in metrics[ALL]]
        rows = [
            [group, *(number(metrics[group].get(name)) for name in names)]
            for group in sorted(metrics, key=lambda group: (group != ALL, group))
        ]
        tables.append(table([["group", *names], *rows], left=1))
    sizes: dict[tuple[str, str], list[int]] = {}
    for name, x in fields(state):
        size = sizes.setdefault((name, str(x.dtype)), [0, 0])
        size[0] += x.size
        size[1] += x.size * x.dtype.itemsize
    sizes["total", ""] = [sum(size[i] for size in sizes.values()) for i in (0, 1)]
    count = None if params is None else sum(x.size for x in jax.tree.leaves(params))
    rows = [["field", "dtype", "entries", "bytes"]]
    for key, size in sizes.items():
        rows.append([*key, *(f"{n:,}" for n in size)])
    if count is not None:
        rows[0].append("per parameter")
        for row, (_, size) in zip(rows[1:], sizes.values(), strict=True):
            row.append(f"{size / max(count, 1):.2f}")
    return "\n\n".join([*tables, table(rows, left=1)])


def records(state: OptState) -> list[tuple[Any, RecordState]]:
    """The path and the state of each record that is in no other."""

    def is_record(x: Any) -> bool:
        return getattr(type(x), "_fields", None) == RecordState._fields

    parts = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_record)
    return [(path, x) for path, x in parts if is_record(x)]


def unboxed(x: Any) -> Any:
    """The array in a variable of Flax, or the array itself."""
    (x,) = jax.tree.leaves(x)
    return x


def fields(state: OptState, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each array of a state with the name of the innermost field it is in."""

    def is_state(x: Any) -> bool:
        return bool(getattr(type(x), "_fields", ()))

    for part in jax.tree.leaves(state, is_leaf=is_state):
        if is_state(part):
            for field in part._fields:
                yield from fields(getattr(part, field), field)
        else:
            yield name, part


def number(x: Any) -> str:
    """A metric as it stands in a table; shapes and tracers have no value."""
    known = isinstance(x, jax.Array | np.ndarray) and not isinstance(x, Tracer)
    return f"{float(x):.3g}" if known else "-"


def table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Rows of cells in aligned columns, of which the first `left` start at the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
