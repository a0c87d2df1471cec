"""What a step did, in numbers: norms, angles, and the state of second moments.

A leaf is reduced to a few sums, and the sums of a group's leaves make its metrics.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._align import inexact
from adamx._base import Array, OptState
from adamx._numerics import (
    abs_sq,
    cast,
    float64,
    one_minus_power,
    product,
    quotient,
    safe_sqrt,
)
from adamx._transforms.clip import at_most
from adamx._tree import compute_dtypes, convert

ALL = "all"  # the group of every leaf
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
ROW = 256  # the least number of entries that are summed one after another
LONG = 2**16  # the most: float32 would lose what comes after many more


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
            return eps**2, 1.0
        t = jnp.maximum(count, 1)
        c1, c2 = one_minus_power(w1, t), one_minus_power(w2, t)
        return eps**2 * c2, c2 / c1**2


def metrics_of(
    groups: Mapping[str, Sequence[int]],
    steps: Sequence[tuple[Any, Any, Any]],
    found: Sequence[Sequence[Moment | None]],
    max_norm: Any,
    dtype: Any,
) -> dict[str, dict[str, Array]]:
    """The metrics of each group, in `dtype`.

    `steps` has g, u and p of each leaf, `found` lists of second moments, one for each
    leaf, and a group the indices of its leaves.
    """
    beside = [
        [m for m in column if m is not None]
        for column in ([moments[i] for moments in found] for i in range(len(steps)))
    ]
    dtypes = {x.dtype for step in steps for x in step}
    real = jnp.finfo(compute_dtypes(jnp.dtype(dtype), *dtypes)[0]).dtype
    sums = [leaf_sums(step, own, real) for step, own in zip(steps, beside, strict=True)]
    metrics = {}
    for name, members in groups.items():
        total = total_of([sums[i][0] for i in members], 4 * SCALES, real)
        metrics[name] = step_metrics(total)
        if name == ALL and max_norm is not None:
            norm = metrics[name]["grad_norm"]
            metrics[name]["clip_ratio"] = at_most(norm, cast(max_norm, norm))
        total = total_of([x for i in members for x in sums[i][1]], 3, real)
        own = [m for i in members for m in beside[i]]
        if own:
            size = jnp.asarray(max(sum(m.nu.size for m in own), 1), real)
            metrics[name]["small_nu"] = total[0] / size
        if any(m.mu is not None for m in own):
            metrics[name]["signal_to_noise"] = over(total[2], total[1])
    return jax.tree.map(lambda x: x.astype(dtype), metrics)


# ---- the sums of a leaf

SCALES = 3  # see `scaled`


def scaled(dtype: Any) -> list[Any]:
    """1, and factors that bring what squares to 0 or to infinity to where it does not.

    Sums are formed with each of the three in the same pass, and one of them is used
    (Blue, 1978, https://doi.org/10.1145/355769.355771).
    """
    power = 5 * jnp.finfo(dtype).maxexp // 8
    return [np.asarray(2.0**k, dtype) for k in (0, power, -power)]


@functools.partial(jax.jit, static_argnums=2)  # traced once for each shape
def leaf_sums(
    step: tuple[Any, Any, Any], beside: list[Moment], real: Any
) -> tuple[Array, list[Array]]:
    """What `step_metrics` takes, and three sums for each second moment of a leaf."""
    g, u, p = (convert(x, wide(x, real)) for x in step)
    terms = [abs_sq(product(x, c)) for x in (g, u, p) for c in scaled(real)]
    terms += [dot(product(g, c), u) for c in scaled(real)]
    # One kernel for all, if it can be: it reads each array once, and it writes none.
    same = [m for m in beside if m.nu.shape == g.shape]
    both = totals(terms + [x for m in same for x in moment_terms(m, real)])
    rows = [both[i : i + 3] for i in range(len(terms), both.size, 3)]
    rows += [totals(moment_terms(m, real)) for m in beside if m.nu.shape != g.shape]
    return both[: len(terms)], rows


def wide(x: Array, real: Any) -> Any:
    """The dtype of the precision of `real` for x, complex if x is."""
    return compute_dtypes(real, x.dtype)[1]


def dot(x: Array, y: Array) -> Array:
    """The terms of the inner product of real or complex arrays, real."""
    if jnp.iscomplexobj(x) and jnp.iscomplexobj(y):
        return x.real * y.real + x.imag * y.imag
    return x.real * y.real


def moment_terms(moment: Moment, real: Any) -> list[Array]:
    """Whether nu is small, whether it counts, and the share of the signal in it."""
    nu = moment.nu.real.astype(real)
    tiny = jnp.finfo(real).tiny
    small = nu <= cast(moment.floor, nu)
    counts = ~(nu <= 0)  # a NaN does
    if moment.mu is None:
        return [small.astype(real), jnp.zeros_like(nu), jnp.zeros_like(nu)]
    mu = convert(moment.mu, wide(moment.mu, real))
    # mu² might overflow; where nu is 0, so is mu, or its square.
    signal = dot(
        mu, product(quotient(mu, jnp.maximum(nu, tiny)), cast(moment.factor, nu))
    )
    return [small.astype(real), counts.astype(real), signal]


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
    return jnp.stack([x.sum() for x in terms])  # XLA adds a long row up as a tree


def plus(x: Sequence[Array], y: Sequence[Array]) -> list[Array]:
    """The sums of scalars."""
    return [a + b for a, b in zip(x, y, strict=True)]


# ---- the metrics of a group


def total_of(rows: list[Array], n: int, dtype: Any) -> Array:
    """The sum of rows of n numbers; zeros if there is no row."""
    return jnp.stack(rows).sum(0) if rows else jnp.zeros(n, dtype)


def step_metrics(total: Array) -> dict[str, Array]:
    """The metrics of g, u and p from the sums of a group."""
    squares, dots = total[: 3 * SCALES].reshape(3, SCALES), total[3 * SCALES :]
    scales = scaled(total.dtype)
    grad, update, param = (
        chosen(x[0], [safe_sqrt(y) / c for y, c in zip(x, scales, strict=True)])
        for x in squares
    )
    cosines = [over(-x, (grad * c) * update) for x, c in zip(dots, scales, strict=True)]
    return {
        "grad_norm": grad,
        "update_norm": update,
        "param_norm": param,
        "update_ratio": over(update, param),
        "effective_learning_rate": over(update, grad),
        "cosine": chosen(grad * update, cosines),
    }


def chosen(size: Array, results: Sequence[Array]) -> Array:
    """Of the results with each scale the one that suits a sum of that size."""
    limits = jnp.finfo(size.dtype)
    plain, up, down = results
    is_small, is_fine = size < limits.tiny / limits.eps, size < limits.max * limits.eps
    return jnp.where(is_small, up, jnp.where(is_fine, plain, down))


def over(x: Array, y: Array) -> Array:
    """x / y, and 0 where y is 0; unlike `safe_divide`, NaN where y is NaN."""
    return jnp.where(y == 0, 0, x / jnp.where(y == 0, 1, y))
