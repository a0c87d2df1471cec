"""What is in the state of an optimizer: sizes, numbers, health."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adamx
from adamx.lab.inspection import report
from adamx.lab.inspection.fields import MODEL, POSITIVE, SIGNED, Field, read
from adamx.lab.inspection.files import open_file
from adamx.lab.inspection.folders import open_folder
from adamx.lab.inspection.health import diagnose
from adamx.lab.inspection.stored import Stored, from_tree


@dataclass(frozen=True, eq=False)
class Inspection:
    """What is in a checkpoint or a tree.

    Attributes:
      source: What was looked into.
      fields: mu, nu, params, ..., in the order in which they are kept.
      scalars: What stands alone, by name: counts, hyperparameters.
      findings: What is not as it should be, and what to do.
    """

    source: str
    fields: list[Field]
    scalars: dict[str, int | float]
    findings: list[adamx.Finding]

    @property
    def nbytes(self) -> int:
        """Returns the bytes of all arrays, without what stands alone."""
        return sum(field.nbytes for field in self.fields)

    @property
    def parameters(self) -> int:
        """Returns how many parameters there are; 0 where none are recognized."""
        fields = [field for field in self.fields if field.name == "params"]
        fields = fields or [f for f in self.fields if f.name in SIGNED | POSITIVE]
        sizes: dict[str, int] = {}
        for field in fields:
            for name, size in field.sizes.items():
                sizes[name] = max(size, sizes.get(name, 0))
        return sum(sizes.values())

    @property
    def state_bytes_per_parameter(self) -> float | None:
        """Returns the size of the optimizer's state; None without parameters."""
        state = sum(f.nbytes for f in self.fields if f.name not in MODEL)
        return state / self.parameters if self.parameters else None

    def table(self) -> str:
        """Returns sizes, numbers, histograms and health as text."""
        return report.render(self)

    def plot(self, ax):
        """Draws how |x| is spread over decades in each field; returns `ax`."""
        return report.histograms(self, ax)


def inspect(source: str | os.PathLike | Any, *, eps: float = 1e-8) -> Inspection:
    """Says what is in the state of an optimizer, and whether it is healthy.

    A folder of Orbax and a file of safetensors may be larger than the memory: arrays
    are loaded by turns, up to 64 MiB of them at once, or a single larger one. A file of
    Flax is read whole. Nothing is unpickled. States of adamx, of Optax, of
    `flax.training.train_state` and of `nnx.Optimizer` are known by the names of their
    fields; what `compress_state` has encoded is decoded.

    Args:
      source: A checkpoint of Orbax, which is the folder that was saved to, or one step
        of its `CheckpointManager`; a file of `flax.serialization.to_bytes`; a file of
        safetensors, by its ending, names joined by "." or "/"; or a tree of arrays.
      eps: Of the optimizer, > 0, where the state does not have it among its
        hyperparameters.

    Returns:
      The inspection; `print(inspection.table())` shows it.

    Raises:
      FileNotFoundError: There is nothing at the path.
      ValueError: There is something else, or nothing in it, or eps is out of its range.
      ImportError: A checkpoint of Orbax needs orbax-checkpoint.

    Example:
      >>> params = {"w": jnp.ones((64, 128), jnp.float32)}
      >>> inspection = adamx.lab.inspect(adamx.adamw(1e-3).init(params))
      >>> inspection.parameters, inspection.state_bytes_per_parameter
      (8192, 8.0)
      >>> [(finding.what, finding.where) for finding in inspection.findings]
      [('never updated', '0/count')]
    """
    if not eps > 0:
        raise ValueError(f"inspect: expected eps > 0, got {eps}.")
    stored = open_source(source)
    if not stored.shapes:
        raise ValueError(f"inspect: expected arrays, got none in {stored.source}.")
    fields, scalars = read(stored)
    return Inspection(stored.source, fields, scalars, diagnose(fields, scalars, eps))


def open_source(source: Any) -> Stored:
    """Opens a folder, a file or a tree."""
    if not isinstance(source, str | os.PathLike):
        return from_tree("the tree", source)
    path = Path(source)
    if path.is_dir():
        return open_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"inspect: no file or folder {path}.")
    return open_file(path)
