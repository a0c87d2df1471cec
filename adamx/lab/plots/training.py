"""Pictures of quantities against steps, each optimizer at its best setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adamx.lab.plots.style import band, legend, lines, setting, setting_title, unit

if TYPE_CHECKING:
    from adamx.lab.results import Results


def curves(results: Results, ax):
    """Draws loss against steps, each optimizer at its best setting."""
    draw(results, ax, lambda trial: (trial.curve_steps, trial.curves))
    if (target := results.config["target_loss"]) is not None:
        ax.axhline(target, color="gray", linestyle=":", linewidth=1, label="target")
    ax.set_yscale("log")
    ax.set_ylabel(f"training loss{unit(results)}")
    ax.set_title(f"{results.task}: each optimizer at its best learning rate")
    legend(ax, f"optimizer, {setting_title(results)}")
    return ax


def ratios(results: Results, ax):
    """Draws the size of the updates beside that of the parameters, against steps."""
    draw(results, ax, lambda trial: (trial.curve_steps, trial.ratios))
    ax.set_yscale("log")
    ax.set_ylabel("‖update‖ / ‖parameters‖ of a step")
    ax.set_title(f"{results.task}: update-to-weight ratio at the best learning rate")
    legend(ax, f"optimizer, {setting_title(results)}")
    return ax


def evaluations(results: Results, ax, what: str = "validation"):
    """Draws what was evaluated along the training, against steps."""
    have = sorted({w for trial in results.trials.values() for w in trial.evaluations})
    if what not in have:
        raise ValueError(
            f"plot_evaluations: expected what was evaluated ({', '.join(have)}), got "
            f"{what!r}."
            if have
            else "plot_evaluations: nothing was evaluated along the way; compare with "
            "evaluate_every."
        )
    scale = 100 if what == "accuracy" else 1
    draw(
        results,
        ax,
        lambda trial: (trial.evaluation_steps, scale * trial.evaluations[what]),
    )
    if what == "accuracy":
        name = "test accuracy"
        ax.set_ylabel(f"{name} (%)")
    else:
        name = f"{what} loss"
        ax.set_yscale("log")
        ax.set_ylabel(f"{name}{unit(results)}")
    ax.set_title(f"{results.task}: {name} at the best learning rate")
    legend(ax, f"optimizer, {setting_title(results)}")
    return ax


def draw(results: Results, ax, series) -> None:
    """Draws the mean over the seeds, and their range as a band."""
    for name, style in lines(results).items():
        trial = results.trials[name]
        if trial.best is None:
            continue
        steps, values = series(trial)
        seeds = values[trial.best]
        part = " (partial)" if trial.partial else ""
        label = {"label": f"{name}, {setting(trial)}{part}"}
        ax.plot(steps, seeds.mean(0), **label | style | {"marker": None})
        band(ax, steps, np.min(seeds, axis=0), np.max(seeds, axis=0), style)
    ax.set_xlabel("steps")
