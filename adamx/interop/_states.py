"""The arrays of a state by their paths, and what may take the place of one."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from adamx._align import is_leaf
from adamx._base import describe
from adamx._fields import NamedTupleKey, cast_like, children
from adamx._parts import only
from adamx._rules import is_box

Path = tuple[Any, ...]


def leaves_of(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The leaves in JAX's order, with paths that have the classes of states in them."""
    if is_leaf(tree) or is_box(tree):
        yield path, only(tree)
        return
    for key, child in children(tree):
        yield from leaves_of(child, (*path, key))


def field_of(path: Path) -> tuple[str, str]:
    """The class and the field of the innermost state on a path."""
    fields = [key for key in path if isinstance(key, NamedTupleKey)]
    return (fields[-1].tuple_name, fields[-1].name) if fields else ("", "")


def where(path: Path) -> str:
    """A path as it stands in messages."""
    return "".join(map(str, path))


def fitted(want: Any, got: Any) -> Any:
    """An array in the place of another, with its bits or wider; None if it cannot be.

    A wider float holds each narrower one. A complex number whose imaginary part is 0
    is a real one, as Optax has them in second moments of complex parameters.
    """
    if not hasattr(got, "dtype"):
        return cast_like(want, got)  # a number for an array without axes
    if np.shape(got) != want.shape:
        return None
    if isinstance(got, np.ndarray) and got.dtype == want.dtype:
        return jnp.array(got)  # a copy: the owner of the memory may go on writing
    if got.dtype != want.dtype:
        if not (is_inexact(got.dtype) and is_inexact(want.dtype)):
            return None
        if not np.can_cast(got.dtype, want.dtype):
            real = np.real(got)
            if not np.can_cast(real.dtype, want.dtype) or np.any(np.imag(got)):
                return None
            got = real
        return jnp.asarray(got).astype(want.dtype)
    return cast_like(want, got)  # which is strongly typed


def is_inexact(dtype: Any) -> bool:
    """Whether a dtype is floating or complex."""
    return jnp.issubdtype(dtype, jnp.inexact)


def unlike(want: Any, got: Any, place: str) -> str:
    """What does not match, for a message that may have many of them."""
    want, got = (x if isinstance(x, str) else describe(x) for x in (want, got))
    return f"expected {want}, got {got} at {place or 'the root'}"


def refuse(who: str, problems: list[str], do: str) -> None:
    """Raises one error that names everything that is wrong, if anything is."""
    if problems:
        raise ValueError(f"{who}: {'; '.join(problems)}; {do}.")


def in_short(error: Exception) -> str:
    """An error of another library, on one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 80 else f"{text[:80]}…"


def other_class(path: Path, other: Path) -> str | None:
    """What does not match where two paths of the same names are of other states."""
    for i, (key, old) in enumerate(zip(path, other, strict=True)):
        want, got = (getattr(x, "tuple_name", "no state") for x in (key, old))
        if want != got:
            return unlike(want, got, where(path[:i]))
    return None
