"""A transformation on trial: stand-ins for parameters, made-up gradients, two runs."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx._align import at, inexact, not_inexact, path_name
from adamx._base import Array, GradientTransformation, OptState, Params, Updates
from adamx._fields import name_of
from adamx._numerics import float64, is_narrow
from adamx._precision.fields import Field, fields_of
from adamx._rules import is_hole
from adamx._tree import apply_updates

GOLDEN = (math.sqrt(5) - 1) / 2
ROW = 128  # the entries of a stand-in's rows, so that groups of codes stay whole


class Side(NamedTuple):
    """One of two runs: with the dtypes that are asked for, or all in float64."""

    step: Callable[..., Any]
    params: Params
    state: OptState
    wide: bool

    def advance(self, grads: Updates) -> tuple[list[np.ndarray], "Side"]:
        """Makes a step; the updates as they come out, in a row."""
        with float64() if self.wide else nullcontext():
            updates, params, state = self.step(self.params, self.state, grads)
        new = self._replace(params=params, state=state)
        return list(map(exactly, jax.tree.leaves(updates))), new

    def at_count(self, count: int) -> "Side":
        """The same with every count in the state at another step."""

        def moved(path: Any, x: Any) -> Any:
            whole = jnp.issubdtype(jnp.result_type(x), jnp.integer)
            counts = path and name_of(path[-1]) == "count"
            return jnp.full_like(x, count) if counts and whole and x.ndim == 0 else x

        with float64() if self.wide else nullcontext():
            state = jax.tree_util.tree_map_with_path(moved, self.state)
        return self._replace(state=state)

    def scaled(self, by: float) -> "Side":
        """The same with parameters `by` times as large."""
        with float64() if self.wide else nullcontext():
            params = jax.tree.map(lambda p: p * jnp.asarray(by, p.dtype), self.params)
        return self._replace(params=params)


def started(tx: GradientTransformation, step: Any, params: Params) -> Side:
    """The run as it is asked for."""
    return Side(step, params, tx.init(params), False)


def started_in_float64(tx: GradientTransformation, step: Any, params: Params) -> Side:
    """The run in float64, to compare with: no moment is narrow, and none is encoded."""
    with float64():
        params = jax.tree.map(doubled, params)
        state = jax.tree.map(lambda x: doubled(x, is_narrow), tx.init(params))
        return Side(step, params, state, True)


def program(
    tx: GradientTransformation, extra_args: Mapping[str, Any]
) -> Callable[..., Any]:
    """A step of training without the model."""

    @jax.jit
    def step(params: Params, state: OptState, grads: Updates) -> Any:
        grads = jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)
        updates, state = tx.update(grads, state, params, **extra_args)
        return updates, apply_updates(params, updates), state

    return step


def doubled(x: Any, which: Callable[[Any], bool] = lambda dtype: True) -> Any:
    """A floating or complex array in double precision, if its dtype is one `which`."""
    dtype = jnp.result_type(x)
    if not jnp.issubdtype(dtype, jnp.inexact) or not which(dtype):
        return x
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    return jnp.asarray(x).astype(jnp.complex128 if is_complex else jnp.float64)


def exactly(x: Any) -> np.ndarray:
    """An array in double precision, for sums outside of JAX."""
    return np.asarray(x).astype(np.complex128 if np.iscomplexobj(x) else np.float64)


# ---- stand-ins


def stand_ins(who: str, params: Params, most: int) -> Params:
    """A corner of each parameter with about `most` entries; typical values of shapes.

    Copies, so that a step that donates them does not take the caller's.
    """
    leaves, treedef = jax.tree.flatten(params)
    made = []
    for i, given in enumerate(leaves):
        x = inexact(given)
        if x is None:
            raise not_inexact(who, "params", given, at(params, i))
        shape = corner(x.shape, most)
        if isinstance(x, jax.ShapeDtypeStruct):
            fan_in = math.prod(x.shape[:-1])
            normal = np.random.default_rng(i).standard_normal(shape)
            made.append(jnp.asarray(normal / max(fan_in, 1) ** 0.5).astype(x.dtype))
        else:
            cut = np.asarray(x[tuple(map(slice, shape))] if shape else x)
            made.append(jnp.array(cut, x.dtype, copy=True))
    return treedef.unflatten(made)


def corner(shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """A shape of about `most` entries inside another one, at least if that has them."""
    if math.prod(shape) <= most:
        return shape
    sizes, last = [], min(shape[-1], ROW)
    left = math.ceil(most / last)
    for n in reversed(shape[:-1]):
        sizes.append(min(n, left))
        left = math.ceil(left / sizes[-1])
    return (*reversed(sizes), min(shape[-1], last * left))


def without_last_bits(params: Params) -> Params:
    """Zeros in place of narrow parameters, which no update is too small to move.

    Where steps are compared: what keeps the low bits of parameters aside, or rounds
    them by chance, makes few large steps in place of many small ones.
    """
    if not any(is_narrow(x.dtype) for x in jax.tree.leaves(params)):
        return params
    return jax.tree.map(
        lambda x: jnp.zeros_like(x) if is_narrow(x.dtype) else x, params
    )


# ---- gradients


def spread(i: np.ndarray) -> np.ndarray:
    """Sizes from 0.1 to 1, evenly spread in logarithm, whatever part one looks at."""
    return 10.0 ** -(i * GOLDEN % 1)


def fallen(i: np.ndarray) -> np.ndarray:
    """Whether an entry is in the half whose gradients fall."""
    return i * math.sqrt(2) % 1 < 0.5


def typical(i: np.ndarray) -> np.ndarray:
    """Gradients that differ from entry to entry, as they do in a layer."""
    return spread(i)


def after_the_fall(i: np.ndarray) -> np.ndarray:
    """The same, ten times as small in half of the entries."""
    return spread(i) * np.where(fallen(i), 0.1, 1)


def spiky(i: np.ndarray) -> np.ndarray:
    """One in 64 gradients a hundred thousand times as large as the others."""
    return np.where(i % 64 == 5, 1, 1e-5)


def even(i: np.ndarray) -> np.ndarray:
    """Gradients of one size."""
    return np.ones(i.shape)


def gradients(params: Params) -> Callable[..., Updates]:
    """The function from a step, a size and a profile to random gradients."""
    leaves, treedef = jax.tree.flatten(params)
    ends = np.cumsum([0, *(x.size for x in leaves)])
    sizes: dict[Any, Any] = {}

    @jax.jit
    def draw(step: Array, size: Array, profile: Any) -> Updates:
        key = jax.random.fold_in(jax.random.key(0), step)
        # One draw for all: a program for each array takes long to compile.
        noise = jax.random.normal(key, (ends[-1],), jnp.float32) * profile * size
        drawn = []
        for x, start, end in zip(leaves, ends[:-1], ends[1:], strict=True):
            limit = min(float(jnp.finfo(d).max) for d in (x.dtype, noise.dtype))
            g = jnp.clip(noise[start:end], -limit, limit)
            drawn.append(g.reshape(x.shape).astype(x.dtype))
        return treedef.unflatten(drawn)

    def make(step: int, size: float, of: Callable[..., np.ndarray]) -> Updates:
        if of not in sizes:
            parts = [of(np.arange(x.size)) for x in leaves]
            sizes[of] = jnp.asarray(np.concatenate([*parts, []]), jnp.float32)
        return draw(jnp.int32(step), jnp.float32(size), sizes[of])

    return make


# ---- the same field in both runs


class Twins(NamedTuple):
    """What both runs have under one name; `kept` is a hole where it is encoded."""

    field: Field
    path: str  # of the parameter
    kept: Any
    exact: np.ndarray


def twins(kept: OptState, exact: OptState) -> Iterator[Twins]:
    """Yields the arrays of the fields that both states have."""
    others = {field.place: field for field in fields_of(exact)}
    for field in fields_of(kept):
        other = others.get(field.place)
        if other is None or len(other.leaves) != len(field.leaves):
            continue
        tree = field.treedef.unflatten(field.leaves)
        paths = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_hole)
        for (path, x), y in zip(paths, other.leaves, strict=True):
            if not is_hole(y) and jnp.issubdtype(jnp.result_type(y), jnp.inexact):
                yield Twins(field, path_name(path), x, exactly(y))


def paths_of(params: Params) -> list[str]:
    """The path of each parameter."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [path_name(path) for path, _ in leaves]
