"""What is one program also outside of a jit."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from adamx._base import is_number


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one program, compiled once, where its arguments are arrays.

    For what makes functions anew at each call, which a call outside of a jit would
    trace and compile anew, too. Other arguments, such as functions, take it as it is.
    """
    program = jax.jit(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        plain = all(map(is_array, jax.tree.leaves(args)))
        return (program if plain else function)(*args)

    return call


def is_array(x: Any) -> bool:
    """Whether x is an array or a number, which a compiled function takes."""
    return is_number(x) or isinstance(x, jax.Array | np.ndarray | np.generic)
