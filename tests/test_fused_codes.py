"""Fused steps with states in codes: those of `compress_state`, to the bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels import calls_of, needs_kernel
from meshes import make_mesh, on

import adamx
from adamx._fused import step
from adamx._fused.coded import LONGEST
from adamx._kernels import kernel
from adamx._precision.codec import length

# The numbers are XLA's to the bit as this one fuses them on CPU.
IS_KNOWN = jax.__version__.startswith("0.10.")

# Whole groups, shorter ones, those without a divisor, and the shortest; leaves that
# stay as they are, by their size or their last axis.
SHAPES = {"whole": (12, 768), "hundred": (3, 3, 500), "prime": (20, 1301)}
SHAPES |= {"least": (300, 16), "small": (3, 33), "narrow": (700, 7)}
IS_MATRIX = adamx.by_path(lambda path: path in ("whole", "prime", "small"))


def falling(count):
    return 0.1 / (1.0 + count.astype(jnp.float32))


SETTINGS = {
    "masked": {"weight_decay": 0.1, "mask": IS_MATRIX},
    "schedules": {"learning_rate": falling, "weight_decay": falling},
    "nesterov": {"nesterov": True},
    "eps_root": {"eps_root": 1e-4},
    "no memory": {"b1": 0.0},
    "short": {"b1": 0.1, "b2": 0.2},
    "nearest": {"rounding": "nearest"},
    "stochastic": {"rounding": "stochastic", "seed": 5},
    "short groups": {"codec": adamx.companded_codec(16)},
    "long groups": {"codec": adamx.companded_codec(LONGEST)},
    "mu in bfloat16": {"mu_dtype": jnp.bfloat16},
}
BOTH = {kernel.ADAMW, kernel.CODED_ADAMW}
OF_CODES = ("codec", "min_size", "rounding", "seed")


@functools.cache
def both(name):
    """Compiled steps of the fused optimizer and of the chain, and `init`."""
    settings = {"learning_rate": 0.01, "codec": adamx.companded_codec()}
    settings |= SETTINGS[name]
    fused = adamx.fused_adamw(**settings)
    of_codes = {k: settings.pop(k) for k in OF_CODES if k in settings}
    chain = adamx.compress_state(adamx.adamw(**settings), **of_codes)

    @jax.jit
    def chained(params, grads, state):
        wide = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
        updates, state = chain.update(wide, state, params)
        return adamx.apply_updates(params, updates), state

    return jax.jit(fused.step), chained, fused.init


def draw(i, dtype="float32", shapes=SHAPES):
    """Numbers of very different sizes, some of them 0."""
    rng = np.random.default_rng(i)

    def leaf(shape):
        sizes = 10.0 ** rng.uniform(-3, 3, size=shape) * (rng.random(shape) > 0.05)
        return jnp.asarray(rng.normal(size=shape) * sizes, dtype)

    return {k: leaf(shape) for k, shape in shapes.items()}


def compare(got, want, exact):
    """Asserts that two results are the same: to the bit, or codes to the next one."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if exact:
            np.testing.assert_array_equal(x, y)
        elif x.dtype in (jnp.int8, jnp.uint8):
            assert jnp.max(jnp.abs(x.astype(jnp.int32) - y.astype(jnp.int32))) <= 1
            assert jnp.mean(x != y) < 1e-4
        else:
            x, y = (np.asarray(z.astype(jnp.float32)) for z in (x, y))
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-8)


def run(name, dtypes=("float32", "float32"), steps=2, exact=IS_KNOWN):
    fused, chained, init = both(name)
    params = draw(100, dtypes[0])
    state = init(params)
    for i in range(steps):
        grads = draw(i, dtypes[1])
        got, want = fused(params, grads, state), chained(params, grads, state)
        compare(got, want, exact)
        params, state = want


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_the_chain(name):
    # Where the gradient counts for more than the old mean, XLA multiplies that by its
    # scale in the difference of the two: an ulp of a few scales.
    run(name, exact=IS_KNOWN and name != "short")


DTYPES = [("float32", "bfloat16"), ("bfloat16", "bfloat16"), ("float16", "float16")]


@pytest.mark.parametrize("dtypes", DTYPES, ids="-".join)
def test_it_is_the_chain_in_16_bits(dtypes):
    run("masked", dtypes)


