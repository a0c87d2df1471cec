"""Every task: shapes, gradients, data, what it is there to show."""

import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx import lab
from adamx.lab import data
from adamx.lab.archives import cache_folder
from adamx.lab.problem import join, split
from adamx.lab.tasks.minilm import MiniLM, tokenize
from adamx.lab.tasks.photographs import cut

ROOT = Path(adamx.__file__).parents[1]
# What each task has to fetch, and a rate at which Adam makes progress at once.
FETCHED = {
    "mnist": [data.MNIST],
    "fashion": [data.FASHION],
    "imdb": [data.REVIEWS],
    "shakespeare": [data.SHAKESPEARE],
    "ratings": [data.RATINGS],
    "minilm": [data.MINILM, data.REVIEWS],
}
RATES = {"imdb": 1e-2, "ratings": 3e-2}
STEPS = 50
APART = "minilm", "counterexample"  # which have tests of their own
MAY_FETCH = os.environ.get("ADAMX_FETCH") == "1"


def mark(name):
    """Skips a task whose data is neither there nor may be fetched."""
    missing = [
        archive.what
        for archive in FETCHED.get(name, [])
        if not (cache_folder() / archive.filename).is_file()
    ]
    why = f"{' and '.join(missing)} not in the cache; ADAMX_FETCH=1 allows to get it"
    skip = pytest.mark.skipif(bool(missing) and not MAY_FETCH, reason=why)
    return pytest.param(name, marks=skip)


@pytest.fixture(scope="module")
def tasks():
    """Makes each task once."""
    made = {}

    def get(name):
        if name == "minilm":
            pytest.importorskip("safetensors")
            pytest.importorskip("tokenizers")
        if name not in made:
            made[name] = lab.TASKS[name]()
        return made[name]

    return get


def batch_of(task, data, step=0, size=16):
    """A small batch; `data` is the task's, given so that a program has it as input."""
    key = jax.random.fold_in(jax.random.key(1), step)
    if callable(task.data):
        return task.data(key, step)
    rows = jax.random.randint(key, [size], 0, len(jax.tree.leaves(data)[0]))
    batch = jax.tree.map(lambda x: x[rows], data)
    return batch if task.augment is None else task.augment(key, batch)


def arrays(task):
    """The task's data on the device."""
    return None if callable(task.data) else jax.tree.map(jnp.asarray, task.data)


