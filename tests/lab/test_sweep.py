"""The compiled program against plain loops."""

import functools
import inspect
import math
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx import lab
from adamx.lab.comparison import stop_on_interrupt
from adamx.lab.optimizers import DEFAULT, choose
from adamx.lab.problem import shuffled_rows
from lab.tiny import TASK, X, Y, accuracy, init, loss

RATES, SEEDS = (0.01, 0.2), (0, 5)


value_and_grad = jax.jit(jax.value_and_grad(loss))


def plain_loop(tx, seed, steps, batches):
    """Trains one run with a Python loop; returns its losses and parameters."""
    params = init(jax.random.split(jax.random.key(seed))[0])
    state = tx.init(params)
    losses = []
    for step in range(steps):
        value, grads = value_and_grad(params, batches(step))
        updates, state = tx.update(
            grads, state, params, obj_fn=lambda p, i=step: loss(p, batches(i))
        )
        params = adamx.apply_updates(params, updates)
        losses.append(value)
    return losses, adamx.eval_params(state, params)


def batch_key(seed):
    """The key that orders the batches of a seed."""
    return jax.random.split(jax.random.key(seed))[1]


# Simple ones; one of matrices; one that asks for the loss; one that is evaluated at an
# average. In .ci/run all that are compared by default, too.
NAMES = ["sgd", "adam", "adamw", "muon", "sophia", "schedule_free_adamw"]
REST = [n for n in DEFAULT if n not in NAMES]


@functools.cache
def compared(*names):
    """The trials of optimizers."""
    return lab.compare(TASK, names, RATES, SEEDS).trials


@pytest.mark.parametrize(
    ("name", "names"),
    [(name, NAMES) for name in NAMES]
    + [pytest.param(name, REST, marks=pytest.mark.exhaustive) for name in REST],
)
@pytest.mark.exhaustive
def test_runs_equal_plain_loops(name, names):
    trial, make = compared(*names)[name], lab.OPTIMIZERS[name]
    for i, rate in enumerate(RATES):
        tx = make(rate)
        for j, seed in enumerate(SEEDS):
            rows = shuffled_rows(seed, 20, 6, 8)
            batches = [(X[batch], Y[batch]) for batch in rows]
            losses, params = plain_loop(tx, seed, 8, batches.__getitem__)
            np.testing.assert_allclose(trial.curves[i, j], losses, rtol=1e-5)
            end = trial.final["training"][i, j]
            np.testing.assert_allclose(end, loss(params, (X, Y)), rtol=1e-5)
            assert trial.final["accuracy"][i, j] == accuracy(params)


def test_runs_on_batches_from_a_function_equal_plain_loops():
    def make_batch(key, step):
        x = jax.random.normal(jax.random.fold_in(key, step), (5, 3), jnp.float32)
        return x, x[:, :2]

    task = TASK._replace(data=make_batch, accuracy=None)
    trial = lab.compare(task, ["adam"], RATES, SEEDS).trials["adam"]
    for j, seed in enumerate(SEEDS):
        key = batch_key(seed)
        losses, params = plain_loop(
            adamx.adam(RATES[1]), seed, 8, lambda t, key=key: make_batch(key, t)
        )
        np.testing.assert_allclose(trial.curves[1, j], losses, rtol=1e-5)
        fresh = [value_and_grad(params, make_batch(key, t))[0] for t in range(8, 40)]
        np.testing.assert_allclose(
            trial.final["training"][1, j], np.mean(fresh), rtol=1e-5
        )


def test_epochs_are_shuffles_without_the_tail():
    rows = shuffled_rows(3, 20, 6, 8)
    assert rows.shape == (8, 6)
    epochs = [rows[:3].ravel(), rows[3:6].ravel()]
    for epoch in epochs:
        assert len(set(epoch)) == 18
        assert set(epoch) < set(range(20))
    assert (epochs[0] != epochs[1]).any()


def test_optimizers_share_start_and_batches():
    still = {name: lambda rate: adamx.set_to_zero() for name in "ab"}
    trials = lab.compare(TASK, still, RATES, SEEDS).trials
    curves = trials["a"].curves
    np.testing.assert_array_equal(curves, trials["b"].curves)
    np.testing.assert_array_equal(curves[0], curves[1])
    assert (curves[0, 0] != curves[0, 1]).all()


def test_foreign_optimizers_run_beside_ours():
    both = {"ours": adamx.adam, "theirs": optax.adam}
    with jax.numpy_dtype_promotion("standard"):  # which Optax needs
        trials = lab.compare(TASK, both, RATES, seeds=2, steps=30).trials
    ours, theirs = trials["ours"], trials["theirs"]
    np.testing.assert_allclose(ours.curves, theirs.curves, rtol=1e-3)
    assert ours.state_bytes_per_parameter == 8 + 4 / 20
    assert ours.final["accuracy"].shape == (2, 2)


def test_curves_are_means_of_blocks():
    long = lab.compare(TASK, ["sgd"], [0.01], [1], steps=250).trials["sgd"]
    rows = shuffled_rows(1, 20, 6, 250)
    losses, _ = plain_loop(
        lab.OPTIMIZERS["sgd"](0.01), 1, 6, lambda t: (X[rows[t]], Y[rows[t]])
    )
    assert long.curves.shape == (1, 1, 84)
    assert long.curve_steps[[0, 1, -1]].tolist() == [3, 6, 250]
    expected = [np.mean(losses[:3]), np.mean(losses[3:])]
    np.testing.assert_allclose(long.curves[0, 0, :2], expected, rtol=1e-5)


