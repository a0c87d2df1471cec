"""A run that is killed again and again ends where an undisturbed one does."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import resumable

PROGRAM = Path(resumable.__file__)
KILLS = 3


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One device, and what one process has compiled is there for the next."""
    root = str(PROGRAM.parents[1])
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
    }


def start(folder, environment):
    return subprocess.Popen(
        [sys.executable, PROGRAM, folder],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(process):
    """Lets it go to its end; returns the step that it went on from."""
    output, _ = process.communicate("\n" * resumable.STEPS)
    assert process.returncode == 0
    return int(output.split()[1])


def kill(process, steps, mark, delay):
    """Lets it take so many steps, waits for its line `mark`, and kills it.

    It cannot get away: for the next step it would need another line of input.
    """
    process.stdin.write("\n" * steps)
    process.stdin.flush()
    begin = int(process.stdout.readline().split()[1])
    while process.stdout.readline() != f"{mark} {begin + steps}\n":
        assert process.poll() is None
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return begin


def arrays(folder):
    """The final parameters and the whole state of the optimizer."""
    with np.load(folder / "final.npz") as file:
        return [file[name] for name in file]


def test_killed_runs_end_with_the_same_bits(tmp_path, environment):
    """Killed in a save and between two, at moments that a seed chooses."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    assert finish(start(whole, environment)) == 0
    rng = np.random.default_rng(0)
    begins = []
    for i in range(KILLS):
        # Past the first save, so that something is won; the second of two is cut.
        steps, mark = (4 + int(rng.integers(2)), "step") if i % 2 else (6, "saving")
        process = start(broken, environment)
        begins.append(kill(process, steps, mark, rng.uniform(0, 0.03)))
        assert not (broken / "final.npz").exists()
    begins.append(finish(start(broken, environment)))
    assert begins[0] == 0
    assert all(
        later >= earlier + resumable.EVERY
        for earlier, later in itertools.pairwise(begins)
    )
    got, want = arrays(broken), arrays(whole)
    assert [x.dtype for x in got] == [x.dtype for x in want]
    assert [x.tobytes() for x in got] == [x.tobytes() for x in want]

    # What was compared is worth it: steps were left out, scales and moments changed.
    tx = resumable.optimizer()
    params = jax.eval_shape(
        lambda: resumable.MLP().init(jax.random.key(0), resumable.IMAGES[:1])
    )
    run = {"params": params, "opt_state": jax.eval_shape(tx.init, params)}
    state = jax.tree.structure(run).unflatten(want)["opt_state"]
    assert state.total_notfinite == len(resumable.BROKEN)
    scaling = state.inner_state
    assert scaling.loss_scale > 2.0**8
    spikes = scaling.inner_state
    assert spikes.total_skipped >= len(resumable.OUTLIER)
    adam = spikes.inner_state[1][0]
    left_out = int(state.total_notfinite + spikes.total_skipped)
    assert adam.count == resumable.STEPS - left_out
