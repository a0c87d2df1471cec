"""Two and four processes train as one does."""

import contextlib
import functools
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import processes
import pytest

from adamx.interop.orbax import restore

PROGRAM = Path(__file__).parent / "processes.py"
SECONDS = 180


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def launch(folder, processes):
    """Runs the program to its end; where a process fails, says what it printed."""
    path = [str(PROGRAM.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "JAX_PLATFORMS": "cpu",
    }
    # Programs of several processes do not share what one has compiled.
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    port, end = str(free_port()), time.monotonic() + SECONDS
    with contextlib.ExitStack() as stack:
        running = []
        for number in range(processes):
            log = stack.enter_context(open(folder / f"{processes}-{number}.log", "w+"))
            args = [sys.executable, PROGRAM, folder, str(processes), str(number), port]
            process = subprocess.Popen(args, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            running.append((process, log))
        # One that has failed leaves the others waiting.
        while time.monotonic() < end:
            codes = [process.poll() for process, _ in running]
            if all(code == 0 for code in codes):
                return
            if any(codes):
                break
            time.sleep(0.05)
        report = []
        for number, (process, log) in enumerate(running):
            log.seek(0)
            report.append(f"process {number}, {process.poll()}: {log.read()[-3000:]}")
        pytest.fail(f"{processes} processes:\n" + "\n".join(report))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Gives what a run of so many processes wrote: the arrays, or the folder."""
    path = tmp_path_factory.mktemp("processes")

    @functools.cache
    def folder(processes):
        launch(path, processes)
        return path

    def read(name, processes):
        file = folder(processes) / f"{name}-{processes}"
        if file.is_dir():
            return file
        with np.load(file.with_suffix(".npz")) as arrays:
            return dict(arrays)

    return read


@pytest.mark.parametrize(
    ("processes", "form"),
    [
        (2, "shardings"),
        (2, "wrapper"),
        pytest.param(4, "shardings", marks=pytest.mark.exhaustive),
    ],
)
def test_several_processes_train_as_one_does(run, processes, form):
    """But for the order of sums over devices, another one between processes."""
    want, got = (list(run(form, n).values()) for n in (1, processes))
    assert want[0][-1] < 0.7 * want[0][0]
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-6)


def test_both_forms_train_alike(run):
    a, b = (run(form, 1) for form in ("shardings", "wrapper"))
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=2e-6, atol=1e-6)


def test_one_process_goes_on_from_what_two_have_saved(run):
    tx = processes.optimizer()
    params = processes.init(np.random.default_rng(0))
    with ocp.CheckpointManager(run("saved", 2)) as manager:
        got = restore(manager, tx, params)
    _, *want = run("shardings", 2).values()
    for x, y in zip(jax.tree.leaves(got), want, strict=True):
        np.testing.assert_array_equal(x, y)
