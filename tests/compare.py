"""The comparison of a transformation with its oracle, in units in the last place.

An error is measured against the rounding error that nobody can avoid: that of the
largest term of a sum, not of the sum. The same algorithm fed with |g| and |p| in the
place of g and p cancels nowhere, so its result, the *magnitude*, is the sum of the
sizes of all terms; errors are counted in units in the last place of it. For Adam that
divides out the cancellation in b1·mu + (1 - b1)·g, the only one there is.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from streams import at_step

COUNTS = {"count", "count_m2", "t"}  # Optax's names of counters


def leaves_of(tree):
    """The arrays of a tree, in NumPy float64 or complex128, or bool."""

    def wide(x):
        x = np.asarray(x)
        if x.dtype == bool:
            return x
        is_complex = jnp.issubdtype(x.dtype, jnp.complexfloating)
        return x.astype(np.complex128 if is_complex else np.float64)

    return [wide(x) for x in jax.tree.leaves(tree)]


def dtypes_of(tree):
    """The dtypes of the arrays of a tree."""
    return [jnp.dtype(x.dtype) for x in jax.tree.leaves(tree)]


INNER = {"inner_state", "inner_states"}  # of the states of masked and partition


def fields(state):
    """The fields of all the NamedTuples in a state, by name."""
    found = {}
    parts = getattr(state, "_fields", None)
    if parts is not None:
        for name in parts:
            value = getattr(state, name)
            is_state = hasattr(value, "_fields") or type(value) is tuple
            is_state = is_state or name in INNER
            found |= fields(value) if is_state else {name: value}
    elif isinstance(state, tuple):
        for part in state:
            found |= fields(part)
    elif isinstance(state, dict):
        for part in state.values():
            found |= fields(part)
    return found


def with_count(state, count):
    """The state with each of its counters at `count`."""
    if hasattr(state, "_fields"):
        new = {name: with_count(getattr(state, name), count) for name in state._fields}
        for name in COUNTS.intersection(new):
            new[name] = jnp.asarray(count, jnp.int32)
        return type(state)(**new)
    if isinstance(state, tuple):
        return tuple(with_count(part, count) for part in state)
    if isinstance(state, dict):
        return {name: with_count(part, count) for name, part in state.items()}
    return state


@functools.cache
def compiled(case):
    """All updates and states of a trajectory, in one scan."""
    tx = case.tx

    @jax.jit
    def trajectory(state, params, grads):
        def step(state, now):
            g, p = now
            updates, state = tx.update(g, state, p)
            return state, (updates, state)

        return lax.scan(step, state, (grads, params))[1]

    return trajectory


def params_of(case, params, grads):
    """The parameters before each step: given, so that no error of theirs adds up."""
    steps = len(jax.tree.leaves(grads)[0])
    rng = np.random.default_rng(3)

    def path(p):
        walk = np.broadcast_to(p, (steps, *p.shape))
        if not case.moves:
            return walk
        away = 0.1 * rng.normal(size=walk.shape)
        away[0] = 0
        return (walk.astype(leaves_of(p)[0].dtype) + away).astype(p.dtype)

    return jax.tree.map(path, params)


def actual(case, params, grads, count=0):
    """Updates and states of adamx, stacked along steps."""
    state = with_count(case.tx.init(params), count)
    updates, states = compiled(case)(state, params_of(case, params, grads), grads)
    return updates, fields(states)


def expected(step, case, params, grads, count=0):
    """Updates and states of the oracle `step`: lists of arrays, stacked along steps."""
    shapes = [p.shape for p in jax.tree.leaves(params)]
    params = leaves_of(params_of(case, params, grads))
    grads = leaves_of(grads)
    if case.whole_tree:
        updates, states = walk(step, params, grads, count)
        states = {
            k: [np.stack(x) for x in zip(*(as_list(s[k]) for s in states), strict=True)]
            for k in states[0]
        }
        return [np.stack(x) for x in zip(*updates, strict=True)], states
    if case.elementwise:  # all at once is faster
        grads, params = (
            [np.concatenate([x.reshape(len(x), -1) for x in xs], axis=1)]
            for xs in (grads, params)
        )
    updates, states = [], []
    for p, g in zip(params, grads, strict=True):
        u, s = walk(step, p, g, count)
        updates.append(np.stack(u))
        states.append({k: np.stack([x[k] for x in s]) for k in s[0]})
    # What is masked out has no state.
    names = dict.fromkeys(k for s in states for k in s)
    states = {k: [s[k] for s in states if k in s] for k in names}
    if case.elementwise:
        updates = divide(updates[0], shapes)
        states = {k: divide(x, shapes) for k, (x,) in states.items()}
    return updates, states


def as_list(value):
    """The arrays of a part of a state: one for each leaf, or one for the tree."""
    return value if isinstance(value, list) else [value]


def walk(step, params, grads, count):
    """The oracle's updates and states, step by step."""
    state, updates, states = {}, [], []
    steps = range(len(grads[0])) if isinstance(grads, list) else range(len(grads))
    for i in steps:
        g, p = at_step(grads, i), at_step(params, i)
        u, state = step(state, g, p, count + i + 1)
        updates.append(u)
        states.append({k: v for k, v in state.items() if not isinstance(v, dict)})
    return updates, states


