"""What a comparison gave: a plain record, as JSON and back."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adamx.lab import plots, table
from adamx.lab.sweep import Sweep

POINTS = 100  # of a curve, at most: each is the mean of a block of steps


@dataclass(frozen=True, eq=False)
class Trial:
    """The runs of one optimizer, one for each learning rate and seed.

    Attributes:
      curve_steps: i32[points]; the last step of each block of steps.
      curves: f32[rates,seeds,points]; mean training loss of the block's batches.
      final: After the last step, each f32[rates,seeds]: `training`, the loss of all
        training data, and where the task has them `validation`, the loss, and
        `accuracy`, in [0, 1]. NaN where the run diverged.
      learning_rates: f32[rates], ascending.
      steps: Steps made.
      planned_steps: Steps asked for; more than `steps` if interrupted.
      seconds: Time to train all runs together, without compiling.
      compile_seconds: Time to compile them.
      state_bytes_per_parameter: Size of the optimizer's state.
    """

    learning_rates: np.ndarray
    curve_steps: np.ndarray
    curves: np.ndarray
    final: dict[str, np.ndarray]
    steps: int
    planned_steps: int
    seconds: float
    compile_seconds: float
    state_bytes_per_parameter: float

    @property
    def partial(self) -> bool:
        """Whether the runs were interrupted."""
        return self.steps < self.planned_steps

    @property
    def criterion(self) -> np.ndarray:
        """Returns the final loss f32[rates,seeds] that chooses the learning rate."""
        return self.final.get("validation", self.final["training"])

    @property
    def diverged(self) -> np.ndarray:
        """Tells which runs ended without a finite loss, bool[rates,seeds]."""
        return ~np.isfinite(self.criterion)

    @property
    def best(self) -> int | None:
        """Returns the index of the learning rate with the lowest mean criterion.

        A rate at which any seed diverged is out; None if all are.
        """
        means = np.where(self.diverged.any(axis=1), np.inf, self.criterion.mean(axis=1))
        return int(np.argmin(means)) if np.isfinite(means).any() else None

    @property
    def best_rate(self) -> float | None:
        """Returns the learning rate with the lowest mean criterion."""
        return None if self.best is None else shortest(self.learning_rates[self.best])

    def good_rates(self, tolerance: float = 0.1) -> tuple[float, float] | None:
        """Returns the range around the best rate where the mean criterion is as good.

        Args:
          tolerance: How much worse it may be, as a part of the best, ≥ 0.

        Returns:
          The lowest and highest rate of the grid in it; None if all rates diverged.
        """
        if self.best is None:
            return None
        means = self.criterion.mean(axis=1)  # NaN, and so not good, where diverged
        good = means <= (1 + tolerance) * means[self.best]
        low = high = self.best
        while low > 0 and good[low - 1]:
            low -= 1
        while high + 1 < len(good) and good[high + 1]:
            high += 1
        return shortest(self.learning_rates[low]), shortest(self.learning_rates[high])

    def steps_to(self, target_loss: float) -> np.ndarray:
        """Counts the steps to a training loss, f32[rates,seeds]; NaN if never reached.

        Args:
          target_loss: In the units of the loss; compared with each point of the curve.
        """
        reached = self.curves <= target_loss
        steps = self.curve_steps[reached.argmax(axis=-1)].astype(np.float32)
        return np.where(reached.any(axis=-1), steps, np.float32(np.nan))


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

    def save(self, path: str | os.PathLike) -> None:
        """Writes everything as strict JSON: `null` stands for what is not finite."""
        record = {"format": "adamx.lab 1", **asdict(self)}
        text = json.dumps(record, default=to_plain, allow_nan=False)
        part = Path(f"{os.fspath(path)}.part")
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Results":
        """Reads what `save` wrote.

        Raises:
          ValueError: The file is none of these.
        """
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.pop("format", "") != "adamx.lab 1":
            raise ValueError(
                f"Results.load: expected a file that Results.save wrote, got {path}."
            )
        trials = record.pop("trials")
        return cls(**record, trials={k: to_trial(v) for k, v in trials.items()})


def make_trial(sweep: Sweep, learning_rates, planned_steps: int) -> Trial:
    """Condenses what the compiled program gave."""
    steps = sweep.losses.shape[-1]
    block = -(-planned_steps // POINTS)
    starts = np.arange(0, steps, block)
    ends = np.minimum(starts + block, steps)
    with np.errstate(invalid="ignore", over="ignore"):  # inf − inf where diverged
        sums = np.add.reduceat(sweep.losses, starts, axis=-1)
        curves = sums / (ends - starts).astype(np.float32)
    return Trial(
        learning_rates=np.asarray(learning_rates, np.float32),
        curve_steps=ends.astype(np.int32),
        curves=finite_or_nan(curves),
        final={what: finite_or_nan(value) for what, value in sweep.final.items()},
        steps=steps,
        planned_steps=planned_steps,
        seconds=round(sweep.seconds, 6),
        compile_seconds=round(sweep.compile_seconds, 6),
        state_bytes_per_parameter=sweep.state_bytes_per_parameter,
    )


def finite_or_nan(values: np.ndarray) -> np.ndarray:
    """Makes infinities NaN, so that JSON's one `null` loses nothing."""
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def to_plain(array: np.ndarray):
    """Turns an array into nested lists, each float32 in its shortest decimals."""
    if array.ndim:
        return [to_plain(row) for row in array]
    if array.dtype == np.int32:
        return int(array)
    return shortest(array) if np.isfinite(array) else None


def shortest(value) -> float:
    """Turns a float32 into the float of the same decimals: 0.1, not 0.10000000149."""
    return float(str(value))


def to_trial(record: dict[str, Any]) -> Trial:
    """Turns the JSON of a trial back into it."""
    arrays = {
        "learning_rates": np.asarray(record["learning_rates"], np.float32),
        "curve_steps": np.asarray(record["curve_steps"], np.int32),
        "curves": np.asarray(record["curves"], np.float32),
        "final": {k: np.asarray(v, np.float32) for k, v in record["final"].items()},
    }
    return Trial(**record | arrays)
