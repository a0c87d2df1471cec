"""`adamx compare`: train with several optimizers and say which to use."""

import argparse
import contextlib
import signal
import tempfile
from pathlib import Path

from adamx.lab import plots
from adamx.lab.cli.parser import INTERRUPTED, Parser, names, numbers
from adamx.lab.comparison import run_plan
from adamx.lab.data import DataUnavailable
from adamx.lab.optimizers import DEFAULT, OPTIMIZERS
from adamx.lab.plan import LEARNING_RATES, make_plan
from adamx.lab.progress import Progress
from adamx.lab.results import Results
from adamx.lab.tasks import TASKS

EXAMPLE = """\
example:
  adamx compare --optimizers sgd,adam --learning-rates 1e-3,1e-2,1e-1 --seeds 5
"""


def add(commands) -> None:
    """Describes the command and its options."""
    compare = commands.add_parser(
        "compare",
        help="train a model with several optimizers and say which to use",
        description=(
            "Trains a Flax model on real data with several optimizers, each over a\n"
            "grid of learning rates and seeds, and says which to use. Ctrl-C keeps\n"
            "what is done; a second Ctrl-C quits at once."
        ),
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.set_defaults(run=lambda arguments: run_compare(compare, arguments))

    what = compare.add_argument_group("what to compare")
    what.add_argument(
        "--task",
        choices=TASKS,
        default="digits",
        help="digits: 1,797 images that come with scikit-learn; mnist: 70,000 images, "
        "fetched with npm (default: digits)",
    )
    what.add_argument(
        "--optimizers",
        type=names,
        metavar="A,B,...",
        help=f"or all: {','.join(OPTIMIZERS)} (default: {','.join(DEFAULT)})",
    )
    what.add_argument(
        "--learning-rates",
        type=numbers,
        metavar="X,Y,...",
        help="default: "
        f"{LEARNING_RATES[0]:g} to {LEARNING_RATES[-1]:g} in steps 1, 2, 5, 10",
    )
    what.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="runs of each (default: 3)"
    )

    training = compare.add_argument_group("training")
    training.add_argument(
        "--steps", type=int, metavar="N", help="default: 500 for digits, 1000 for mnist"
    )
    training.add_argument("--batch-size", type=int, metavar="N", help="default: 64")
    training.add_argument(
        "--target-loss",
        type=float,
        metavar="X",
        help="count the steps to this training loss (default: 0.1 for digits, "
        "0.2 for mnist)",
    )

    output = compare.add_argument_group("output")
    output.add_argument(
        "--out",
        type=Path,
        default=Path("adamx-compare"),
        metavar="DIR",
        help="folder for results.json, curves.png and learning-rates.png "
        "(default: adamx-compare)",
    )
    output.add_argument(
        "--quiet", action="store_true", help="print the table and nothing else"
    )


def run_compare(parser: Parser, arguments: argparse.Namespace) -> int:
    """Compares, writes and prints; returns the exit code."""
    try:
        task = TASKS[arguments.task]()
    except DataUnavailable as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    try:
        plan = make_plan(
            task,
            arguments.optimizers,
            arguments.learning_rates,
            arguments.seeds,
            steps=arguments.steps,
            batch_size=arguments.batch_size,
            target_loss=arguments.target_loss,
        )
    except ValueError as error:
        parser.error(str(error).removeprefix("compare: "))
    try:  # before the work, not after it
        arguments.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=arguments.out).close()
    except OSError as error:
        parser.error(f"--out: cannot write into {arguments.out} ({error.strerror})")

    with interrupts_at_once():
        with contextlib.closing(Progress()) as progress:
            results = run_plan(plan, None if arguments.quiet else progress)
        write(results, arguments.out)
    print(results.table())
    if not arguments.quiet:
        print(f"\nWrote results.json and two pictures into {arguments.out}.")
    return INTERRUPTED if results.interrupted else 0


@contextlib.contextmanager
def interrupts_at_once():
    """Lets Ctrl-C end the process even inside a compiled program.

    `run_plan` takes the first Ctrl-C of the training for itself; this is for the next.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def write(results: Results, folder: Path) -> None:
    """Writes numbers and pictures."""
    results.save(folder / "results.json")
    plots.save(results.plot_curves, folder / "curves.png")
    plots.save(results.plot_learning_rates, folder / "learning-rates.png")
