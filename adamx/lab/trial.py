"""What the runs of one optimizer gave: a plain record, as JSON and back."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adamx.lab.records import FORMAT, read, shortest, to_floats, write
from adamx.lab.sweep import Setting, Sweep

POINTS = 100  # of a curve, at most: each is the mean of a block of steps


@dataclass(frozen=True, eq=False)
class Trial:
    """The runs of one optimizer, one for each setting and seed.

    Attributes:
      learning_rates: f32[settings], ascending; a setting is a learning rate, with a
        weight decay where several were tried.
      weight_decays: f32[settings], ascending for each learning rate; None if the
        optimizer was left to its default or has none.
      curve_steps: i32[points]; the last step of each block of steps.
      curves: f32[settings,seeds,points]; mean training loss of the block's batches.
      ratios: f32[settings,seeds,points]; the block's mean of ‖update‖ / ‖parameters‖.
      final: After the last step, each f32[settings,seeds]: `training`, the loss of all
        training data, and where the task has them `validation`, the loss, and
        `accuracy`, in [0, 1]. NaN where the run diverged.
      evaluation_steps: i32[evaluations]; after which of them was measured, along the
        way.
      evaluations: `validation` and `accuracy` as in `final`, each
        f32[settings,seeds,evaluations].
      steps: Steps made.
      planned_steps: Steps asked for; more than `steps` if interrupted.
      seconds: Time to train all runs together, without compiling.
      compile_seconds: Time to compile them.
      state_bytes_per_parameter: Size of the optimizer's state.
    """

    learning_rates: np.ndarray
    weight_decays: np.ndarray | None
    curve_steps: np.ndarray
    curves: np.ndarray
    ratios: np.ndarray
    final: dict[str, np.ndarray]
    evaluation_steps: np.ndarray
    evaluations: dict[str, np.ndarray]
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
        """Returns the final loss f32[settings,seeds] that chooses the setting."""
        return self.final.get("validation", self.final["training"])

    @property
    def diverged(self) -> np.ndarray:
        """Tells which runs ended without a finite loss, bool[settings,seeds]."""
        return ~np.isfinite(self.criterion)

    @property
    def means(self) -> np.ndarray:
        """Returns the mean criterion f32[settings]; inf where any seed diverged."""
        return np.where(self.diverged.any(axis=1), np.inf, self.criterion.mean(axis=1))

    @property
    def best(self) -> int | None:
        """Returns the index of the setting with the lowest mean criterion.

        A setting at which any seed diverged is out; None if all are.
        """
        return int(np.argmin(self.means)) if np.isfinite(self.means).any() else None

    @property
    def best_rate(self) -> float | None:
        """Returns the learning rate of the best setting."""
        return None if self.best is None else shortest(self.learning_rates[self.best])

    @property
    def best_decay(self) -> float | None:
        """Returns the weight decay of the best setting, if several were tried."""
        if self.best is None or self.weight_decays is None:
            return None
        return shortest(self.weight_decays[self.best])

    @property
    def by_rate(self) -> np.ndarray:
        """Returns for each learning rate the index of its best setting, i64[rates]."""
        starts = np.flatnonzero(np.diff(self.learning_rates, prepend=0.0))
        parts = np.split(self.means, starts[1:])
        return starts + np.array([part.argmin() for part in parts])

    def good_rates(self, tolerance: float = 0.1) -> tuple[float, float] | None:
        """Returns the range around the best rate where the mean criterion is as good.

        Args:
          tolerance: How much worse it may be, as a part of the best, ≥ 0.

        Returns:
          The lowest and highest rate of the grid in it; None if all rates diverged.
        """
        if self.best is None:
            return None
        means, rates = self.means[self.by_rate], self.learning_rates[self.by_rate]
        good = means <= (1 + tolerance) * self.means[self.best]
        low = high = int(np.argmin(means))
        while low > 0 and good[low - 1]:
            low -= 1
        while high + 1 < len(good) and good[high + 1]:
            high += 1
        return shortest(rates[low]), shortest(rates[high])

    def steps_to(self, target_loss: float) -> np.ndarray:
        """Counts the steps to a training loss, f32[settings,seeds]; NaN if not reached.

        Args:
          target_loss: In the units of the loss; compared with each point of the curve.
        """
        reached = self.curves <= target_loss
        steps = self.curve_steps[reached.argmax(axis=-1)].astype(np.float32)
        return np.where(reached.any(axis=-1), steps, np.float32(np.nan))

    def save(self, path: str | os.PathLike) -> None:
        """Writes everything as strict JSON: `null` stands for what is not finite."""
        write({"format": FORMAT, **asdict(self)}, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Trial":
        """Reads what `save` wrote.

        Raises:
          ValueError: The file is none of these.
        """
        return to_trial(read("Trial", path))


def make_trial(sweep: Sweep, settings: Sequence[Setting], planned_steps: int) -> Trial:
    """Condenses what the compiled program gave."""
    rates, *decays = np.asarray(settings, np.float32).T
    steps = sweep.losses.shape[-1]
    block = -(-planned_steps // POINTS)
    starts = np.arange(0, steps, block)
    ends = np.minimum(starts + block, steps)

    def means(values):
        with np.errstate(invalid="ignore", over="ignore"):  # inf − inf where diverged
            sums = np.add.reduceat(values, starts, axis=-1)
            return finite_or_nan(sums / (ends - starts).astype(np.float32))

    return Trial(
        learning_rates=rates,
        weight_decays=decays[0] if decays else None,
        curve_steps=ends.astype(np.int32),
        curves=means(sweep.losses),
        ratios=means(sweep.ratios),
        final={what: finite_or_nan(value) for what, value in sweep.final.items()},
        evaluation_steps=sweep.evaluation_steps,
        evaluations={
            what: finite_or_nan(value) for what, value in sweep.evaluations.items()
        },
        steps=steps,
        planned_steps=planned_steps,
        seconds=round(sweep.seconds, 6),
        compile_seconds=round(sweep.compile_seconds, 6),
        state_bytes_per_parameter=sweep.state_bytes_per_parameter,
    )


def finite_or_nan(values: np.ndarray) -> np.ndarray:
    """Makes infinities NaN, so that JSON's one `null` loses nothing."""
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def to_trial(record: dict[str, Any]) -> Trial:
    """Turns the JSON of a trial back into it."""
    floats = "learning_rates", "weight_decays", "curves", "ratios"
    measured = "final", "evaluations"
    arrays = {what: to_floats(record[what]) for what in floats}
    steps = {
        what: np.asarray(record[what], np.int32)
        for what in ("curve_steps", "evaluation_steps")
    }
    by_name = {
        what: {k: to_floats(v) for k, v in record[what].items()} for what in measured
    }
    return Trial(**{**record, **arrays, **steps, **by_name})
