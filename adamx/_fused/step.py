"""A step of Adam or AdamW: in C++ on CPU, elsewhere as XLA fuses the chain."""

from collections.abc import Callable
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
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_in,
    check_state,
)
from adamx._chain import chain
from adamx._kernels import kernel
from adamx._kernels import rows as kernel_rows
from adamx._numerics import (
    as_float64,
    cast,
    complement,
    float64,
    hyperparameter,
    increment,
    is_narrow,
    parts,
)
from adamx._optimizers.adam import ScaleByAdamState, corrections, scale_by_adam
from adamx._rows import is_rows
from adamx._rules import as_bool, rule_for
from adamx._stateful import mu_and_nu
from adamx._touched import arrays_of
from adamx._transforms.clip import clip_by_global_norm, clipping_factor
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


class Hyperparameters(NamedTuple):
    """What a step depends on; arrays among them are arguments of its program."""

    learning_rate: ScalarOrSchedule | None
    b1: Scalar
    b2: Scalar
    eps: Scalar
    eps_root: Scalar
    weight_decay: ScalarOrSchedule | None
    max_norm: Scalar | None


def fused(
    who: str,
    tx: GradientTransformation,
    given: Hyperparameters,
    mu_dtype: Any,
    nu_dtype: Any,
    mask: MaskOrFn | None,
    nesterov: bool,
) -> FusedOptimizer:
    """The fused form of `tx`, the chain of these arguments."""
    if given.max_norm is not None:
        check_in(who, "max_norm", given.max_norm, "(0, inf)")
    usable, how = kernel.load()
    numbers = {k: v for k, v in given._asdict().items() if not is_dynamic(v)}

    def chain_of(h: Hyperparameters) -> list[GradientTransformation]:
        moments = (h.b1, h.b2, h.eps, h.eps_root, mu_dtype)
        head = scale_by_adam(*moments, nesterov=nesterov, nu_dtype=nu_dtype)
        return [head, *descent(who, h.learning_rate, h.weight_decay, mask)]

    def plain(
        arrays: dict[str, Array], params: Params, grads: Updates, adam: Any
    ) -> tuple[Params, Any]:
        h = Hyperparameters(**numbers, **arrays)
        before = [] if h.max_norm is None else [clip_by_global_norm(h.max_norm)]
        head, *after = chain_of(h)
        first, last = ([tx.init(params) for tx in txs] for txs in (before, after))
        updates, state = on_rows(chain(*before, head, *after)).update(
            jax.tree.map(widened, grads), (*first, adam, *last), params
        )
        return apply_updates(params, updates), state[len(before)]

    def in_one_pass(
        arrays: dict[str, Array], params: Params, grads: Updates, adam: Any
    ) -> tuple[Params, Any]:
        h = Hyperparameters(**numbers, **arrays)
        rows, treedef = aligned(who, grads, adam, params)
        new: list[Any] = list(rows)
        if not all(map(fits, rows)):
            # XLA leaves out of it what the kernel does.
            others, state = plain(arrays, params, grads, adam)
            new, _ = aligned(who, grads, state, others)
        w1, w2 = complement(h.b1), complement(h.b2)
        storages = [m.storage for m in mu_and_nu(who, mu_dtype, nu_dtype, w1, w2)]
        small = arrays_of(grads)
        draws = draws_of(small, storages, increment(adam.count))
        no_keys = np.zeros(len(rows), np.uint32)
        keys = [draws[j][0] if j in draws else no_keys for j in (0, 1)]
        decays = [h.weight_decay is not None] * len(rows)
        if mask is not None:
            decays = rule_for(who, "mask", mask, as_bool)(small)
        shared = scalars(h, w1, w2, adam.count, nesterov, grads)
        for call, of_rows in ((kernel.call, False), (kernel_rows.call, True)):
            chosen = [
                i
                for i, row in enumerate(rows)
                if fits(row) and is_rows(row[0]) == of_rows
            ]
            results = call(
                [rows[i] for i in chosen],
                [decays[i] for i in chosen],
                shared,
                [k[np.array(chosen, int)] for k in keys],
                nesterov=nesterov,
                roundings=["stochastic" if j in draws else "nearest" for j in (0, 1)],
            )
            for i, result in zip(chosen, results, strict=True):
                new[i] = (None, *result)
        _, mu, nu, p = map(list, zip(*new, strict=True))
        moments = treedef.unflatten(mu), treedef.unflatten(nu)
        count = increment(adam.count)
        return with_leaves(params, small, p), ScaleByAdamState(count, *moments)

    @jax.custom_jvp
    def kernel_or_plain(*args: Any) -> tuple[Params, Any]:
        return lax.platform_dependent(*args, cpu=in_one_pass, default=plain)

    @kernel_or_plain.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return jax.jvp(plain, primals, tangents)

    @jax.jit
    def run(
        arrays: dict[str, Array], params: Params, grads: Updates, adam: Any
    ) -> tuple[Params, Any]:
        rows, _ = aligned(who, grads, adam, params)
        leaves = jax.tree.leaves(rows)
        local = bool(leaves) and kernel.is_local(leaves, (arrays, adam.count))
        if usable and any(map(fits, rows)) and local:
            return kernel_or_plain(arrays, params, grads, adam)
        return plain(arrays, params, grads, adam)

    def step(
        params: Params, grads: Updates, state: OptState
    ) -> tuple[Params, OptState]:
        adam, *tail = check_parts(who, state, 2 + (given.weight_decay is not None))
        arrays = {k: v for k, v in given._asdict().items() if is_dynamic(v)}
        kinds = {"weight_decay": WeightDecaySchedule}
        kinds |= {"learning_rate": ScaleByScheduleState}
        for name, part in zip(reversed(kinds), reversed(tail), strict=False):
            if callable(arrays.get(name)):
                inner = getattr(part, "inner_state", part)
                check_state(who, inner, kinds[name])
                arrays[name] = schedule_value(who, arrays[name], inner.count)
        params, adam = run(arrays, params, grads, adam)
        # All else in a state is counts.
        return params, (adam, *jax.tree.map(increment, tail))

    on_cpu = f"one pass in C++ ({how})" if usable else f"XLA's passes ({how})"
    return FusedOptimizer(tx.init, step, on_cpu)


