"""compress_state: what it encodes, what a step makes of it, where it goes."""

import functools
import math

import chex
import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import adamx

SHAPES = {"w": (64, 128), "v": (3, 40, 48), "b": (128,)}
PARAMS = {k: jnp.ones(shape, jnp.float32) for k, shape in SHAPES.items()}
NAME = "companded8_128"


def grads_of(seed, params=PARAMS):
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    return treedef.unflatten([jax.random.normal(k, x.shape, x.dtype) for k, x in pairs])


GRADS = grads_of(0)
ADAMW = adamx.adamw(1e-3, weight_decay=0.1)
COMPRESSED = adamx.compress_state(ADAMW)


def run(tx, steps=3, params=PARAMS, state=None, update=None):
    """The updates of each step, and the last state."""
    state = tx.init(params) if state is None else state
    update, updates = update or jax.jit(tx.update), []
    for i in range(steps):
        u, state = update(grads_of(i, params), state, params)
        updates.append(u)
    return updates, state


def types(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


# ---- what is encoded


def test_what_is_encoded():
    """Large arrays; the others stay where they are; everything in its place."""
    state = COMPRESSED.init(PARAMS)
    assert isinstance(state, adamx.CompressedState)
    assert list(state.encoded) == ["0/mu", "0/nu"]
    hole = adamx.MaskedNode()
    assert state.inner_state[0].mu["w"] == state.inner_state[0].nu["v"] == hole
    assert state.inner_state[0].mu["b"].dtype == jnp.float32
    mu, nu = (state.encoded[place][NAME] for place in ("0/mu", "0/nu"))
    for parts, dtype in ((mu, jnp.int8), (nu, jnp.uint8)):
        assert parts["codes"]["b"] == parts["scales"]["b"] == hole
        for name in ("w", "v"):
            assert parts["codes"][name].dtype == dtype
            assert parts["codes"][name].shape == SHAPES[name]
        assert parts["scales"]["w"].shape == (64, 1)
        assert parts["scales"]["v"].shape == (3, 40, 1)
    size = math.prod(SHAPES["w"])
    assert sum(x["w"].nbytes for x in (*mu.values(), *nu.values())) == 2.0625 * size


def test_types_are_fixed_by_init():
    """Abstract, without leaves, with holes, in a scan."""
    tree = PARAMS | {"none": None, "hole": adamx.MaskedNode()}
    state = COMPRESSED.init(tree)
    assert types(jax.eval_shape(COMPRESSED.init, tree)) == types(state)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    chex.assert_trees_all_equal(COMPRESSED.init(shapes), state)
    assert COMPRESSED.update({}, COMPRESSED.init({}), {})[0] == {}

    def step(state, seed):
        return COMPRESSED.update(GRADS, state, PARAMS)[1], None

    first = COMPRESSED.init(PARAMS)
    last, _ = jax.jit(lambda s: lax.scan(step, s, length=3))(first)
    assert types(last) == types(first)
    assert int(last.count) == 3
    want = run(
        COMPRESSED, update=jax.jit(lambda g, s, p: COMPRESSED.update(GRADS, s, p))
    )
    chex.assert_trees_all_equal(last, want[1])


FIELDS = {
    "adan": {"m", "v", "n"},
    "ademamix": {"m1", "nu"},
    "lion": {"mu"},
    "prodigy": {"exp_avg", "exp_avg_sq"},
    "sgd": {"trace"},
    "sophia": {"mu"},
    "amsgrad": {"mu", "nu"},
    "adafactor": {"v"},
}


@pytest.mark.parametrize("name", FIELDS)
def test_moments_are_known_by_their_names(name):
    kwargs = {"momentum": 0.9} if name == "sgd" else {}
    tx = adamx.compress_state(getattr(adamx, name)(1e-3, **kwargs))
    state = jax.eval_shape(tx.init, PARAMS)
    found = {place.rsplit("/", 1)[-1] for place in state.encoded}
    assert found == FIELDS[name]


def test_rules_by_field_and_path():
    half = adamx.plain_codec(jnp.bfloat16)
    eight = adamx.companded_codec(64)
    tx = adamx.compress_state(
        ADAMW, {"mu": {r"^v$": None, r"": eight}, "nu": half}, min_size=100
    )
    state = tx.init(PARAMS)
    assert state.inner_state[0].mu["v"].dtype == jnp.float32
    mu, nu = state.encoded["0/mu"], state.encoded["0/nu"]
    assert list(mu) == ["companded8_64"]
    assert list(nu) == ["bfloat16"]
    assert mu["companded8_64"]["scales"]["b"].shape == (2,)
    assert {x.dtype.name for x in jax.tree.leaves(nu)} == {"bfloat16"}
    _, state = run(tx, state=state)
    assert types(state) == types(tx.init(PARAMS))


def test_groups_and_masks():
    """Of partition, masked and chains of chains, each where it is."""
    groups = adamx.by_path({r"^w": "a", r"": "b"})
    inner = adamx.partition({"a": ADAMW, "b": adamx.sgd(0.1, momentum=0.9)}, groups)
    tx = adamx.compress_state(adamx.chain(adamx.clip(1.0), inner))
    state = tx.init(PARAMS)
    places = [
        "1/inner_states/a/inner_state/0/mu",
        "1/inner_states/a/inner_state/0/nu",
        "1/inner_states/b/inner_state/0/trace",
    ]
    assert list(state.encoded) == places
    codes = state.encoded[places[2]][NAME]["codes"]
    assert [k for k, x in codes.items() if jax.tree.leaves(x)] == ["v"]
    assert types(run(tx, state=state)[1]) == types(state)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: adamx.compress_state(adamx.adam),
            TypeError,
            "compress_state: expected a gradient transformation as inner, got the "
            "function adam; call it: adam(...).",
        ),
        (
            lambda: adamx.compress_state(ADAMW, "int8"),
            TypeError,
            "compress_state: expected codec as a Codec, such as companded_codec(), or "
            "a dictionary from fields to codecs, got 'int8'.",
        ),
        (
            lambda: adamx.compress_state(ADAMW, {"mu": jnp.bfloat16}),
            TypeError,
            "compress_state: expected a Codec or None for each field or path, got",
        ),
        (
            lambda: adamx.compress_state(ADAMW, {"nv": None}).init(PARAMS),
            ValueError,
            "compress_state: no field 'nv' in the state; have count, mu, nu.",
        ),
        (
            lambda: adamx.compress_state(
                ADAMW, {"mu": {"kernel": None, "": None}}
            ).init(PARAMS),
            ValueError,
            "compress_state: 'kernel' matches no parameter; have 'b', 'v', 'w'.",
        ),
        (
            lambda: adamx.compress_state(
                ADAMW, {"mu": {"^w": linear(False), "": linear(True)}}
            ),
            ValueError,
            "compress_state: expected one codec 'linear', got two.",
        ),
        (
            lambda: adamx.compress_state(ADAMW, rounding="up"),
            ValueError,
            "compress_state: expected rounding in ('nearest', 'stochastic'), got 'up'.",
        ),
        (
            lambda: COMPRESSED.update(GRADS, ADAMW.init(PARAMS), PARAMS),
            ValueError,
            "compress_state: expected a CompressedState, got a tuple",
        ),
        (
            lambda: COMPRESSED.update(
                GRADS,
                adamx.compress_state(ADAMW, adamx.companded_codec(64)).init(PARAMS),
                PARAMS,
            ),
            ValueError,
            "compress_state: expected '0/mu' encoded by companded8_128, got "
            "companded8_64; was the state made by this transformation?",
        ),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value).startswith(text)


