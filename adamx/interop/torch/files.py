"""Files of PyTorch and of safetensors, read without running what may be in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adamx.interop._states import in_short


def load_torch(path: str | Path) -> Any:
    """Reads a file of `torch.save` or of safetensors; never runs code that is in it.

    A file of PyTorch is a pickle, which may hold any code. Of such a file only tensors,
    numbers, strings and their containers are read (`weights_only=True`); anything else
    in it is an error before it is made.

    Args:
      path: A file; safetensors are known by the ending `.safetensors`.

    Returns:
      What was saved, with tensors on the CPU; of safetensors a dictionary from names.

    Raises:
      ValueError: A file that is cut off, damaged or something else, or that holds more.
      OSError: No such file.
      ImportError: A file of safetensors without its package.

    Example:
      >>> from adamx.interop.torch import load_torch
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile(suffix=".pt") as file:
      ...     torch.save({"weight": torch.ones(2)}, file.name)
      ...     load_torch(file.name)
      {'weight': tensor([1., 1.])}
    """
    path = Path(path)
    read = load_pickled if path.suffix != ".safetensors" else safetensors_reader()
    path.open("rb").close()  # an OSError from here on is one of its content
    try:
        return read(path)
    except Exception as error:  # PyTorch raises whatever it comes across
        raise ValueError(
            "load_torch: expected a file of torch.save with tensors and numbers alone, "
            f"or of safetensors, got {path} ({in_short(error)}); save the state_dict() "
            "again."
        ) from None


def load_pickled(path: Path) -> Any:
    """What is in a file of `torch.save`, if it is data alone."""
    return torch.load(path, map_location="cpu", weights_only=True)


def safetensors_reader() -> Callable[[Path], Any]:
    """The function that reads files of safetensors."""
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise ImportError(
            "load_torch: a file of safetensors needs safetensors; install safetensors."
        ) from error
    return load_file
