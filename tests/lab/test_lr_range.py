"""The learning-rate range test: what it trains, what it finds, what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import adamx
from adamx import lab
from adamx.lab import LrRange
from adamx.lab.cli import main
from adamx.lab.problem import prepare
from lab.tiny import TASK

RATES = np.geomspace(1e-5, 1e2, 141).astype(np.float32)  # 20 for each decade


def planted(*losses, names="ab"):
    """A result with these losses of one seed each, all but the first optimizer's."""
    config = {
        "description": "planted",
        "optimizers": list(names[: len(losses)]),
        "seeds": [0],
        "batch_size": 6,
        "loss_unit": "m²",
    }
    arrays = {
        name: np.atleast_2d(np.asarray(loss, np.float32))
        for name, loss in zip(names, losses, strict=False)
    }
    return LrRange("tiny", config, {"adamx": "0"}, RATES, arrays)


def valley(fall=1e-2, blow=1.0):
    """A loss that falls from 2 to 1 around one rate and explodes at another."""
    fallen = 1 + 1 / (1 + (RATES / fall) ** 2)
    return np.where(blow <= RATES, 1e3 * fallen, fallen)


def test_finds_where_the_loss_falls_and_where_it_explodes():
    result = planted(valley())
    # The exponential mean comes some 9 steps late, of which 20 are a decade.
    assert 1e-2 < result.steepest("a") < 3e-2
    assert result.diverges("a") == pytest.approx(1.0, rel=1e-3)
    assert result.suggestion("a") == pytest.approx(0.1, rel=1e-3)


def test_what_is_not_finite_diverges():
    for bad in (np.nan, np.inf):
        loss = np.where(RATES >= 0.5, bad, 1 + 1 / (1 + RATES))
        assert 0.5 <= planted(loss).diverges("a") < 0.57


def test_the_mean_is_exponential_and_corrected_for_its_start():
    losses = np.array([3.0, 1, 2, 2], np.float32)
    expected, mean = [], 0.0
    for t, loss in enumerate(losses, 1):
        mean = 0.9 * mean + 0.1 * loss
        expected.append(mean / (1 - 0.9**t))
    result = planted(losses)
    np.testing.assert_allclose(result.smoothed("a")[0], expected, rtol=1e-6)


def test_twice_the_minimum_is_too_much_also_for_negative_losses():
    for level in (1.0, -1.0):
        loss = np.full(141, level)
        loss[100:] = level + 1.5  # in 11 steps more than 1 above, smoothed
        assert np.isfinite(planted(loss).smoothed("a")[0]).sum() == 110
        loss[100:] = level + 0.9
        assert np.isfinite(planted(loss).smoothed("a")).all()


def test_medians_over_the_seeds_count():
    seeds = [valley(1e-3, 0.1), valley(1e-2, 1.0), valley(1e-1, 10.0)]
    result = planted(seeds)
    assert result.diverges("a") == planted(seeds[1]).diverges("a")
    assert result.steepest("a") == planted(seeds[1]).steepest("a")
    never = planted([valley(), valley(blow=1e9), valley(blow=1e9)])
    assert never.diverges("a") is None


def test_every_sentence():
    never, bad = valley(blow=1e9), np.full(141, np.nan)
    text = planted(valley(), never, bad, names="abc").table()
    assert text.splitlines()[-3:] == [
        "a: try 0.1, a tenth of where it diverges; 0.018, where the loss falls "
        "fastest, for a grid.",
        "b: does not diverge up to 100; raise high.",
        "c: the loss does not fall before it diverges; lower low.",
    ]


def test_table():
    lines = planted(valley(), valley(blow=1e9)).table().splitlines()
    assert lines[:8] == [
        "tiny: planted",
        "141 steps of 6 examples, in which the rate grows from 1e-05 to 100; 1 seed, "
        "of which medians count",
        "diverges: the smoothed loss exceeds 2 times its minimum",
        "",
        "optimizer  falls fastest  diverges  try",
        "---------------------------------------",
        "a          0.018          1         0.1",
        "b          0.018          –         –",
    ]


def test_plot_ends_where_it_diverges_and_marks_what_was_found():
    result = planted(valley(), np.full(141, np.nan))
    ax = result.plot(Figure().subplots())
    curve, steepest, tried, *_ = ax.get_lines()
    assert curve.get_xdata().max() < result.diverges("a")
    assert curve.get_label() == "a, 0.1"
    assert steepest.get_xdata() == pytest.approx(result.steepest("a"))
    assert tried.get_xdata() == pytest.approx(result.suggestion("a"))
    assert ax.get_ylabel() == "smoothed training loss (m²)"


def test_json_and_back(tmp_path):
    loss = valley()
    loss[-1] = np.nan
    result = planted(loss, valley())
    result.save(tmp_path / "r.json")
    loaded = LrRange.load(tmp_path / "r.json")
    assert loaded.table() == result.table()
    assert loaded.config == result.config
    np.testing.assert_array_equal(loaded.rates, result.rates)
    np.testing.assert_array_equal(loaded.losses["a"], result.losses["a"])


def test_files_of_others_are_refused(tmp_path):
    other = tmp_path / "other.json"
    for text in ("{}", '{"format": "adamx.lab 2", "trials": {}}'):
        other.write_text(text)
        with pytest.raises(ValueError, match=r"^LrRange\.load: expected a file that "):
            LrRange.load(other)


