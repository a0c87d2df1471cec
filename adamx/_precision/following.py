"""What a trial shows with time: means that do not follow, codes that are too coarse."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx._numerics import is_narrow
from adamx._precision.fields import POSITIVE, moment_kind
from adamx._precision.symptoms import TAIL, Sign, rms
from adamx._precision.trial import (
    Side,
    Twins,
    after_the_fall,
    exactly,
    fallen,
    twins,
    typical,
)
from adamx._rules import is_hole

BEFORE, AFTER, HELD = 100, 200, 64  # steps
UNDERFLOW = 0.01  # the share of second moments that may be 0
FOLLOWED = 0.5  # the least share of a movement that must be followed
COARSE = 0.5  # the largest error of updates, relative to them


def slow(
    kept: Side,
    exact: Side,
    draw: Callable[..., Any],
    paths: list[str],
    s: float,
) -> Iterator[Sign]:
    """Both runs side by side, before and after half of the gradients fall."""
    if not any(map(is_low, jax.tree.leaves(kept.state))):
        return  # in float32 no codes are coarse, and no usual mean stands still
    leaves = jax.tree.leaves(kept.params)
    down = {
        path: fallen(np.arange(x.size)).reshape(x.shape)
        for path, x in zip(paths, leaves, strict=True)
    }
    kept1, exact1, sums1 = along(kept, exact, draw, BEFORE, s, typical, down)
    kept2, exact2, sums2 = along(kept1, exact1, draw, AFTER, s, after_the_fall, down)
    for path, row in sums1.items():
        error = math.sqrt(row.off / row.all) if row.all else 0.0
        if error > COARSE:
            yield Sign(
                "coarse state",
                "",
                path,
                error,
                f"after {BEFORE} steps updates are {error:.0%} off those of a state in "
                "float64",
                "take a finer codec, as companded_codec, or more bits",
            )
    ends = (
        list(twins(x.state, y.state)) for x, y in ((kept1, exact1), (kept2, exact2))
    )
    for first, last in zip(*ends, strict=True):
        if moment_kind(first.field) is POSITIVE:
            gains = [
                x[first.path].gain if first.path in x else 0 for x in (sums1, sums2)
            ]
            yield from stalled(first, last, down.get(first.path), gains, s)


def stalled(
    first: Twins, last: Twins, down: Any, gains: list[float], s: float
) -> Iterator[Sign]:
    """A second moment that is 0, or does not follow when gradients have fallen."""
    if down is None or down.shape != first.exact.shape:
        down = np.ones(first.exact.shape, bool)
    down = down & (first.exact > 0)
    fall = relative(first.exact - last.exact, first.exact, down)
    if fall < 1e-4:
        return
    if is_hole(first.kept):
        # Hidden in codes, but its root divides the updates.
        if fall < 0.01 or min(gains) <= 0:
            return
        followed = 1 - math.log(gains[1] / gains[0]) / (0.5 * math.log1p(-fall))
        why = "a step is too small for its codes"
        remedy = 'take compress_state(..., rounding="stochastic"), or a finer codec'
    else:
        old, new = exactly(first.kept), exactly(last.kept)
        zeros = float(np.mean((old == 0)[first.exact > 0]))
        if zeros > UNDERFLOW:
            yield Sign(
                "underflow",
                first.field.place,
                first.path,
                zeros,
                f"{zeros:.0%} of its entries are 0 in {first.kept.dtype} after "
                f"gradients of {s:.0e}, of which the squares are too small",
                "keep it in float32 or bfloat16, which have the range",
            )
            return
        followed = relative(old - new, first.exact, down) / fall
        why = f"a step is less than half of the last bit in {first.kept.dtype}"
        remedy = 'keep it in Storage(dtype, "stochastic"), or in float32'
    if followed < FOLLOWED:
        yield Sign(
            "stalled moment",
            first.field.place,
            first.path,
            1 - followed,
            f"{AFTER} steps after gradients fell 10 times it should be {fall:.1%} "
            f"smaller, and is {followed * fall:.1%}: {why}",
            remedy,
        )


def is_low(x: Any) -> bool:
    """Whether an array of a state has less than float32."""
    dtype = jnp.result_type(x)
    codes = jnp.issubdtype(dtype, jnp.integer) and jnp.iinfo(dtype).bits <= 8
    return jnp.ndim(x) > 0 and (is_narrow(dtype) or codes)


def relative(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> float:
    """The mean of x / y where the mask is."""
    return float(np.mean(x[mask] / y[mask])) if mask.any() else 0.0


class Sums(NamedTuple):
    """Of the last updates of an array, u of one run and v of the other."""

    both: float  # Σ u·v over the entries that fall
    own: float  # Σ |v|² over them
    off: float  # Σ |u - v|² over all
    all: float  # Σ |v|² over all

    @property
    def gain(self) -> float:
        """By how much u is larger than v where gradients fall."""
        return self.both / self.own if self.own > 0 else 0.0


def along(
    kept: Side,
    exact: Side,
    draw: Callable[..., Any],
    steps: int,
    s: float,
    of: Callable[..., np.ndarray],
    down: dict[str, np.ndarray],
) -> tuple[Side, Side, dict[str, Sums]]:
    """Both runs after the same gradients, and sums of their last updates."""
    sums = dict.fromkeys(down, Sums(0, 0, 0, 0))
    for t in range(steps):
        grads = draw(t, s, of)
        us, kept = kept.advance(grads)
        vs, exact = exact.advance(grads)
        if t < steps - TAIL:
            continue
        for u, v, (path, mask) in zip(us, vs, down.items(), strict=True):
            product, square = np.real(u * np.conj(v)), np.abs(v) ** 2
            terms = product[mask], square[mask], np.abs(u - v) ** 2, square
            new = (x + y.sum() for x, y in zip(sums[path], terms, strict=True))
            sums[path] = Sums(*map(float, new))
    return kept, exact, sums


def averages(
    kept: Side, exact: Side, draw: Callable[..., Any], steps: int, s: float
) -> Iterator[Sign]:
    """The means in narrow dtypes that do not follow when parameters have moved."""
    if not any(map(is_low, jax.tree.leaves(kept.state))):
        return
    away = [side.scaled(1.1).params for side in (kept, exact)]
    old = kept.at_count(steps), exact.at_count(steps)
    new = old
    for t in range(HELD):
        grads = draw(t, s, typical)
        new = tuple(
            side._replace(params=params).advance(grads)[1]
            for side, params in zip(new, away, strict=True)
        )
    pairs = (list(twins(x.state, y.state)) for x, y in (old, new))
    for first, last in zip(*pairs, strict=True):
        x, y = first.kept, last.kept
        if moment_kind(first.field) is not None or is_hole(x) or not is_low(x):
            continue
        move = last.exact - first.exact
        if rms(move) < 1e-4 * rms(first.exact) or not rms(move):
            continue
        followed = float(np.mean((exactly(y) - exactly(x)) * move) / np.mean(move**2))
        if followed < FOLLOWED:
            yield Sign(
                "stalled average",
                first.field.place,
                first.path,
                1 - followed,
                f"in {HELD} steps after parameters moved by 10 % it makes "
                f"{followed:.0%} of its way in float64: a step is less than half of "
                f"the last bit in {x.dtype}",
                'keep it in float32, or in Storage(dtype, "stochastic")',
            )
