"""`adamx inspect`: say what is in a checkpoint, and whether it is healthy."""

import argparse
from pathlib import Path

from adamx.lab import plots
from adamx.lab.cli.parser import Parser
from adamx.lab.inspection import inspect

EXAMPLE = """\
example:
  adamx inspect checkpoints/1000 --out state.png
"""


def add(commands) -> None:
    """Describes the command and its options."""
    command = commands.add_parser(
        "inspect",
        help="say what is in the state of an optimizer, and whether it is healthy",
        description=(
            "Prints sizes, dtypes, step counts and histograms of an optimizer's state\n"
            "in a checkpoint, and what is not as it should be. Nothing is unpickled."
        ),
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=lambda arguments: run_inspect(command, arguments))
    command.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="a folder of Orbax, also one step of its CheckpointManager; a file of "
        "flax.serialization.to_bytes; or a file NAME.safetensors",
    )
    command.add_argument(
        "--eps",
        type=float,
        default=1e-8,
        metavar="X",
        help="of the optimizer, where the state does not hold it (default: 1e-8)",
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the histograms into this PNG",
    )


def run_inspect(parser: Parser, arguments: argparse.Namespace) -> int:
    """Inspects, prints, writes; returns the exit code."""
    try:
        inspection = inspect(arguments.checkpoint, eps=arguments.eps)
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error).removeprefix("inspect: "))
    print(inspection.table())
    if arguments.out is not None:
        try:
            plots.save(inspection.plot, arguments.out)
        except OSError as error:
            parser.error(f"--out: cannot write {arguments.out} ({error.strerror})")
        print(f"\nWrote {arguments.out}.")
    return 0
