"""Runs the notebooks: `python notebooks/build.py [--check] [NAME ...]`.

NAME.py, a jupytext percent script, is the source. Without --check the executed
NAME.ipynb is written beside it; with it the script is run, assertions included, and
the NAME.ipynb that is there must have its cells.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TQDM_DISABLE", "1")  # a bar would be stored as an error
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

import jupytext  # the environment above comes first
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(script: Path) -> nbformat.NotebookNode:
    """The notebook of a script with its outputs, without anything that changes."""
    notebook = jupytext.read(script)
    folder = {"metadata": {"path": str(script.parent)}}
    NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        resources=folder,
    ).execute()
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i}"
    notebook.metadata.pop("language_info", None)  # it names the patch version of Python
    return notebook


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """What the script and the notebook must share."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def main() -> int:
    """Builds or checks, and says how long each notebook took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    scripts = [HERE / f"{name}.py" for name in arguments.names]
    failed = 0
    for script in scripts or sorted(HERE.glob("[0-9]*.py")):
        start = time.perf_counter()
        built, target = execute(script), script.with_suffix(".ipynb")
        if not arguments.check:
            nbformat.write(built, target)
        elif cells(built) != cells(nbformat.read(target, as_version=4)):
            print(f"{target.name}: other cells than {script.name}; build it again")
            failed = 1
        print(f"{script.name}: {time.perf_counter() - start:.1f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main())
