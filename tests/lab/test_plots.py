"""Pictures of a comparison: what is drawn, where, and in which color."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from adamx.lab.plots import COLORS, pictures, save
from adamx.lab.plots.style import GRAY, MANY
from lab.tiny import results, trial

NAN = np.nan
GOOD = trial([[2, 2], [1, 1.2], [NAN, 5]], [[0.5, 0.5], [0.9, 0.94], [NAN, 0.1]])
LESS = trial([[3, 3], [4, 4], [5, 5]], [[0.8, 0.84], [0.5, 0.5], [0.1, 0.1]])
TRIED = trial([[4, 4], [3, 3], [2, NAN], [1, 2]], decays=[0, 0.1])


@pytest.fixture
def ax():
    return Figure().subplots()


def colors(ax):
    """The color of each line in the legend."""
    _, labels = ax.get_legend_handles_labels()
    lines = {line.get_label(): to_hex(line.get_color()).upper() for line in ax.lines}
    return {label.split(",")[0]: lines[label] for label in labels}


@pytest.mark.parametrize(
    "plot", ["plot_curves", "plot_learning_rates", "plot_ratios", "plot_evaluations"]
)
def test_a_color_means_one_optimizer(plot):
    trials = {
        name: trial([[1, 2]], validation=[[1, 2]]) for name in ("adam", "mine", "sgd")
    }
    less = {name: trials[name] for name in ("sgd", "adam")}
    for comparison in (results(trials), results(less)):
        ax = Figure().subplots()
        assert getattr(comparison, plot)(ax) is ax
        drawn = colors(ax)
        assert set(drawn) == set(comparison.trials)
        assert drawn["adam"] == COLORS["adam"]
        assert drawn["sgd"] == COLORS["sgd"]
        assert len(set(drawn.values())) == len(drawn)


def test_all_optimizers_of_the_lab_look_different():
    from adamx.lab import OPTIMIZERS
    from adamx.lab.plots import styles

    everything = results(dict.fromkeys(OPTIMIZERS, LESS))
    looks = [(s["color"], s["linestyle"]) for s in styles(everything).values()]
    assert len(looks) == len(set(looks)) == len(OPTIMIZERS)


def test_of_many_the_best_stand_out(ax):
    count = 37
    trials = {f"m{i}": trial([[1 + i, 1 + i]]) for i in range(count)}
    results(trials).plot_curves(ax)
    assert len(ax.lines) == count
    gray = [line for line in ax.lines if to_hex(line.get_color()).upper() == GRAY]
    assert len(gray) == count - MANY
    _, labels = ax.get_legend_handles_labels()
    best = [f"m{i}, 0.1" for i in range(MANY)]
    assert labels == [*best, f"the {count - MANY} others"]


def test_curves_are_drawn_at_the_best_rate(ax):
    results({"adam": GOOD}, target_loss=0.5).plot_curves(ax)
    line, target = ax.lines
    np.testing.assert_allclose(line.get_ydata(), GOOD.curves[1].mean(0))
    assert target.get_ydata() == [0.5, 0.5]
    assert line.get_label() == "adam, 1"
    assert ax.get_xlabel() == "steps"
    assert ax.get_ylabel() == "training loss (m²)"


def test_curves_name_rate_and_decay(ax):
    results({"adamw": TRIED}).plot_curves(ax)
    assert ax.lines[0].get_label() == "adamw, 1, 0.1"
    assert ax.get_legend().get_title().get_text() == "optimizer, rate, decay"


def test_ratios_have_the_band_of_the_seeds(ax):
    results({"adam": GOOD}).plot_ratios(ax)
    (line,), (band,) = ax.lines, ax.collections
    np.testing.assert_allclose(line.get_ydata(), GOOD.ratios[1].mean(0))
    low, high = np.sort(GOOD.ratios[1], axis=0)
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(low.min())
    assert edges.max() == pytest.approx(high.max())
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "‖update‖ / ‖parameters‖ of a step"


def test_evaluations(ax):
    comparison = results({"adam": GOOD})
    comparison.plot_evaluations(ax, "accuracy")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [2, 4])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [46, 92], rtol=1e-6)
    assert ax.get_ylabel() == "test accuracy (%)"
    assert ax.get_yscale() == "linear"
    message = (
        r"^plot_evaluations: expected what was evaluated \(accuracy\), got "
        r"'validation'\.$"
    )
    with pytest.raises(ValueError, match=message):
        comparison.plot_evaluations(ax)
    message = (
        r"^plot_evaluations: nothing was evaluated along the way; compare with "
        r"evaluate_every\.$"
    )
    with pytest.raises(ValueError, match=message):
        results({"adam": trial([[1]])}).plot_evaluations(ax)


def test_learning_rates_show_what_diverged(ax):
    results({"adam": GOOD}).plot_learning_rates(ax)
    means, crosses = ax.lines
    np.testing.assert_allclose(means.get_ydata(), [2, 1.1, NAN])
    assert crosses.get_xdata() == [10]
    assert crosses.get_marker() == "x"
    assert "diverged" in ax.get_xlabel()


def test_learning_rates_are_drawn_at_their_best_decay(ax):
    results({"adamw": TRIED}).plot_learning_rates(ax)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.1, 1])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [3, 1.5])
    assert ax.get_xlabel() == "learning rate at its best decay"


def test_steps_to_target_in_order(ax):
    never = trial([[9, 9]])
    some = trial([[1, 9]])
    trials = {"never": never, "sgd": LESS, "adam": GOOD, "some": some}
    results(trials).plot_steps_to_target(ax, target_loss=3)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["adam, 1", "sgd, 0.1", "never, 0.1", "some, 0.1"]
    means = [line for line in ax.lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in means] == [
        (2.5, 0),
        (4, 1),
    ]
    notes = [(text.get_text(), text.xy[1]) for text in ax.texts]
    assert notes == [("0 of 2 seeds reach it", 2), ("1 of 2 seeds reach it", 3)]
    assert ax.get_xlabel() == "steps to a training loss of 3 (m²)"
    assert ax.yaxis_inverted()


def test_steps_to_target_needs_one(ax):
    message = r"^plot_steps_to_target: expected a target_loss, got None and a compa"
    with pytest.raises(ValueError, match=message):
        results({"adam": GOOD}).plot_steps_to_target(ax)


def test_grid_marks_the_best_and_what_diverged(ax):
    results({"adamw": TRIED}).plot_grid(ax, "adamw")
    (image,), (star,) = ax.images, ax.lines
    np.testing.assert_allclose(image.get_array().filled(NAN), [[4, NAN], [3, 1.5]])
    assert (star.get_xdata(), star.get_ydata()) == ([1], [1])
    assert [text.get_position() for text in ax.texts] == [(1, 0)]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.1", "1"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "0.1"]
    assert not ax.yaxis_inverted()
    _, bar = ax.figure.axes
    assert bar.get_ylabel() == "mean final training loss (m²)"


def test_grid_needs_weight_decays(ax):
    comparison = results({"adamw": TRIED, "sgd": LESS})
    for name in ("sgd", "lion"):
        message = (
            r"^plot_grid: expected an optimizer that was tried with weight decays "
            rf"\(adamw\), got '{name}'\.$"
        )
        with pytest.raises(ValueError, match=message):
            comparison.plot_grid(ax, name)


def test_pictures_for_which_there_are_numbers():
    names = [picture.name for picture in pictures(results({"sgd": trial([[1]])}))]
    assert names == ["curves", "learning-rates", "ratios"]
    trials = {"adamw": TRIED, "adam": GOOD}
    names = [picture.name for picture in pictures(results(trials, target_loss=1))]
    assert names[2:] == ["steps-to-target", "ratios", "accuracy-along", "grid-adamw"]


def test_pictures_of_nothing_and_of_everything_diverged(tmp_path):
    lost = trial([[NAN, NAN], [NAN, NAN]], decays=[0, 1], validation=[[NAN, NAN]] * 2)
    for trials in ({}, {"adam": lost}):
        comparison = results(trials, optimizers=["adam"], target_loss=1)
        assert len(pictures(comparison)) == (6 if trials else 4)
        for picture in pictures(comparison):
            save(picture.draw, tmp_path / "x.png", picture.height)
            assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
