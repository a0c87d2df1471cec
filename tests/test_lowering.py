"""Every update is lowered for GPUs and TPUs, here, and serialized."""

import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import FIRST, WRAPPED
from jax import export
from streams import make_grads, make_params
from test_docs import documented, section

import adamx
from adamx.interop.export import register_states

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "tpu.py"
ELSEWHERE = ["cuda", "rocm", "tpu"]
SHAPES = {"w": (8, 3), "b": {"x": ()}}
PARAMS = jax.tree.map(jnp.asarray, make_params("float32", SHAPES))
GRADS = jax.tree.map(jnp.asarray, make_grads("float32", SHAPES))


def exported(tx, params=PARAMS, platforms=("cpu", *ELSEWHERE)):
    """An update for all platforms at once, from shapes."""
    update = jax.jit(tx.update, donate_argnums=1)
    state = jax.eval_shape(tx.init, params)
    return export.export(update, platforms=platforms)(params, state, params)


@pytest.mark.parametrize("case", [*FIRST.values(), *WRAPPED], ids=lambda case: case.id)
def test_an_update_is_exported_serialized_and_called(case):
    """To the same bits here, since it is the same program."""
    register_states()
    there = export.deserialize(exported(case.tx).serialize())
    assert set(ELSEWHERE) < set(there.platforms)
    state = case.tx.init(PARAMS)
    want = jax.jit(case.tx.update)(GRADS, state, PARAMS)
    got = there.call(GRADS, state, PARAMS)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


NARROW = {
    "8 bits": lambda tx: adamx.compress_state(tx, min_size=0),
    "4 bits": lambda tx: adamx.compress_state(
        tx, {"mu": adamx.int4_codec()}, min_size=0
    ),
    "master weights": lambda tx: adamx.master_weights(tx, bits=24),
    "float8": lambda tx: adamx.adamw(0.1, mu_dtype=jnp.float8_e4m3fn),
}


@pytest.mark.parametrize("name", NARROW)
def test_narrow_states_are_lowered(name):
    register_states()
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    there = exported(NARROW[name](adamx.adamw(0.1)), params, ELSEWHERE)
    assert export.deserialize(there.serialize()).platforms == tuple(ELSEWHERE)


def test_the_same_program_goes_everywhere():
    """None has a part that one platform alone has."""
    update = exported(adamx.adamw(0.1))
    assert not update.disabled_safety_checks
    assert "custom_call" not in update.mlir_module()


def test_another_process_calls_it(tmp_path):
    """Which knows nothing of the optimizer but the classes of its state."""
    register_states()
    tx = adamx.adamw(0.1)
    (tmp_path / "update").write_bytes(exported(tx).serialize())
    leaves = jax.tree.leaves((GRADS, tx.init(PARAMS), PARAMS))
    np.savez(tmp_path / "in.npz", *leaves)
    program = (
        "import jax, numpy as np\n"
        "from jax import export\n"
        "from adamx.interop.export import register_states\n"
        "register_states()\n"
        "there = export.deserialize(bytearray(open('update', 'rb').read()))\n"
        "leaves = list(np.load('in.npz').values())\n"
        "args, kwargs = there.in_tree.unflatten(leaves)\n"
        "np.savez('out.npz', *jax.tree.leaves(there.call(*args)))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    want = jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    with np.load(tmp_path / "out.npz") as got:
        for x, y in zip(got.values(), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6)


def test_adamw_on_a_tpu_reads_and_writes_what_it_must():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("needs libtpu, of 0.7 GB, to compile for TPUs")
    done = subprocess.run(
        [sys.executable, BENCHMARK], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "adamx keeps its limits." in done.stdout


def test_documentation():
    docstring = inspect.getdoc(register_states)
    assert documented(docstring) == list(inspect.signature(register_states).parameters)
    assert section(docstring, "Returns")
