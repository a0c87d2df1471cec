"""Measures speed and prints the README's table: `python -m benchmarks [--quick]`.

Runs step_time.py, training_time.py and rows.py one after the other, each in a process
of its own, and writes their figures to results/; with --quick, which is for a look, to
nowhere. --table prints the table of the figures that are there.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.speed import table

HERE = Path(__file__).parent
SCRIPTS = {"step_time": ["--growth"], "training_time": [], "rows": []}


def main() -> int:
    """Runs all, and says whether one broke its limits."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        print(table(HERE / "results"))
        return 0
    status = 0
    for name, options in SCRIPTS.items():
        if args.quick:
            options = ["--quick"]
        else:
            options = [*options, "--json", str(HERE / "results" / f"{name}.json")]
        command = [sys.executable, str(HERE / f"{name}.py"), *options]
        print(f"\n## {name}\n", flush=True)
        status |= subprocess.run(command, check=False).returncode
    if not args.quick:
        print(f"\n## README\n\n{table(HERE / 'results')}")
    return status


if __name__ == "__main__":
    sys.exit(main())
