"""A step of Adam or AdamW: in C++ on CPU, elsewhere as XLA fuses the chain."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._align import align
from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    OptState,
    Params,
    Updates,
    check_in,
    check_state,
)
from adamx._chain import chain
from adamx._fused.coded import LONGEST, Coded, Compression, call_coded, parts_of
from adamx._fused.scalars import Hyperparameters, scalars
from adamx._kernels import kernel
from adamx._kernels import rows as kernel_rows
from adamx._numerics import complement, increment, is_narrow
from adamx._optimizers.adam import ScaleByAdamState, scale_by_adam
from adamx._precision.compress_state import CompressedState
from adamx._rows import is_rows
from adamx._rules import as_bool, rule_for
from adamx._stateful import mu_and_nu
from adamx._touched import arrays_of
from adamx._transforms.clip import clip_by_global_norm
from adamx._transforms.decay import WeightDecaySchedule, descent
from adamx._transforms.scale import ScaleByScheduleState, schedule_value
from adamx._tree import apply_updates, draws_of, with_leaves
from adamx._wrappers.on_rows import on_rows


class FusedOptimizer(NamedTuple):
    """An optimizer whose step includes the parameters.

    Args:
      init: `params -> state`, that of the optimizer of the same name.
      step: `(params, grads, state) -> (params, state)`; keeps the structure, shapes and
        dtypes of both. Gradients of tables may be `SparseRows`.
      on_cpu: What a step is on CPU, and why.

    Example:
      >>> tx = adamx.fused_adam(0.5)
      >>> params, state = tx.step(jnp.ones(2), jnp.ones(2), tx.init(jnp.ones(2)))
      >>> print(params)
      [0.5 0.5]
    """

    init: Callable[[Params], OptState]
    step: Callable[[Params, Updates, OptState], tuple[Params, OptState]]
    on_cpu: str


def fused(
    who: str,
    tx: GradientTransformation,
    given: Hyperparameters,
    mu_dtype: Any,
    nu_dtype: Any,
    mask: MaskOrFn | None,
    nesterov: bool,
    compression: Compression | None = None,
) -> FusedOptimizer:
    """The fused form of `tx`, the chain of these arguments."""
    if given.max_norm is not None:
        check_in(who, "max_norm", given.max_norm, "(0, inf)")
    usable, how = kernel.load()
    if compression:
        compression.check_codec(who)
        tx = compression.around(tx)
        if not compression.group_size:
            usable, how = False, f"no kernel for {compression.codec.name}"
    numbers = {k: v for k, v in given._asdict().items() if not is_dynamic(v)}

    def chain_of(h: Hyperparameters) -> list[GradientTransformation]:
        moments = (h.b1, h.b2, h.eps, h.eps_root, mu_dtype)
        head = scale_by_adam(*moments, nesterov=nesterov, nu_dtype=nu_dtype)
        return [head, *descent(who, h.learning_rate, h.weight_decay, mask)]

    def opened(held: Any) -> Any:
        return compression.opened(held) if compression else held

    def plain(
        arrays: dict[str, Array], params: Params, grads: Updates, held: Any
    ) -> tuple[Params, Any]:
        h = Hyperparameters(**numbers, **arrays)
        head, *others = chain_of(h)
        tail = [tx.init(params) for tx in others]
        tx = chain(head, *others)
        tx = compression.around(tx) if compression else tx
        before = [] if h.max_norm is None else [clip_by_global_norm(h.max_norm)]
        first = [clip.init(params) for clip in before]
        updates, state = on_rows(chain(*before, tx)).update(
            jax.tree.map(widened, grads), (*first, joined(held, tail)), params
        )
        return apply_updates(params, updates), parted(state[-1])[0]

    def in_one_pass(
        arrays: dict[str, Array], params: Params, grads: Updates, held: Any
    ) -> tuple[Params, Any]:
        h, adam = Hyperparameters(**numbers, **arrays), opened(held)
        rows, treedef = aligned(who, grads, adam, params)
        new: list[Any] = list(rows)
        kinds = [kernel_for(row) for row in rows]
        if not all(kinds):
            # XLA leaves out of it what the kernels do.
            others, state = plain(arrays, params, grads, held)
            new, _ = aligned(who, grads, opened(state), others)
        w1, w2 = complement(h.b1), complement(h.b2)
        storages = [m.storage for m in mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)]
        small = arrays_of(grads)
        draws = draws_of(small, storages, increment(adam.count))
        no_keys = np.zeros(len(rows), np.uint32)
        keys = [draws[j][0] if j in draws else no_keys for j in (0, 1)]
        ways = ["stochastic" if j in draws else "nearest" for j in (0, 1)]
        calls: dict[str, Any] = {"whole": (kernel.call, keys, ways)}
        calls["rows"] = (kernel_rows.call, keys, ways)
        if compression:
            own = compression.keys(small, held), compression.roundings()
            calls["coded"] = (call_coded, *own)
        decays = [h.weight_decay is not None] * len(rows)
        if mask is not None:
            decays = rule_for(who, "mask", mask, as_bool)(small)
        shared = scalars(h, w1, w2, adam.count, nesterov, grads)
        for kind, (call, keys, ways) in calls.items():
            chosen = [i for i, own in enumerate(kinds) if own == kind]
            results = call(
                [rows[i] for i in chosen],
                [decays[i] for i in chosen],
                shared,
                [k[np.array(chosen, int)] for k in keys],
                nesterov=nesterov,
                roundings=ways,
            )
            for i, result in zip(chosen, results, strict=True):
                new[i] = (None, *result)
        _, mu, nu, p = map(list, zip(*new, strict=True))
        moments = treedef.unflatten(mu), treedef.unflatten(nu)
        adam = ScaleByAdamState(increment(adam.count), *moments)
        if compression:
            adam = compression.closed(adam, increment(held.count))
        return with_leaves(params, small, p), adam

    @jax.custom_jvp
    def kernel_or_plain(*args: Any) -> tuple[Params, Any]:
        return lax.platform_dependent(*args, cpu=in_one_pass, default=plain)

    @kernel_or_plain.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return jax.jvp(plain, primals, tangents)

    @jax.jit
    def run(
        arrays: dict[str, Array], params: Params, grads: Updates, held: Any
    ) -> tuple[Params, Any]:
        if compression and not compression.group_size:
            return plain(arrays, params, grads, held)
        adam = opened(held)
        rows, _ = aligned(who, grads, adam, params)
        leaves = parts_of(jax.tree.leaves(rows))
        shared = arrays, adam.count, held.count
        local = bool(leaves) and kernel.is_local(leaves, shared)
        if usable and any(map(kernel_for, rows)) and local:
            return kernel_or_plain(arrays, params, grads, held)
        return plain(arrays, params, grads, held)

    def step(
        params: Params, grads: Updates, state: OptState
    ) -> tuple[Params, OptState]:
        if compression:
            compression.check(who, state)
        inner = state.inner_state if compression else state
        check_parts(who, inner, 2 + (given.weight_decay is not None))
        held, tail = parted(state)
        arrays = {k: v for k, v in given._asdict().items() if is_dynamic(v)}
        kinds = {"weight_decay": WeightDecaySchedule}
        kinds |= {"learning_rate": ScaleByScheduleState}
        for name, part in zip(reversed(kinds), reversed(tail), strict=False):
            if callable(arrays.get(name)):
                inner = getattr(part, "inner_state", part)
                check_state(who, inner, kinds[name])
                arrays[name] = schedule_value(who, arrays[name], inner.count)
        params, held = run(arrays, params, grads, held)
        # All else in a state is counts.
        return params, joined(held, jax.tree.map(increment, tail))

    on_cpu = f"one pass in C++ ({how})" if usable else f"XLA's passes ({how})"
    return FusedOptimizer(tx.init, step, on_cpu)


def is_dynamic(x: Any) -> bool:
    """Whether a hyperparameter is known only when the program runs."""
    return callable(x) or isinstance(x, jax.Array | np.ndarray)


def check_parts(who: str, state: Any, n: int) -> None:
    """Raises unless a state has n parts, that of Adam first."""
    if type(state) is not tuple or len(state) != n:
        raise ValueError(
            f"{who}: expected a state of {n} parts, got {type(state).__name__}; make "
            "it with its init and call step(params, grads, state)."
        )
    check_state(who, state[0], ScaleByAdamState)


def parted(state: Any) -> tuple[Any, tuple[Any, ...]]:
    """A state, of its parts only that of Adam; and the others, which are counts."""
    if isinstance(state, CompressedState):
        adam, *tail = state.inner_state
        return state._replace(inner_state=(adam,)), tuple(tail)
    adam, *tail = state
    return adam, tuple(tail)


def joined(held: Any, tail: Iterable[Any]) -> Any:
    """The state of which `parted` makes these."""
    if isinstance(held, CompressedState):
        return held._replace(inner_state=(*held.inner_state, *tail))
    return (held, *tail)


def aligned(
    who: str, grads: Updates, adam: ScaleByAdamState, params: Params
) -> tuple[list[tuple[Any, ...]], Any]:
    """The leaves g, mu, nu, p side by side, and the structure; g may be `SparseRows`.

    Raises unless a table has the shape that its rows say.
    """
    given, _ = jax.tree.flatten(grads, is_leaf=is_rows)

    def whole(g: Any) -> Any:
        if not is_rows(g):
            return g
        shape = (g.num_rows, *g.values.shape[1:])
        return jax.ShapeDtypeStruct(shape, g.values.dtype)

    wholes = jax.tree.map(whole, grads, is_leaf=is_rows)
    rows, treedef = align(who, wholes, (adam.mu, adam.nu), (params,))
    return [
        (g, *row[1:]) if is_rows(g) else row for g, row in zip(given, rows, strict=True)
    ], treedef


def kernel_for(row: tuple[Any, ...]) -> str | None:
    """Which kernel knows the dtypes of a leaf and how its moments are kept."""
    g, *kept = row
    kind = "whole"
    if any(isinstance(x, Coded) for x in kept):
        mu, nu, _ = kept
        both = isinstance(mu, Coded) and isinstance(nu, Coded)
        if is_rows(g) or not both or max(mu.group, nu.group) > LONGEST:
            return None
        kind = "coded"
    if is_rows(g):
        if g.ids.dtype != jnp.int32 or g.ids.shape != g.values.shape[:1]:
            return None
        g, kind = g.values, "rows"
    known = (jnp.float32, jnp.bfloat16)
    fits = kept[-1].size > 0 and all(x.dtype in known for x in (g, *kept))
    return kind if fits else None


def widened(g: Array) -> Array:
    """A gradient in float32 or wider, so that updates are not rounded on the way."""
    return g.astype(jnp.float32) if is_narrow(g.dtype) else g
