"""Which optimizer is best, and how sure the differences are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import stdtrit

if TYPE_CHECKING:
    from adamx.lab.results import Results
    from adamx.lab.trial import Trial


class Difference(NamedTuple):
    """A mean difference over seeds and half the width of its confidence interval."""

    mean: float
    margin: float  # NaN where one seed says nothing about the others

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero: it is larger than the seeds'."""
        return abs(self.mean) > self.margin

    def text(self, form: str = ".2g") -> str:
        """Writes mean ± margin, each in this format; the mean alone for one seed."""
        mean = f"{self.mean:{form}}"
        return mean if np.isnan(self.margin) else f"{mean} ± {self.margin:{form}}"


def paired_difference(first, second, confidence: float = 0.95) -> Difference:
    """Compares two optimizers that were run from the same seeds.

    margin = t · s / √n, with s the standard deviation of the n differences and t the
    (1 + confidence) / 2 quantile of Student's distribution with n − 1 degrees of
    freedom: a seed that is hard for both does not widen it. The interval is for this
    one difference; of twenty that are zero, one is outside on average.

    Args:
      first: A quantity of one optimizer, f[seeds], seeds ≥ 1.
      second: The same of the other, from the same seeds.
      confidence: How often such an interval holds the true difference, in (0, 1).

    Returns:
      The mean of `first − second` and the margin on either side.

    Reference: Student, 1908, "The probable error of a mean".

    Example:
      >>> from adamx.lab.statistics import paired_difference
      >>> paired_difference([0.9, 0.8, 0.7], [0.8, 0.7, 0.5]).text()
      '0.13 ± 0.14'
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return Difference(mean, float("nan"))
    t = stdtrit(count - 1, (1 + confidence) / 2)
    return Difference(mean, float(t * differences.std(ddof=1) / np.sqrt(count)))


def ranking(results: Results) -> list[str]:
    """Orders those that finished: the most accurate first, then the lowest loss."""

    def rank(name):
        trial = results.trials[name]
        accuracy = at_best(trial, "accuracy").mean() if "accuracy" in trial.final else 0
        return -accuracy, at_best(trial, "criterion").mean()

    finished = [
        name
        for name, trial in results.trials.items()
        if trial.best is not None and not trial.partial
    ]
    return sorted(finished, key=rank)


def behind(results: Results) -> dict[str, Difference]:
    """Says by how much each that finished is worse than the best, in its order.

    Returns:
      Differences in points of test accuracy where the task has it, else in the loss
      that chooses the setting.
    """
    names = ranking(results)
    if not names:
        return {}
    if "accuracy" in results.trials[names[0]].final:
        scores = {n: -100 * at_best(results.trials[n], "accuracy") for n in names}
    else:
        scores = {n: at_best(results.trials[n], "criterion") for n in names}
    best = scores[names[0]]
    return {name: paired_difference(score, best) for name, score in scores.items()}


def at_best(trial: Trial, what: str) -> np.ndarray:
    """Returns a final quantity at the best setting, f32[seeds]."""
    values = trial.criterion if what == "criterion" else trial.final[what]
    return values[trial.best]
