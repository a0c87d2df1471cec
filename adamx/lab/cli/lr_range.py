"""`adamx lr-range`: find the learning rates worth trying, in one short run."""

import argparse
import contextlib
from pathlib import Path

from adamx.lab import plots
from adamx.lab.archives import DataUnavailable
from adamx.lab.cli.compare import interrupts_at_once, make_folder
from adamx.lab.cli.parser import Parser, names
from adamx.lab.lr_range import lr_range
from adamx.lab.optimizers import DEFAULT, OPTIMIZERS
from adamx.lab.progress import Progress
from adamx.lab.tasks import TASKS

EXAMPLE = """\
example:
  adamx lr-range --optimizers adam,sgd --low 1e-5 --high 1 --seeds 3
"""


def add(commands) -> None:
    """Describes the command and its options."""
    command = commands.add_parser(
        "lr-range",
        help="find the learning rates worth trying, in one short run each",
        description=(
            "Trains a model while the learning rate grows, and says where the loss\n"
            "falls fastest and where it diverges: the learning-rate range test."
        ),
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=lambda arguments: run_lr_range(command, arguments))

    what = command.add_argument_group("what to try")
    what.add_argument(
        "--task",
        choices=TASKS,
        default="digits",
        help="what to train (default: digits)",
    )
    what.add_argument(
        "--optimizers",
        type=names,
        metavar="A,B,...",
        help=f"or all: {','.join(OPTIMIZERS)} (default: {','.join(DEFAULT)})",
    )
    what.add_argument(
        "--low",
        type=float,
        default=1e-6,
        metavar="X",
        help="first rate (default: 1e-6)",
    )
    what.add_argument(
        "--high", type=float, default=10.0, metavar="X", help="last rate (default: 10)"
    )
    what.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="runs of each, of which medians count (default: 1)",
    )

    training = command.add_argument_group("training")
    training.add_argument(
        "--steps", type=int, default=300, metavar="N", help="default: 300"
    )
    training.add_argument(
        "--batch-size", type=int, metavar="N", help="default: the task's"
    )

    output = command.add_argument_group("output")
    output.add_argument(
        "--out",
        type=Path,
        default=Path("adamx-lr-range"),
        metavar="DIR",
        help="folder for lr-range.json and lr-range.png (default: adamx-lr-range)",
    )
    output.add_argument(
        "--quiet", action="store_true", help="print the table and nothing else"
    )


def run_lr_range(parser: Parser, arguments: argparse.Namespace) -> int:
    """Runs the test, writes and prints; returns the exit code."""
    out = arguments.out
    try:
        task = TASKS[arguments.task]()
    except DataUnavailable as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    make_folder(parser, out)

    with interrupts_at_once(), contextlib.closing(Progress()) as progress:
        try:
            result = lr_range(
                task,
                arguments.optimizers,
                arguments.low,
                arguments.high,
                steps=arguments.steps,
                seeds=arguments.seeds,
                batch_size=arguments.batch_size,
                progress=None if arguments.quiet else progress,
            )
        except ValueError as error:
            parser.error(str(error).removeprefix("lr_range: "))
    result.save(out / "lr-range.json")
    plots.save(result.plot, out / "lr-range.png")
    print(result.table())
    if not arguments.quiet:
        print(f"\nWrote lr-range.json and a picture into {out}.")
    return 0
