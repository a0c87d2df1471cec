"""Weight decays, schedules, what belongs to a task, evaluations, what is kept."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx import lab
from adamx.lab import problem
from adamx.lab.problem import shuffled_rows
from lab.tiny import TASK, X, Y, init, loss

ROOT = Path(__file__).parents[2]
KEY = jax.random.key(5)
INIT_KEY, _ = jax.random.split(KEY)


@jax.jit
def value_and_grad(params, batch):
    return jax.value_and_grad(loss)(params, batch)


def plain_loop(tx, params, batches, *, keep=lambda params: params):
    """Trains one run; returns its losses, update ratios and parameters."""
    state, losses, ratios = tx.init(params), [], []
    for batch in batches:
        value, grads = value_and_grad(params, batch)
        updates, state = tx.update(grads, state, params)
        ratios.append(adamx.global_norm(updates) / adamx.global_norm(params))
        params = keep(adamx.apply_updates(params, updates))
        losses.append(value)
    return losses, ratios, params


def batches(steps=8):
    """The batches of seed 5."""
    rows = shuffled_rows(5, 20, 6, steps)
    return [(X[batch], Y[batch]) for batch in rows]


@pytest.mark.exhaustive
def test_every_rate_is_tried_with_every_decay():
    trials = lab.compare(
        TASK, ["adamw", "adam"], [0.2, 0.1], [5], weight_decays=[0.5, 0]
    ).trials
    np.testing.assert_allclose(trials["adamw"].learning_rates, [0.1, 0.1, 0.2, 0.2])
    np.testing.assert_allclose(trials["adamw"].weight_decays, [0, 0.5, 0, 0.5])
    np.testing.assert_allclose(trials["adam"].learning_rates, [0.1, 0.2])
    assert trials["adam"].weight_decays is None
    for setting, (rate, decay) in enumerate([(0.1, 0), (0.1, 0.5), (0.2, 0)]):
        tx = adamx.adamw(rate, weight_decay=decay)
        losses, ratios, _ = plain_loop(tx, init(INIT_KEY), batches())
        trial = trials["adamw"]
        np.testing.assert_allclose(trial.curves[setting, 0], losses, rtol=1e-5)
        np.testing.assert_allclose(trial.ratios[setting, 0], ratios, rtol=1e-4)


def test_the_best_setting_and_the_best_of_each_rate():
    trial = lab.compare(
        TASK, ["adamw"], [0.01, 0.1], 2, weight_decays=[0.0, 3.0, 30.0], steps=60
    ).trials["adamw"]
    means = trial.criterion.mean(1).reshape(2, 3)
    assert trial.by_rate.tolist() == [means[0].argmin(), 3 + means[1].argmin()]
    assert trial.best == means.argmin()
    assert trial.best_decay == np.float32([0.0, 3.0, 30.0])[means.argmin() % 3]
    assert trial.best_rate == pytest.approx([0.01, 0.1][means.argmin() // 3])


@pytest.mark.parametrize("name", lab.SCHEDULES)
def test_schedules_begin_or_end_where_they_should(name):
    schedule = lab.SCHEDULES[name](0.5, 40)
    rates = [schedule if name == "constant" else schedule(jnp.int32(i)) for i in (0, 3)]
    ends = schedule if name == "constant" else schedule(jnp.int32(40))
    expected = {
        "constant": ([0.5, 0.5], 0.5),
        "linear": ([0.5, 0.5 * 37 / 40], 0),
        "cosine": ([0.5, 0.25 * (1 + np.cos(np.pi * 3 / 40))], 0),
        "warmup-cosine": ([0, 0.5 * 3 / 4], 0),
        "inverse-sqrt": ([0.5, 0.25], 0.5 / np.sqrt(41)),
    }[name]
    np.testing.assert_allclose([*rates, ends], [*expected[0], expected[1]], atol=1e-7)


@pytest.mark.exhaustive
def test_a_schedule_is_that_of_a_plain_loop():
    own = lambda peak, steps: adamx.linear_schedule(peak, 0.0, 2 * steps)  # noqa: E731
    for schedule, plain in [
        ("cosine", adamx.cosine_decay_schedule(0.1, 8)),
        (own, adamx.linear_schedule(0.1, 0.0, 16)),
    ]:
        results = lab.compare(TASK, ["sgd"], [0.1], [5], schedule=schedule)
        tx = adamx.sgd(plain, momentum=0.9)
        losses, *_ = plain_loop(tx, init(INIT_KEY), batches())
        curve = results.trials["sgd"].curves[0, 0]
        np.testing.assert_allclose(curve, losses, rtol=1e-5)
        assert results.config["schedule"] == (
            schedule if isinstance(schedule, str) else "own"
        )


def test_what_is_not_trained_stays_and_has_no_state():
    task = TASK._replace(trained=lambda path: path.startswith("second"))
    trial = lab.compare(task, ["adam"], [0.1], [5]).trials["adam"]
    tx = adamx.partition(
        {"train": adamx.adam(0.1), "freeze": adamx.set_to_zero()},
        adamx.by_path({r"^second": "train", r"": "freeze"}),
    )
    losses, _, params = plain_loop(tx, init(INIT_KEY), batches())
    np.testing.assert_allclose(trial.curves[0, 0], losses, rtol=1e-5)
    np.testing.assert_allclose(trial.final["training"][0, 0], loss(params, (X, Y)))
    assert trial.state_bytes_per_parameter == 8 + 4 / 8  # of 8 trained of 20


def test_splitting_and_joining_loses_nothing():
    params = init(INIT_KEY)
    task = TASK._replace(trained=lambda path: "w" in path)
    trained, frozen = problem.split(task, params)
    assert jax.tree.leaves(trained)[0] is params["second"]["w"]
    assert jax.tree.leaves(frozen)[0] is params["first"]
    joined = problem.join(trained, frozen)
    assert jax.tree.structure(joined) == jax.tree.structure(params)
    assert problem.join(*problem.split(TASK, params)) is params


def test_a_batch_is_augmented_with_a_key_for_each_step():
    def augment(key, batch):
        x, y = batch
        return x + jax.random.normal(key, x.shape, x.dtype), y

    task = TASK._replace(augment=augment)
    both = lab.compare(task, ["sgd"], [0.01, 0.1], [5]).trials["sgd"].curves
    noise = jax.random.fold_in(KEY, 8)
    noisy = [
        augment(jax.random.fold_in(noise, step), batch)
        for step, batch in enumerate(batches())
    ]
    tx = adamx.sgd(0.1, momentum=0.9)
    losses, *_ = plain_loop(tx, init(INIT_KEY), noisy)
    np.testing.assert_allclose(both[1, 0], losses, rtol=1e-5)
    np.testing.assert_allclose(both[0, 0, 0], both[1, 0, 0], rtol=1e-6)  # same noise


def test_a_task_wraps_every_optimizer():
    task = TASK._replace(wrap=lambda tx: adamx.chain(tx, adamx.scale(0.5)))
    trial = lab.compare(task, ["sgd"], [0.1], [5]).trials["sgd"]
    tx = adamx.chain(adamx.sgd(0.1, momentum=0.9), adamx.scale(0.5))
    losses, *_ = plain_loop(tx, init(INIT_KEY), batches())
    np.testing.assert_allclose(trial.curves[0, 0], losses, rtol=1e-5)


def test_evaluations_on_the_way():
    task = TASK._replace(validation=(X[:7], Y[:7]))
    trial = lab.compare(task, ["sgd"], [0.1], [5, 6], evaluate_every=3).trials["sgd"]
    assert trial.evaluation_steps.tolist() == [3, 6]
    assert trial.evaluations.keys() == {"validation", "accuracy"}
    assert trial.evaluations["accuracy"].shape == (1, 2, 2)
    *_, params = plain_loop(adamx.sgd(0.1, momentum=0.9), init(INIT_KEY), batches()[:6])
    got = trial.evaluations["validation"][0, 0, 1]
    np.testing.assert_allclose(got, loss(params, (X[:7], Y[:7])), rtol=1e-5)


def test_the_loss_of_many_examples_is_that_of_all_at_once(monkeypatch):
    params = init(INIT_KEY)
    monkeypatch.setattr(problem, "CHUNK", 6)  # 20 examples: three chunks and a rest
    got = problem.mean_loss(TASK, params, (jnp.asarray(X), jnp.asarray(Y)))
    np.testing.assert_allclose(got, loss(params, (X, Y)), rtol=1e-6)
    calls = []
    whole = TASK._replace(loss=lambda p, batch: calls.append(len(batch[0])))
    problem.mean_loss(whole, params, (jnp.asarray(X[:5]), jnp.asarray(Y[:5])))
    assert calls == [5]


def compare_kept(folder, **changes):
    """Compares with a cache; returns the results and which optimizers were trained."""
    seen = []
    arguments = {
        "task": TASK,
        "optimizers": ["sgd", "adamw"],
        "learning_rates": [0.1],
        "seeds": [5],
    }
    results = lab.compare(
        **arguments | changes,
        cache=folder,
        progress=lambda name, done, steps: seen.append((name, done)),
    )
    return results, [name for name, done in seen if done == 1]


def test_finished_runs_are_kept(tmp_path):
    first, trained = compare_kept(tmp_path)
    assert trained == ["sgd", "adamw"]
    second, trained = compare_kept(tmp_path, optimizers=["adamw", "sgd", "adam"])
    assert trained == ["adam"]
    assert list(second.trials) == ["adamw", "sgd", "adam"]
    for name in first.trials:
        for field in ("curves", "ratios"):
            np.testing.assert_array_equal(
                getattr(first.trials[name], field), getattr(second.trials[name], field)
            )


PROGRAM = """
from adamx.lab.optimizers import OPTIMIZERS
from adamx.lab.problem import prepare
from adamx.lab.sweep import fingerprint, lower
from lab.tiny import TASK

