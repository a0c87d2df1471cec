"""Runs the command line: `python -m adamx` is `adamx`."""

import sys


def main() -> int:
    """Runs the command line, or says in a line which package it needs."""
    try:
        from adamx.lab.cli import main as run
    except ImportError as error:
        print(f"adamx: {error}", file=sys.stderr)
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