# ---- a step


def decoded(state, tx=ADAMW):
    """The state that a step sees, by the codec alone."""
    codec = adamx.companded_codec()
    fields = {}
    for name, positive in (("mu", False), ("nu", True)):
        parts = state.encoded[f"0/{name}"][NAME]
        kept = getattr(state.inner_state[0], name)
        fields[name] = {
            k: codec.decode({p: x[k] for p, x in parts.items()}, positive)
            if kept[k] == adamx.MaskedNode()
            else kept[k]
            for k in kept
        }
    return (state.inner_state[0]._replace(**fields), *state.inner_state[1:])


def test_a_step_is_that_of_what_was_decoded():
    """The first moment to the nearest, the second to one of two neighbors."""
    codec = adamx.companded_codec()
    _, state = run(COMPRESSED)
    updates, new = jax.jit(COMPRESSED.update)(GRADS, state, PARAMS)
    want, exact = jax.jit(ADAMW.update)(GRADS, decoded(state), PARAMS)
    chex.assert_trees_all_close(updates, want, rtol=1e-5)
    for name in ("w", "v"):
        parts = codec.encode(exact[0].mu[name], None, False)
        got = new.encoded["0/mu"][NAME]["codes"][name]
        away = np.abs(np.asarray(got, int) - np.asarray(parts["codes"], int))
        assert away.max() <= 1
        assert (away > 0).mean() < 1e-3  # contraction
        parts = codec.encode(exact[0].nu[name], None, True)
        got = np.asarray(new.encoded["0/nu"][NAME]["codes"][name], int)
        away = np.abs(got - np.asarray(parts["codes"], int))
        assert away.max() <= 1
        assert (away > 0).mean() > 0.1  # by chance
    chex.assert_trees_all_close(new.inner_state[0].mu["b"], exact[0].mu["b"], rtol=1e-6)