task = TASK._replace(validation=TASK.data)
problem = prepare(task, [0], 3, 6)
print(fingerprint(problem, lower(problem, OPTIMIZERS["adam"], [(0.1,)])))
"""


@pytest.mark.exhaustive
def test_a_fingerprint_is_the_same_in_every_process():
    """Where sets of strings have another order in each."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in range(4)
    }
    assert len(found) == 1


@pytest.mark.parametrize("text", ["{", '{"format": "adamx.lab 2"}'])
def test_damaged_runs_are_made_again(tmp_path, text):
    compare_kept(tmp_path)
    for file in tmp_path.glob("sgd-*.json"):
        file.write_text(text)
    assert compare_kept(tmp_path)[1] == ["sgd"]
    assert compare_kept(tmp_path)[1] == []


HEAVIER = TASK._replace(loss=lambda params, batch: 2 * loss(params, batch))
OFFSET = np.float32(1)
TESTED = TASK._replace(accuracy=lambda params: jnp.float32(0.5))


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rates": [0.2]},
        {"seeds": [6]},
        {"steps": 9},
        {"batch_size": 5},
        {"schedule": "cosine"},
        {"weight_decays": [0.0]},
        {"evaluate_every": 4},
        {"task": TASK._replace(data=(X + OFFSET, Y))},
        {"task": HEAVIER},
        {"task": TESTED},
        {"optimizers": {"sgd": adamx.sgd, "adamw": lambda r: adamx.adamw(r, b1=0.8)}},
    ],
    ids=lambda change: "-".join(change),
)
@pytest.mark.exhaustive
def test_any_change_that_matters_trains_again(change, tmp_path):
    compare_kept(tmp_path)
    _, trained = compare_kept(tmp_path, **change)
    assert "adamw" in trained


