"""Parameters as stacks of matrices; the Newton-Schulz iteration on them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._align import at
from adamx._base import (
    Array,
    GradientTransformation,
    Scalar,
    check_in,
    describe,
    stateless,
)
from adamx._numerics import (
    cast,
    float64,
    hyperparameter,
    product,
    quotient,
    rounded,
    safe_divide,
    safe_sqrt,
    times,
    unit_norm,
)
from adamx._rules import rule_for
from adamx._tree import map_leaves

PRECONDITIONINGS = ("frobenius", "spectral", "aol", "schatten")
MATRIX = (-2, -1)

# (a, b, c) of each iteration: Jordan's, which serve for all; and those of Dion.
STANDARD = (3.4445, -4.7750, 2.0315)
DION = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
PRESETS = {"standard": STANDARD, "dion": DION}


class MuonDimensionNumbers(NamedTuple):
    """The axes of a parameter W that make the matrix of x·W; all others stack them.

    A layer of attention heads with a kernel [model, heads, head] has
    `MuonDimensionNumbers(0, (1, 2))`, kernels [layers, in, out] of scanned layers have
    `MuonDimensionNumbers(1, 2)`.
    """

    reduction_axis: Sequence[int] | int = 0  # summed over, the inputs
    output_axis: Sequence[int] | int = 1  # the outputs


class Matrices(NamedTuple):
    """How a leaf is a stack of matrices, with at least as many columns as rows."""

    order: tuple[int, ...]  # its axes: those that stack, those of rows, of columns
    stacked: int  # how many axes stack
    rows: int  # how many axes are rows
    fan_in: int
    fan_out: int


class Answer:
    """What a rule says of a leaf; no node of a tree, as None and tuples are."""

    def __init__(self, given: Any) -> None:
        self.given = given


def is_numbers(x: Any) -> bool:
    """Whether x is a `MuonDimensionNumbers`, or Optax's."""
    return getattr(type(x), "_fields", None) == MuonDimensionNumbers._fields


def matrices_by(who: str, name: str, rule: Any) -> Callable[[Any], list[Any]]:
    """Gives the function from a tree to the `Matrices` of each leaf, or None."""

    def answers(tree: Any) -> Any:
        return jax.tree.map(Answer, tree, is_leaf=lambda x: x is None or is_numbers(x))

    def check(who: str, answer: Answer, where: str) -> Any:
        given = answer.given
        if given is None or isinstance(given, bool | np.bool_) or is_numbers(given):
            return given
        raise TypeError(
            f"{who}: expected {name} to hold MuonDimensionNumbers, None, True or "
            f"False, got {describe(given)}{where}."
        )

    if callable(rule) and jax.tree_util.all_leaves([rule]):
        found = rule_for(who, name, lambda shapes: answers(rule(shapes)), check)
    else:
        found = rule_for(who, name, answers(True if rule is None else rule), check)

    def matrices(tree: Any) -> list[Any]:
        shapes = map(np.shape, jax.tree.leaves(tree))
        return [
            as_plan(who, numbers, shape, at(tree, i))
            for i, (numbers, shape) in enumerate(zip(found(tree), shapes, strict=True))
        ]

    return matrices


def as_plan(who: str, numbers: Any, shape: Any, where: str) -> Matrices | None:
    """The plan for a leaf: None where it is no matrix, or is not to be one."""
    if isinstance(numbers, bool | np.bool_):
        numbers = MuonDimensionNumbers() if numbers and len(shape) == 2 else None
    if numbers is None:
        return None
    ndim = len(shape)
    ins, outs = (np.atleast_1d(np.asarray(axes, int)).tolist() for axes in numbers)
    axes = [axis % ndim for axis in (*ins, *outs) if -ndim <= axis < ndim]
    if len(set(axes)) < len(ins) + len(outs):
        raise ValueError(
            f"{who}: expected {MuonDimensionNumbers(*numbers)} to name different axes "
            f"of an array of shape {tuple(shape)}{where}."
        )
    ins, outs = axes[: len(ins)], axes[len(ins) :]
    fan_in, fan_out = (math.prod(shape[axis] for axis in part) for part in (ins, outs))
    stacked = [axis for axis in range(ndim) if axis not in axes]
    rows, columns = (ins, outs) if fan_in <= fan_out else (outs, ins)
    order = (*stacked, *rows, *columns)
    return Matrices(order, len(stacked), len(rows), fan_in, fan_out)


def to_matrices(x: Array, plan: Matrices) -> Array:
    """A leaf as an array [..., rows, columns]."""
    x = x.transpose(plan.order)
    stack, rest = x.shape[: plan.stacked], x.shape[plan.stacked :]
    rows, columns = math.prod(rest[: plan.rows]), math.prod(rest[plan.rows :])
    return x.reshape(*stack, rows, columns)


def from_matrices(x: Array, plan: Matrices, shape: tuple[int, ...]) -> Array:
    """The leaf of this shape that `to_matrices` took."""
    x = x.reshape([shape[axis] for axis in plan.order])
    return x.transpose(np.argsort(plan.order).tolist())


