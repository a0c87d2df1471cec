"""A comparison as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from adamx.lab.statistics import at_best, behind, ranking

if TYPE_CHECKING:
    from adamx.lab.results import Results
    from adamx.lab.trial import Trial

NONE = "–"
EDGE = " (edge)"


def render(results: Results) -> str:
    """Writes what was done, one line per optimizer, and the advice."""
    lines = grid(cells(results))
    return "\n".join([*head(results), "", *lines, "", advice(results)])


def grid(rows: list[list[str]]) -> list[str]:
    """Puts cells below each other, and a rule below the titles."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return lines


def cells(results: Results) -> list[list[str]]:
    """Returns the titles of the columns, then one row per optimizer."""
    columns = make_columns(results)
    rows = [
        [write(name, trial) for _, write in columns]
        for name, trial in results.trials.items()
    ]
    return [[title for title, _ in columns], *rows]


def head(results: Results) -> list[str]:
    """Says what was trained, and what the columns mean."""
    config, trials = results.config, results.trials.values()
    rates, decays = config["learning_rates"], config["weight_decays"]
    batch = f" of {config['batch_size']} examples" if config["batch_size"] else ""
    grid = span(rates, "rate")
    if config["schedule"] != "constant":
        grid += f", the peaks of the schedule {config['schedule']}"
    chosen = "best rate" if decays is None else "best rate and decay"
    chosen += f": lowest mean final {config['criterion']} loss"
    if any("accuracy" in trial.final for trial in trials):
        chosen += " (test accuracy plays no part)"
    lines = [
        f"{results.task}: {config['description']}".rstrip(": "),
        f"{plural(config['steps'], 'step')}{batch}; {grid}, the same for every "
        "optimizer",
        f"{plural(len(config['seeds']), 'seed')}: each fixes the start and the order "
        "of the batches, the same for every optimizer",
        chosen,
        "good rates: those beside it whose loss is within 10 % of that",
        "other columns: at the best rate, mean ± standard deviation over the seeds",
    ]
    if decays is not None:
        lines.insert(2, f"{span(decays, 'weight decay')}, for those that have one")
    if len(behind(results)) > 1:
        lines.append(
            "behind the best: mean difference, paired by seed, ± 95 % confidence "
            "interval of each alone"
            if len(config["seeds"]) > 1
            else "behind the best: one seed; may be chance"
        )
    lines.append(
        "B/param: bytes of optimizer state; µs/step: one run, all runs going together"
    )
    if any(rate_at_edge(trial) or decay_at_edge(trial) for trial in trials):
        lines.append("(edge): the best is an end of the grid; try a wider one")
    return lines


def make_columns(results: Results) -> list[tuple[str, Callable[[str, Trial], str]]]:
    """Lists the columns: title, and the cell as a function of name and trial."""
    target, trials = results.config["target_loss"], results.trials.values()
    differences = behind(results)
    best = next(iter(differences), None)

    def rate(name, trial):
        return f"{trial.best_rate:g}" + EDGE * rate_at_edge(trial)

    def decay(name, trial):
        if trial.best_decay is None:
            return NONE
        return f"{trial.best_decay:g}" + EDGE * decay_at_edge(trial)

    def good_rates(name, trial):
        return " to ".join(f"{end:g}" for end in dict.fromkeys(trial.good_rates()))

    def loss(name, trial):
        return f"{at_best(trial, 'training').mean():.2g}"

    def accuracy(name, trial):
        values = 100 * at_best(trial, "accuracy")
        spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
        return f"{values.mean():.1f}{spread} %"

    def difference(name, trial):
        if name == best:
            return "0"
        form = "z.1f" if "accuracy" in trial.final else ".2g"
        return differences[name].text(form) if name in differences else NONE

    def steps(name, trial):
        steps = trial.steps_to(target)[trial.best]
        return f"{steps.mean():,.0f}" if np.isfinite(steps).all() else "not reached"

    def diverged(name, trial):
        return f"{trial.diverged.sum()} of {trial.diverged.size}"

    def state(name, trial):
        return f"{trial.state_bytes_per_parameter:.1f}"

    def time(name, trial):
        return f"{1e6 * trial.seconds / trial.steps / trial.diverged.size:.3g}"

    def if_any(write):
        return lambda name, trial: NONE if trial.best is None else write(name, trial)

    columns = [("optimizer", label), ("best rate", if_any(rate))]
    if any(trial.weight_decays is not None for trial in trials):
        columns.append(("best decay", if_any(decay)))
    columns.append(("good rates", if_any(good_rates)))
    columns.append(("training loss", if_any(loss)))
    accurate = any("accuracy" in trial.final for trial in trials)
    if accurate:
        columns.append(("test accuracy", if_any(accuracy)))
    if len(differences) > 1:
        measure = "points" if accurate else f"{results.config['criterion']} loss"
        columns.append((f"{measure} behind {best}", difference))
    if target is not None:
        columns.append((f"steps to {target:g}", if_any(steps)))
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


def span(grid: list[float], word: str) -> str:
    """Says how many values a grid has, and from where to where."""
    ends = f"from {grid[0]:g} to {grid[-1]:g}" if len(grid) > 1 else f"{grid[0]:g}"
    return f"{plural(len(grid), word)} {ends}"


def rate_at_edge(trial: Trial) -> bool:
    """Tells whether a learning rate outside the grid may be better."""
    rates = np.unique(trial.learning_rates)
    if trial.best is None or len(rates) == 1:
        return False
    return bool(trial.learning_rates[trial.best] in (rates[0], rates[-1]))


def decay_at_edge(trial: Trial) -> bool:
    """Tells whether a weight decay outside the grid may be better."""
    if trial.best is None or trial.weight_decays is None:
        return False
    decays, best = np.unique(trial.weight_decays), trial.weight_decays[trial.best]
    return bool(len(decays) > 1 and best in (decays[0], decays[-1]) and best > 0)


def advice(results: Results) -> str:
    """Says in a sentence which optimizer to use, and why."""
    if not (names := ranking(results)):
        if results.interrupted:
            return "No advice: no optimizer finished."
        return "No advice: every optimizer diverged at every learning rate."
    first = results.trials[names[0]]
    use = f"Use {names[0]} at learning rate {first.best_rate:g}"
    if first.best_decay is not None:
        use += f" and weight decay {first.best_decay:g}"
    if len(names) == 1:
        return f"{use}: no other optimizer finished without diverging."
    if "accuracy" in first.final:
        score = 100 * at_best(first, "accuracy").mean()
        best, form, unit = (
            f"highest mean test accuracy, {score:.1f} %",
            "z.1f",
            "points",
        )
    else:
        score = at_best(first, "criterion").mean()
        kind = results.config["criterion"]
        best, form, unit = f"lowest mean {kind} loss, {score:.3g}", ".2g", ""
    lead = behind(results)[names[1]]
    beats = f"it beats {names[1]} by {lead.text(form)} {unit}".rstrip()
    if np.isnan(lead.margin):
        return f"{use}: {best}; {beats} with one seed, which may be chance."
    beats += " (95 %, paired by seed)"
    if lead.clear:
        return f"{use}: {best}; {beats}: the difference is larger than the seeds'."
    return (
        f"{use}: {best}; {beats}: the difference is not larger than the seeds', "
        "either will do."
    )
