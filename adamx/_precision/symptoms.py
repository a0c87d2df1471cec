"""What a trial shows at once: first steps that explode, updates that are lost."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx._numerics import is_narrow
from adamx._precision.fields import fields_of
from adamx._precision.trial import Side, even, exactly, spiky, typical
from adamx._rules import is_hole

TAIL = 16  # steps
LOST = 0.25  # the share of updates that may be lost
EXPLODED = 3.0  # times the largest step


class Sign(NamedTuple):
    """A finding at one array, and how bad it is there."""

    what: str
    field: str
    path: str
    amount: float
    reason: str
    remedy: str


def extremes(
    kept: Side, exact: Side | None, draw: Callable[..., Any], paths: list[str], s: float
) -> Iterator[Sign]:
    """What happens to first steps, with zeros, tiny, large and spiky gradients."""
    large, spikes = 1000 * s, f"of {s:.0e} beside {1e-5 * s:.0e}"
    runs = {f"of {x:g}": [(x, even), (0.0, even)] for x in (0.0, 1e-30)}
    runs |= {f"of {x:.0e}": [(x, even), (s, typical)] for x in (large, 1e30)}
    usual = {f"of {s:.0e}": [(s, typical)] * 4}
    usual |= {spikes: [(s, spiky)] * 3 + [(0.0, even)] * 8}
    for name, run in (runs | usual).items():
        side, other = kept, exact
        most, bound = np.zeros(len(paths)), np.zeros(len(paths))
        for t, (size, of) in enumerate(run):
            grads = draw(t, size, of)
            updates, side = side.advance(grads)
            most = np.maximum(most, list(map(largest, updates)))
            if other is not None:
                updates, other = other.advance(grads)
                bound = np.maximum(bound, list(map(largest, updates)))
        for path, u, v in zip(paths, most, bound, strict=True):
            if not np.isfinite(u):
                small = run[0][0] <= 1e-30
                why = ": root and eps underflow, and it is 0 / 0" if small else ""
                yield Sign(
                    "not finite",
                    "",
                    path,
                    1.0,
                    f"with gradients {name} an update is {u:.0f}{why}",
                    "take an eps that the dtype has, or keep moments in float32"
                    if small
                    else "keep moments in float32, in an optimizer that caps g²",
                )
            elif name in usual and u > EXPLODED * v > 0:
                yield Sign(
                    "exploding step",
                    "",
                    path,
                    u / v,
                    f"with gradients {name} a step is {u:.1e}, and {v:.1e} in float64: "
                    "a second moment has become 0",
                    "take a codec without a code of 0 for what is positive, as "
                    "companded_codec, and an optimizer whose steps have a bound, as "
                    "adamx.adam",
                )
        if other is not None and run[0][0] == large:
            yield from overflowed(side, other, name)


def largest(u: np.ndarray) -> float:
    """max |u|, NaN if there is one."""
    return float(np.max(np.abs(u), initial=0))


def overflowed(side: Side, other: Side, name: str) -> Iterator[Sign]:
    """The fields of a state that are infinite, and are not in float64."""
    meant = infinite(other)
    for place, count in infinite(side).items():
        if count and not meant.get(place):
            yield Sign(
                "overflow",
                place,
                "",
                count,
                f"after gradients {name} {count} of its arrays are no longer finite",
                "keep it in float32 or bfloat16, which have the range",
            )


def infinite(side: Side) -> dict[str, int]:
    """How many arrays of each field are not finite."""
    return {
        field.place: sum(
            not np.isfinite(exactly(x)).all()
            for x in field.leaves
            if not is_hole(x) and jnp.issubdtype(jnp.result_type(x), jnp.inexact)
        )
        for field in fields_of(side.state)
    }


def lost(
    side: Side, draw: Callable[..., Any], paths: list[str], steps: int, s: float
) -> Iterator[Sign]:
    """The parameters that the largest updates of a run do not move."""
    leaves = jax.tree.leaves(side.params)
    worst = [(0.0, 0.0)] * len(paths)  # the size of an update, the share that is lost

    def look(now: Side, t: int) -> Side:
        updates, new = now.advance(draw(t, s, typical))
        old, moved = (jax.tree.leaves(x.params) for x in (now, new))
        for j, (u, p, q) in enumerate(zip(updates, old, moved, strict=True)):
            moves = u != 0
            still = moves & (np.asarray(p) == np.asarray(q))
            seen = rms(u[moves]), float(still.sum() / max(moves.sum(), 1))
            worst[j] = max(worst[j], seen)
        return new

    now = side
    for t in range(TAIL):  # in a row, for what moves every few steps only
        now = look(now, t)
    for count in sorted({round(x) for x in np.geomspace(1, steps, 16)}):
        look(side.at_count(count), count)
    for path, (u, share), x in zip(paths, worst, leaves, strict=True):
        if share > LOST:
            p = rms(exactly(x))
            half = p * float(jnp.finfo(x.dtype).eps) / 2
            narrow = "wrap the optimizer in master_weights, or add round_stochastically"
            wide = "take a larger learning_rate, or freeze it"
            yield Sign(
                "lost updates",
                "",
                path,
                share,
                f"{share:.0%} of its entries in {x.dtype} are not moved by an update "
                f"of {u:.0e}: half of the last bit of {p:.0e} is {half:.0e}",
                narrow if is_narrow(x.dtype) else wide,
            )


def rms(x: np.ndarray) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.abs(x) ** 2))) if x.size else 0.0
