"""What is one program also outside of a jit."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from adamx._base import Array, is_number


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one program, compiled once.

    For what makes functions anew at each call, which a call outside of a jit would
    trace and compile anew, too. What is no array among the arguments, such as a
    function, is part of the program.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def program(fixed: tuple[Any, ...], arrays: list[Any]) -> Any:
        treedef, others = fixed
        found = iter(arrays)
        leaves = [next(found) if x is Array else x for x in others]
        return function(*treedef.unflatten(leaves))

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        leaves, treedef = jax.tree.flatten(args)
        others = tuple(Array if is_array(x) else x for x in leaves)
        try:
            hash(others)
        except TypeError:
            return function(*args)
        return program((treedef, others), list(filter(is_array, leaves)))

    return call


def is_array(x: Any) -> bool:
    """Whether x is an array or a number, which a compiled function takes."""
    return is_number(x) or isinstance(x, jax.Array | np.ndarray | np.generic)