def test_chances_are_those_of_the_step_and_the_seed():
    _, state = run(COMPRESSED)
    again = run(COMPRESSED)[1]
    chex.assert_trees_all_equal(state, again)
    other = run(adamx.compress_state(ADAMW, seed=1))[1]
    codes = [s.encoded["0/nu"][NAME]["codes"]["w"] for s in (state, other)]
    assert 0.05 < (codes[0] != codes[1]).mean() < 0.7
    update = jax.jit(COMPRESSED.update)
    first, second = (
        update(GRADS, state._replace(count=jnp.int32(n)), PARAMS)[1] for n in (5, 6)
    )
    codes = [s.encoded["0/nu"][NAME]["codes"]["w"] for s in (first, second)]
    assert 0.05 < (codes[0] != codes[1]).mean() < 0.7


@pytest.mark.exhaustive
def test_nearest_and_stochastic_for_all():
    """Of the same moments, the nearest codes are the same each time."""
    state = run(COMPRESSED)[1]
    for rounding, field, changes in [
        ("nearest", "0/nu", False),
        ("stochastic", "0/mu", True),
        (None, "0/mu", False),
        (None, "0/nu", True),
    ]:
        update = jax.jit(adamx.compress_state(ADAMW, rounding=rounding).update)
        codes = [
            update(GRADS, state._replace(count=jnp.int32(n)), PARAMS)[1].encoded[field]
            for n in (5, 6)
        ]
        same = [bool((x == y).all()) for x, y in zip(*map(jax.tree.leaves, codes))]  # noqa: B905
        assert all(same) != changes, (rounding, field)


def test_a_transformation_of_optax():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        tx = adamx.compress_state(optax.adamw(1e-3, weight_decay=0.1))
        updates, state = run(tx)
        assert list(state.encoded) == ["0/mu", "0/nu"]
        chex.assert_trees_all_close(updates, run(COMPRESSED)[0], rtol=0.03, atol=1e-6)
        inside = optax.chain(optax.clip(1.0), COMPRESSED)
        updates, state = run(inside)
        assert types(state) == types(inside.init(PARAMS))


# ---- what would go wrong


def drop(tx, steps, params, after):
    """nu where all gradients have been N(0, 1), then half of them a tenth of that."""

    def step(state, t):
        g = jax.random.normal(
            jax.random.fold_in(jax.random.key(5), t), params.shape, params.dtype
        )
        g = jnp.where((t < steps) | (jnp.arange(128)[None] % 2 == 0), g, 0.1 * g)
        return tx.update(g, state, params)[1], None

    state, _ = lax.scan(step, tx.init(params), jnp.arange(steps + after))
    return state


def decoded_nu(state):
    parts = state.encoded["nu"][NAME]
    return adamx.companded_codec().decode(parts, True)


