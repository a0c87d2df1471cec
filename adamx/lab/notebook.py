"""For notebooks: how much of an experiment to run."""

import os
from typing import TypeVar

T = TypeVar("T")


def setting(short: T, full: T) -> T:
    """Chooses between a quick look and the experiment whose numbers are published.

    Args:
      short: What a reader runs, and every check of the project.
      full: What made the outputs that are committed.

    Returns:
      `full` where the environment has ADAMX_NOTEBOOK=full, else `short`.

    Example:
      >>> adamx.lab.notebook.setting(short=2, full=10)
      2
    """
    return full if os.environ.get("ADAMX_NOTEBOOK") == "full" else short
