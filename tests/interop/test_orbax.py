"""Checkpoints: the same bits on other devices, and clear words for misfits."""

import functools
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from cases import FIRST
from flax import nnx
from jax.sharding import PartitionSpec as P
from meshes import AUTO, EXPLICIT, bytes_on_a_device, make_mesh, on

import adamx
from adamx import lab
from adamx.interop.orbax import restore, save_args
from interop import killed
from interop.checkpoints import END, MISFITS, PARAMS, TX, W, assert_same, scrambled


@pytest.fixture
def manager(tmp_path):
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        yield manager


def save(manager, step, params, state):
    manager.save(step, args=save_args(params, state))
    manager.wait_until_finished()


# ---- the same bits


@pytest.mark.parametrize("case", FIRST.values(), ids=lambda case: case.id)
def test_every_state_comes_back(case, manager):
    state = scrambled(case.tx.init(PARAMS))
    save(manager, 3, PARAMS, state)
    assert_same(restore(manager, case.tx, PARAMS), (PARAMS, state))


NARROW = {
    "8 bits": adamx.compress_state(adamx.adamw(0.1), min_size=0),
    "4 bits": adamx.compress_state(
        adamx.adamw(0.1), {"mu": adamx.int4_codec()}, min_size=0
    ),
    "master weights": adamx.master_weights(
        adamx.compress_state(adamx.adamw(0.1), min_size=0), bits=24
    ),
    "float8": adamx.adamw(0.1, mu_dtype=jnp.float8_e4m3fn),
}


@pytest.mark.parametrize("name", NARROW)
def test_narrow_states_come_back(name, manager):
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    state = scrambled(NARROW[name].init(params))
    save(manager, 3, params, state)
    assert_same(restore(manager, NARROW[name], params), (params, state))


LAYERS = {
    "w": np.random.default_rng(0).normal(size=(16, 64)).astype("f4"),
    "b": np.ones(64, "f4"),
}
RUNS = {
    "adamw": adamx.adamw(adamx.linear_schedule(0.1, 0.01, 12)),
    "muon": adamx.muon(0.1),
    "8 bits": NARROW["8 bits"],
    "master weights": NARROW["master weights"],
}


class Run:
    """A training on some of the devices, with ZeRO-1."""

    def __init__(self, tx, dtype, n):
        mesh = jax.make_mesh((n,), ("data",), (AUTO,), devices=jax.devices()[:n])
        self.tx, self.whole = tx, on(mesh)
        params = jax.tree.map(lambda x: x.astype(dtype), LAYERS)
        self.params = jax.device_put(params, self.whole)
        self.shardings = adamx.state_shardings(tx, self.params, zero1="data")
        self.state = jax.jit(tx.init, out_shardings=self.shardings)(self.params)
        self.jitted = adamx.jit_step(self.step, self.params, self.shardings)

    def step(self, params, state, target):
        def loss_of(params):
            return sum(
                jnp.mean((p.astype(jnp.float32) - t) ** 2)
                for p, t in zip(*map(jax.tree.leaves, (params, target)), strict=True)
            )

        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, state = self.tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state, loss

    def losses(self, first, last):
        """Trains from one step to another."""
        losses = []
        for i in range(first, last):
            rng = np.random.default_rng(i)
            target = {k: rng.normal(size=x.shape) for k, x in LAYERS.items()}
            target = jax.tree.map(np.float32, target)
            self.params, self.state, loss = self.jitted(
                self.params, self.state, jax.device_put(target, self.whole)
            )
            losses.append(float(loss))
        return losses


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_with_fewer_devices_and_with_more(name, manager):
    """8, 4, 1 and 8 again: the state to the bit, and then the same losses."""
    tx = RUNS[name]
    dtype = jnp.bfloat16 if name == "master weights" else jnp.float32
    make = functools.cache(lambda n: Run(tx, dtype, n))
    want = Run(tx, dtype, 8).losses(0, 12)
    got = make(8).losses(0, 3)
    old = make(8)
    for first, n in ((3, 4), (6, 1), (9, 8)):
        save(manager, first, old.params, old.state)
        run = make(n)
        run.params, run.state = restore(
            manager, tx, run.params, shardings=run.shardings
        )
        assert_same((run.params, run.state), (old.params, old.state))
        for x, s in zip(*map(jax.tree.leaves, (run.state, run.shardings)), strict=True):
            assert x.sharding == s
        got += run.losses(first, first + 3)
        old = run
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert len(set(want)) == 12


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT])
def test_a_state_lies_as_its_parameters_unless_said_otherwise(kind, manager):
    mesh = make_mesh(kind)
    params = {"w": jax.device_put(LAYERS["w"], on(mesh, "data"))}
    state = scrambled(TX.init(params))
    save(manager, 1, params, state)
    got, new = restore(manager, TX, params)
    assert_same((got, new), (params, state))
    assert got["w"].sharding == new[0].mu["w"].sharding == params["w"].sharding
    shapes = jax.eval_shape(lambda: {"w": jnp.ones((16, 64), jnp.float32)})
    assert restore(manager, TX, shapes)[1][0].mu["w"].sharding.device_set == {
        jax.devices()[0]
    }
    if kind == AUTO:
        host = adamx.state_shardings(TX, params, memory_kind="pinned_host")
        _, new = restore(manager, TX, params, shardings=host)
        assert new[0].mu["w"].sharding.memory_kind == "pinned_host"
        save(manager, 2, params, new)  # from there, too
        assert_same(restore(manager, TX, params)[1], state)


