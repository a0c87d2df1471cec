"""Text and files of a comparison."""

import json
import re

import numpy as np
import pytest

from adamx.lab import Results
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
        "points behind adam": "0",
        "steps to 2.5": "3",
        "diverged": "1 of 6",
        "B/param": "8.2",
        "µs/step": "1e+05",
    }
    assert cells["sgd"]["best rate"] == "0.1 (edge)"
    assert cells["sgd"]["steps to 2.5"] == "not reached"
    # Behind by 10 and 10 points; t of one degree of freedom is 12.7, times nothing.
    assert cells["sgd"]["points behind adam"] == "10.0 ± 0.0"


def test_table_of_a_grid_with_a_schedule():
    tried = trial([[4, 4], [3, 3], [2, 2], [1, 1]], decays=[0, 0.1])
    comparison = results({"adamw": tried, "sgd": trial([[3, 3.2], [4, 4]])})
    comparison.config["schedule"] = "cosine"
    lines = comparison.table().splitlines()
    rule = "the same for every optimizer"
    assert lines[1:3] == [
        "4 steps of 6 examples; 2 rates from 0.1 to 1, the peaks of the schedule "
        f"cosine, {rule}",
        "2 weight decays from 0 to 0.1, for those that have one",
    ]
    titles, _, adamw, sgd = (re.split("  +", line) for line in lines[-6:-2])
    columns = ["optimizer", "best rate", "best decay", "good rates"]
    assert titles[:4] == columns
    assert adamw[:4] == ["adamw", "1 (edge)", "0.1 (edge)", "1"]
    assert sgd[:4] == ["sgd", "0.1 (edge)", "–", "0.1"]
    assert titles[5] == "training loss behind adamw"
    assert sgd[5] == "2.1 ± 1.3"  # 2 and 2.2: 12.706 · 0.1414 / √2
    assert lines[-1].startswith("Use adamw at learning rate 1 and weight decay 0.1: ")


def test_no_weight_decay_is_no_edge():
    tried = trial([[1, 1], [2, 2], [3, 3], [4, 4]], decays=[0, 0.1])
    row = results({"adamw": tried}).table().splitlines()[-3]
    assert re.split("  +", row)[:3] == ["adamw", "0.1 (edge)", "0"]


CLOSE = trial([[3], [2]], [[0.5], [0.9]])
PAIRED = "(95 %, paired by seed): the difference is"


@pytest.mark.parametrize(
    ("comparison", "advice"),
    [
        (
            results({"sgd": LESS, "adam": GOOD}),
            "Use adam at learning rate 1: highest mean test accuracy, 92.0 %; it beats "
            f"sgd by 10.0 ± 0.0 points {PAIRED} larger than the seeds'.",
        ),
        (
            results({"sgd": trial([[1.2, 1.2]]), "adam": trial([[1, 1.2]])}),
            "Use adam at learning rate 0.1: lowest mean training loss, 1.1; it beats "
            f"sgd by 0.1 ± 1.3 {PAIRED} not larger than the seeds', either will do.",
        ),
        (
            results({"sgd": CLOSE, "adam": CLOSE}),
            "Use sgd at learning rate 1: highest mean test accuracy, 90.0 %; it beats "
            "adam by 0.0 points with one seed, which may be chance.",
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