@needs_kernel
def test_what_the_kernel_takes():
    """Which leaves are in codes, and that they are what the kernel sees."""
    params = draw(0)
    tx = adamx.fused_adamw(0.01, codec=adamx.companded_codec())
    assert tx.on_cpu.startswith("one pass in C++ (")
    assert calls_of(tx.step, params, params, tx.init(params)) == BOTH
    only = {k: params[k] for k in ("whole", "prime")}
    assert calls_of(tx.step, only, only, tx.init(only)) == {kernel.CODED_ADAMW}
    long = adamx.fused_adamw(0.01, codec=adamx.companded_codec(LONGEST + 1))
    assert length(1301, LONGEST + 1) > LONGEST
    only = {"prime": params["prime"]}
    assert calls_of(long.step, only, only, long.init(only)) == set()
    other = adamx.fused_adamw(0.01, codec=adamx.float8_codec())
    assert other.on_cpu == f"XLA's passes (no kernel for {adamx.float8_codec().name})"
    half = jax.tree.map(lambda x: x.astype(jnp.float16), params)
    assert calls_of(tx.step, half, half, tx.init(half)) == set()


def test_another_codec_is_the_chain():
    codec = adamx.float8_codec()
    fused = adamx.fused_adam(0.01, codec=codec)
    chain = adamx.compress_state(adamx.adam(0.01), codec)
    params, grads = draw(0), draw(1)
    state = fused.init(params)
    updates, new = jax.jit(chain.update)(grads, state, params)
    got = fused.step(params, grads, state)
    compare(got, (adamx.apply_updates(params, updates), new), exact=False)


def test_a_run_changes_between_the_two():
    fused, chained, init = both("schedules")
    params = draw(100)
    results = []
    for steps in ([fused, chained], [chained, fused], [chained, chained]):
        now = params, init(params)
        for i in range(4):
            now = steps[i // 2](now[0], draw(i), now[1])
        results.append(now)
    compare(results[0], results[2], IS_KNOWN)
    compare(results[1], results[2], IS_KNOWN)


EXTREMES = {  # a gradient, and the moments that are not finite then
    "nan": (np.nan, ["mu", "nu"]),
    "inf": (-np.inf, ["mu"]),
    "largest": (3e38, []),
    "smallest": (1e-38, []),
    "denormal": (1e-41, []),
}


@pytest.mark.parametrize("b1", [0.0, 0.9])
@pytest.mark.parametrize("what", EXTREMES)
def test_extremes(what, b1):
    """An entry takes only its group with it, and not finite ones stay that."""
    value, lost = EXTREMES[what]
    codec = adamx.companded_codec()
    fused = adamx.fused_adamw(0.01, b1=b1, codec=codec)
    chain = adamx.compress_state(adamx.adamw(0.01, b1=b1), codec)
    params = {"w": jnp.ones((40, 128), jnp.float32)}
    grads = {"w": params["w"].at[1:3].set(0).at[1, 3].set(value)}
    state, want = fused.init(params), fused.init(params)
    for _ in range(2):
        _, state = jax.jit(fused.step)(params, grads, state)
        _, want = jax.jit(chain.update)(grads, want, params)
    for name, positive in (("mu", False), ("nu", True)):
        got, right = (
            np.asarray(codec.decode(leaf_of(s, name), positive)) for s in (state, want)
        )
        tiny = np.finfo(np.float32).tiny
        np.testing.assert_allclose(got, right, rtol=1e-6, atol=tiny)
        assert np.isfinite(np.delete(got, 1, axis=0)).all()
        assert np.isfinite(got[1]).all() == (name not in lost)


def leaf_of(state, name):
    """The parts of the only leaf of a moment."""
    parts = state.encoded[f"0/{name}"]["companded8_128"]
    return {part: tree["w"] for part, tree in parts.items()}


@needs_kernel
@pytest.mark.parametrize("place", range(2))
def test_each_leaf_has_its_own_key(monkeypatch, place):
    """Keys in another order, or of another step, would be found."""
    right = step.Compression.keys

    def wrong(self, grads, state):
        keys = right(self, grads, state)
        return [k[::-1] if i == place else k for i, k in enumerate(keys)]

    monkeypatch.setattr(step.Compression, "keys", wrong)
    both.cache_clear()
    with pytest.raises(AssertionError):
        run("stochastic", steps=2)
    both.cache_clear()


PARAMS = {"w": jnp.linspace(0, 9, 4096, dtype=jnp.float32).reshape(32, 128)}
PARAMS["b"] = jnp.ones(8, jnp.float32)
GRADS = jax.tree.map(lambda x: 0.3 * x + 1, PARAMS)
FUSED = adamx.fused_adamw(0.01, codec=adamx.companded_codec())
CHAIN = adamx.compress_state(adamx.adamw(0.01))


def chain_step(params, grads, state):
    updates, state = CHAIN.update(grads, state, params)
    return adamx.apply_updates(params, updates), state


@needs_kernel
def test_with_donation_nothing_is_copied():
    p = {"w": jax.ShapeDtypeStruct((100, 1024), jnp.float32)}
    state = jax.eval_shape(FUSED.init, p)
    compiled = jax.jit(FUSED.step, donate_argnums=(0, 2)).lower(p, p, state).compile()
    plan = compiled.memory_analysis()
    assert plan.alias_size_in_bytes == 102400 * (4 + 2 + 8 / 128) + 2 * 4
    assert plan.temp_size_in_bytes < 10_000


def test_vmap():
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), PARAMS)
    states = jax.vmap(FUSED.init)(many)
    axes = (0, None, 0)
    got = jax.jit(jax.vmap(FUSED.step, axes))(many, GRADS, states)
    compare(got, jax.jit(jax.vmap(chain_step, axes))(many, GRADS, states), False)


