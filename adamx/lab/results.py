"""What a comparison gave: a plain record, as JSON and back."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adamx.lab import plots, report, table
from adamx.lab.records import FORMAT, read, write
from adamx.lab.trial import Trial, to_trial


@dataclass(frozen=True, eq=False)
class Results:
    """A comparison of optimizers.

    Attributes:
      task: Its name.
      config: What was asked for: optimizers, learning rates, seeds, steps, ...
      versions: Software and machine.
      trials: By optimizer, in the order of training.
    """

    task: str
    config: dict[str, Any]
    versions: dict[str, str]
    trials: dict[str, Trial]

    @property
    def interrupted(self) -> bool:
        """Whether some optimizer is missing or partial."""
        missing = len(self.trials) < len(self.config["optimizers"])
        return missing or any(trial.partial for trial in self.trials.values())

    def table(self) -> str:
        """Returns the comparison as text, one optimizer a line, and what follows."""
        return table.render(self)

    def advice(self) -> str:
        """Returns one sentence: which optimizer to use, and why."""
        return table.advice(self)

    def plot_curves(self, ax):
        """Draws loss against steps, each optimizer at its best rate; returns `ax`."""
        return plots.curves(self, ax)

    def plot_learning_rates(self, ax):
        """Draws the final loss against the learning rate; returns `ax`."""
        return plots.learning_rates(self, ax)

    def plot_steps_to_target(self, ax, target_loss: float | None = None):
        """Draws the steps to a training loss, one optimizer a row; returns `ax`.

        Args:
          ax: Axes of matplotlib.
          target_loss: In the units of the loss; None is the comparison's.

        Raises:
          ValueError: There is no target loss.
        """
        return plots.steps_to_target(self, ax, target_loss)

    def plot_ratios(self, ax):
        """Draws ‖update‖ / ‖parameters‖ against steps; returns `ax`."""
        return plots.ratios(self, ax)

    def plot_evaluations(self, ax, what: str = "validation"):
        """Draws what was evaluated along the training against steps; returns `ax`.

        Args:
          ax: Axes of matplotlib.
          what: "validation", the loss, or "accuracy".

        Raises:
          ValueError: That was not evaluated along the way.
        """
        return plots.evaluations(self, ax, what)

    def plot_grid(self, ax, name: str):
        """Draws the loss of one optimizer by rate and decay; returns `ax`.

        Args:
          ax: Axes of matplotlib.
          name: An optimizer that was tried with several weight decays.

        Raises:
          ValueError: It was not.
        """
        return plots.grid(self, ax, name)

    def save_report(self, path: str | os.PathLike) -> None:
        """Writes one page of HTML that shows everything and opens without a network.

        Args:
          path: Of the file; the same results give the same bytes.
        """
        Path(path).write_text(report.render(self), encoding="utf-8")

    def save(self, path: str | os.PathLike) -> None:
        """Writes everything as strict JSON: `null` stands for what is not finite."""
        write({"format": FORMAT, **asdict(self)}, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Results":
        """Reads what `save` wrote.

        Raises:
          ValueError: The file is none of these.
        """
        record = read("Results", path)
        trials = record.pop("trials")
        return cls(**record, trials={k: to_trial(v) for k, v in trials.items()})
