"""States in the memory of the host: the same bits, and no way to end the process."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from meshes import make_mesh, on

import adamx

PROGRAM = Path(__file__).parent / "offloaded.py"


def program(*args):
    """The program in a process of its own."""
    path = [str(PROGRAM.parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, PROGRAM, *args],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("devices", [1, 8])
def test_the_bits_are_those_of_a_state_on_the_device(devices):
    done = program(str(devices))
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert len(seen) == 6
    for row in seen:
        assert row["same"]
        assert row["params"] == ["device"]
        assert row["state"] == ["pinned_host"]
        assert row["scalars"] in (["device"], [])
        assert row["gone"]
        assert row["sent"]
        assert set(row["split"]) == {"data"}


def test_by_hand_it_ends_the_process():
    """What `jit_step` is for: as soon as this fails, JAX does without."""
    done = program("1", "by-hand")
    assert done.returncode == -signal.SIGABRT
    assert "memory kind" in done.stderr


# ---- errors


TX = adamx.adam(0.1)


def setting(mesh=None, **kwargs):
    """Parameters and shardings on a mesh."""
    params = {"w": np.ones((8, 4), "f4"), "b": np.ones(4, "f4")}
    params = jax.device_put(params, on(mesh or make_mesh()))
    return params, adamx.state_shardings(TX, params, zero1="data", **kwargs)


def step(params, state, batch):
    updates, state = TX.update(params, state, params)
    return adamx.apply_updates(params, updates), state, batch


def run(step, state=None, **kwargs):
    params, shardings = setting(**kwargs)
    state = TX.init(params) if state is None else state(params, shardings)
    return adamx.jit_step(step, params, shardings)(params, state, 0.0)


def without_nu(params, state, batch):
    params, state, batch = step(params, state, batch)
    return params, (state[0]._replace(nu=None), *state[1:]), batch


def halved(params, state, batch):
    params, state, batch = step(params, state, batch)
    return jax.tree.map(lambda p: p.astype(jnp.bfloat16), params), state, batch


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda: adamx.jit_step(None, *setting()),
            TypeError,
            "jit_step: expected step as a function, got None.",
        ),
        (
            lambda: adamx.jit_step(step, setting()[0], TX.init(setting()[0])),
            TypeError,
            "jit_step: expected a tree of NamedSharding, got i32[] at [0].count; make "
            "it with adamx.state_shardings.",
        ),
        (
            lambda: adamx.jit_step(step, {"w": jnp.ones((8, 4))}, setting()[1]),
            ValueError,
            "jit_step: expected parameters on (data=8: Auto on devices 0 to 7), got "
            "none at ['w']; place them with jax.device_put.",
        ),
        (
            lambda: adamx.jit_step(
                step, setting(make_mesh(sizes=(4,)))[0], setting()[1]
            ),
            ValueError,
            "jit_step: expected parameters on (data=8: Auto on devices 0 to 7), got "
            "(data=4: Auto on devices 0 to 3) at ['b']; place them with "
            "jax.device_put.",
        ),
        (
            lambda: run(lambda *args: step(*args)[:2]),
            ValueError,
            "jit_step: expected step to return (params, state, aux), got 2 results; "
            "put into aux what else there is.",
        ),
        (
            lambda: run(without_nu),
            ValueError,
            "jit_step: expected step to keep the types of state, f32[4], got nothing "
            "at [0].nu['b'].",
        ),
        (
            lambda: run(halved),
            ValueError,
            "jit_step: expected step to keep the types of params, f32[4], got bf16[4] "
            "at ['b'].",
        ),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind, match="^" + re.escape(text)):
        call()


def test_a_state_that_is_another_one_or_lies_elsewhere():
    def other(params, shardings):
        return adamx.sgd(0.1, 0.9).init(params)

    with pytest.raises(ValueError, match=r"(?s)ScaleByAdamState.*TraceState"):
        run(step, other)

    def on_the_device(params, shardings):
        device = adamx.state_shardings(TX, params, zero1="data")
        return jax.jit(TX.init, out_shardings=device)(params)

    with pytest.raises(ValueError, match=r"(?s)[Mm]emory kind.*pinned_host"):
        run(step, on_the_device, memory_kind="pinned_host")