@pytest.mark.exhaustive
def test_a_second_moment_follows_where_the_nearest_stands_still():
    params = jnp.zeros((32, 128), jnp.float32)
    adam = adamx.scale_by_adam()
    walk = jax.jit(functools.partial(drop, steps=2000, after=5000), static_argnums=0)
    exact = walk(adam, params=params).nu
    ratios = {}
    for rounding in (None, "nearest"):
        tx = adamx.compress_state(adam, rounding=rounding)
        ratio = np.asarray(decoded_nu(walk(tx, params=params)) / exact)
        ratios[rounding] = ratio[:, 1::2]
    assert np.quantile(ratios[None], 0.99) < 2
    assert 0.95 < ratios[None].mean() < 1.05
    assert np.median(ratios["nearest"]) > 5


def linear(no_zero):
    """Codes spaced evenly, as whoever begins with 8 bits has them."""

    def encode(x, bits, positive):
        scales = jnp.max(jnp.abs(x), -1, keepdims=True)
        q = jnp.round(255 * x / jnp.where(scales > 0, scales, 1))
        q = jnp.where(x > 0, jnp.maximum(q, 1), q) if no_zero and positive else q
        return {"q": q.astype(jnp.int16), "scales": scales}

    def decode(encoded, positive):
        return encoded["q"].astype(jnp.float32) / 255 * encoded["scales"]

    return adamx.Codec("linear", ("q", "scales"), encode, decode)


