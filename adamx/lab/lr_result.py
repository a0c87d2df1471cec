"""What the learning-rate range test gave: a plain record, as text, picture and JSON."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adamx.lab.plots.style import COLORS, OTHERS, band, legend
from adamx.lab.records import FORMAT, read, shortest, to_floats, write
from adamx.lab.table import NONE, grid, plural

DECAY = 0.9  # of the exponential mean of the loss
BLOWUP = 2.0  # times its minimum: there the loss has diverged
MARGIN = 10.0  # below the rate at which it diverges


@dataclass(frozen=True, eq=False)
class LrRange:
    """What the learning-rate range test gave.

    Attributes:
      task: Its name.
      config: What was asked for: optimizers, seeds, batch size, ...
      versions: Software and machine.
      rates: f32[steps]; the learning rate of each step, growing geometrically.
      losses: By optimizer, f32[seeds,steps]; the loss of each batch, before the step.
    """

    task: str
    config: dict[str, Any]
    versions: dict[str, str]
    rates: np.ndarray
    losses: dict[str, np.ndarray]

    def smoothed(self, name: str) -> np.ndarray:
        """Returns the exponential mean of the loss, bias-corrected, f32[seeds,steps].

        NaN from the step on at which it exceeds `BLOWUP` times its minimum so far, or
        is not finite: what follows does not count.
        """
        return np.stack([smooth(losses) for losses in self.losses[name]])

    def diverges(self, name: str) -> float | None:
        """Returns the median over the seeds of the rate at which the loss diverges.

        None if half of the seeds reach the highest rate without.
        """
        ends = [int(np.isfinite(seed).sum()) for seed in self.smoothed(name)]
        rates = [*self.rates, np.float32(np.inf)]
        return middle([rates[end] for end in ends])

    def steepest(self, name: str) -> float | None:
        """Returns the median over the seeds of the rate of the steepest descent.

        Of the smoothed loss over the logarithm of the rate, up to its minimum; None if
        half of the seeds start with the lowest loss.
        """
        return middle([self.rate_of_descent(seed) for seed in self.smoothed(name)])

    def rate_of_descent(self, smoothed: np.ndarray) -> float:
        """Finds it for one seed; infinite if there is none."""
        if not np.isfinite(smoothed).any():
            return np.inf
        descent = smoothed[: np.nanargmin(smoothed) + 1]
        if len(descent) < 2:
            return np.inf
        return self.rates[np.argmin(np.gradient(descent))]

    def suggestion(self, name: str) -> float | None:
        """Returns a tenth of the rate at which the loss diverges, to try first."""
        diverges = self.diverges(name)
        return None if diverges is None else diverges / MARGIN

    def table(self) -> str:
        """Returns what was found as text: a line and a sentence for each optimizer."""
        return render(self)

    def plot(self, ax):
        """Draws the smoothed loss over the rate, up to where it diverges; returns `ax`.

        A dot marks the steepest descent, a cross a tenth of the rate where it diverges.
        """
        return draw(self, ax)

    def save(self, path: str | os.PathLike) -> None:
        """Writes everything as strict JSON: `null` stands for what is not finite."""
        write({"format": FORMAT, "kind": "lr_range", **asdict(self)}, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "LrRange":
        """Reads what `save` wrote.

        Raises:
          ValueError: The file is none of these.
        """
        record = read("LrRange", path)
        if record.pop("kind", "") != "lr_range":
            raise ValueError(
                "LrRange.load: expected a file that LrRange.save wrote, got "
                f"{os.fspath(path)}."
            )
        losses = {name: to_floats(x) for name, x in record.pop("losses").items()}
        return cls(**record | {"rates": to_floats(record["rates"]), "losses": losses})


def smooth(losses: np.ndarray) -> np.ndarray:
    """The exponential mean f32[steps], bias-corrected; NaN from where it diverges."""
    mean, weight, least = 0.0, 0.0, np.inf
    smoothed = np.full_like(losses, np.nan)
    for i, loss in enumerate(losses.astype(np.float64)):
        mean, weight = DECAY * mean + (1 - DECAY) * loss, DECAY * weight + 1 - DECAY
        value = mean / weight
        least = min(least, value)
        # For losses above 0 this is BLOWUP times the minimum.
        if not value <= least + (BLOWUP - 1) * abs(least):
            break
        smoothed[i] = value
    return smoothed


def middle(rates: Sequence[float]) -> float | None:
    """The lower median of rates; None if it is infinite, which some of them may be."""
    middle = np.quantile(np.asarray(rates, np.float32), 0.5, method="lower")
    return shortest(middle) if np.isfinite(middle) else None


def render(result: LrRange) -> str:
    """Writes what was done, a line for each optimizer, and a sentence for each."""
    config, rates = result.config, result.rates
    batch = f" of {config['batch_size']} examples" if config["batch_size"] else ""
    head = [
        f"{result.task}: {config['description']}".rstrip(": "),
        f"{plural(len(rates), 'step')}{batch}, in which the rate grows from "
        f"{rates[0]:g} to {rates[-1]:g}; {plural(len(config['seeds']), 'seed')}, "
        "of which medians count",
        f"diverges: the smoothed loss exceeds {BLOWUP:g} times its minimum",
    ]
    rows = [["optimizer", "falls fastest", "diverges", "try"]]
    for name in result.losses:
        found = result.steepest(name), result.diverges(name), result.suggestion(name)
        rows.append([name, *(NONE if x is None else f"{x:.2g}" for x in found)])
    sentences = [sentence(result, name) for name in result.losses]
    return "\n".join([*head, "", *grid(rows), "", *sentences])


def sentence(result: LrRange, name: str) -> str:
    """Says what to try, and why."""
    steepest, diverges = result.steepest(name), result.diverges(name)
    if diverges is None:
        return f"{name}: does not diverge up to {result.rates[-1]:g}; raise high."
    first = f"{name}: try {result.suggestion(name):.2g}, a tenth of where it diverges"
    if steepest is None:
        return f"{name}: the loss does not fall before it diverges; lower low."
    return f"{first}; {steepest:.2g}, where the loss falls fastest, for a grid."


def draw(result: LrRange, ax):
    """Draws the medians of the smoothed losses, and their range over the seeds."""
    for i, name in enumerate(result.losses):
        style = {"color": COLORS.get(name, OTHERS[i % len(OTHERS)])}
        smoothed = result.smoothed(name)
        there = np.isfinite(smoothed).all(axis=0)
        rates, seeds = result.rates[there], smoothed[:, there]
        center = np.median(seeds, axis=0)
        label = f"{name}, {result.suggestion(name) or np.nan:.2g}"
        ax.plot(rates, center, label=label, linewidth=1.3, **style)
        band(ax, rates, seeds.min(0), seeds.max(0), style)
        marks = zip((result.steepest(name), result.suggestion(name)), "ox", strict=True)
        for rate, marker in marks:
            if rate is not None and len(rates):
                at = np.interp(rate, rates, center)
                ax.plot(rate, at, marker=marker, markersize=6, linestyle="", **style)
    ax.set_xscale("log")
    ax.set_xlabel("learning rate (• falls fastest, × a tenth of where it diverges)")
    unit = result.config["loss_unit"]
    ax.set_ylabel("smoothed training loss" + (f" ({unit})" if unit else ""))
    ax.set_title(f"{result.task}: learning-rate range test")
    legend(ax, "optimizer, try")
    return ax
