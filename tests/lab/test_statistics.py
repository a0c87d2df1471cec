"""Differences over seeds: by hand, against scipy, and by simulation."""

import math

import numpy as np
import pytest
from scipy.stats import binom, ttest_rel

from adamx.lab.statistics import Difference, paired_difference


def test_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1; t of 2 degrees of freedom is 4.302653.
    difference = paired_difference([2, 4, 6], [1, 2, 3])
    assert difference.mean == 2
    assert difference.margin == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert not difference.clear
    assert difference.text(".1f") == "2.0 ± 2.5"


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_is_scipys_interval(rng, seeds, confidence):
    first, second = rng.normal(size=(2, seeds))
    difference = paired_difference(first, second, confidence)
    low, high = ttest_rel(first, second).confidence_interval(confidence)
    assert difference.mean - difference.margin == pytest.approx(low, rel=1e-9)
    assert difference.mean + difference.margin == pytest.approx(high, rel=1e-9)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_interval_holds_the_truth_as_often_as_it_says(rng, seeds):
    count, truth, confidence = 4000, 0.3, 0.95
    hard = 10 * rng.normal(size=(count, seeds))  # what a seed does to both
    first, second = hard + rng.normal(size=(2, count, seeds))
    pairs = zip(first + truth, second, strict=True)
    differences = (paired_difference(a, b, confidence) for a, b in pairs)
    held = sum(abs(mean - truth) <= margin for mean, margin in differences)
    low, high = binom(count, confidence).interval(0.9999)
    assert low <= held <= high


def test_one_seed_says_nothing_about_others():
    difference = paired_difference([3.0], [1.0])
    assert difference.mean == 2
    assert math.isnan(difference.margin)
    assert not difference.clear
    assert difference.text() == "2"


def test_a_constant_difference_is_clear_and_none_is_not():
    assert paired_difference([2.0, 3.0], [1.0, 2.0]) == Difference(1, 0)
    assert paired_difference([2.0, 3.0], [1.0, 2.0]).clear
    assert not paired_difference([2.0, 3.0], [2.0, 3.0]).clear


def test_different_seeds_cannot_be_paired():
    with pytest.raises(ValueError, match="could not be broadcast"):
        paired_difference(np.zeros(2), np.zeros(3))