def orthogonalize(
    x: Array,
    coefficients: Array,
    steps: int,
    eps: Any,
    preconditioning: str,
    dtype: Any,
) -> Array:
    """Brings the singular values of matrices near 1, by odd polynomials of degree 5.

        x = a·x + (b·(x·xᴴ) + c·(x·xᴴ)²)·x        for each (a, b, c)

    after x has been scaled to singular values of about 1 at most. In a narrow `dtype`
    the factors of products are rounded, and nothing else: a coefficient in bfloat16
    would be off by 0.1 %.
    """
    if x.size == 0:
        return x
    x, gram = scaled(x, eps, preconditioning)
    for i in range(len(coefficients) if coefficients.ndim == 2 else steps):
        row = coefficients[i] if coefficients.ndim == 2 else coefficients
        a, b, c = (cast(row[j], x) for j in range(3))
        # Each rounded once for all that it enters, so that errors do not add up.
        x = rounded(x, dtype)
        gram = matmul(x, adjoint(x), dtype) if gram is None else gram
        gram = rounded(gram, dtype)
        even = product(gram, b) + product(matmul(gram, gram, dtype), c)
        x, gram = product(x, a) + matmul(even, x, dtype), None
    return x


def scaled(x: Array, eps: Any, preconditioning: str) -> tuple[Array, Array | None]:
    """x with singular values of about 1 at most, and x·xᴴ where that is at hand."""
    eps = hyperparameter(eps)
    if preconditioning == "frobenius":
        norm = unit_norm(x, MATRIX)
        return safe_divide(x, norm + cast(eps, norm)), None
    largest = jnp.max(jnp.abs(x), MATRIX, keepdims=True)
    largest = jnp.where(largest > 0, largest, 1)
    y = quotient(x, largest)
    if preconditioning == "spectral":
        norm = jnp.linalg.svd(y, compute_uv=False)[..., :1, None] * largest
        return safe_divide(x, norm + cast(eps, norm)), None
    gram = matmul(y, adjoint(y), None)
    if preconditioning == "aol":
        size = safe_sqrt(jnp.sum(jnp.abs(gram), -1, keepdims=True))
    else:
        size = safe_sqrt(unit_norm(gram, MATRIX))
    # √eps is the least size of x, so √eps / largest that of y.
    size = jnp.maximum(size, safe_sqrt(jnp.full_like(size, cast(eps, size))) / largest)
    factor = safe_divide(jnp.ones_like(size), size)
    return product(y, factor), product(product(gram, factor), factor.mT)


def matmul(x: Array, y: Array, dtype: Any) -> Array:
    """x·y with factors in `dtype`, or as they are; its sums are float32 or wider."""
    kept = wide = x.dtype
    if dtype is not None:
        x, y = x.astype(dtype), y.astype(dtype)
        wide = max(jnp.dtype(dtype), jnp.dtype(jnp.float32), key=lambda d: d.itemsize)
    # By default a GPU or TPU rounds factors in float32 to 8 or 10 bits.
    highest = lax.Precision.HIGHEST
    z = jnp.matmul(x, y, precision=highest, preferred_element_type=wide)
    return z.astype(kept)


def adjoint(x: Array) -> Array:
    """The conjugate transpose of matrices."""
    return x.mT.conj()


def named_coefficients(who: str, ns_coeffs: Any) -> Any:
    """The coefficients of that name, or those given, checked."""
    if isinstance(ns_coeffs, str):
        if ns_coeffs not in PRESETS:
            raise ValueError(
                f"{who}: expected ns_coeffs in {tuple(PRESETS)}, got {ns_coeffs!r}."
            )
        return PRESETS[ns_coeffs]
    shape = jax.eval_shape(jnp.asarray, ns_coeffs).shape
    if len(shape) not in (1, 2) or shape[-1] != 3 or shape[0] == 0:
        raise ValueError(
            f"{who}: expected ns_coeffs of shape (3,) or (n, 3), got {shape}."
        )
    return ns_coeffs


def scale_by_shape(
    who: str, dimension_numbers: Any, consistent_rms: Scalar | None
) -> GradientTransformation:
    """Scales matrices so that learning rates carry over between widths.

    u = g·√max(1, fan_out / fan_in),   or
    u = g·consistent_rms·√max(fan_in, fan_out)
    """
    if consistent_rms is not None:
        check_in(who, "consistent_rms", consistent_rms, "[0, inf)")
    plans_of = matrices_by(who, "muon_weight_dimension_numbers", dimension_numbers)

    def leaf(g: Array, plan: Matrices) -> Array:
        if consistent_rms is None:
            return times(g, math.sqrt(max(1.0, plan.fan_out / max(plan.fan_in, 1))))
        with float64():
            root = math.sqrt(max(plan.fan_in, plan.fan_out))
            factor = hyperparameter(consistent_rms) * root
        return times(g, factor)

    return stateless(
        lambda updates, params: map_leaves(who, leaf, updates, plans=plans_of(updates))[
            0
        ]
    )
