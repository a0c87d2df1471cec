"""A comparison as pictures: matplotlib, without its global state."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import IO, TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure

from adamx.lab.plots.settings import grid as grid
from adamx.lab.plots.settings import learning_rates as learning_rates
from adamx.lab.plots.settings import steps_to_target as steps_to_target
from adamx.lab.plots.style import COLORS as COLORS
from adamx.lab.plots.style import styles as styles
from adamx.lab.plots.training import curves as curves
from adamx.lab.plots.training import evaluations as evaluations
from adamx.lab.plots.training import ratios as ratios

if TYPE_CHECKING:
    from adamx.lab.results import Results


class Picture(NamedTuple):
    """One picture of a comparison."""

    name: str  # of its file, without the suffix
    alt: str  # for those who do not see it
    draw: Callable
    height: float = 4.8  # inches; 8 wide


def pictures(results: Results) -> list[Picture]:
    """Lists the pictures for which there are numbers."""
    found = [
        Picture("curves", "Training loss against steps", results.plot_curves),
        Picture(
            "learning-rates",
            "Final loss against learning rate",
            results.plot_learning_rates,
        ),
    ]
    if results.config["target_loss"] is not None:
        height = max(2.4, 1.2 + 0.24 * len(results.trials))
        alt = "Steps to the target loss"
        found.append(
            Picture("steps-to-target", alt, results.plot_steps_to_target, height)
        )
    found.append(
        Picture("ratios", "Update-to-weight ratio against steps", results.plot_ratios)
    )
    measured = {what for trial in results.trials.values() for what in trial.evaluations}
    for what in sorted(measured):
        draw = partial(results.plot_evaluations, what=what)
        found.append(Picture(f"{what}-along", f"{what} against steps".title(), draw))
    for name, trial in results.trials.items():
        if trial.weight_decays is not None:
            alt = f"Final loss of {name} by learning rate and weight decay"
            found.append(
                Picture(f"grid-{name}", alt, partial(results.plot_grid, name=name))
            )
    return found


def save(draw: Callable, file: str | os.PathLike | IO, height: float = 4.8) -> None:
    """Writes one picture as PNG."""
    figure = Figure(figsize=(8, height), layout="constrained")
    ax = figure.subplots()
    ax.grid(visible=True, which="major", alpha=0.25, linewidth=0.6)
    draw(ax)
    figure.savefig(file, dpi=150, format="png")
