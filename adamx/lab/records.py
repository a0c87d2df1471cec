"""Numbers as files of strict JSON, and back."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "adamx.lab 2"


def write(record: dict[str, Any], path: Path) -> None:
    """Writes a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    text = json.dumps(record, default=to_plain, allow_nan=False)
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, path)


def read(who: str, path: str | os.PathLike) -> dict[str, Any]:
    """Reads what `write` wrote."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.pop("format", "") != FORMAT:
        raise ValueError(
            f"{who}.load: expected a file that this version's {who}.save wrote, got "
            f"{os.fspath(path)}."
        )
    return record


def to_plain(array: np.ndarray):
    """Turns an array into nested lists, each float32 in its shortest decimals."""
    if array.ndim:
        return [to_plain(row) for row in array]
    if array.dtype == np.int32:
        return int(array)
    return shortest(array) if np.isfinite(array) else None


def shortest(value) -> float:
    """Turns a float32 into the float of the same decimals: 0.1, not 0.10000000149."""
    return float(str(value))


def to_floats(values) -> np.ndarray | None:
    """Turns nested lists into f32; what is not there stays so."""
    return None if values is None else np.asarray(values, np.float32)
