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

# What the first row of a name shows for all of its rows.
AGAIN = {"test_laws", "test_ranges", "test_surgery", "test_oracle", "test_parity_optax"}
# What depends little on the optimizer and takes long: the usual ones show it.
AROUND = {"test_around", "test_optax", "test_zero1"}
AROUND |= {"test_orbax", "test_msgpack", "test_lowering"}
LONG = {
    "test_matches_the_oracle_in_complex_numbers",
    "test_trees_of_every_kind",
    "test_compiled_is_eager_but_for_contraction",
    "test_a_sharded_training_loop",
    "test_learning_rates_are_vmapped_and_differentiated",
    "test_derivative_at_a_zero_gradient_is_finite",
    "test_updates_and_states_are_those_of_optax",
    "test_states_change_classes_field_by_field",
}

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

    The rest of the rows is for .ci/run: those after the first of a name, blocks whose
    recipe is a row, and in 16 bits and in what takes long those that are not usual.
    """
    from cases import FIRST, USUAL  # on the path only when pytest is configured

    blocks = {f"scale_by_{name}" for name in FIRST}
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        row, module = params.get("case"), item.path.stem
        if item.path.parent.name == "lab":
            item.add_marker(pytest.mark.xdist_group("lab"))
        if row is None:
            continue
        item.add_marker(pytest.mark.xdist_group(row.name))
        narrow = str(params.get("dtype")) in ("float16", "bfloat16")
        long = module in AROUND or item.originalname in LONG or narrow
        known = row is not FIRST.get(row.name) or row.name in blocks
        again = (module in AGAIN or long) and not row.wrap and known
        if again or (long and row.name not in USUAL):
            item.add_marker(pytest.mark.exhaustive)


def pytest_configure(config):
    """Makes the names of examples known everywhere."""
    config.pluginmanager.register(Doctests())
