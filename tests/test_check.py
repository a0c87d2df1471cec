"""What check_numerics finds, and what it leaves alone; how codes are used."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx import Storage
from adamx._precision.codec import grouped
from adamx._precision.trial import corner, stand_ins

BF16 = jnp.bfloat16


def make_params(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return {
        "dense": {"kernel": jnp.asarray(rng.normal(size=(64, 128)) / 8, dtype)},
        "scale": jnp.ones(16, dtype),
    }


def linear_codec():
    """Codes of equal steps, of which one stands for 0: what fails."""

    def encode(r, bits, positive):
        top, dtype = (255, jnp.uint8) if positive else (127, jnp.int8)
        return jnp.round(r * top).astype(dtype)

    def decode(codes, positive):
        return codes.astype(jnp.float32) / (255.0 if positive else 127.0)

    return grouped("linear", "linear", 128, encode, decode)


def check(tx, dtype=jnp.float32, **kwargs):
    # Optax adds what strict promotion keeps apart.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return adamx.check_numerics(tx, make_params(dtype), **kwargs)


def average(rounding):
    kept = Storage(BF16, rounding)
    return adamx.chain(adamx.sgd(1e-3), adamx.ema_params(accumulator_dtype=kept))


# ---- what is found

KERNEL = r"\['dense'\]\['kernel'\]"
PLANTED = {
    "b2 that is 1": (
        lambda: optax.adam(1e-2),
        BF16,
        {"stalled moment": rf"^0/nu at {KERNEL}.* should be 16\.\d% .* is -?\d\.\d%: "},
    ),
    "a small rate": (
        lambda: adamx.adamw(1e-5),
        BF16,
        {"lost updates": r"^\['scale'\] and 1 more, 100% of its entries in bfloat16 "},
    ),
    "eps of float16": (
        lambda: optax.adam(1e-2),
        jnp.float16,
        {
            "not finite": rf"^{KERNEL} and 1 more, with gradients of 0 .*0 / 0",
            "underflow": r"^0/nu at .* 100% of its entries are 0 in float16",
        },
    ),
    "bfloat16 to the nearest": (
        lambda: adamx.scale_by_adam(nu_dtype=Storage(BF16, "nearest")),
        jnp.float32,
        {"stalled moment": r"^nu at .*half of the last bit in bfloat16"},
    ),
    "float16": (
        lambda: adamx.scale_by_adam(nu_dtype=jnp.float16),
        jnp.float32,
        {"underflow": r"^nu at .* \d\d% of its entries are 0 in float16"},
    ),
    "a code of 0": (
        lambda: adamx.compress_state(optax.scale_by_adam(), linear_codec()),
        jnp.float32,
        {
            "exploding step": rf"^{KERNEL}, .* a step is \d\.\de\+03, and 1\.0e\+00 in",
            "coarse state": rf"^{KERNEL}, .* updates are \d\d+% off",
        },
    ),
    "codes to the nearest": (
        lambda: adamx.compress_state(adamx.scale_by_adam(), rounding="nearest"),
        jnp.float32,
        {"stalled moment": rf"^inner_state/nu at {KERNEL}, .*too small for its codes"},
    ),
    "an average to the nearest": (
        lambda: average("nearest"),
        jnp.float32,
        {"stalled average": r"^1/ema at .* makes \d% of its way"},
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found_and_named(name):
    make, dtype, expected = PLANTED[name]
    findings = check(make(), dtype)
    found = {x.what: f"{x.where}, {x.reason}" for x in findings}
    for what, pattern in expected.items():
        assert re.search(pattern, found[what]), found[what]
    assert all(str(x) == f"{x[0]}, {x[1]}: {x[2]}; {x[3]}." for x in findings)


def test_an_infinite_state_is_found():
    found = check(adamx.chain(optax.scale_by_adam()), jnp.float16, grad_size=10.0)
    (overflow,) = [x for x in found if x.what == "overflow"]
    assert overflow.where == "0/nu"
    assert "gradients of 1e+04 2 of its arrays" in overflow.reason


def test_what_float64_cannot_run_is_said():
    def update(updates, state, params=None):
        if updates["scale"].dtype == jnp.float64:
            raise TypeError("no float64")
        return updates, state

    tx = adamx.GradientTransformation(lambda params: adamx.EmptyState(), update)
    if jax.config.jax_enable_x64:
        found = adamx.check_numerics(tx, make_params(jnp.float32))
    else:
        found = adamx.check_numerics(tx, make_params())
    assert [x.what for x in found] == ["not compared"]
    assert found[0].reason == "in float64 it raises TypeError: no float64"


# ---- what is left alone

WARM = adamx.warmup_cosine_decay_schedule(0.0, 1e-3, 500, decay_steps=10_000)
GROUPS = adamx.by_path({"kernel": "a", "": "b"})
GOOD = {
    "adamw": lambda: adamx.adamw(1e-3),
    "bfloat16": lambda: adamx.adam(1e-3, mu_dtype=BF16, nu_dtype=BF16),
    "codes": lambda: adamx.compress_state(adamx.adamw(1e-3)),
    "average": lambda: average("stochastic"),
    "warm-up": lambda: adamx.chain(adamx.clip_by_global_norm(1.0), adamx.adamw(WARM)),
    "partition": lambda: adamx.partition(
        {"a": adamx.adam(1e-3, nu_dtype=BF16), "b": adamx.sgd(1e-2)}, GROUPS
    ),
    "lion": lambda: adamx.lion(1e-4, mu_dtype=BF16),
}
MORE = {
    "slow codes": lambda: adamx.compress_state(adamx.adamw(1e-3, b2=0.9999)),
    "dynamic codes": lambda: adamx.compress_state(
        adamx.adam(1e-3), adamx.dynamic256_codec()
    ),
    "codes of lion": lambda: adamx.compress_state(adamx.lion(1e-4)),
    "fast nearest": lambda: adamx.adam(
        1e-3, b2=0.95, nu_dtype=Storage(BF16, "nearest")
    ),
    "every fourth": lambda: adamx.MultiSteps(adamx.adamw(1e-3), 4),
    "Optax": lambda: optax.adamw(1e-3),
    "sgd": lambda: adamx.sgd(1e-2, momentum=0.9),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_works_gives_no_finding(name):
    assert check(GOOD[name]()) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", MORE)
def test_more_that_works_gives_no_finding(name):
    assert check(MORE[name]()) == []


MASTERS = {
    "32 bits": lambda tx: adamx.master_weights(tx),
    "24 bits": lambda tx: adamx.master_weights(tx, 24),
    "kahan": lambda tx: adamx.chain(tx, adamx.kahan_sum()),
    "chance": lambda tx: adamx.chain(tx, adamx.round_stochastically()),
}


@pytest.mark.parametrize("name", MASTERS)
def test_weights_of_16_bits_that_lose_nothing_give_no_finding(name):
    params = {"w": jnp.full((16, 16), 0.25, BF16)}
    tx = adamx.adamw(1e-5)
    assert [x.what for x in adamx.check_numerics(tx, params)] == ["lost updates"]
    assert adamx.check_numerics(MASTERS[name](tx), params) == []


def test_a_schedule_counts_with_its_largest_rate():
    warm = adamx.warmup_cosine_decay_schedule(0.0, 0.02, 5000, decay_steps=10_000)
    params = {"w": jnp.full(64, 0.25, BF16)}
    assert adamx.check_numerics(adamx.sgd(warm), params, grad_size=1.0) == []
    early = adamx.check_numerics(adamx.sgd(warm), params, grad_size=1.0, steps=9)
    assert [x.what for x in early] == ["lost updates"]


# ---- how it looks


def test_shapes_are_enough_and_the_same_call_finds_the_same():
    shapes = jax.eval_shape(lambda: make_params(BF16))
    first = adamx.check_numerics(adamx.sgd(1e-3), shapes)
    assert [x.what for x in first] == ["lost updates"]
    assert adamx.check_numerics(adamx.sgd(1e-3), shapes) == first


def test_parameters_are_copied_and_holes_stay():
    params = {"w": jnp.ones(4), "none": None, "out": adamx.MaskedNode()}
    donated = jax.jit(lambda x: x * 2, donate_argnums=0)
    jax.tree.map(donated, stand_ins("f", params, 8))
    assert adamx.check_numerics(adamx.sgd(0.1), params) == []
    np.testing.assert_array_equal(params["w"], np.ones(4))


def test_extra_arguments_go_to_update():
    seen = []

    def update(updates, state, params=None, *, value, **extra_args):
        seen.append(value)
        return updates, state

    tx = adamx.GradientTransformation(lambda params: adamx.EmptyState(), update)
    assert adamx.check_numerics(tx, jnp.ones(2), value=7.0) == []
    assert set(seen) == {7.0}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), ()),
        ((0, 3), (0, 3)),
        ((64, 64), (64, 64)),
        ((50257, 768), (32, 128)),
        ((100_000,), (4096,)),
        ((3, 5, 4096), (3, 5, 384)),
        ((3, 3, 512, 512), (1, 1, 32, 128)),
        ((10_000, 3), (1366, 3)),
    ],
)
def test_a_corner_has_enough_entries_and_whole_groups(shape, expected):
    assert corner(shape, 4096) == expected


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"steps": 0}, r"check_numerics: expected steps in \[1, inf\), got 0\."),
        ({"grad_size": 0}, r"check_numerics: expected grad_size in \(0, inf\), got 0"),
        ({"max_entries": 0}, r"check_numerics: expected max_entries in \[1, inf\)"),
    ],
)
def test_numbers_out_of_range_raise(kwargs, text):
    with pytest.raises(ValueError, match=text):
        adamx.check_numerics(adamx.sgd(0.1), jnp.ones(2), **kwargs)


def test_other_arguments_raise():
    with pytest.raises(TypeError, match="check_numerics: expected a gradient trans"):
        adamx.check_numerics(None, jnp.ones(2))
    with pytest.raises(TypeError, match=r"expected params of a .* got i32\[2\] at"):
        adamx.check_numerics(adamx.sgd(0.1), {"n": jnp.ones(2, jnp.int32)})


# ---- codes during a run


def trained(tx, steps, shape=(32, 256)):
    """The state after random gradients whose sizes differ by 10."""
    rng = np.random.default_rng(0)
    sizes = 1e-3 * 10 ** -rng.random(shape)
    params, update = {"w": jnp.ones(shape, jnp.float32)}, jax.jit(tx.update)
    state = tx.init(params)
    for _ in range(steps):
        grads = {"w": jnp.asarray(sizes * rng.normal(size=shape), jnp.float32)}
        _, state = update(grads, state, params)
    return state


@pytest.mark.parametrize(
    ("codec", "bottom"),
    [
        (adamx.companded_codec(), (0.0, 0.0)),
        (adamx.int4_codec(), (0.02, 0.47)),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
@pytest.mark.exhaustive
def test_healthy_codes_are_away_from_their_ends(codec, bottom):
    tx = adamx.compress_state(adamx.scale_by_adam(), codec)
    metrics = jax.jit(lambda state: adamx.code_metrics(state, codec))(trained(tx, 100))
    assert list(metrics) == [f"{field} {codec.name}" for field in ("mu", "nu")]
    for row, low in zip(metrics.values(), bottom, strict=True):
        assert row["zero_scales"] == row["bad_scales"] == 0
        np.testing.assert_allclose(row["bottom"], low, atol=0.02)
        # One in each group; in 4 bits more, where the largest are far apart.
        assert 1 / 128 <= row["top"] < (0.01 if codec.name[:4] != "int4" else 0.03)
        assert {x.dtype for x in row.values()} == {jnp.dtype(jnp.float32)}


@pytest.mark.exhaustive
def test_each_end_is_counted():
    tx = adamx.compress_state(adamx.scale_by_adam(b1=0.0, b2=0.0), rounding="nearest")
    g = np.zeros((32, 256), np.float32)
    g[:16, :128] = 1e-20  # far below the largest of its group
    g[:16, 0] = -1.0
    g[16:, :64] = 2.0
    g[0, 128] = np.inf
    params = jnp.ones(g.shape, jnp.float32)
    state = tx.init(params)
    empty = adamx.code_metrics(state)
    _, state = tx.update(jnp.asarray(g), state, params)
    metrics = adamx.code_metrics(state)
    assert jax.tree.structure(metrics) == jax.tree.structure(empty)
    for name, row in empty.items():
        assert row["zero_scales"] == 1, name
        assert row["top"] == row["bottom"] == 0, name
    live = 32 * 128  # without the groups of zeros, and the infinite one
    mu, nu = (metrics[f"{x} companded8_128"] for x in ("mu", "nu"))
    for row in (mu, nu):
        assert row["zero_scales"] == np.float32(31 / 64)
        assert row["bad_scales"] == np.float32(1 / 64)
    assert mu["top"] == np.float32((16 + 16 * 64) / live)
    assert mu["bottom"] == np.float32((16 * 127 + 16 * 64) / live)
    # The square of 1e-20 is 0: no code stands for it.
    assert nu["bottom"] == 0


def test_states_are_found_wherever_they_are():
    codec = {"mu": adamx.companded_codec(32), "nu": adamx.plain_codec(BF16)}
    tx = adamx.compress_state(adamx.scale_by_adam(), codec)
    labels = adamx.by_path({"": "a"})
    state = trained(adamx.chain(adamx.partition({"a": tx}, labels)), 1)
    metrics = adamx.code_metrics({"opt": state, "other": 3}, codec)
    (name,) = metrics  # what has no codes has no ends
    assert name.startswith("opt/0/inner_states/a/")
    assert name.endswith("mu companded8_32")
    assert adamx.code_metrics(trained(adamx.sgd(0.1), 1)) == {}


def test_another_codec_raises():
    state = trained(adamx.compress_state(adamx.scale_by_adam()), 0)
    text = "code_metrics: expected codec as compress_state was given it, got int4_128"
    with pytest.raises(ValueError, match=text):
        adamx.code_metrics(state, adamx.int4_codec())
    with pytest.raises(TypeError, match="code_metrics: expected codec as compress_s"):
        adamx.code_metrics(state, 3)
