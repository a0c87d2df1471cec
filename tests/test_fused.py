"""Fused steps: the numbers and the state of the chain, in one pass."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import find
from compare import actual, errors, faults
from jax import export
from jax.sharding import PartitionSpec
from kernels import HAS_KERNEL, calls_of, needs_kernel
from meshes import AUTO, EXPLICIT, collectives, make_mesh, on
from streams import STREAMS, make_params, make_stream

import adamx
from adamx._fused import step as fused_step
from adamx._kernels import build, kernel

# Empty, odd, just around a block, and more than the least chunk.
SHAPES = {"none": (0,), "one": (), "w": {"x": (7,), "y": (511,), "z": (3, 171)}}
SHAPES |= {"large": (70, 301)}
IS_MATRIX = adamx.by_path(lambda path: path.startswith("w"))
BFLOAT16 = jnp.bfloat16


def falling(count):
    return 0.1 / (1.0 + count.astype(jnp.float32))


SETTINGS = {
    "decayed": {"weight_decay": 0.1},
    "masked": {"weight_decay": 0.1, "mask": IS_MATRIX},
    "schedules": {"learning_rate": falling, "weight_decay": falling},
    "masked schedule": {"weight_decay": falling, "mask": IS_MATRIX},
    "nesterov": {"nesterov": True},
    "eps_root": {"eps_root": 1e-4},
    "no eps": {"eps": 0.0},
    "no memory": {"b1": 0.0},
    "short": {"b1": 0.1, "b2": 0.2},
    "clipped": {"max_norm": 3.0, "nesterov": True},
    "arrays": {
        "max_norm": jnp.float32(100),
        "b1": jnp.float32(0.9),
        "b2": jnp.float32(0.3),
    },
    "bfloat16": {"mu_dtype": BFLOAT16, "nu_dtype": BFLOAT16},
    "random": {
        "mu_dtype": adamx.Storage(BFLOAT16, "stochastic", seed=3),
        "nu_dtype": adamx.Storage(BFLOAT16, "stochastic"),
    },
    "mixed": {"mu_dtype": jnp.float16},
}
DTYPES = [("float32", "float32"), ("float32", "bfloat16"), ("bfloat16", "bfloat16")]
DTYPES += [("float16", "float16")]


def three(name):
    """The fused optimizer, and what it fuses: clipping, and the rest."""
    settings = {"learning_rate": 0.01} | SETTINGS[name]
    fused = adamx.fused_adamw(**settings)
    max_norm = settings.pop("max_norm", None)
    clip = adamx.clip_by_global_norm(max_norm) if max_norm else adamx.identity()
    return fused, clip, adamx.adamw(**settings)


def as_the_kernel(step):
    """A step that clips in a program of its own, unless it is held against XLA's.

    The kernel rounds what is clipped; in one program XLA contracts it with the rest.
    """
    is_used = HAS_KERNEL and jax.default_backend() == "cpu"
    return step if is_used else jax.jit(step)


@functools.cache
def both(name):
    """Compiled steps of the fused optimizer and of the chain, and `init`."""
    fused, clip, chain = three(name)

    @jax.jit
    def clipped(grads):
        wide = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
        return clip.update(wide, clip.init(None))[0]

    @jax.jit
    def chained(params, grads, state):
        updates, state = chain.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    def clipped_and_chained(params, grads, state):
        return chained(params, clipped(grads), state)

    return jax.jit(fused.step), as_the_kernel(clipped_and_chained), fused.init


def differences(got, want):
    """The largest difference of two trees, in ulps."""
    worst = 0.0
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        dtype = x.dtype
        if x.dtype == jnp.int32 or not x.size:
            np.testing.assert_array_equal(x, y)
            continue
        x, y = (np.asarray(z).astype(np.float64) for z in (x, y))
        worst = max(worst, float(np.max(errors(x, y, y, dtype))))
    return worst


def wide_grads(i, dtype="float32", shapes=SHAPES):
    rng = np.random.default_rng(i)

    def leaf(shape):
        sizes = 10.0 ** rng.uniform(-3, 3, size=shape)
        return jnp.asarray(rng.normal(size=shape) * sizes, dtype)

    return jax.tree.map(leaf, shapes, is_leaf=lambda x: isinstance(x, tuple))


def worst_of(name, dtypes=("float32", "float32"), steps=4):
    """How far the fused step is from the chain, from the same states on."""
    fused, chained, init = both(name)
    params = jax.tree.map(jnp.asarray, make_params(dtypes[0], SHAPES))
    state, worst = init(params), 0.0
    for i in range(steps):
        grads = wide_grads(i, dtypes[1])
        got, want = fused(params, grads, state), chained(params, grads, state)
        assert jax.tree.structure(got) == jax.tree.structure(want)
        worst = max(worst, differences(got, want))
        params, state = want
    return worst


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_the_chain(name):
    assert worst_of(name) <= 2


@pytest.mark.parametrize("dtypes", DTYPES, ids="-".join)
def test_it_is_the_chain_in_16_bits(dtypes):
    assert worst_of("masked", dtypes) <= 2


@needs_kernel
@pytest.mark.parametrize("place", range(17))
def test_each_scalar_counts(monkeypatch, place):
    """A mistake in any of what the kernel is told is found."""
    right = fused_step.scalars

    def wrong(*args):
        shared = right(*args)
        return shared.at[place].add(1e-4 + 1e-4 * jnp.abs(shared[place]))

    monkeypatch.setattr(fused_step, "scalars", wrong)
    both.cache_clear()
    found = [worst_of(name, steps=2) > 2 for name in ("decayed", "nesterov")]
    both.cache_clear()
    assert any(found)


@needs_kernel
@pytest.mark.parametrize("name", ["masked", "random"])
def test_each_leaf_has_its_own(monkeypatch, name):
    """Decays or keys that came in another order would be found."""
    right = kernel.call

    def wrong(leaves, decays, scalars, keys, **settings):
        keys = [jnp.flip(jnp.asarray(k)) for k in keys]
        return right(leaves, decays[::-1], scalars, keys, **settings)

    monkeypatch.setattr(kernel, "call", wrong)
    both.cache_clear()
    found = worst_of(name, steps=2) > 2
    both.cache_clear()
    assert found


def as_transformation(make):
    """The fused step of parameters that are 0: what it makes of them is the update."""

    def wrap(tx):
        fused = make()

        def update(updates, state, params=None, **extra_args):
            zeros = jax.tree.map(jnp.zeros_like, updates)
            return fused.step(zeros, updates, state)

        return adamx.GradientTransformation(tx.init, update)

    return wrap


@pytest.mark.parametrize("stream", STREAMS)
def test_it_is_within_the_bars_of_the_oracle(stream):
    wrap = as_transformation(lambda: adamx.fused_adam(0.01))
    case = dataclasses.replace(find("adam"), wrap=wrap)
    params, grads = make_params(), make_stream(stream)
    results = actual(case, params, grads)
    assert not faults(case, results, case.step, params, grads)


def steps_of(which, params, state, first, last):
    for i in range(first, last):
        params, state = which(params, wide_grads(i), state)
    return params, state


@pytest.mark.parametrize("name", ["schedules", "random"])
def test_a_run_changes_between_the_two(name):
    fused, chained, init = both(name)
    params = jax.tree.map(jnp.asarray, make_params("float32", SHAPES))
    start = params, init(params)
    there = steps_of(chained, *steps_of(fused, *start, 0, 3), 3, 6)
    back = steps_of(fused, *steps_of(chained, *start, 0, 3), 3, 6)
    want = steps_of(chained, *start, 0, 6)
    for got in (there, back):
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            rtol = 1e-5 if x.dtype == jnp.float32 else 0.02
            x, y = x.astype(jnp.float32), y.astype(jnp.float32)
            np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)


PARAMS = {"w": jnp.linspace(0, 9, 64, dtype=jnp.float32).reshape(16, 4)}
PARAMS["b"] = jnp.ones(8, jnp.float32)
GRADS = jax.tree.map(lambda x: 0.3 * x + 1, PARAMS)


def chain_step(tx, params, grads, state):
    updates, state = tx.update(grads, state, params)
    return adamx.apply_updates(params, updates), state


def start(learning_rate=0.01):
    fused, chain = adamx.fused_adamw(learning_rate), adamx.adamw(learning_rate)
    return fused, functools.partial(chain_step, chain), fused.init(PARAMS)


def assert_close(got, want, rtol=1e-6):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol)


@needs_kernel
def test_what_the_kernel_takes():
    fused, _, state = start()
    assert fused.on_cpu.startswith("one pass in C++ (")
    assert calls_of(fused.step, PARAMS, GRADS, state)
    narrow = jax.tree.map(lambda x: x.astype(jnp.float16), PARAMS)
    assert not calls_of(fused.step, narrow, narrow, fused.init(narrow))


def test_without_the_kernel(monkeypatch):
    monkeypatch.setattr(kernel, "load", lambda: (False, "none here"))
    fused, chain, state = start()
    assert fused.on_cpu == "XLA's passes (none here)"
    assert not calls_of(fused.step, PARAMS, GRADS, state)
    assert_close(fused.step(PARAMS, GRADS, state), chain(PARAMS, GRADS, state))


def test_outside_of_a_jit():
    fused, chain, state = start()
    for _ in range(2):
        got = fused.step(PARAMS, GRADS, state)
        assert_close(got, chain(PARAMS, GRADS, state))
        state = got[1]


def test_in_a_scan():
    fused, chain, state = start()

    def run(step):
        body = lambda carry, _: (step(carry[0], GRADS, carry[1]), None)  # noqa: E731  # short
        return jax.jit(lambda c: jax.lax.scan(body, c, length=5)[0])((PARAMS, state))

    assert_close(run(fused.step), run(chain), 1e-5)


def test_without_donation_arguments_stay():
    fused, _, state = start()
    before = jax.tree.map(np.array, (PARAMS, state))
    jax.block_until_ready(jax.jit(fused.step)(PARAMS, GRADS, state))
    assert_close((PARAMS, state), before, 0)


@needs_kernel
def test_with_donation_nothing_is_copied():
    fused = adamx.fused_adamw(0.01)
    p = {"w": jax.ShapeDtypeStruct((100, 1000), jnp.float32)}
    state = jax.eval_shape(fused.init, p)
    compiled = jax.jit(fused.step, donate_argnums=(0, 2)).lower(p, p, state).compile()
    plan = compiled.memory_analysis()
    assert plan.alias_size_in_bytes == 3 * 400_000 + 4
    assert plan.temp_size_in_bytes < 10_000


def test_vmap():
    fused, chain, _ = start()
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), PARAMS)
    states = jax.vmap(fused.init)(many)
    axes = (0, None, 0)
    got = jax.jit(jax.vmap(fused.step, axes))(many, GRADS, states)
    assert_close(got, jax.jit(jax.vmap(chain, axes))(many, GRADS, states))


def test_learning_rates_and_schedules_are_vmapped():
    state = adamx.adamw(falling).init(PARAMS)

    def run(make):
        def step(rate):
            return make(lambda count: rate * falling(count))(PARAMS, GRADS, state)

        return jax.jit(jax.vmap(step))(jnp.array([0.1, 0.01], jnp.float32))

    fused = run(lambda rate: adamx.fused_adamw(rate).step)
    chain = run(lambda rate: functools.partial(chain_step, adamx.adamw(rate)))
    assert_close(fused, chain)


def test_derivatives():
    def loss(make, params, rate):
        params, _ = make(rate)(params, GRADS, state)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))

    state = adamx.adamw(0.1).init(PARAMS)
    fused = functools.partial(loss, lambda rate: adamx.fused_adamw(rate).step)
    chain = functools.partial(
        loss, lambda rate: functools.partial(chain_step, adamx.adamw(rate))
    )
    got, want = (jax.jit(jax.grad(f, (0, 1)))(PARAMS, 0.1) for f in (fused, chain))
    assert_close(got, want, 1e-5)
    got, want = (jax.jit(jax.hessian(f, 1))(PARAMS, 0.1) for f in (fused, chain))
    assert_close(got, want, 1e-4)


def placed(mesh, tree):
    spec = jax.tree.map(lambda x: on(mesh, "data") if x.ndim else on(mesh), tree)
    return jax.device_put(tree, spec), spec


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT])
def test_on_a_mesh_nothing_is_gathered(kind):
    fused, chain, state = start()
    args, _ = placed(make_mesh(kind), (PARAMS, GRADS, state))
    assert not calls_of(fused.step, *args)
    compiled = jax.jit(fused.step).lower(*args).compile()
    assert not collectives(compiled)
    want = jax.jit(chain)(PARAMS, GRADS, state)
    assert_close(compiled(*args), want)
    assert_close(fused.step(*args), want)


def test_on_a_mesh_that_is_not_seen_it_is_right():
    fused, chain, state = start()
    args, specs = placed(make_mesh(), (PARAMS, GRADS, state))
    outs = (specs[0], specs[2])
    step = jax.jit(fused.step, in_shardings=specs, out_shardings=outs)
    compiled = step.lower(PARAMS, GRADS, state).compile()
    assert_close(compiled(*args), jax.jit(chain)(PARAMS, GRADS, state))


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("spec", [PartitionSpec("data"), PartitionSpec()])
def test_in_a_shard_map(spec, check_vma):
    fused, chain, state = start()
    args = (PARAMS, GRADS, state)
    specs = jax.tree.map(lambda x: spec if x.ndim else PartitionSpec(), args)
    outs = (specs[0], specs[2])
    mesh = make_mesh()
    step = jax.shard_map(
        fused.step, mesh=mesh, in_specs=specs, out_specs=outs, check_vma=check_vma
    )
    assert bool(calls_of(step, *args)) == HAS_KERNEL
    assert_close(jax.jit(step)(*args), jax.jit(chain)(PARAMS, GRADS, state))


def test_on_another_device():
    fused, chain, state = start()
    args = jax.device_put((PARAMS, GRADS, state), jax.devices()[3])
    got = jax.jit(fused.step)(*args)
    assert got[0]["w"].devices() == {jax.devices()[3]}
    assert_close(got, jax.jit(chain)(PARAMS, GRADS, state))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_elsewhere_it_is_the_chain(platform):
    fused, _, state = start()
    program = export.export(jax.jit(fused.step), platforms=[platform])
    assert "custom_call" not in program(PARAMS, GRADS, state).mlir_module()


def test_holes_stay():
    fused, _, _ = start()
    params, grads = PARAMS | {"c": jnp.ones(3, jnp.float32)}, GRADS | {"c": None}
    state = fused.init(PARAMS | {"c": None})
    got, new = fused.step(params, grads, state)
    np.testing.assert_array_equal(got["c"], params["c"])
    assert new[0].mu["c"] is None


def test_a_tree_without_leaves():
    fused = adamx.fused_adam(0.1)
    params, state = fused.step({}, {}, fused.init({}))
    assert params == {}
    assert state[0].count == 1


def test_errors():
    fused, _, state = start()
    with pytest.raises(ValueError, match="fused_adamw: updates do not match the state"):
        fused.step(PARAMS, {"w": GRADS["w"]}, state)
    message = "fused_adamw: expected a state of 3 parts, got ScaleByAdamState; make"
    with pytest.raises(ValueError, match=message):
        fused.step(PARAMS, GRADS, state[0])
    with pytest.raises(
        ValueError, match="fused_adamw: expected a ScaleByScheduleState"
    ):
        adamx.fused_adamw(falling).step(PARAMS, GRADS, state)
    with pytest.raises(ValueError, match=r"scale_by_adam: expected b2 in \[0, 1\)"):
        adamx.fused_adam(0.1, b2=1.5)


def test_the_compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("ADAMX_NO_KERNEL", raising=False)
    monkeypatch.setenv("CXX", "no-such-compiler -O9")
    assert build.compiler() != ["no-such-compiler", "-O9"]
    monkeypatch.setenv("CXX", "false")
    assert build.build(tmp_path / "x.so") == "it does not compile"
    monkeypatch.setenv("ADAMX_NO_KERNEL", "1")
    assert build.compiler() == []
    assert build.build(tmp_path / "x.so") == build.NO_COMPILER


def test_what_is_no_kernel_is_not_loaded(monkeypatch, tmp_path):
    monkeypatch.delenv("ADAMX_NO_KERNEL", raising=False)
    monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "none.so")
    assert kernel.load.__wrapped__() == (
        False,
        "adamx was installed without a C++ compiler",
    )
    monkeypatch.setenv("ADAMX_NO_KERNEL", "1")
    assert kernel.load.__wrapped__() == (False, "ADAMX_NO_KERNEL is set")
    monkeypatch.delenv("ADAMX_NO_KERNEL")
    (tmp_path / "none.so").write_text("no library")
    usable, why = kernel.load.__wrapped__()
    assert not usable
    assert why.startswith("the kernels do not load: ")
