"""How true to Adam's moments and steps a way to keep them is, given the same gradients.

Each way, adamx's and others', gets the gradients of an exact run and is compared with
it: nothing that a run would forgive is hidden by its loss.
"""

import jax
import jax.numpy as jnp
from jax import lax
from recipes import directions

import adamx

B1, B2 = 0.9, 0.999  # the defaults, here and there
SHAPE = 64, 128


def bound(t):
    """The largest |mu / c1| / √(nu / c2) that t gradients can make: Cauchy-Schwarz."""
    r, w1, w2 = B1**2 / B2, 1 - B1, 1 - B2
    c1, c2 = 1 - B1**t, 1 - B2**t
    return w1 / c1 * (c2 / w2 * (1 - r**t) / (1 - r)) ** 0.5


def in_training(problem, steps):
    """Ways to keep the moments beside the exact run that trains a model."""
    ways = directions()
    exact = ways.pop("float32").tx
    rate = adamx.cosine_decay_schedule(problem.learning_rate, steps)

    def step(carry, i):
        params, state, shadows = carry
        batch = problem.batch(data, jax.random.fold_in(jax.random.key(1), i))
        grads = jax.grad(problem.loss)(params, batch)
        u, state = exact.update(grads, state)
        row = {"float32": sizes(u, u)}
        for name, way in ways.items():
            v, shadows[name] = way.tx.update(grads, shadows[name])
            row[name] = sizes(u, v)
        params = jax.tree.map(lambda p, u: p - rate(i) * u, params, u)
        return (params, state, shadows), row

    @jax.jit
    def run(data):
        params = problem.init(jax.random.key(0))
        shadows = {name: way.tx.init(params) for name, way in ways.items()}
        carry = params, exact.init(params), shadows
        return lax.scan(step, carry, jnp.arange(steps))

    data = jax.device_put(problem.data)
    (_, state, shadows), seen = run(data)
    last = max(steps // 20, 1)
    largest = float(seen["float32"][2].max())
    rows = []
    for name, way in ways.items():
        off, size, top = seen[name]
        low, high = jnp.percentile(
            ratios(way.nu(shadows[name]), state.nu), jnp.array([5.0, 95.0])
        )
        rows.append(
            {
                "states": name,
                "ours": way.ours,
                "rms(du) / rms(u)": float(
                    (off[-last:].sum() / size[-last:].sum()) ** 0.5
                ),
                "nu / exact, 5 %": float(low),
                "95 %": float(high),
                "max |u|": float(top.max()),
                "exact": largest,
            }
        )
    return rows


def sizes(u, v):
    """Σ (v - u)², Σ u² and max |v| of two trees."""
    us, vs = jax.tree.leaves(u), jax.tree.leaves(v)
    off = sum(jnp.sum((b - a) ** 2) for a, b in zip(us, vs, strict=True))
    largest = jnp.stack([jnp.abs(b).max() for b in vs]).max()
    return off, sum(jnp.sum(a**2) for a in us), largest


def ratios(nu, exact):
    """nu / exact where the exact one is not 0, of all leaves in a row."""
    flat = [
        jnp.concatenate([x.ravel() for x in jax.tree.leaves(t)]) for t in (nu, exact)
    ]
    return flat[0][flat[1] > 0] / flat[1][flat[1] > 0]


def after_a_drop(before, after):
    """nu over the exact one where gradients fell ten times, in every second column.

    The others go on as before, so that the scale of a group of codes stays.
    """
    falls = jnp.arange(SHAPE[1]) % 2 == 0

    def gradient(t):
        g = jax.random.normal(jax.random.fold_in(jax.random.key(2), t), SHAPE)
        return jnp.where(falls & (t >= before), g / 10, g)

    rows = {}
    for name, way in directions().items():

        @jax.jit
        def run(way=way):
            def step(state, t):
                return way.tx.update(gradient(t), state)[1], None

            zeros = jnp.zeros(SHAPE)
            return lax.scan(step, way.tx.init(zeros), jnp.arange(before + after))[0]

        rows[name] = way, way.nu(run())[:, falls]
    exact = rows.pop("float32")[1]
    return [
        {
            "states": name,
            "ours": way.ours,
            "mean nu / exact": float((nu / exact).mean()),
            "1 %": float(jnp.percentile(nu / exact, 1)),
            "99 %": float(jnp.percentile(nu / exact, 99)),
        }
        for name, (way, nu) in rows.items()
    ]


def streams(steps):
    """Gradients that are hard on codes, by name; each f32[steps, 64, 128]."""
    keys = jax.random.split(jax.random.key(3), 3)
    noise = jax.random.normal(keys[0], (steps, *SHAPE))
    first = jnp.arange(SHAPE[1]) == 0
    start = jnp.arange(steps)[:, None, None] == 0
    rows = jax.random.bernoulli(keys[1], 0.02, (steps, SHAPE[0], 1))
    rare = jax.random.bernoulli(keys[2], 1e-3, (steps, *SHAPE))
    return {
        "normal": noise,
        "sparse rows": jnp.where(rows, noise, 0),
        "spikes of 1000": jnp.where(rare, 1e3 * noise, noise),
        "1 beside 1e-5": jnp.where(first, 1.0, 1e-5) * noise,
        "1 once beside 1e-5": jnp.where(first & start, 1.0, 1e-5 * noise),
        "1, then nothing": jnp.where(start, jnp.where(first, 1.0, 1e-5 * noise), 0),
        "tiny, 1e-7": 1e-7 * noise,
        "huge, 1e15": 1e15 * noise,
    }


def under_stress(steps):
    """The largest |u| over the bound on it, for each way and stream."""
    names, grads = zip(*streams(steps).items(), strict=True)
    grads = jnp.stack(grads, axis=1)  # of one array: no group of codes has two streams
    bounds = bound(1.0 + jnp.arange(steps))[:, None]
    rows = []
    for name, way in directions().items():

        @jax.jit
        def run(grads, way=way):
            def step(state, g):
                u, state = way.tx.update(g, state)
                return state, jnp.abs(u).max((1, 2))

            return lax.scan(step, way.tx.init(grads[0]), grads)[1]

        worst = (run(grads) / bounds).max(0).tolist()
        row = dict(zip(names, worst, strict=True))
        rows.append({"states": name, "ours": way.ours} | row)
    return rows