def test_each_device_reads_its_part(manager):
    run = Run(RUNS["8 bits"], jnp.float32, 8)
    save(manager, 1, run.params, run.state)
    _, state = restore(manager, run.tx, run.params, shardings=run.shardings)
    codes = adamx.tree_get(state, "codes", None, lambda path, x: "mu" in str(path))
    assert bytes_on_a_device(codes["w"]) == 16 * 64 // 8


def test_training_goes_on_while_a_save_is_written(manager):
    """The memory of what is saved is given to the next step at once."""
    run = Run(RUNS["adamw"], jnp.float32, 8)
    run.losses(0, 2)
    want = jax.tree.map(np.asarray, (run.params, run.state))
    manager.save(2, args=save_args(run.params, run.state))
    run.losses(2, 4)
    got = restore(manager, run.tx, run.params, step=2, shardings=run.shardings)
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        assert np.asarray(x).tobytes() == y.tobytes()
    assert got[1][0].count == 2
    assert run.state[0].count == 4


def test_states_of_optax_come_back_here(manager):
    """Where names and classes are the same, and so it is one checkpoint."""
    state = scrambled(optax.adamw(0.1).init(W))
    save(manager, 1, W, state)
    _, got = restore(manager, TX, W)
    assert_same(got[0].mu, state[0].mu)


def test_variables_of_flax_come_back_as_they_are(manager):
    params = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param)
    state = scrambled(TX.init(params))
    save(manager, 1, params, state)
    got, new = restore(manager, TX, params)
    assert_same((got, new), (params, state))
    pure = nnx.to_pure_dict(params)
    assert_same(restore(manager, TX, pure)[0], pure)


def test_numbers_of_numpy_are_what_jax_makes_of_them(manager):
    params = {"w": np.arange(3.0), "x": 2.5}
    save(manager, 1, params, TX.init(params))
    got, _ = restore(manager, TX, params)
    np.testing.assert_array_equal(got["w"], params["w"])
    assert got["w"].dtype == jnp.asarray(params["w"]).dtype
    assert got["x"] == 2.5


def test_what_else_belongs_to_a_step(manager):
    args = save_args(W, TX.init(W), data=ocp.args.JsonSave({"epoch": 3}))
    manager.save(1, args=args)
    assert_same(restore(manager, TX, W)[0], W)
    more = manager.restore(1, args=ocp.args.Composite(data=ocp.args.JsonRestore()))
    assert more["data"] == {"epoch": 3}