def test_derivatives():
    def loss(step, params):
        params, _ = step(params, GRADS, FUSED.init(PARAMS))
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))

    got, want = (
        jax.jit(jax.grad(functools.partial(loss, f)))(PARAMS)
        for f in (FUSED.step, chain_step)
    )
    compare(got, want, False)


def test_on_a_mesh_it_is_the_chain():
    args = PARAMS, GRADS, FUSED.init(PARAMS)
    mesh = make_mesh()
    split = lambda x: on(mesh, "data") if x.ndim else on(mesh)  # noqa: E731  # short
    placed = jax.device_put(args, jax.tree.map(split, args))
    assert calls_of(FUSED.step, *placed) == set()
    compare(jax.jit(FUSED.step)(*placed), jax.jit(chain_step)(*args), False)


def test_outside_of_a_jit():
    args = PARAMS, GRADS, FUSED.init(PARAMS)
    compare(FUSED.step(*args), chain_step(*args), False)


def test_errors():
    state = FUSED.init(PARAMS)
    message = "fused_adamw: expected a CompressedState"
    with pytest.raises(ValueError, match=message):
        FUSED.step(PARAMS, GRADS, adamx.adamw(0.01).init(PARAMS))
    message = (
        "fused_adamw: expected '0/mu' encoded by companded8_128, got companded8_64"
    )
    other = adamx.fused_adamw(0.01, codec=adamx.companded_codec(64)).init(PARAMS)
    with pytest.raises(ValueError, match=message):
        FUSED.step(PARAMS, GRADS, other)
    fused = adamx.fused_adam(0.01, codec=adamx.companded_codec())
    with pytest.raises(ValueError, match="fused_adam: expected a state of 2 parts"):
        fused.step(PARAMS, GRADS, state)
    with pytest.raises(ValueError, match="fused_adamw: updates do not match the state"):
        FUSED.step(PARAMS, {"w": GRADS["w"][:16], "b": GRADS["b"]}, state)
    for codec in ("companded8", {}, {"mu": adamx.companded_codec()}):
        with pytest.raises(TypeError, match="fused_adamw: expected codec as one Codec"):
            adamx.fused_adamw(0.01, codec=codec)
    with pytest.raises(ValueError, match="compress_state: expected rounding"):
        adamx.fused_adamw(0.01, codec=adamx.companded_codec(), rounding="up")


@needs_kernel
def test_clipping_is_in_the_same_pass():
    codec = adamx.companded_codec()
    plain, clipping = (
        adamx.fused_adamw(0.01, codec=codec, max_norm=x) for x in (None, 3.0)
    )
    params, grads = draw(100), draw(0)
    clip = adamx.clip_by_global_norm(3.0)
    clipped, _ = jax.jit(clip.update)(grads, clip.init(params))
    assert float(adamx.global_norm(grads)) > 3
    state = plain.init(params)
    got = jax.jit(clipping.step)(params, grads, state)
    compare(got, jax.jit(plain.step)(params, clipped, state), exact=True)


def test_rows_of_a_table_in_codes():
    """XLA's way, as `on_rows` around `compress_state` has it."""
    of_codes = {"codec": adamx.companded_codec(), "min_size": 0}
    fused = adamx.fused_adamw(0.01, **of_codes)
    lazy = adamx.on_rows(adamx.compress_state(adamx.adamw(0.01), **of_codes))
    params = draw(0, shapes={"table": (50, 32), "whole": (4, 128)})
    values = draw(1, shapes={"table": (6, 32), "whole": (4, 128)})
    rows = adamx.sum_rows(jnp.array([3, 7, 3, -1, 49, 0]), values["table"], 50)
    grads = values | {"table": rows}

    @jax.jit
    def want(params, grads, state):
        updates, state = lazy.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    state = fused.init(params)
    got = jax.jit(fused.step)(params, grads, state)
    compare(got, want(params, grads, state), exact=False)
    moved = np.any(np.asarray(got[0]["table"] != params["table"]), axis=1)
    assert np.flatnonzero(moved).tolist() == [0, 3, 7, 49]