def test_every_step_has_its_rate_and_its_batch():
    task = TASK._replace(augment=lambda key, batch: (batch[0], batch[1] + 0.5))
    result = lab.lr_range(task, {"adam": adamx.adam}, 1e-3, 1e-1, steps=12, seeds=[3])
    np.testing.assert_allclose(result.rates[[0, -1]], [1e-3, 1e-1], rtol=1e-6)
    ratios = result.rates[1:] / result.rates[:-1]
    np.testing.assert_allclose(ratios, 100 ** (1 / 11), rtol=1e-5)

    problem = prepare(task, [3], 12, task.batch_size)
    params, source = jax.tree.map(lambda x: x[0], (problem.params, problem.source))

    @jax.jit
    def step(params, state, i, rate):
        batch = problem.draw(problem.data, source, i)
        loss, grads = jax.value_and_grad(task.loss)(params, batch)
        updates, state = adamx.adam(rate).update(grads, state, params)
        return adamx.apply_updates(params, updates), state, loss

    state, losses = adamx.adam(1.0).init(params), []
    for i, rate in enumerate(result.rates):
        params, state, loss = step(params, state, np.int32(i), rate)
        losses.append(loss)
    np.testing.assert_allclose(result.losses["adam"][0], losses, rtol=1e-5)


def test_what_belongs_to_the_task_is_honoured():
    def init(key):
        params = TASK.init(key)
        return params | {"second": {"w": jnp.zeros((4, 2), jnp.float32)}}

    # No gradient comes through a second layer of zeros, unless it is trained.
    free = TASK._replace(init=init, batch_size=20)
    held = free._replace(trained=lambda path: path == "first")
    half = free._replace(wrap=lambda tx: adamx.chain(tx, adamx.scale(0.0)))
    for task in (free, held, half):
        losses = lab.lr_range(task, ["sgd"], 1e-2, 1e-1, steps=10).losses["sgd"]
        assert np.allclose(losses, losses[:, :1], rtol=1e-5) == (task is not free)


def test_sgd_leaves_a_parabola_at_twice_the_inverse_of_its_curvature():
    task = lab.Task(
        "parabola",
        lambda key: np.float32(1),
        lambda x, batch: 4 * jnp.mean((x - batch) ** 2),  # of curvature 8
        lambda key, step: jax.random.normal(jax.random.fold_in(key, step), (64,)),
    )
    result = lab.lr_range(task, {"sgd": adamx.sgd}, 1e-4, 1e2, steps=120)
    # It takes some steps to explode, and 20 of them are a decade.
    assert 2 / 8 < result.diverges("sgd") < 3 * 2 / 8
    assert result.suggestion("sgd") < 2 / 8


@pytest.mark.exhaustive
def test_on_digits_it_comes_near_the_best_rate():
    task = lab.digits()
    found = lab.lr_range(task, ["adam"]).suggestion("adam")
    grid = [found / 30, found / 3, found, 3 * found, 30 * found]
    trial = lab.compare(task, ["adam"], grid, seeds=1, steps=200).trials["adam"]
    assert trial.best in (1, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 0}, "expected 0 < low < high < 1e37, got low=0, high=10."),
        ({"low": 20}, "expected 0 < low < high < 1e37, got low=20, high=10."),
        (
            {"high": float("inf")},
            "expected 0 < low < high < 1e37, got low=1e-06, high=inf.",
        ),
        ({"steps": 9}, "expected steps ≥ 10, got 9."),
        ({"seeds": 0}, "expected at least one seed, each once, got 0."),
        ({"seeds": [-1]}, "expected seeds ≥ 0, got -1."),
        ({"batch_size": 21}, "expected a batch size from 1 to 20, got 21."),
        ({"optimizers": []}, "expected at least one optimizer, got none."),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared
        lab.lr_range(TASK, **arguments)
    assert str(caught.value) == f"lr_range: {message}"


def test_an_unknown_optimizer():
    with pytest.raises(
        ValueError, match=r"^lr_range: unknown optimizer 'adma'; have sgd,"
    ):
        lab.lr_range(TASK, ["adma"])
    with pytest.raises(
        TypeError, match=r"^lr_range: expected optimizers\['x'\] to make"
    ):
        lab.lr_range(TASK, {"x": lambda rate: None})


def test_quiet_prints_the_table_and_nothing_else(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(lab.TASKS, "digits", lambda: TASK)
    options = ["--optimizers", "sgd", "--steps", "20", "--out", str(tmp_path)]
    assert main(["lr-range", *options, "--quiet"]) == 0
    table = LrRange.load(tmp_path / "lr-range.json").table()
    assert capsys.readouterr() == (f"{table}\n", "")


def test_the_command_prints_and_writes(tmp_path, capsys):
    out = tmp_path / "new"
    options = [
        "--optimizers",
        "sgd",
        "--low",
        "1e-3",
        "--steps",
        "20",
        "--out",
        str(out),
    ]
    assert main(["lr-range", *options]) == 0
    table = LrRange.load(out / "lr-range.json").table()
    wrote = f"Wrote lr-range.json and a picture into {out}."
    assert capsys.readouterr() == (f"{table}\n\n{wrote}\n", "sgd: done\n")
    assert (out / "lr-range.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "1"], "expected steps ≥ 10, got 1."),
        (["--low", "x"], "--low: invalid float value: 'x'"),
        (["--out", __file__], f"--out: cannot write into {__file__} (File exists)"),
    ],
)
def test_bad_options_get_one_line(options, message, capsys, tmp_path):
    out = [] if "--out" in options else ["--out", str(tmp_path)]
    with pytest.raises(SystemExit) as caught:
        main(["lr-range", *out, *options])
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", f"adamx lr-range: {message}\n")