def divide(flat, shapes):
    """The arrays of these shapes that were laid end to end."""
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    parts = np.split(flat, ends[:-1], axis=1)
    return [x.reshape(len(x), *s) for x, s in zip(parts, shapes, strict=True)]


def magnitude(case):
    """The step whose results say how large an unavoidable rounding error is."""
    if case.magnitude:
        return functools.partial(case.magnitude, case)

    def step(state, g, p, t):
        if case.whole_tree:
            g, p = ([np.abs(x) for x in xs] for xs in (g, p))
            return case.step(state, g, p, t)
        return case.step(state, np.abs(g), np.abs(p), t)

    return step


def ulp(scale, dtype):
    """The distance between neighboring numbers of a dtype at the size of `scale`."""
    info = jnp.finfo(dtype)
    _, exponent = np.frexp(np.maximum(np.abs(scale), float(info.tiny)))
    return np.ldexp(float(info.eps), exponent - 1)


def errors(got, want, scale, dtype):
    """|got - want| in ulps of a dtype at the size of `scale`.

    XLA flushes subnormal numbers of float32 and of wider dtypes to zero, so what is
    smaller than a normal number is no error.
    """
    flushed = 0.0 if dtype == jnp.float16 else float(jnp.finfo(dtype).tiny)
    return np.maximum(np.abs(got - want) - flushed, 0) / ulp(scale, dtype)


def measure(case, results, step, params, grads, count=0):
    """The dtype, the mean and the largest error in ulps of each part of the results.

    `results` are those of `actual`; `step` is the oracle to compare them with.
    """
    updates, states = results
    want_updates, want_states = expected(step, case, params, grads, count)
    size_updates, size_states = expected(magnitude(case), case, params, grads, count)
    rows = {"updates": summary(updates, want_updates, size_updates)}
    for name, want in want_states.items():
        rows[name] = summary(states[name], want, size_states[name])
    return rows


def is_exact(dtype):
    """Whether a dtype, of a flag or a counter, has no rounding errors."""
    return not jnp.issubdtype(dtype, jnp.inexact)


def summary(got, want, scale):
    """The dtype of a tree, and the mean and the largest error over its arrays."""
    dtypes = dtypes_of(got)
    error = []
    for x, y, s, dtype in zip(leaves_of(got), want, scale, dtypes, strict=True):
        wrong = np.where(x == y, 0, np.inf)
        error.append(np.ravel(wrong if is_exact(dtype) else errors(x, y, s, dtype)))
    error = np.concatenate(error)
    error = np.where(np.isnan(error), np.inf, error)
    return dtypes[0], float(np.mean(error)), float(np.max(error))


def limits(case, name, dtype, grads_dtype):
    """The mean and the largest error that are allowed in a part of the results."""
    if is_exact(dtype):
        return 0.0, 0.0
    mean, worst = case.mean_ulps, case.max_ulps
    if jnp.finfo(dtype).bits == 64:  # in which the oracle rounds, too
        mean, worst = 8 * mean, 4 * worst
    eps = float(jnp.finfo(dtype).eps)
    if case.stored and (name == "updates" or dtype == case.stored):
        coarser = float(jnp.finfo(case.stored).eps) / eps
        return mean * coarser, worst * coarser
    if jnp.finfo(grads_dtype).bits == 16 and name not in case.first_state:
        # Computed in float32, and rounded to nearest at the end of each block of a
        # chain: by up to half an ulp, which the next block may turn into a whole one.
        finer = float(jnp.finfo(jnp.float32).eps)
        narrow = float(jnp.finfo(grads_dtype).eps)
        mean = (mean * finer + (0.3 * case.blocks) * narrow) / eps
        worst = (worst * finer + (case.blocks - 0.49) * narrow) / eps
    return mean, worst


def faults(case, results, step, params, grads, count=0):
    """What is wrong with the results according to the oracle `step`, in lines."""
    lines = []
    rows = measure(case, results, step, params, grads, count)
    grads_dtype = dtypes_of(grads)[0]
    for name, (dtype, mean, worst) in rows.items():
        mean_limit, worst_limit = limits(case, name, dtype, grads_dtype)
        if mean > mean_limit or worst > worst_limit:
            lines.append(
                f"{name} ({dtype}): mean {mean:.3g} ulp (limit {mean_limit:.3g}), "
                f"worst {worst:.3g} ulp (limit {worst_limit:.3g})"
            )
    return lines