def test_a_diverged_rate_is_marked_and_never_wins():
    trial = lab.compare(TASK, ["sgd"], [0.01, 1e30], SEEDS, steps=20).trials["sgd"]
    assert trial.diverged.tolist() == [[False, False], [True, True]]
    assert np.isnan(trial.final["accuracy"][1]).all()
    assert trial.best_rate == 0.01


def test_validation_chooses_the_rate_where_there_is_some():
    # Where y is as the network starts, the smaller rate stays nearer.
    one_seed = init(jax.random.split(jax.random.key(0))[0])
    y = jnp.tanh(X @ one_seed["first"]) @ one_seed["second"]["w"]
    task = TASK._replace(validation=(X, y))
    trial = lab.compare(task, ["adam"], RATES, [0]).trials["adam"]
    assert trial.final["training"][0] > trial.final["training"][1]
    assert trial.best_rate == np.float32(0.01)


def test_interrupt_keeps_what_is_done():
    def press(name, done, steps):
        if name == "adam" and 2 < done < steps:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    names = ["sgd", "adam", "nadam"]
    cut = lab.compare(TASK, names, RATES, SEEDS, steps=100, progress=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert cut.interrupted
    assert list(cut.trials) == ["sgd", "adam"]
    assert not cut.trials["sgd"].partial
    part = cut.trials["adam"]
    assert part.partial
    assert 2 < part.steps < 100
    whole, both = compared(*NAMES)["adam"], min(part.steps, 8)
    np.testing.assert_allclose(
        part.curves[:, :, :both], whole.curves[:, :, :both], rtol=1e-5
    )
    assert "Use sgd at learning rate" in cut.advice()
    assert f"adam (only {part.steps} steps)" in cut.table()


@pytest.fixture
def default_interrupt():
    """Python's handler, also where tests run with the signal ignored."""
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, outside)


@pytest.mark.usefixtures("default_interrupt")
def test_second_interrupt_acts_as_outside():
    with stop_on_interrupt() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_compares_outside_the_main_thread():
    found = []

    def work():
        found.append(lab.compare(TASK, ["sgd"], [0.1], 1, steps=1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].trials["sgd"].steps == 1


def test_progress_goes_from_the_first_step_to_the_last():
    calls = []
    lab.compare(TASK, ["sgd"], [0.1], 1, progress=lambda *args: calls.append(args))
    dones = [done for _, done, _ in calls]
    assert {(name, steps) for name, _, steps in calls} == {("sgd", 8)}
    assert dones == sorted(set(dones))
    assert (dones[0], dones[-1]) == (1, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizers": ["adma"]}, "compare: unknown optimizer 'adma'; have sgd, ada"),
        ({"optimizers": []}, "compare: expected at least one optimizer, got none."),
        ({"learning_rates": []}, "compare: expected at least one learning rate, got "),
        ({"learning_rates": [-1]}, "learning rates between 0 and 1e37, got -1."),
        ({"learning_rates": [math.nan]}, "rates between 0 and 1e37, got nan."),
        ({"seeds": 0}, "compare: expected at least one seed, each once, got 0."),
        ({"seeds": [1, 1]}, "compare: expected at least one seed, each once, got 2."),
        ({"seeds": [-1]}, "compare: expected seeds ≥ 0, got -1."),
        ({"steps": 0}, "compare: expected steps ≥ 1, got 0."),
        ({"batch_size": 21}, "compare: expected a batch size from 1 to 20, got 21."),
        ({"target_loss": math.inf}, "compare: expected a finite target loss, got inf."),
        (
            {"task": TASK._replace(data=(X, Y[:5]))},
            "compare: expected task.data as arrays of one length, got lengths 5, 20.",
        ),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared
        lab.compare(**{"task": TASK, **arguments})
    assert message in str(caught.value)


def test_a_constructor_of_something_else():
    with pytest.raises(TypeError, match=r"optimizers\['x'\] to make a transformation"):
        lab.compare(TASK, {"x": float})


def test_a_weight_decay_without_a_default_is_zero_unless_asked_for():
    def decaying(learning_rate, weight_decay):
        return adamx.adamw(learning_rate, weight_decay=weight_decay)

    options = {"learning_rates": [0.1], "seeds": 1, "steps": 3}
    trial = lab.compare(TASK, {"adamw": decaying}, **options).trials["adamw"]
    plain = lab.compare(TASK, ["adam"], **options).trials["adam"]
    np.testing.assert_allclose(trial.curves, plain.curves, rtol=1e-5)


def test_every_optimizer_can_be_compared():
    """Each recipe of adamx has a name on the command line."""
    recipes = {
        name
        for name in dir(adamx)
        if getattr(getattr(adamx, name), "__module__", "").startswith("adamx._opt")
        and not name.startswith("scale_by")
        and "learning_rate" in inspect.signature(getattr(adamx, name)).parameters
    }
    assert set(lab.OPTIMIZERS) == recipes - {"schedule_free"}  # which takes another


def test_all_is_every_optimizer_and_none_the_default():
    assert (
        list(choose("x", TASK, "all"))
        == list(choose("x", TASK, ["all"]))
        == list(lab.OPTIMIZERS)
    )
    assert list(choose("x", TASK, "adam")) == ["adam"]
    assert tuple(choose("x", TASK, None)) == DEFAULT