def test_inspect_reads_it(manager):
    save(manager, 1, W, TX.init(W))
    fields = lab.inspect(manager.directory / "1").fields
    places = [field.place for field in fields]
    assert places == ["opt_state/0/mu", "opt_state/0/nu", "params"]


# ---- a save that is cut short


def test_a_process_that_is_killed_in_a_save_loses_that_save_alone(tmp_path):
    root = Path(__file__).parents[2]
    paths = [str(root), os.environ.get("PYTHONPATH", "")]
    process = subprocess.run(
        [sys.executable, killed.__file__, tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "XLA_FLAGS": ""},
        check=False,
        stderr=subprocess.DEVNULL,
    )
    assert process.returncode == -signal.SIGKILL
    assert any(tmp_path.glob("2.*/*"))  # it was in the middle
    assert not (tmp_path / "2").exists()
    with ocp.CheckpointManager(tmp_path) as manager:
        params, state = killed.run(1)
        got, new = restore(manager, killed.TX, params)
        for x, y in zip(
            *map(jax.tree.leaves, ((got, new), (params, state))), strict=True
        ):
            np.testing.assert_array_equal(x, y)
        save(manager, 2, got, new)
        assert restore(manager, killed.TX, params, step=2)[1][0].count == 0


# ---- what does not fit


@pytest.mark.parametrize("name", MISFITS)
def test_all_that_does_not_fit_is_one_error(name, manager):
    tx, params, text = MISFITS[name]
    save(manager, 1, W, TX.init(W))
    shutil.rmtree(manager.directory / "1" / "params" / "d")  # it is not read
    with pytest.raises(
        ValueError, match="^" + re.escape(f"restore: {text}{END}") + "$"
    ):
        restore(manager, tx, params)


def data_files(manager, step, item="opt_state"):
    """The files of arrays, largest first."""
    files = (manager.directory / str(step) / item).glob("ocdbt.process_0/d/*")
    return sorted(map(Path, files), key=lambda path: -path.stat().st_size)


def spoil(path, change):
    data = bytearray(path.read_bytes())
    path.write_bytes(bytes(change(data)))


