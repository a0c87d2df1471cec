"""Files of Flax and of safetensors. Nothing is unpickled: that runs what is in it."""

import json
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import serialization

from adamx.lab.inspection.stored import Stored, from_tree, stored, unreadable

PICKLE = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


def open_file(path: Path) -> Stored:
    """Opens a file of safetensors, by its ending, or of Flax."""
    with path.open("rb") as file:
        head = file.read(2)
    if head in PICKLE or is_torch(path):
        raise ValueError(
            f"inspect: {path} is a pickle, as PyTorch's files are, and reading it runs "
            "whatever code is in it; save the state with Orbax, flax.serialization or "
            "safetensors."
        )
    return open_safetensors(path) if path.suffix == ".safetensors" else open_flax(path)


def is_torch(path: Path) -> bool:
    """Whether a file is an archive with a pickle in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".pkl") for name in archive.namelist())


def open_flax(path: Path) -> Stored:
    """Reads a file of `flax.serialization.to_bytes`, which comes as a whole."""
    what = "a file of flax.serialization"
    try:
        tree = serialization.msgpack_restore(path.read_bytes())
    except Exception as error:  # msgpack and Flax raise whatever they come across
        raise unreadable(path, what, error) from None
    if not isinstance(tree, dict):
        raise unreadable(path, what, f"its content is of type {type(tree).__name__}")
    return from_tree(str(path), tree)


def open_safetensors(path: Path) -> Stored:
    """Maps a file of safetensors: a length, a header in JSON, the bytes of arrays.

    By its published layout, since its package knows no floats of 8 bits in NumPy.
    """
    what = "a file of safetensors"
    try:
        data = np.memmap(path, np.uint8, "r")
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        if start > data.size:
            raise unreadable(path, what, f"{data.size:,} bytes, its header is longer")
        header = json.loads(data[8:start].tobytes())
        header.pop("__metadata__", None)
        arrays = {
            name.replace(".", "/"): mapped(data[start:], **entry)
            for name, entry in header.items()
        }
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        if str(error).startswith("inspect: "):
            raise
        raise unreadable(path, what, error) from None
    return stored(str(path), arrays)


def mapped(data: np.ndarray, dtype: str, shape: Any, data_offsets: Any) -> np.ndarray:
    """One array of a file."""
    first, last = data_offsets
    return data[first:last].view(numpy_dtype(dtype)).reshape(shape)


def numpy_dtype(name: str) -> np.dtype:
    """NumPy's dtype of safetensors' BF16, F8_E4M3, BOOL, F32, U8, ..."""
    special = {"BF16": jnp.bfloat16, "BOOL": np.bool_}
    special |= {"F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2}
    return np.dtype(special.get(name) or f"{name[0].lower()}{int(name[1:]) // 8}")
