"""Folders of Orbax, which is imported when one is opened."""

from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np

from adamx.lab.inspection.stored import Stored, name_of, unreadable

WHAT = "a checkpoint of Orbax"


def open_folder(path: Path) -> Stored:
    """Opens one item, or all items of a step, each in a folder of its name."""
    items = {"": path} if is_item(path) else items_in(path)
    if len(items) == 1:
        return open_item(*items.values())
    if items:
        return joined(path, {name: open_item(item) for name, item in items.items()})
    steps = [x for x in path.iterdir() if x.name.isdigit() and items_in(x)]
    if steps:
        last = max(steps, key=lambda step: int(step.name))
        raise ValueError(
            f"inspect: expected one step, got {path}, a folder of {len(steps)}; give "
            f"one of them, such as {last}."
        )
    got = "a folder without a file _METADATA" if any(path.iterdir()) else "empty"
    raise ValueError(
        f"inspect: expected {WHAT}, got {path}, which is {got}; give the folder that "
        "was saved to."
    )


def is_item(path: Path) -> bool:
    """Whether a folder holds a tree of arrays."""
    return (path / "_METADATA").is_file()


def items_in(path: Path) -> dict[str, Path]:
    """The trees in a folder, by name."""
    folders = sorted(x for x in path.iterdir() if x.is_dir())
    return {item.name: item for item in folders if is_item(item)}


def joined(path: Path, items: dict[str, Stored]) -> Stored:
    """Several items as one."""
    shapes = {
        f"{item}/{name}": shape
        for item, part in items.items()
        for name, shape in part.shapes.items()
    }

    def load(names: Iterable[str]) -> dict[str, np.ndarray]:
        arrays = {}
        for item, part in items.items():
            inner = [
                n.removeprefix(f"{item}/") for n in names if n.startswith(f"{item}/")
            ]
            if inner:
                arrays |= {f"{item}/{n}": x for n, x in part.load(inner).items()}
        return arrays

    return Stored(str(path), shapes, load)


def open_item(path: Path) -> Stored:
    """Opens a tree, of which Orbax reads only the arrays that are asked for."""
    try:
        import orbax.checkpoint as ocp
        import tensorstore
        from etils import epath
    except ImportError as error:
        raise ImportError(
            f"inspect: reading {path} needs {error.name}; install orbax-checkpoint."
        ) from error

    handler, folder = ocp.PyTreeCheckpointHandler(), epath.Path(path.absolute())
    try:
        if (path / "manifest.ocdbt").is_file():
            # Where data are gone Orbax misses many arrays at once, and threads print
            # a traceback for each; this reads the index of all in one go.
            spec = {"driver": "ocdbt", "base": f"{path.absolute().as_uri()}/"}
            tensorstore.KvStore.open(spec).result().list().result()
        tree = handler.metadata(folder).tree
        leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
    except Exception as error:  # Orbax raises whatever it comes across
        raise unreadable(path, WHAT, error) from None
    leaves = {name_of(place): x for place, x in leaves}
    shapes = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype)
        for name, x in leaves.items()
        if hasattr(x, "shape")  # strings have none
    }

    def restore(wanted: set[str]) -> dict[str, np.ndarray]:
        items = [x if n in wanted else ocp.PLACEHOLDER for n, x in leaves.items()]
        # As NumPy's arrays, for which no device of the run has to be there.
        how = [ocp.RestoreArgs(restore_type=np.ndarray)] * len(items)
        tree = handler.restore(
            folder,
            args=ocp.args.PyTreeRestore(
                item=treedef.unflatten(items), restore_args=treedef.unflatten(how)
            ),
        )
        arrays = zip(leaves, treedef.flatten_up_to(tree), strict=True)
        return {name: np.asarray(x) for name, x in arrays if name in wanted}

    def load(names: Iterable[str]) -> dict[str, np.ndarray]:
        try:
            return restore(set(names))
        except Exception as error:  # the same
            raise unreadable(path, WHAT, error) from None

    return Stored(str(path), shapes, load)