def test_an_interrupted_trial_is_not_kept(tmp_path):
    def press(name, done, steps):
        if name == "adamw" and done < steps:
            signal.raise_signal(signal.SIGINT)

    cut = lab.compare(
        TASK, ["sgd", "adamw"], [0.1], [5], cache=tmp_path, progress=press
    )
    assert cut.trials["adamw"].partial
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("sgd-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "cos"}, "compare: unknown schedule 'cos'; have constant, linear"),
        (
            {"weight_decays": []},
            "expected at least one weight decay, got none.",
        ),
        ({"weight_decays": [-1]}, "expected weight decays from 0 to 1e37, got -1."),
        ({"evaluate_every": 0}, "compare: expected evaluate_every ≥ 1, got 0."),
        (
            {"evaluate_every": 2, "task": TASK._replace(accuracy=None)},
            "evaluate_every=2 needs a task with validation or accuracy; tiny has nei",
        ),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared
        lab.compare(**{"task": TASK, **arguments})
    assert message in str(caught.value)


def test_a_task_may_have_a_grid_of_its_own():
    task = TASK._replace(learning_rates=(0.3, 0.1))
    results = lab.compare(task, ["sgd"], seeds=1, steps=1)
    assert results.config["learning_rates"] == [0.1, 0.3]
