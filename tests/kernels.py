"""Whether there are C++ kernels, and what uses them."""

import jax
import pytest

from adamx._kernels import kernel

HAS_KERNEL = kernel.load()[0]
needs_kernel = pytest.mark.skipif(not HAS_KERNEL, reason=kernel.load()[1])


def calls_of(step, *args):
    """The foreign calls that a program on CPU has."""
    text = jax.jit(step).lower(*args).as_text()
    return {target for target in kernel.TARGETS if f"@{target}(" in text}
