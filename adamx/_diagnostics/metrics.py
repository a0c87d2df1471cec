"""What a step did, in numbers: norms, angles, and the state of second moments.

A leaf is reduced to a few sums, and the sums of a group's leaves make its metrics.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._align import inexact
from adamx._base import Array, OptState
from adamx._numerics import as_float64, float64, hyperparameter, one_minus_power
from adamx._transforms.clip import at_most

ALL = "all"  # the group of every leaf
TINY = float(np.finfo(np.float32).tiny)
NAMES = (  # of metrics, in the order of a table
    "grad_norm",
    "update_norm",
    "param_norm",
    "update_ratio",
    "effective_learning_rate",
    "cosine",
    "clip_ratio",
    "small_nu",
    "signal_to_noise",
)


class Moment(NamedTuple):
    """A second moment of a leaf."""

    mu: Any  # the first moment, or None where there is none of the same shape
    nu: Any
    floor: Any  # eps² as nu has it, without a correction
    factor: Any  # corrects mu² / nu


def moments(
    state: OptState, treedef: Any, eps: Any, w1: Any, w2: Any
) -> Iterator[list[Moment | None]]:
    """Yields the leaves of each field `nu` in a state that is a tree like `treedef`.

    None stands for a leaf that is left out, or kept in another form.
    """
    for part in jax.tree.leaves(state, is_leaf=has_nu):
        if not has_nu(part):
            continue
        # Every tuple has a method of that name.
        count = part.count if "count" in part._fields else None
        scalars = corrections(count, eps, w1, w2)
        nus = leaves_like(treedef, part.nu)
        mus = leaves_like(treedef, getattr(part, "mu", None))
        mus = [
            mu if mu is not None and nu is not None and mu.shape == nu.shape else None
            for mu, nu in zip(mus or [None] * len(nus), nus, strict=True)
        ]
        yield [
            None if nu is None else Moment(mu, nu, *scalars)
            for mu, nu in zip(mus, nus, strict=True)
        ]
        others = [getattr(part, name) for name in part._fields if name != "nu"]
        yield from moments(others, treedef, eps, w1, w2)


def has_nu(x: Any) -> bool:
    """Whether x is a state with second moments."""
    return "nu" in getattr(x, "_fields", ())


def leaves_like(treedef: Any, tree: Any) -> list[Any]:
    """The arrays at each leaf of `treedef`; none where the trees differ."""
    try:
        parts = treedef.flatten_up_to(tree)
    except (ValueError, TypeError):
        return []
    return [inexact(x) if jax.tree_util.all_leaves([x]) else None for x in parts]


def corrections(count: Any, eps: Any, w1: Any, w2: Any) -> tuple[Any, Any]:
    """The floor and the factor of a `Moment` after `count` updates, at least 1."""
    with float64():
        if count is None:  # its optimizer does not correct it, either
            return as_float64(eps**2), as_float64(1.0)
        t = jnp.maximum(count, 1)
        c1, c2 = one_minus_power(w1, t), one_minus_power(w2, t)
        return eps**2 * c2, c2 / c1**2


def members_of(labels: Sequence[str]) -> dict[str, list[int]]:
    """The leaves of each group, and of the group of every leaf."""
    groups = {ALL: list(range(len(labels)))}
    for name in sorted(set(labels) - {ALL}):
        groups[name] = [i for i, label in enumerate(labels) if label == name]
    return groups


def metrics_of(
    groups: Mapping[str, Sequence[int]],
    sums: Sequence["Sums"],
    beside: Sequence[Sequence[Moment]],
    max_norm: Any,
    dtype: Any,
) -> dict[str, dict[str, Array]]:
    """The metrics of each group in `dtype`, from the sums of its leaves.

    Of the moments `beside` each leaf the shapes count.
    """
    metrics = {}
    with float64():
        for name, members in groups.items():
            squares = total([sums[i].squares for i in members], 3)
            metrics[name] = step_metrics(squares, total([sums[i].dot for i in members]))
            if name == ALL and max_norm is not None:
                norm = metrics[name]["grad_norm"]
                limit = jnp.asarray(hyperparameter(max_norm), norm.dtype)
                metrics[name]["clip_ratio"] = at_most(norm, limit)
            own = [m for i in members for m in beside[i]]
            small, counts, signal = total(
                [x for i in members for x in sums[i].moments], 3
            )
            if own:
                metrics[name]["small_nu"] = small / max(sum(m.nu.size for m in own), 1)
            if any(m.mu is not None for m in own):
                metrics[name]["signal_to_noise"] = over(signal, counts)
    return jax.tree.map(lambda x: x.astype(dtype), metrics)


def step_metrics(squares: Array, dot: Array) -> dict[str, Array]:
    """The metrics of g, u and p, from Σ|g|², Σ|u|², Σ|p|² and Re⟨g, u⟩."""
    grad, update, param = jnp.sqrt(squares)
    return {
        "grad_norm": grad,
        "update_norm": update,
        "param_norm": param,
        "update_ratio": over(update, param),
        "effective_learning_rate": over(update, grad),
        "cosine": over(-dot, grad * update),
    }


def total(rows: list[Any], *shape: int) -> Array:
    """The sum of arrays of one shape; zeros if there is none."""
    return jnp.stack(rows).sum(0) if rows else jnp.zeros(shape, jnp.float64)


def over(x: Array, y: Array) -> Array:
    """x / y, and 0 where y is 0."""
    return jnp.where(y == 0, 0, x / jnp.where(y == 0, 1, y))


# ---- the sums of a leaf

ROW = 256  # the least number of entries that are summed one after another
LONG = 2**16  # the most


class Sums(NamedTuple):
    """The sums of a leaf, in float64: no square of a float32 overflows or vanishes."""

    squares: Array  # f64[3]; of |g|, |u| and |p|
    dot: Array  # f64[]; Re⟨g, u⟩
    moments: list[Array]  # f64[3]; see `moment_terms`, for each second moment


@jax.jit  # traced once for each shape
def leaf_sums(g: Array, u: Array, p: Array, beside: Sequence[Moment]) -> Sums:
    """Sums what the metrics of a leaf are made of."""
    with float64():
        terms = list(map(product, (g, u, p, g), (g, u, p, u)))
        # One kernel for all, if it can be: it reads each array once and writes none.
        same = [m.nu.shape == g.shape for m in beside]
        for m, joined in zip(beside, same, strict=True):
            terms += moment_terms(m) if joined else []
        sums = totals(terms)
        rest = iter(sums[4:].reshape(-1, 3))
        rows = [
            next(rest) if joined else totals(moment_terms(m))
            for m, joined in zip(beside, same, strict=True)
        ]
        factors = [as_float64(m.factor) for m in beside]
        rows = [x.at[2].multiply(c) for x, c in zip(rows, factors, strict=True)]
        return Sums(sums[:3], sums[3], rows)


def product(x: Array, y: Array) -> Array:
    """The terms of Re⟨x, y⟩, f64."""
    terms = x.real.astype(jnp.float64) * y.real.astype(jnp.float64)
    if jnp.iscomplexobj(x) and jnp.iscomplexobj(y):
        terms += x.imag.astype(jnp.float64) * y.imag.astype(jnp.float64)
    return terms


def moment_terms(m: Moment) -> list[Array]:
    """Whether nu is small; whether it counts; the signal in it, not corrected."""
    nu = m.nu.real.astype(jnp.float64)
    small = (nu <= as_float64(m.floor)).astype(jnp.float64)
    if m.mu is None:
        return [small, jnp.zeros_like(nu), jnp.zeros_like(nu)]
    counts = (~(nu <= 0)).astype(jnp.float64)  # a NaN does
    # Where nu is 0, so is mu, or its square.
    return [small, counts, product(m.mu, m.mu) / jnp.maximum(nu, TINY)]


def totals(terms: list[Array]) -> Array:
    """The sums of arrays of one shape, in one kernel: no array is written for them."""
    shape = terms[0].shape
    if shape and shape[-1] > LONG and shape[-1] % ROW == 0:
        shape = (*shape[:-1], shape[-1] // ROW, ROW)
        terms = [x.reshape(shape) for x in terms]
    axis = len(shape)
    while axis > 0 and math.prod(shape[axis:]) < ROW:
        axis -= 1
    if math.prod(shape[axis:]) <= LONG:
        zeros = [jnp.zeros([], x.dtype) for x in terms]
        terms = list(lax.reduce(terms, zeros, plus, range(axis, len(shape))))
        return jnp.stack(terms).reshape(len(terms), -1).sum(1)
    return jnp.stack([x.sum() for x in terms])


def plus(x: Sequence[Array], y: Sequence[Array]) -> list[Array]:
    """The sums of scalars."""
    return [a + b for a, b in zip(x, y, strict=True)]