def flipped(data):
    data[len(data) // 2] ^= 0x10
    return data


def described(change):
    """Changes the description."""

    def changed(data):
        saved = json.loads(data)
        change(saved)
        return json.dumps(saved).encode()

    return lambda manager: spoil(
        manager.directory / "2" / "adamx" / "metadata", changed
    )


def exchanged(manager):
    """Puts the state of step 1 in the place of that of step 2."""
    first, second = (manager.directory / step / "opt_state" for step in "12")
    shutil.rmtree(second)
    shutil.copytree(first, second)


DAMAGED = {
    "the numbers of another step": (
        exchanged,
        "restore: expected the numbers that were saved, got others at "
        "opt_state[0].mu['b'] and 3 more; {} is damaged: ",
    ),
    # Orbax itself sees it in some places and in others not.
    "another bit": (
        lambda manager: spoil(data_files(manager, 2)[0], flipped),
        "restore: expected ",
    ),
    "a shorter file": (
        lambda manager: spoil(
            data_files(manager, 2)[0], lambda data: data[: len(data) // 2]
        ),
        "restore: expected what save_args makes, got {}, which is damaged or something "
        "else (",
    ),
    "a folder that is gone": (
        lambda manager: shutil.rmtree(manager.directory / "2" / "params"),
        "restore: expected what save_args makes, got {}, which is damaged or something "
        "else (",
    ),
    "a description cut short": (
        lambda manager: spoil(
            manager.directory / "2" / "adamx" / "metadata", lambda data: data[:-9]
        ),
        "restore: expected what save_args makes, got {}, which is damaged or something "
        "else (JSONDecodeError: ",
    ),
    "no description": (
        described(lambda saved: saved.clear()),
        "restore: expected a description by adamx, got something else (KeyError: "
        "'adamx'); {} is damaged",
    ),
    "fields of another kind": (
        described(lambda saved: saved["fields"].update(params=[1])),
        "restore: expected a description by adamx, got something else (TypeError: ",
    ),
    "another checksum": (
        described(
            lambda saved: saved["fields"]["params"]["arrays"]["['w']"].update(
                checksum=1
            )
        ),
        "restore: expected the numbers that were saved, got others at params['w']; {} "
        "is damaged",
    ),
}


# Of several arrays that cannot be read Orbax raises for one and drops the others.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_an_error(name, manager):
    """And the step before is still there."""
    spoiled, text = DAMAGED[name]
    state = scrambled(TX.init(LAYERS))
    save(manager, 1, LAYERS, state)
    other = state[0]._replace(mu=state[0].nu, nu=state[0].mu)
    save(manager, 2, LAYERS, (other, *state[1:]))
    spoiled(manager)
    text = text.format(f"step 2 in {manager.directory}")
    with pytest.raises(ValueError, match="^" + re.escape(text)) as caught:
        restore(manager, TX, LAYERS)
    assert "damaged" in str(caught.value)
    assert str(caught.value).endswith("restore another step, have 1.")
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()  # not in the next test
    _, got = restore(manager, TX, LAYERS, step=1)
    assert_same(got, state)


def test_a_format_to_come(manager):
    save(manager, 2, W, TX.init(W))
    described(lambda saved: saved.update(format=9, adamx="7.0"))(manager)
    text = "restore: expected format 1, got 9; read it with adamx 7.0, which wrote it."
    with pytest.raises(ValueError, match="^" + re.escape(text)):
        restore(manager, TX, W)


def test_steps_that_are_not_there(manager):
    place = manager.directory
    for step, got in ((None, "none"), (7, "7")):
        text = f"restore: expected a step in {place}, got {got}."
        with pytest.raises(ValueError, match="^" + re.escape(text)):
            restore(manager, TX, W, step=step)
    for step in (1, 2):
        save(manager, step, W, TX.init(W))
    text = f"restore: expected one of the steps 1, 2 in {place}, got 7."
    with pytest.raises(ValueError, match="^" + re.escape(text)):
        restore(manager, TX, W, step=7)


@pytest.mark.parametrize("single", [True, False])
def test_checkpoints_of_orbax_alone(single, manager):
    save = ocp.args.StandardSave(W)
    manager.save(1, args=save if single else ocp.args.Composite(state=save))
    why = (
        "ValueError: Cannot provide `args`"
        if single
        else 'KeyError: \'Item "adamx" was not found in the checkpoint.'
    )
    text = (
        f"restore: expected what save_args makes, got step 1 in {manager.directory}, "
        f"which is damaged or something else ({why}"
    )
    with pytest.raises(ValueError, match="^" + re.escape(text)) as caught:
        restore(manager, TX, W)
    assert str(caught.value).endswith("; there is no other step.")


def test_arguments_of_another_kind(manager):
    save(manager, 1, W, TX.init(W))
    text = (
        "restore: expected shardings like the state, got another tree; make them with "
        "adamx.state_shardings(tx, params)."
    )
    for shardings in (P(), on(make_mesh()), jax.tree.map(lambda x: P(), TX.init(W))):
        with pytest.raises(ValueError, match="^" + re.escape(text)):
            restore(manager, TX, W, shardings=shardings)
    with pytest.raises(TypeError, match=r"^restore: expected a gradient trans"):
        restore(manager, abs, W)


def test_numbers_beside_what_is_split(manager):
    params = {"w": jax.device_put(LAYERS["w"], on(make_mesh(), "data")), "x": 0.5}
    save(manager, 1, params, TX.init(params))
    got, state = restore(manager, TX, params)
    assert got["x"].sharding == state[0].mu["x"].sharding == on(make_mesh())
    assert state[0].mu["w"].sharding == params["w"].sharding