def is_dynamic(x: Any) -> bool:
    """Whether a hyperparameter is known only when the program runs."""
    return callable(x) or isinstance(x, jax.Array | np.ndarray)


def check_parts(who: str, state: Any, n: int) -> tuple[Any, ...]:
    """The parts of a state, checked."""
    if type(state) is not tuple or len(state) != n:
        raise ValueError(
            f"{who}: expected a state of {n} parts, got {type(state).__name__}; make "
            "it with its init and call step(params, grads, state)."
        )
    check_state(who, state[0], ScaleByAdamState)
    return state


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


def fits(row: tuple[Any, ...]) -> bool:
    """Whether the kernel knows the dtypes of a leaf and its moments."""
    g, *kept = row
    if is_rows(g):
        if g.ids.dtype != jnp.int32 or g.ids.shape != g.values.shape[:1]:
            return False
        g = g.values
    known = (jnp.float32, jnp.bfloat16)
    return kept[0].size > 0 and all(x.dtype in known for x in (g, *kept))


def widened(g: Array) -> Array:
    """A gradient in float32 or wider, so that updates are not rounded on the way."""
    return g.astype(jnp.float32) if is_narrow(g.dtype) else g


def scalars(
    h: Hyperparameters, w1: Any, w2: Any, count: Array, nesterov: bool, grads: Updates
) -> Array:
    """What all elements share, f32[17], in the order of `Scalars` in adamw.h."""
    eps, eps_root = hyperparameter(h.eps), hyperparameter(h.eps_root)
    rate = 1.0 if h.learning_rate is None else hyperparameter(h.learning_rate)
    decay = 0.0 if h.weight_decay is None else h.weight_decay
    b1 = hyperparameter(h.b1)
    clip = 1.0 if h.max_norm is None else clipping_factor(grads, h.max_norm)
    with float64():
        shared = corrections(count, b1, w1, w2, eps, eps_root, nesterov)
        factor, floor, offset, ahead, least = shared
        chosen = [*nearer(w1), *nearer(w2)]
    chosen += [*two(ahead), *two(w1), one(offset), one(least), *two(factor)]
    chosen += [one(floor), one(decay), *two(rate), one(clip)]
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in chosen])


def nearer(w: Any) -> tuple[Any, Any]:
    """The weight of the farther end, and 1 where that is the old mean; as in `lerp`."""
    w = as_float64(w)
    far = w > 0.5
    return one(jnp.where(far, 1 - w, w)), far.astype(jnp.float32)


def two(c: Any) -> tuple[Any, Any]:
    """A scalar as what `times` makes of it."""
    power, rest = parts(c, jnp.float32)
    return power, 0.0 if rest is None else rest


def one(c: Any) -> Any:
    """A scalar in float32."""
    return cast(c, jnp.float32(0))
