"""Text, pictures and files of a comparison."""

import json
import re

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from adamx.lab import Results
from adamx.lab.plots import COLORS, save
from lab.tiny import results, trial

NAN = np.nan
GOOD = trial([[2, 2], [1, 1.2], [NAN, 5]], [[0.5, 0.5], [0.9, 0.94], [NAN, 0.1]])
LESS = trial([[3, 3], [4, 4], [5, 5]], [[0.8, 0.84], [0.5, 0.5], [0.1, 0.1]])


def test_table():
    lines = results({"adam": GOOD, "sgd": LESS}, target_loss=2.5).table().splitlines()
    rule = "the same for every optimizer"
    assert lines[:5] == [
        "tiny: two layers",
        f"4 steps of 6 examples; 3 rates from 0.1 to 10, {rule}",
        f"2 seeds: each fixes the start and the order of the batches, {rule}",
        "best rate: lowest mean final training loss (test accuracy plays no part)",
        "good rates: those beside it whose loss is within 10 % of that",
    ]
    titles, rule, *rows = lines[-6:-2]
    assert rule == "-" * len(titles)
    cells = {}
    for row in rows:
        pairs = zip(re.split("  +", titles), re.split("  +", row), strict=True)
        (_, name), *others = pairs
        cells[name] = dict(others)
    assert cells["adam"] == {
        "best rate": "1",
        "good rates": "1",
        "training loss": "1.1",
        "test accuracy": "92.0 ± 2.8 %",
        "steps to 2.5": "3",
        "diverged": "1 of 6",
        "B/param": "8.2",
        "µs/step": "1e+05",
    }
    assert cells["sgd"]["best rate"] == "0.1 (edge)"
    assert cells["sgd"]["steps to 2.5"] == "not reached"


CLOSE = trial([[3], [2]], [[0.5], [0.9]])


@pytest.mark.parametrize(
    ("comparison", "advice"),
    [
        (
            results({"sgd": LESS, "adam": GOOD}),
            "Use adam at learning rate 1: highest mean test accuracy, 92.0 %; its lead "
            "over sgd, 10.0 points, is larger than the spread over seeds, 2.8 points.",
        ),
        (
            results({"sgd": trial([[1.2, 1.2]]), "adam": trial([[1, 1.2]])}),
            "Use adam at learning rate 0.1: lowest mean training loss, 1.1; but its "
            "lead over sgd, 0.1, is within the spread over seeds, 0.14: either will "
            "do.",
        ),
        (
            results({"sgd": CLOSE, "adam": CLOSE}),
            "Use sgd at learning rate 1: highest mean test accuracy, 90.0 %; with one "
            "seed, its lead over adam, 0.0 points, may be chance.",
        ),
        (
            results({"sgd": LESS, "adam": trial([[NAN, 1], [1, NAN]])}),
            "Use sgd at learning rate 0.1: no other optimizer finished without "
            "diverging.",
        ),
        (
            results({"adam": trial([[NAN, NAN]])}),
            "No advice: every optimizer diverged at every learning rate.",
        ),
        (
            results({}, optimizers=["adam"]),
            "No advice: no optimizer finished.",
        ),
    ],
)
def test_advice(comparison, advice):
    assert comparison.advice() == advice
    assert comparison.table().endswith(advice)


def test_a_partial_optimizer_is_not_advised():
    part = trial([[0.1, 0.1]], [[1, 1]], steps=2, planned=4)
    comparison = results({"sgd": LESS, "adam": part})
    assert comparison.interrupted
    assert comparison.advice().startswith("Use sgd")
    assert "adam (only 2 steps)" in comparison.table()


def test_table_of_a_diverged_optimizer():
    line = results({"adam": trial([[NAN, NAN]], [[NAN, NAN]])}).table().splitlines()[-3]
    assert line.split() == "adam (diverged) – – – – 2 of 2 8.2 3e+05".split()