STREAMS = {
    "spike": lambda t, x: jnp.where((t == 3) & (x == 0), 1.0, 1e-5),
    "spike, then nothing": lambda t, x: jnp.where(
        t == 0, jnp.where(x == 0, 1.0, 1e-5), 0
    ),
    "sparse rows": lambda t, x: jnp.where((x // 128) % 8 == t % 8, 1.0, 0.0),
    "tiny": lambda t, x: jnp.sin(x + t) * 1e-30,
    "small": lambda t, x: jnp.sin(x + t) * 1e-8,
    "large": lambda t, x: jnp.sin(x + t) * 1e19,
    "decades": lambda t, x: jnp.float32(10.0) ** (-(x % 20.0)) * jnp.cos(1.0 * t),
}


@functools.partial(jax.jit, static_argnums=0)
def largest_steps(tx):
    """The largest |u| of each of 100 steps, for each stream."""
    x = jnp.arange(32 * 128, dtype=jnp.float32).reshape(32, 128)
    params = dict.fromkeys(STREAMS, x)

    def step(state, t):
        t = t.astype(jnp.float32)
        grads = {k: jnp.broadcast_to(f(t, x), x.shape) for k, f in STREAMS.items()}
        u, state = tx.update(grads, state, params)
        return state, jax.tree.map(lambda u: jnp.abs(u).max(), u)

    return lax.scan(step, tx.init(params), jnp.arange(100, dtype=jnp.int32))[1]


def bound(t, b1=0.9, b2=0.999):
    """K_t: what Cauchy and Schwarz leave to |mu / c1| / √(nu / c2)."""
    r = b1**2 / b2
    total = sum(r**j for j in range(t))
    c1, c2 = 1 - b1**t, 1 - b2**t
    return (1 - b1) / c1 * math.sqrt(c2 / (1 - b2) * total)


BOUNDS = np.array([bound(t) for t in range(1, 101)])


CODECS = [
    linear(False),
    *(
        pytest.param(codec, marks=pytest.mark.exhaustive)
        for codec in (None, adamx.int4_codec(), adamx.dynamic256_codec())
    ),
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec and codec.name)
def test_no_step_explodes(codec):
    """Not with codes that lose nearly everything, either."""
    adam = adamx.scale_by_adam(eps=0.0)
    steps = largest_steps(adamx.compress_state(adam, codec))
    for stream, largest in steps.items():
        assert (np.asarray(largest) <= BOUNDS * (1 + 2e-6)).all(), stream


def test_a_code_of_zero_would_explode():
    """Around Optax's Adam, which has no bound."""
    largest = []
    for codec in (linear(False), linear(True), adamx.companded_codec()):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            tx = adamx.compress_state(optax.scale_by_adam(), {"nu": codec})
            largest.append(float(largest_steps(tx)["spike, then nothing"].max()))
    zero, floored, companded = largest
    assert zero > 100
    assert floored < 2
    assert companded < 2


@pytest.mark.parametrize("make", [adamx.scale_by_nadam, adamx.scale_by_radam])
def test_relatives_of_adam_have_the_bound(make):
    tx = adamx.compress_state(make(), {"nu": linear(False)})
    assert largest_steps(tx)["spike, then nothing"].max() < 10


def test_the_same_codec_may_stand_in_many_places():
    eight = {"^w": adamx.companded_codec(), "": adamx.companded_codec()}
    tx = adamx.compress_state(ADAMW, {"mu": eight, "nu": adamx.companded_codec()})
    chex.assert_trees_all_equal(run(tx), run(COMPRESSED))


def test_the_bound_touches_nothing_exact(rng):
    """Gradients that reach it, and ordinary ones: the bits of the formula alone."""
    b1, b2, n = 0.9, 0.999, 60
    rising = (b1 / b2) ** np.arange(n, 0.0, -1)  # g ∝ w / v, where all is equal
    streams = [rising, np.ones(n), rng.normal(size=n), rng.standard_t(1.2, size=n)]
    grads = jnp.asarray(np.array(streams).T, jnp.float32)
    tx = adamx.scale_by_adam()
    free = adamx.chain(adamx.scale_by_adam(debias=False), adamx.identity())

    def step(carry, g):
        u, state = tx.update(g, carry[0])
        _, raw = free.update(g, carry[1])
        s = raw[0]
        ratio = jnp.abs(s.mu) / jnp.sqrt(s.nu)
        return (state, raw), (u, s.mu, s.nu, ratio)

    start = tx.init(grads[0]), free.init(grads[0])
    _, (u, mu, nu, ratio) = lax.scan(step, start, grads)
    k = np.array(
        [bound(t) * (1 - b1**t) / math.sqrt(1 - b2**t) for t in range(1, n + 1)]
    )
    assert (np.asarray(ratio) <= k[:, None] * (1 + 5e-7)).all()
    assert np.asarray(ratio)[-1, 0] > 0.999999 * k[-1]  # it is reached
    t = np.arange(1, n + 1)[:, None]
    want = (np.asarray(mu, float) / (1 - b1**t)) / (
        np.sqrt(np.asarray(nu, float) / (1 - b2**t)) + 1e-8
    )
    np.testing.assert_allclose(u, want, rtol=3e-7)


def test_what_is_not_finite_is_seen_and_skipped():
    bad = GRADS | {"w": GRADS["w"].at[0, 0].set(jnp.nan)}
    _, state = COMPRESSED.update(bad, COMPRESSED.init(PARAMS), PARAMS)
    seen = decoded(state)[0]
    assert not np.isfinite(seen.mu["w"][0, 0])
    assert np.isfinite(seen.mu["w"][1:]).all()
    tx = adamx.apply_if_finite(COMPRESSED, 5)
    _, before = run(tx)
    updates, after = jax.jit(tx.update)(bad, before, PARAMS)
    chex.assert_trees_all_equal(after.inner_state, before.inner_state)
    assert all((x == 0).all() for x in jax.tree.leaves(updates))


# ---- where it goes


AUTO = pytest.param(AxisType.Auto, marks=pytest.mark.exhaustive)


@pytest.mark.parametrize("kind", [AUTO, AxisType.Explicit], ids=str)
def test_sharded_is_unsharded(kind):
    """Bit for bit, and without a word between devices."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind,) * 2)
    params = {"w": jnp.ones((16, 512), jnp.float32)}
    want, last = run(COMPRESSED, params=params)
    for spec in [("x", None), ("x", "y")]:
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        whole = NamedSharding(mesh, PartitionSpec())

        def place(x, sharding=sharding, whole=whole):
            return jax.device_put(x, sharding if x.ndim == 2 else whole)

        with jax.sharding.set_mesh(mesh):
            p = jax.tree.map(place, params)
            state = jax.tree.map(place, COMPRESSED.init(params))
            update = jax.jit(COMPRESSED.update, donate_argnums=1)
            text = update.lower(p, state, p).compile().as_text()
            for word in (
                "all-reduce",
                "all-gather",
                "all-to-all",
                "collective-permute",
            ):
                assert word not in text, (spec, word)
            got = []
            for i in range(3):
                g = jax.tree.map(place, grads_of(i, params))
                u, state = update(g, state, p)
                got.append(u)
        chex.assert_trees_all_equal(*jax.device_get(((got, state), (want, last))))


def test_in_flax():
    """nnx.Optimizer, TrainState; one trace."""
    model = nnx.Linear(64, 128, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, COMPRESSED, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        grads = nnx.grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, grads)

    before = jnp.copy(model.kernel[...])
    for _ in range(3):
        step(model, optimizer, jnp.ones((4, 64), jnp.float32))
    state = nnx.to_pure_dict(nnx.state(optimizer))["opt_state"]
    assert "int8" in {x.dtype.name for x in jax.tree.leaves(state)}
    assert jnp.abs(model.kernel[...] - before).max() > 1e-3

    linen = nn.Dense(128)
    x = jnp.ones((4, 64), jnp.float32)
    train = TrainState.create(
        apply_fn=linen.apply, params=linen.init(jax.random.key(0), x), tx=COMPRESSED
    )

    @jax.jit
    @chex.assert_max_traces(1)
    def linen_step(train):
        loss = lambda p: (train.apply_fn(p, x) ** 2).mean()  # noqa: E731
        return train.apply_gradients(grads=jax.grad(loss)(train.params))

    for _ in range(3):
        train = linen_step(train)
    assert int(train.opt_state.count) == 3


def test_checkpoints(tmp_path):
    """Orbax and msgpack; another group size is no silent cast."""
    _, state = run(COMPRESSED)
    data = flax.serialization.to_bytes(state)
    restored = flax.serialization.from_bytes(COMPRESSED.init(PARAMS), data)
    chex.assert_trees_all_equal(restored, state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", COMPRESSED.init(PARAMS))
        chex.assert_trees_all_equal(restored, state)
        chex.assert_trees_all_equal(
            run(COMPRESSED, state=restored), run(COMPRESSED, state=state)
        )
        other = adamx.compress_state(ADAMW, adamx.companded_codec(64))
        with pytest.raises(ValueError, match="companded8_64"):
            checkpointer.restore(tmp_path / "state", other.init(PARAMS))


def test_other_wrappers():
    """Around and inside; states cut and sewn."""
    inside = adamx.record(COMPRESSED)
    _, state = run(inside)
    assert jnp.isfinite(adamx.get_metrics(state)["all"]["update_norm"])
    for tx in (
        adamx.MultiSteps(COMPRESSED, 2),
        adamx.compress_state(adamx.MultiSteps(ADAMW, 2)),
        adamx.compress_state(adamx.ema_params(0.9)),
    ):
        assert types(run(tx)[1]) == types(tx.init(PARAMS))
    _, state = run(COMPRESSED)
    fresh = adamx.reset_state(COMPRESSED, state, PARAMS, "^w$")
    codes = fresh.encoded["0/mu"][NAME]["codes"]
    assert (codes["w"] == 0).all()
    assert (codes["v"] == state.encoded["0/mu"][NAME]["codes"]["v"]).all()
    marks = adamx.tree_map_params(COMPRESSED, lambda x: "mine", state)
    assert marks.encoded["0/nu"][NAME]["codes"]["v"] == "mine"


@pytest.mark.exhaustive
def test_rows_grow_and_groups_do_not():
    _, state = run(COMPRESSED)
    taller = PARAMS | {"w": jnp.ones((80, 128), jnp.float32)}
    grown = adamx.grow_state(COMPRESSED, state, taller)
    old, new = (s.encoded["0/nu"][NAME]["codes"]["w"] for s in (state, grown))
    assert (new[:64] == old).all()
    assert (new[64:] == 0).all()
    wider = PARAMS | {"w": jnp.ones((64, 256), jnp.float32)}
    with pytest.raises(ValueError, match="grow_state: expected the same last axis"):
        adamx.grow_state(COMPRESSED, state, wider)


def test_no_float32_copy_of_the_moments():
    """Beside the states there are codes at most, and maxima of parts of groups."""
    params = {"w": jax.ShapeDtypeStruct((512, 1024), jnp.float32)}

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = COMPRESSED.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    state = jax.eval_shape(COMPRESSED.init, params)
    plan = step.lower(params, state, params).compile().memory_analysis()
    size = 512 * 1024
    assert plan.temp_size_in_bytes <= 3.2 * size
    assert plan.alias_size_in_bytes >= 6.06 * size
