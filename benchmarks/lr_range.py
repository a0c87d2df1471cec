"""Measures how near the learning-rate range test comes to the best rate of `compare`.

    python benchmarks/lr_range.py [TASK ...]

For each optimizer that `compare` takes unless asked otherwise: the best rate of its
grid, and as multiples of it the two rates of `adamx.lab.lr_range`, from three seeds
each. Exits with 1 if on digits, with 300 steps, one to try is more than 4 times too
large or too small.
"""

import sys

import numpy as np

from adamx import lab

FACTOR = 4.0
STEPS = 100, 300, 1000


def main(tasks: list[str]) -> int:
    off = 1.0
    for name in tasks or ["digits"]:
        task = lab.TASKS[name]()
        best = {
            optimizer: trial.best_rate or np.nan
            for optimizer, trial in lab.compare(task).trials.items()
        }
        for steps in STEPS:
            result = lab.lr_range(task, steps=steps, seeds=3)
            print(
                f"\n{name}, range test of {steps} steps, as multiples of the best rate"
            )
            print(f"{'optimizer':12}{'best rate':>10}{'try':>8}{'falls fastest':>15}")
            ratios = {}
            for optimizer, rate in best.items():
                rates = result.suggestion(optimizer), result.steepest(optimizer)
                ratios[optimizer] = [(x or np.nan) / rate for x in rates]
                tried, steepest = ratios[optimizer]
                print(f"{optimizer:12}{rate:>10g}{tried:>8.2f}{steepest:>15.2f}")
            logs = np.abs(np.log(list(ratios.values())))
            worst = np.exp(logs.max(axis=0))
            print(f"{'at most off by':22}{worst[0]:>8.2f}{worst[1]:>15.2f}", flush=True)
            if name == "digits" and steps == 300:
                off = worst[0]
    return int(not off <= FACTOR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
