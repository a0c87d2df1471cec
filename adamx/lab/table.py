"""A comparison as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from adamx.lab.results import Results, Trial

NONE = "–"


def render(results: Results) -> str:
    """Writes what was done, one line per optimizer, and the advice."""
    columns = make_columns(results)
    rows = [[title for title, _ in columns]]
    for name, trial in results.trials.items():
        rows.append([cell(name, trial) for _, cell in columns])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*head(results), "", *lines, "", advice(results)])


def head(results: Results) -> list[str]:
    """Says what was trained, and what the columns mean."""
    config, trials = results.config, results.trials.values()
    rates, seeds = config["learning_rates"], len(config["seeds"])
    batch = f" of {config['batch_size']} examples" if config["batch_size"] else ""
    chosen = f"best rate: lowest mean final {config['criterion']} loss"
    if any("accuracy" in trial.final for trial in trials):
        chosen += " (test accuracy plays no part)"
    lines = [
        f"{results.task}: {config['description']}".rstrip(": "),
        f"{plural(config['steps'], 'step')}{batch}; {plural(len(rates), 'rate')} from "
        f"{rates[0]:g} to {rates[-1]:g}, the same for every optimizer",
        f"{plural(seeds, 'seed')}: each fixes the start and the order of the batches, "
        "the same for every optimizer",
        chosen,
        "good rates: those beside it whose loss is within 10 % of that",
        "other columns: at the best rate, mean ± standard deviation over the seeds",
        "B/param: bytes of optimizer state; µs/step: one run, all runs going together",
    ]
    if any(at_edge(trial) for trial in trials):
        lines.append("(edge): the best rate is an end of the grid; try a wider one")
    return lines


def make_columns(results: Results):
    """Lists the columns: title, and the cell as a function of name and trial."""
    target, trials = results.config["target_loss"], results.trials.values()

    def rate(name, trial):
        if trial.best is None:
            return NONE
        return f"{trial.best_rate:g}" + (" (edge)" if at_edge(trial) else "")

    def good_rates(name, trial):
        if (ends := trial.good_rates()) is None:
            return NONE
        return " to ".join(f"{end:g}" for end in dict.fromkeys(ends))

    def loss(name, trial):
        return at_best(trial, "training", lambda x: f"{x.mean():.2g}")

    def accuracy(name, trial):
        return at_best(trial, "accuracy", lambda x: f"{mean_and_spread(100 * x)} %")

    def steps(name, trial):
        if trial.best is None:
            return NONE
        steps = trial.steps_to(target)[trial.best]
        return f"{steps.mean():,.0f}" if np.isfinite(steps).all() else "not reached"

    def diverged(name, trial):
        return f"{trial.diverged.sum()} of {trial.diverged.size}"

    def state(name, trial):
        return f"{trial.state_bytes_per_parameter:.1f}"

    def time(name, trial):
        return f"{1e6 * trial.seconds / trial.steps / trial.diverged.size:.3g}"

    columns = [
        ("optimizer", label),
        ("best rate", rate),
        ("good rates", good_rates),
        ("training loss", loss),
    ]
    if any("accuracy" in trial.final for trial in trials):
        columns.append(("test accuracy", accuracy))
    if target is not None:
        columns.append((f"steps to {target:g}", steps))
    if any(trial.diverged.any() for trial in trials):
        columns.append(("diverged", diverged))
    return [*columns, ("B/param", state), ("µs/step", time)]


def label(name: str, trial: Trial) -> str:
    """Names an optimizer, and what there is to know about its runs."""
    if trial.partial:
        return f"{name} (only {plural(trial.steps, 'step')})"
    return f"{name} (diverged)" if trial.best is None else name


def plural(count: int, word: str) -> str:
    """Writes a count with its noun."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def at_edge(trial: Trial) -> bool:
    """Tells whether a rate outside the grid may be better."""
    last = len(trial.learning_rates) - 1
    return last > 0 and trial.best in (0, last)


def at_best(trial: Trial, what: str, write) -> str:
    """Writes a final quantity at the best rate."""
    return NONE if trial.best is None else write(value(trial, what))


def mean_and_spread(values: np.ndarray) -> str:
    """Writes values over the seeds as mean ± standard deviation."""
    mean = f"{values.mean():.1f}"
    return f"{mean} ± {values.std(ddof=1):.1f}" if len(values) > 1 else mean


def advice(results: Results) -> str:
    """Says in a sentence which optimizer to use, and why."""
    finished = {
        name: trial
        for name, trial in results.trials.items()
        if trial.best is not None and not trial.partial
    }
    if not finished:
        if results.interrupted:
            return "No advice: no optimizer finished."
        return "No advice: every optimizer diverged at every learning rate."
    first, *others = sorted(finished, key=lambda name: rank(finished[name]))
    use = f"Use {first} at learning rate {finished[first].best_rate:g}"
    if not others:
        return f"{use}: no other optimizer finished without diverging."
    second = others[0]
    if "accuracy" in finished[first].final:
        ours, theirs = (100 * value(finished[n], "accuracy") for n in (first, second))
        best, form = f"highest mean test accuracy, {ours.mean():.1f} %", ".1f"
        unit = " points"
    else:
        ours, theirs = (value(finished[n], "criterion") for n in (first, second))
        kind = results.config["criterion"]
        best, form = f"lowest mean {kind} loss, {ours.mean():.3g}", ".2g"
        unit = ""
    gap = abs(ours.mean() - theirs.mean())
    lead = f"its lead over {second}, {gap:{form}}{unit},"
    if len(ours) < 2:
        return f"{use}: {best}; with one seed, {lead} may be chance."
    spread = max(ours.std(ddof=1), theirs.std(ddof=1))
    over_seeds = f"the spread over seeds, {spread:{form}}{unit}"
    if gap > spread:
        return f"{use}: {best}; {lead} is larger than {over_seeds}."
    return f"{use}: {best}; but {lead} is within {over_seeds}: either will do."


def value(trial: Trial, what: str) -> np.ndarray:
    """Returns a final quantity at the best rate, f32[seeds]."""
    values = trial.criterion if what == "criterion" else trial.final[what]
    return values[trial.best]


def rank(trial: Trial):
    """Orders trials: the most accurate first, then the lowest loss."""
    accuracy = value(trial, "accuracy").mean() if "accuracy" in trial.final else 0
    return -accuracy, value(trial, "criterion").mean()
