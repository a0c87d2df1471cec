"""The shape that most methods share: a step counter and moments like the parameters."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax

from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Updates,
    check_state,
)
from adamx._numerics import float64, increment
from adamx._rounding import Storage, storage_of
from adamx._tree import map_leaves, zero_count, zeros_like


class Moment(NamedTuple):
    """How a field of a state starts that is a tree like the parameters."""

    storage: Storage | None = None  # None is float32 or wider
    real: bool = False  # for |g|², which is real for a complex g
    fill: Any = 0.0


def mu_and_nu(
    who: str, mu_dtype: Any, nu_dtype: Any, w1: Any, w2: Any, fill: Any = 0.0
) -> tuple[Moment, Moment]:
    """The moments of Adam: means of g and of |g|², which starts at `fill`."""
    mu = storage_of(who, "mu_dtype", mu_dtype, w1)
    nu = storage_of(who, "nu_dtype", nu_dtype, w2, real=True)
    return Moment(mu), Moment(nu, real=True, fill=fill)


def stateful(
    who: str,
    kind: Any,
    leaf: Callable[..., Any],
    scalars: Callable[..., tuple[Any, ...]] = lambda *counts: (),
    *,
    check: Callable[[str, Params], Any] | None = None,
    plans: Callable[[Updates], Sequence[Hashable]] | None = None,
    **moments: Moment,
) -> GradientTransformation:
    """The transformation whose state is a `kind` and whose maths for one array `leaf`.

    `moments` says how those fields start that are like the parameters; all others count
    the updates applied so far. `leaf(g, *moments, *scalars)` returns u and the new
    moments; `scalars(*counts)`, called in `float64()` with the counts before the
    update, returns what all leaves share. `check(who, params)` raises in init what else
    there is to raise; `plans(updates)` is as in `map_leaves`.
    """
    counters = [name for name in kind._fields if name not in moments]

    @jax.jit
    def shared(*counts: Array) -> tuple[Any, ...]:
        with float64():
            return scalars(*counts)

    def init(params: Params) -> OptState:
        if check:
            check(who, params)
        state = {
            name: zeros_like(who, params, storage, real=real, fill=fill)
            for name, (storage, real, fill) in moments.items()
        }
        return kind(**state, **{name: zero_count() for name in counters})

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        del params, extra_args
        check_state(who, state, kind)
        counts = [getattr(state, name) for name in counters]
        new = list(map(increment, counts))
        updates, *trees = map_leaves(
            who,
            leaf,
            updates,
            *(getattr(state, name) for name in moments),
            scalars=shared(*counts),
            plans=plans(updates) if plans else None,
            storages=[moment.storage for moment in moments.values()],
            count=new[0] if new else None,
        )
        fields = zip([*counters, *moments], [*new, *trees], strict=True)
        return updates, kind(**dict(fields))

    return GradientTransformation(init, update)
