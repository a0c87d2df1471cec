"""Pictures of what the settings do: learning rates, weight decays, steps needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import LogLocator, NullFormatter

from adamx.lab.plots.style import (
    GRAY,
    band,
    legend,
    lines,
    setting,
    setting_title,
    styles,
    unit,
)

if TYPE_CHECKING:
    from adamx.lab.results import Results


def learning_rates(results: Results, ax):
    """Draws the final loss against the learning rate; above it, where it diverged."""
    row = 1.02
    for name, style in lines(results).items():
        trial = results.trials[name]
        best = trial.by_rate
        rates = trial.learning_rates[best]
        diverged = np.any(trial.diverged[best], axis=1)
        seeds = np.where(diverged[:, None], np.nan, trial.criterion[best])
        if trial.best is not None:
            ax.plot(rates, seeds.mean(1), **{"label": name} | style, markersize=4)
            band(ax, rates, seeds.min(1), seeds.max(1), style)
        if diverged.any() and style["color"] != GRAY:
            ax.plot(
                rates[diverged],
                np.full(diverged.sum(), row),
                color=style["color"],
                marker="x",
                markersize=5,
                linestyle="",
                clip_on=False,
                transform=ax.get_xaxis_transform(),
            )
            row += 0.03
    ax.set_xscale("log")
    if any(trial.best is not None for trial in results.trials.values()):
        ax.set_yscale("log")  # which matplotlib refuses for an axis without data
    decays = " at its best decay" if results.config["weight_decays"] else ""
    marks = " (× above: diverged)" if row > 1.02 else ""
    ax.set_xlabel(f"learning rate{decays}{marks}")
    ax.set_ylabel(f"final {results.config['criterion']} loss{unit(results)}")
    ax.set_title(f"{results.task}: what the learning rate does", y=row)
    legend(ax, "optimizer")
    return ax


def steps_to_target(results: Results, ax, target_loss: float | None = None):
    """Draws the steps to a training loss, one optimizer a row, the fastest on top."""
    target = results.config["target_loss"] if target_loss is None else target_loss
    if target is None:
        raise ValueError(
            "plot_steps_to_target: expected a target_loss, got None and a comparison "
            "without one."
        )
    steps = {
        name: trial.steps_to(target)[trial.best]
        for name, trial in results.trials.items()
        if trial.best is not None
    }
    looks, order = styles(results), sorted(steps, key=lambda n: mean_or_inf(steps[n]))
    for row, name in enumerate(order):
        color, seeds = looks[name]["color"], steps[name]
        reached = seeds[np.isfinite(seeds)]
        if len(reached):
            ax.plot(reached, [row] * len(reached), color=color, marker="|", alpha=0.7)
        if len(reached) == len(seeds):
            ax.plot(seeds.mean(), row, color=color, marker="o", markersize=6)
        else:
            note = f"{len(reached)} of {len(seeds)} seeds reach it"
            place = {"xytext": (-4, 0), "textcoords": "offset points"}
            ax.annotate(
                note,
                (1, row),
                xycoords=ax.get_yaxis_transform(),
                **place,
                ha="right",
                va="center",
                fontsize="small",
                color="dimgray",
            )
    if any(np.isfinite(seeds).any() for seeds in steps.values()):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_yticks(
        range(len(order)), [f"{n}, {setting(results.trials[n])}" for n in order]
    )
    ax.set_ylim(max(1, len(order)) - 0.5, -0.5)
    ax.set_xlabel(f"steps to a training loss of {target:g}{unit(results)}")
    ax.set_ylabel(f"optimizer, best {setting_title(results)}")
    ax.set_title(f"{results.task}: steps to the target, each seed and their mean")
    return ax


def mean_or_inf(steps: np.ndarray) -> float:
    """Returns the mean; infinity where a seed did not get there."""
    return float(steps.mean()) if np.isfinite(steps).all() else np.inf


def grid(results: Results, ax, name: str):
    """Draws the final loss of one optimizer by learning rate and weight decay."""
    trial = results.trials.get(name)
    if trial is None or trial.weight_decays is None:
        have = [n for n, t in results.trials.items() if t.weight_decays is not None]
        raise ValueError(
            "plot_grid: expected an optimizer that was tried with weight decays "
            f"({', '.join(have) or 'none was'}), got {name!r}."
        )
    rates, column = np.unique(trial.learning_rates, return_inverse=True)
    decays, row = np.unique(trial.weight_decays, return_inverse=True)
    loss = np.full((len(decays), len(rates)), np.nan)
    loss[row, column] = trial.means
    loss[np.isinf(loss)] = np.nan
    ax.grid(visible=False)
    ax.set_facecolor("#DDDDDD")
    ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates], rotation=45)
    ax.set_yticks(range(len(decays)), [f"{decay:g}" for decay in decays])
    for y, x in np.argwhere(np.isnan(loss)):
        ax.text(x, y, "×", ha="center", va="center", color="dimgray")
    criterion = f"final {results.config['criterion']} loss{unit(results)}"
    if trial.best is not None:
        positive = loss[loss > 0]
        norm = LogNorm(positive.min(), positive.max()) if positive.size else None
        look = {"cmap": "cividis_r", "norm": norm, "aspect": "auto"}
        image = ax.imshow(loss, **look, origin="lower")
        ax.figure.colorbar(image, ax=ax, label=f"mean {criterion}")
        best = column[trial.best], row[trial.best]
        ax.plot(*best, marker="*", markersize=15, color="white", mec="black", ls="")
    ax.set_xlabel("learning rate" + " (×: diverged)" * bool(np.isnan(loss).any()))
    ax.set_ylabel("weight decay")
    ax.set_title(f"{results.task}: {name} by rate and decay (★ best)")
    return ax
