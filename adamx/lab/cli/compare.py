"""`adamx compare`: train with several optimizers and say which to use."""

import argparse
import contextlib
import inspect
import signal
import tempfile
import textwrap
from pathlib import Path

from adamx.lab.archives import DataUnavailable
from adamx.lab.cli.parser import INTERRUPTED, Parser, names, numbers
from adamx.lab.comparison import run_plan
from adamx.lab.optimizers import DEFAULT, OPTIMIZERS, SCHEDULES
from adamx.lab.plan import LEARNING_RATES, Plan, make_plan
from adamx.lab.plots import pictures, save
from adamx.lab.progress import Progress
from adamx.lab.results import Results
from adamx.lab.tasks import TASKS

OUT = Path("adamx-compare")
KEPT = "trials"  # the folder in it of what need not be trained again
EXAMPLES = """\
examples:
  adamx compare --optimizers sgd,adam --learning-rates 1e-3,1e-2,1e-1 --seeds 5
  adamx compare --optimizers adamw --weight-decays 0,0.01,0.1 --schedule cosine
  adamx compare --report adamx-compare/results.json
"""


def add(commands) -> None:
    """Describes the command and its options."""
    compare = commands.add_parser(
        "compare",
        help="train a model with several optimizers and say which to use",
        description=(
            "Trains a Flax model on real data with several optimizers, each over a\n"
            "grid of learning rates and seeds, and says which to use. Ctrl-C keeps\n"
            "what is done, a second Ctrl-C quits at once; the same command goes on\n"
            "where it stopped."
        ),
        epilog=f"{EXAMPLES}\ntasks:\n{describe_tasks()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.set_defaults(run=lambda arguments: run_compare(compare, arguments))
    first, *_, last = LEARNING_RATES

    what = compare.add_argument_group("what to compare")
    what.add_argument(
        "--task",
        choices=TASKS,
        default="digits",
        metavar="NAME",
        help=f"{', '.join(TASKS)}; see below (default: digits)",
    )
    what.add_argument(
        "--optimizers",
        type=names,
        metavar="A,B,...",
        help=f"or all: {', '.join(OPTIMIZERS)} (default: {','.join(DEFAULT)})",
    )
    what.add_argument(
        "--learning-rates",
        type=numbers,
        metavar="X,Y,...",
        help=f"default: the task's, else {first:g} to {last:g} in steps 1, 2, 5, 10",
    )
    what.add_argument(
        "--weight-decays",
        type=numbers,
        metavar="X,Y,...",
        help="a second grid, for the optimizers that have a weight decay (default: "
        "each optimizer's own)",
    )
    what.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="constant",
        metavar="NAME",
        help="how the learning rate goes on, its peak being in the grid: "
        f"{', '.join(SCHEDULES)} (default: constant)",
    )
    what.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="runs of each (default: 3)"
    )

    training = compare.add_argument_group("training (defaults: the task's)")
    training.add_argument("--steps", type=int, metavar="N", help="of each run")
    training.add_argument("--batch-size", type=int, metavar="N", help="in examples")
    training.add_argument(
        "--target-loss",
        type=float,
        metavar="X",
        help="count the steps to this training loss",
    )
    training.add_argument(
        "--evaluate-every",
        type=int,
        metavar="N",
        help="steps: measure validation loss and accuracy on the way, too",
    )

    output = compare.add_argument_group("output")
    output.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for results.json, report.html, the pictures, and what is trained "
        f"already (default: {OUT})",
    )
    output.add_argument(
        "--fresh", action="store_true", help="train again what is trained already"
    )
    output.add_argument(
        "--report",
        type=Path,
        metavar="OLD.json",
        help="train nothing: print and draw these results again, beside them or into "
        "--out",
    )
    output.add_argument(
        "--quiet", action="store_true", help="print the table and nothing else"
    )


def describe_tasks() -> str:
    """Writes the names of the tasks, each with the first sentence about it."""
    lines = []
    for name, make in TASKS.items():
        first = (inspect.getdoc(make) or "").partition("\n")[0]
        text = first.removeprefix("Makes the task of ")
        lines.append(
            textwrap.fill(
                text, 78, initial_indent=f"  {name:15}", subsequent_indent=" " * 17
            )
        )
    return "\n".join(lines)


def run_compare(parser: Parser, arguments: argparse.Namespace) -> int:
    """Compares, writes and prints; returns the exit code."""
    if arguments.report is not None:
        return redraw(parser, arguments)
    folder = arguments.out or OUT
    try:
        task = TASKS[arguments.task]()
    except (DataUnavailable, ImportError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    try:
        plan = make_plan(
            task,
            arguments.optimizers,
            arguments.learning_rates,
            arguments.seeds,
            weight_decays=arguments.weight_decays,
            schedule=arguments.schedule,
            steps=arguments.steps,
            batch_size=arguments.batch_size,
            target_loss=arguments.target_loss,
            evaluate_every=arguments.evaluate_every,
            cache=folder / KEPT,
        )
    except ValueError as error:
        parser.error(str(error).removeprefix("compare: "))
    make_folder(parser, folder)
    if arguments.fresh:
        for file in kept_files(plan):
            file.unlink()

    before = kept_files(plan)
    with interrupts_at_once():
        with contextlib.closing(Progress()) as progress:
            results = run_plan(plan, None if arguments.quiet else progress)
        written = write(results, folder)
    print(results.table())
    if not arguments.quiet:
        if kept := trained_before(results, before, kept_files(plan)):
            print(f"\nTrained before and kept (--fresh trains again): {kept}.")
        print(f"\nWrote {written} into {folder}.")
    return INTERRUPTED if results.interrupted else 0


def redraw(parser: Parser, arguments: argparse.Namespace) -> int:
    """Prints and draws results of another time."""
    try:
        results = Results.load(arguments.report)
    except OSError as error:
        parser.error(f"--report: cannot read {arguments.report} ({error.strerror})")
    except ValueError as error:
        parser.error(f"--report: {str(error).removeprefix('Results.load: ')}")
    folder = arguments.out or arguments.report.parent
    make_folder(parser, folder)
    written = write(results, folder)
    print(results.table())
    if not arguments.quiet:
        print(f"\nWrote {written} into {folder}.")
    return 0


def make_folder(parser: Parser, folder: Path) -> None:
    """Finds out before the work, not after it, whether files can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        parser.error(f"--out: cannot write into {folder} ({error.strerror})")


def kept_files(plan: Plan) -> set[Path]:
    """Lists the files of runs that need not be made again."""
    return set() if plan.cache is None else set(plan.cache.glob("*.json"))


def trained_before(results: Results, before: set[Path], after: set[Path]) -> str:
    """Names the optimizers whose runs were taken from a file."""
    new = {file.stem.rpartition("-")[0] for file in after - before}
    done = (name for name, trial in results.trials.items() if not trial.partial)
    return ", ".join(name for name in done if name not in new)


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


def write(results: Results, folder: Path) -> str:
    """Writes numbers, page and pictures, and says what it wrote."""
    results.save(folder / "results.json")
    results.save_report(folder / "report.html")
    drawn = pictures(results)
    for one in drawn:
        save(one.draw, folder / f"{one.name}.png", one.height)
    return f"results.json, report.html and {len(drawn)} pictures"