def test_best_and_good_rates():
    assert GOOD.best_rate == 1
    assert GOOD.good_rates() == (1, 1)
    assert GOOD.good_rates(tolerance=1) == (0.1, 1)
    islands = trial([[1, 1], [2, 2], [1.05, 1.05], [1.1, 1], [1.2, 1.2]])
    assert islands.good_rates() == (0.1, 0.1)
    chosen = trial([[1, 1], [2, 2]], validation=[[2, 2], [1, 1]])
    assert chosen.best_rate == 1
    assert trial([[NAN, 1]]).good_rates() is None


def test_steps_to_a_loss():
    steps = GOOD.steps_to(2.5)  # the curves fall from 4 to 1 times the final loss
    np.testing.assert_array_equal(steps, [[4, 4], [3, 3], [NAN, NAN]])


def test_json_is_strict_and_comes_back(tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    before = results({"adam": GOOD, "sgd": LESS}, target_loss=0.5)
    before.save(first)
    after = Results.load(first)
    after.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "first.json",
        "second.json",
    ]

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    plain = json.loads(first.read_text(), parse_constant=refuse)
    assert plain["trials"]["adam"]["final"]["training"] == [[2, 2], [1, 1.2], [None, 5]]
    assert after.table() == before.table()
    for name, old in before.trials.items():
        new = after.trials[name]
        for field in ("learning_rates", "curve_steps", "curves"):
            assert getattr(new, field).dtype == getattr(old, field).dtype
            np.testing.assert_array_equal(getattr(new, field), getattr(old, field))
        for what in old.final:
            np.testing.assert_array_equal(new.final[what], old.final[what])


@pytest.mark.parametrize("text", ["[1]", "{", "{}", '{"format": "other"}'])
def test_load_of_another_file(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"expected a file that this version's Results.save"
    ):
        Results.load(path)


def colors(ax):
    """The color of each line in the legend."""
    _, labels = ax.get_legend_handles_labels()
    lines = {line.get_label(): to_hex(line.get_color()).upper() for line in ax.lines}
    return {label.split(",")[0]: lines[label] for label in labels}


def test_a_color_means_one_optimizer():
    everything = results({"adam": GOOD, "mine": LESS, "sgd": LESS})
    less = results({"sgd": LESS, "adam": GOOD})
    for comparison in (everything, less):
        for plot in (comparison.plot_curves, comparison.plot_learning_rates):
            ax = Figure().subplots()
            assert plot(ax) is ax
            drawn = colors(ax)
            assert set(drawn) == set(comparison.trials)
            assert drawn["adam"] == COLORS["adam"]
            assert drawn["sgd"] == COLORS["sgd"]
            assert len(set(drawn.values())) == len(drawn)


def test_curves_are_drawn_at_the_best_rate():
    ax = results({"adam": GOOD}, target_loss=0.5).plot_curves(Figure().subplots())
    line, target = ax.lines
    np.testing.assert_allclose(line.get_ydata(), GOOD.curves[1].mean(0))
    assert target.get_ydata() == [0.5, 0.5]
    assert line.get_label() == "adam, 1"
    assert ax.get_xlabel() == "steps"
    assert ax.get_ylabel() == "training loss (m²)"


def test_learning_rates_show_what_diverged():
    ax = results({"adam": GOOD}).plot_learning_rates(Figure().subplots())
    means, crosses = ax.lines
    np.testing.assert_allclose(means.get_ydata(), [2, 1.1, NAN])
    assert crosses.get_xdata() == [10]
    assert crosses.get_marker() == "x"
    assert "diverged" in ax.get_xlabel()


def test_pictures_of_nothing_and_of_everything_diverged(tmp_path):
    for trials in ({}, {"adam": trial([[NAN, NAN]])}):
        comparison = results(trials, optimizers=["adam"])
        for plot in (comparison.plot_curves, comparison.plot_learning_rates):
            save(plot, tmp_path / "x.png")
            assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