def paths(tree):
    """The leaves of nested dictionaries by path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(part.key) for part in path): leaf for path, leaf in leaves}


every = pytest.mark.parametrize("name", list(map(mark, lab.TASKS)))


@every
def test_a_task_is_a_fixed_record_with_a_gradient(name, tasks):
    task = tasks(name)
    assert task.name == name
    assert task.description
    params = jax.eval_shape(task.init, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    batch = jax.eval_shape(lambda: batch_of(task, arrays(task)))
    value, grads = jax.eval_shape(jax.value_and_grad(task.loss), params, batch)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)
    if task.validation is not None:
        held_out = jax.eval_shape(task.loss, params, task.validation)
        assert (held_out.shape, held_out.dtype) == ((), jnp.float32)
    if task.accuracy is not None:
        right = jax.eval_shape(task.accuracy, params)
        assert (right.shape, right.dtype) == ((), jnp.float32)


@pytest.mark.parametrize("name", [mark(n) for n in lab.TASKS if n not in APART])
@pytest.mark.exhaustive
def test_a_few_steps_are_progress_and_come_again(name, tasks):
    task = tasks(name)
    tx = adamx.adam(RATES.get(name, 3e-3))

    @jax.jit
    def train(params, data):
        def step(carry, i):
            params, state = carry
            batch = batch_of(task, data, i)
            loss, grads = jax.value_and_grad(task.loss)(params, batch)
            updates, state = tx.update(grads, state, params)
            return (adamx.apply_updates(params, updates), state), loss

        steps = jnp.arange(STEPS, dtype=jnp.int32)
        (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), steps)
        return params, losses, task.loss(params, batch_of(task, data, 0))

    start, data = jax.jit(task.init)(jax.random.key(0)), arrays(task)
    end, losses, after = train(start, data)
    np.testing.assert_array_equal(losses, train(start, data)[1])
    assert after < losses[0] - 0.01
    moved = jax.tree.map(lambda a, b: np.any(a != b), start, end)
    assert all(paths({"": moved}).values())


@pytest.mark.parametrize("name", FETCHED)
def test_what_cannot_be_fetched_is_one_line(name, monkeypatch, tmp_path):
    if name == "minilm":
        pytest.importorskip("safetensors")
        pytest.importorskip("tokenizers")
    monkeypatch.setenv("ADAMX_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    archive = FETCHED[name][0]
    with pytest.raises(lab.DataUnavailable) as caught:
        lab.TASKS[name]()
    message = str(caught.value)
    assert message.startswith(f"cannot get {archive.what}: `")
    assert f" {archive.spec}` failed (" in message
    assert message.endswith(f"or copy {archive.filename} into {tmp_path / 'cache'}.")
    assert "\n" not in message


@pytest.mark.parametrize("module", ["safetensors", "tokenizers"])
def test_a_missing_package_is_one_line(module, monkeypatch):
    there = types.ModuleType("there")  # the other one
    there.load = there.Tokenizer = None
    for name in ("safetensors", "safetensors.numpy", "tokenizers"):
        monkeypatch.setitem(sys.modules, name, there)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.numpy", None)
    with pytest.raises(ImportError) as caught:
        lab.minilm()
    assert str(caught.value) == f"minilm needs {module}; install adamx[tasks]."


def test_the_command_line_says_so_too():
    script = (
        "import sys; sys.modules['tokenizers'] = sys.modules['safetensors'] = None\n"
        "from adamx.lab.cli import main; main(['compare', '--task', 'minilm'])"
    )
    run = [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(run, env=environment, capture_output=True, text=True)
    line = "adamx compare: minilm needs safetensors; install adamx[tasks].\n"
    assert (done.returncode, done.stderr) == (1, line)


def test_adam_goes_to_the_worst_end_and_amsgrad_to_the_best(tasks):
    task = tasks("counterexample")
    trials = lab.compare(task, ["adam", "amsgrad"], [3e-2], 2).trials
    ends = {name: 10 * trial.final["validation"] for name, trial in trials.items()}
    assert (ends["adam"] > 0.9).all()
    assert (ends["amsgrad"] < -0.8).all()
    # The bounds hold: with planted nothing around it, Adam leaves them.
    free = lab.compare(
        task._replace(wrap=None), ["adam"], [3e-2], 1, steps=10_000
    ).trials["adam"]
    assert free.final["validation"].item() > 0.11


def test_grokking_needs_the_pairs_on_both_sides_of_the_diagonal(tasks):
    task = tasks("grokking")
    seen = {(int(a), int(b)) for a, b, _ in task.data[0]}
    unseen = {(int(a), int(b)) for a, b, _ in task.validation[0]}
    assert seen.isdisjoint(unseen)
    assert len(seen) + len(unseen) == 59**2
    assert {(b, a) for a, b in seen} == seen
    (questions, sums) = task.validation
    np.testing.assert_array_equal(questions[:, :2].sum(1) % 59, sums)


def test_no_pixel_is_in_two_parts_of_the_photographs():
    where = np.arange(480 * 480).reshape(480, 480, 1) * np.ones(3, np.int64)
    seen = []
    for quarters in ((0, 1), (2,), (3,)):
        rng = np.random.default_rng(0)
        patches, _ = cut(rng, [where], 300, quarters)
        seen.append(set(patches.ravel().tolist()))
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


@pytest.mark.parametrize("name", [mark("imdb")])
def test_half_of_the_words_are_dropped(name, tasks):
    task = tasks(name)
    assert task.data["words"].shape == (20_000, 585)
    found = task.data["words"] < 10_000
    assert 120 < found.sum(1).mean() < 140
    assert 0.49 < task.data["labels"].mean() < 0.51
    batch = batch_of(task, arrays(task), size=2000)
    kept = (batch["words"] < 10_000).sum(1).mean() / found.sum(1).mean()
    assert 0.45 < kept < 0.55
    ones = {"weights": jnp.ones(10_000), "bias": jnp.float32(0)}
    single = {"words": jnp.array([[5, 10_000]]), "labels": jnp.array([1])}
    # The log-odds of one word of weight one, and of one that counts twice.
    plain = task.loss(ones, single)
    np.testing.assert_allclose(plain, np.log1p(np.exp(-1)), rtol=1e-5)
    twice = task.loss(ones, single | {"scale": 2.0})
    np.testing.assert_allclose(twice, np.log1p(np.exp(-2)), rtol=1e-5)


@pytest.mark.parametrize("name", [mark("minilm")])
def test_minilm_is_the_real_one_and_adapters_change_nothing_at_first(name, tasks):
    task = tasks(name)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(data.load_minilm()[1].decode())
    texts = ["a gripping , funny film .", "dull and far too long"]
    ids, mask = tokenize(tokenizer, texts)
    body = task.init(jax.random.key(0))["encoder"]
    model = MiniLM()
    embed = jax.jit(lambda body: model.apply({"params": body}, ids, mask))
    vectors = embed(body)
    # As torch with transformers computes them.
    np.testing.assert_allclose(
        vectors[0, :4], [-0.0427, -0.012, -0.0292, 0.0328], atol=6e-5
    )
    np.testing.assert_allclose(vectors[0] @ vectors[1], 0.2963, atol=6e-5)
    np.testing.assert_array_equal(
        vectors, embed(task.init(jax.random.key(1))["encoder"])
    )

    def plant(path, leaf):
        return leaf + 0.1 if path[-1].key == "adapter_b" else leaf

    changed = embed(jax.tree_util.tree_map_with_path(plant, body))
    assert np.abs(changed - vectors).max() > 1e-3


@pytest.mark.parametrize("name", [mark("minilm")])
def test_only_adapters_and_head_are_trained(name, tasks):
    task = tasks(name)
    params, frozen = split(task, jax.eval_shape(task.init, jax.random.key(0)))
    assert {path.split("/")[-1] for path in paths(params)} == {
        "adapter_a",
        "adapter_b",
        "kernel",
        "bias",
    }
    assert sum(x.size for x in jax.tree.leaves(params)) == 74_498
    assert sum(x.size for x in jax.tree.leaves(frozen)) == 22_564_608
    state = jax.eval_shape(adamx.adam(1e-3).init, params)
    assert (
        sum(
            x.size for x in jax.tree.leaves(state.mu if hasattr(state, "mu") else state)
        )
        < 3 * 74_498
    )
    value = jax.eval_shape(task.loss, join(params, frozen), batch_of(task, None))
    assert value.shape == ()
