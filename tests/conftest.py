"""What every test runs under: strict dtypes and ranks, eight CPU devices."""

import os

# Both are read once, when jax is imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
FLAGS = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in FLAGS:
    os.environ["XLA_FLAGS"] = f"{FLAGS} --xla_force_host_platform_device_count=8"

import jax  # noqa: E402  # the environment above comes first
import jax.numpy as jnp  # noqa: E402  # the same
import numpy as np  # noqa: E402  # the same
import pytest  # noqa: E402  # the same

import adamx  # noqa: E402  # the same

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


def pytest_configure(config):
    """Makes the names of examples known everywhere."""
    config.pluginmanager.register(Doctests())
