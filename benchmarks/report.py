"""How benchmarks of time begin and end: the machine, tables, limits, a file."""

import json
import os
import platform
from importlib.metadata import version

import jax


def begin():
    """Prints and returns the machine and the versions."""
    cores = f"{os.cpu_count()} cores, {platform.machine()}, {jax.default_backend()}"
    versions = {name: version(name) for name in ["jax", "optax"]}
    print(f"{cores}, {versions}")
    return {"machine": cores, "versions": versions}


def show(title, rows):
    """Prints rows with the same keys as a Markdown table."""
    print(f"\n### {title}\n\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        cells = (f"{x:.3g}" if isinstance(x, float) else str(x) for x in row.values())
        print("|", " | ".join(cells), "|")


def finish(limits, figures, result, path):
    """Compares figures with limits, writes the result, returns the exit status.

    `figures` has for each tree or setting a dictionary with the names of `limits`.
    """
    broken = [
        f"{place}: {name} {row[name]:.3g}, limit {limit}"
        for place, row in figures.items()
        for name, limit in limits.items()
        if not row[name] <= limit
    ]
    print("\n" + "\n".join(broken or ["adamx keeps its limits."]))
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n")
    return int(bool(broken))
