"""What every test runs under: strict dtypes and ranks, eight CPU devices."""

import importlib.util
import os
import tempfile

# All are read once, when jax is imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
FLAGS = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in FLAGS:
    os.environ["XLA_FLAGS"] = f"{FLAGS} --xla_force_host_platform_device_count=8"

# A program that another test has compiled is not compiled again. Of this process alone:
# two that write the same file may read half of it.
COMPILED = tempfile.TemporaryDirectory()
os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax  # noqa: E402  # the environment above comes first
import jax.numpy as jnp  # noqa: E402  # the same
import numpy as np  # noqa: E402  # the same
import pytest  # noqa: E402  # the same

import adamx  # noqa: E402  # the same

# What the first row of a name shows for all of its rows, and the usual ones for others.
AGAIN = {"test_laws", "test_ranges", "test_surgery", "test_optax", "test_zero1"}
AROUND = {"test_around", "test_optax", "test_zero1"}

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng():
    """Random numbers that are the same in every run and every order of tests."""
    return np.random.default_rng(0)


class Doctests:
    """A plugin, since a fixture of this file would not reach the doctests of adamx."""

    @pytest.fixture(autouse=True)
    def names(self, doctest_namespace):
        """The names that examples use without importing them."""
        doctest_namespace |= {"adamx": adamx, "jax": jax, "jnp": jnp, "np": np}

    def pytest_ignore_collect(self, collection_path):
        """Leaves out the examples for PyTorch where it is not installed."""
        folder = collection_path.parent
        if (folder.parent.name, folder.name) != ("interop", "torch"):
            return None
        return importlib.util.find_spec("torch") is None or None


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items):
    """Sends all tests of a row to one process, which then compiles it once.

    What the first row of a name has shown, the others show in .ci/run, and what a
    recipe has shown, the block that it is made of.
    """
    from cases import CASES, USUAL  # on the path only when pytest is configured

    first = {case.name: case for case in reversed(CASES)}
    blocks = {f"scale_by_{name}" for name in first}
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        row, module = params.get("case"), item.path.stem
        if item.path.parent.name == "lab":
            item.add_marker(pytest.mark.xdist_group("lab"))
        if row is None:
            continue
        item.add_marker(pytest.mark.xdist_group(row.name))
        narrow = str(params.get("dtype")) in ("float16", "bfloat16")
        again = module in AGAIN or narrow
        around = module in AROUND and row.name not in USUAL
        known = row is not first.get(row.name) or row.name in blocks
        if around or (again and not row.wrap and known):
            item.add_marker(pytest.mark.exhaustive)


def pytest_configure(config):
    """Makes the names of examples known everywhere."""
    config.pluginmanager.register(Doctests())
