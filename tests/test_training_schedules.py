"""Schedules of long runs, against 50-digit arithmetic; schedules over tokens."""

import functools
import re
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_schedules import exact, half_wave, lerp, ulps

import adamx


def wsd(c, init, peak, warmup, stable, decay, end=0, shape="linear"):
    if c < warmup:
        return lerp(init, peak, c / warmup)
    n = min(max(c - warmup - stable, 0), decay) / decay
    if shape == "cosine":
        return half_wave(peak, end, n)
    return lerp(peak, end, n.sqrt() if shape == "sqrt" else n)


def inverse_sqrt(c, peak, warmup, init=0, timescale=None):
    if c < warmup:
        return lerp(init, peak, c / warmup)
    timescale = max(warmup, 1) if timescale is None else timescale
    return peak * (timescale / (timescale + c - warmup)).sqrt()


SHAPES = ("linear", "cosine", "sqrt")
# For a run of n steps: the schedule, its formula, and the arguments of both.
ROWS = {
    f"wsd-{shape}-{end}": (
        functools.partial(adamx.warmup_stable_decay_schedule, shape=shape),
        functools.partial(wsd, shape=shape),
        lambda n, end=end: (1e-5, 0.1, n // 10, n // 2, n - n // 10 - n // 2, end),
    )
    for shape in SHAPES
    for end in (0.0, 0.3)
}
ROWS |= {
    f"inverse_sqrt-{label}": (
        lambda peak, warmup, init, timescale: adamx.inverse_sqrt_schedule(
            peak, warmup, init_value=init, timescale=timescale
        ),
        inverse_sqrt,
        lambda n, rest=rest: (0.1, *rest(n)),
    )
    for label, rest in {
        "plain": lambda n: (n // 10, 0.0, None),
        "slow": lambda n: (n // 10, 0.02, 10_000.5),
        "without a warm-up": lambda n: (0, 0.0, None),
    }.items()
}
each = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


@pytest.mark.parametrize("steps", [10**3, 10**6])
@each
def test_is_rounded_once_from_the_first_step_to_the_last(row, steps):
    make, formula, arguments = row
    counts = [0, 1, 2, 10, steps // 3, steps // 2 + 1]
    counts += [steps // 10 + n for n in (-1, 0, 1)]
    counts += [steps // 10 + steps // 2 + n for n in (-1, 0, 1, 2)]
    counts += [max(steps - n, 0) for n in (100, 10, 1, 0, -1, -1000)]
    got = np.asarray(make(*arguments(steps))(jnp.asarray(counts, jnp.int32)))
    want = [formula(Decimal(c), *exact(list(arguments(steps)))) for c in counts]
    errors = list(map(ulps, got, want))
    assert max(errors) <= 0.501, dict(zip(counts, errors, strict=True))


@each
def test_is_the_same_eager_compiled_mapped_and_scanned(row):
    make, _, arguments = row
    schedule, counts = make(*arguments(50)), range(0, 60, 7)
    loop = [schedule(count) for count in counts]
    assert all(x.dtype == jnp.result_type(float) and not x.weak_type for x in loop)
    array = jnp.asarray(counts, jnp.int32)
    scan = jax.lax.scan(lambda n, _: (n + 7, schedule(n)), jnp.int32(0), None, 9)
    for values in (jax.jit(schedule)(array), jax.vmap(schedule)(array), scan[1]):
        np.testing.assert_array_max_ulp(np.float32(loop), np.float32(values), maxulp=2)


@each
def test_all_numbers_may_be_traced(row):
    make, _, arguments = row
    counts = jnp.arange(0, 130, 9, dtype=jnp.int32)
    numbers = arguments(120)
    known = [i for i, x in enumerate(numbers) if x is None]

    @jax.jit
    def traced(values):
        values = list(values)
        for i in known:
            values.insert(i, None)
        return make(*values)(counts)

    arrays = [jnp.asarray(x) for x in numbers if x is not None]
    np.testing.assert_allclose(traced(arrays), make(*numbers)(counts), rtol=1e-6)


def test_has_gradients_in_every_value():
    for shape in SHAPES:

        def value(init, peak, end, count, shape=shape):
            return adamx.warmup_stable_decay_schedule(
                init, peak, 4, 2, 8, end, shape=shape
            )(count)

        slopes = jax.vmap(jax.grad(value, (0, 1, 2)), (None, None, None, 0))
        counts = jnp.array([1, 4, 6, 7, 14, 99])
        got = np.stack(slopes(3.0, 2.0, 0.5, counts))
        # Linear in all three, and their weights sum to 1.
        np.testing.assert_allclose(got.sum(axis=0), 1, rtol=1e-6)
        np.testing.assert_allclose(
            got[:, :3].T, [[0.75, 0.25, 0], [0, 1, 0], [0, 1, 0]]
        )
        np.testing.assert_allclose(got[:, 4:].T, [[0, 0, 1], [0, 0, 1]])


def test_the_inverse_root_is_that_of_the_transformer():
    width, warmup = 512, 4000
    schedule = adamx.inverse_sqrt_schedule((width * warmup) ** -0.5, warmup)
    steps = np.array([1, 100, 4000, 4001, 100_000])
    want = width**-0.5 * np.minimum(steps**-0.5, steps * warmup**-1.5)
    np.testing.assert_allclose(schedule(jnp.asarray(steps, jnp.int32)), want, rtol=1e-6)


def test_phases_may_be_empty():
    make = adamx.warmup_stable_decay_schedule
    assert [float(make(7.0, 1.0, 0, 0, 2)(c)) for c in range(4)] == [1, 0.5, 0, 0]
    assert [float(make(0.0, 1.0, 2, 0, 1)(c)) for c in range(4)] == [0, 0.5, 1, 0]


def test_epochs_are_those_of_torch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    want = []
    for _ in range(4):
        for _ in range(3):
            want.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        theirs.step()
    schedule = adamx.over_epochs(adamx.cosine_decay_schedule(0.1, 4), 3)
    np.testing.assert_allclose(schedule(jnp.arange(12)), want, rtol=1e-6)


def test_an_epoch_is_counted_from_zero_and_may_be_traced():
    schedule = adamx.over_epochs(lambda epoch: epoch.astype(jnp.float32), 4)
    assert [float(schedule(c)) for c in (0, 3, 4, 7, 8)] == [0, 0, 1, 1, 2]
    last = adamx.over_epochs(lambda epoch: epoch % 1000, 4)(2**31 - 1)
    assert last == (2**31 - 1) // 4 % 1000
    swept = jax.vmap(lambda n: adamx.over_epochs(lambda epoch: epoch, n)(12))
    np.testing.assert_array_equal(swept(jnp.array([5, 6, 13])), [2, 2, 0])


# ---- over tokens


def spend(tx, tokens, state=None):
    """The state after batches of so many tokens."""
    state = tx.init(jnp.zeros(())) if state is None else state
    for n in tokens:
        _, state = tx.update(jnp.ones(()), state, tokens=n)
    return state


def by_the_count(count):
    return 1.0 + count.astype(jnp.float32)


@pytest.mark.parametrize("unit", [1, 7, 10**6, 2**31 - 1])
def test_tokens_are_counted_to_the_last_one(unit):
    """Also where a remainder and a batch together are beyond 2³¹."""
    tx = adamx.scale_by_token_schedule(by_the_count, unit)
    most = 2**31 - 1 if unit > 1 else 10**6
    batches = np.random.default_rng(0).integers(0, most, size=60, dtype=np.int64)
    batches[:3] = [0, most, most]

    def step(state, n):
        return tx.update(jnp.ones(()), state, tokens=n)

    scan = jax.jit(lambda n: jax.lax.scan(lambda s, n: step(s, n)[::-1], tx.init(0), n))
    steps = jnp.asarray(batches[: 60 if unit > 7 else 6], jnp.int32)
    state, updates = scan(steps)
    seen = np.cumsum(np.asarray(steps, np.int64))
    assert (int(state.count), int(state.remainder)) == divmod(int(seen[-1]), unit)
    before = np.concatenate([[0], seen[:-1]]) // unit
    np.testing.assert_allclose(updates, -(1.0 + before), rtol=1e-6)


def test_ten_trillion_tokens_are_exact():
    """Where a count in float32 has stood still for long."""
    tx = adamx.scale_by_token_schedule(by_the_count, 10**6)
    start = adamx.ScaleByTokenScheduleState(jnp.int32(10**7 - 1), jnp.int32(999_998))
    state = spend(tx, [1], start)
    assert (int(state.count), int(state.remainder)) == (10**7 - 1, 999_999)
    state = spend(tx, [1], state)
    assert (int(state.count), int(state.remainder)) == (10**7, 0)


def test_the_count_stays_at_its_largest():
    tx = adamx.scale_by_token_schedule(by_the_count, 2)
    start = adamx.ScaleByTokenScheduleState(jnp.int32(2**31 - 5), jnp.int32(1))
    assert int(spend(tx, [2**31 - 1], start).count) == 2**31 - 1


def test_equal_batches_are_steps():
    """With a unit of one batch it is scale_by_learning_rate, bit for bit."""
    schedule = adamx.cosine_decay_schedule(0.3, 5)
    tokens = adamx.scale_by_token_schedule(schedule, 128)
    steps = adamx.scale_by_learning_rate(schedule)
    g = jnp.array([0.7, -0.3])
    state, count = tokens.init(g), steps.init(g)
    for _ in range(6):
        got, state = tokens.update(g, state, tokens=128)
        want, count = steps.update(g, count)
        np.testing.assert_array_equal(got, want)


def test_other_names_signs_and_dtypes():
    tx = adamx.scale_by_token_schedule(
        by_the_count, 10, argument="examples", flip_sign=False
    )
    tx = optax.chain(optax.identity(), adamx.chain(adamx.identity(), tx))
    g = jnp.ones(2, jnp.bfloat16)
    state = tx.init(g)
    for examples in (np.int32(25), jnp.array(3, jnp.uint8)):
        updates, new = tx.update(g, state, examples=examples, unknown=None)
        assert updates.dtype == g.dtype
        assert {x.dtype for x in jax.tree.leaves(new)} == {jnp.dtype(jnp.int32)}
        state = new
    np.testing.assert_array_equal(np.float32(updates), 3)
    assert [int(x) for x in jax.tree.leaves(state)] == [2, 8]


# ---- errors

WSD = adamx.warmup_stable_decay_schedule


@pytest.mark.parametrize(
    ("kind", "text", "make"),
    [
        (
            ValueError,
            "warmup_stable_decay_schedule: expected warmup_steps in [0, inf), got -1.",
            lambda: WSD(0, 1, -1, 2, 3),
        ),
        (
            ValueError,
            "warmup_stable_decay_schedule: expected stable_steps in [0, inf), got -2.",
            lambda: WSD(0, 1, 1, -2, 3),
        ),
        (
            ValueError,
            "warmup_stable_decay_schedule: expected decay_steps in [1, inf), got 0.",
            lambda: WSD(0, 1, 1, 2, 0),
        ),
        (
            ValueError,
            "warmup_stable_decay_schedule: expected peak_value in (-inf, inf), "
            "got nan.",
            lambda: WSD(0, float("nan"), 1, 2, 3),
        ),
        (
            ValueError,
            "warmup_stable_decay_schedule: expected shape in ('linear', 'cosine', "
            "'sqrt'), got 'root'.",
            lambda: WSD(0, 1, 1, 2, 3, shape="root"),
        ),
        (
            ValueError,
            "inverse_sqrt_schedule: expected timescale in (0, inf), got 0.",
            lambda: adamx.inverse_sqrt_schedule(1, 2, timescale=0),
        ),
        (
            ValueError,
            "inverse_sqrt_schedule: expected warmup_steps as a whole number below "
            "2**31, got 2.5.",
            lambda: adamx.inverse_sqrt_schedule(1, 2.5),
        ),
        (
            ValueError,
            "over_epochs: expected steps_per_epoch in [1, inf), got 0.",
            lambda: adamx.over_epochs(abs, 0),
        ),
        (
            TypeError,
            "over_epochs: expected schedule as a function of the count, got 0.1.",
            lambda: adamx.over_epochs(0.1, 5),
        ),
        (
            TypeError,
            "scale_by_token_schedule: expected step_size_fn as a function of the "
            "count, got 0.1.",
            lambda: adamx.scale_by_token_schedule(0.1, 5),
        ),
        (
            ValueError,
            "scale_by_token_schedule: expected tokens_per_count in [1, inf), got 0.",
            lambda: adamx.scale_by_token_schedule(by_the_count, 0),
        ),
        (
            TypeError,
            "scale_by_token_schedule: expected argument as the name of an extra "
            "argument, got 'of tokens'.",
            lambda: adamx.scale_by_token_schedule(
                by_the_count, 5, argument="of tokens"
            ),
        ),
        (
            ValueError,
            "scale_by_token_schedule: expected a scalar from the schedule, got 'rate'.",
            lambda: adamx.scale_by_token_schedule(lambda count: "rate", 5).init(0),
        ),
        (
            ValueError,
            "scale_by_token_schedule: needs the number of tokens; call "
            "tx.update(grads, state, params, tokens=n).",
            lambda: spend(adamx.scale_by_token_schedule(by_the_count, 5), [None]),
        ),
        (
            ValueError,
            "scale_by_token_schedule: expected tokens in [0, inf), got -3.",
            lambda: spend(adamx.scale_by_token_schedule(by_the_count, 5), [-3]),
        ),
        (
            TypeError,
            "scale_by_token_schedule: expected tokens as an integer, got bf16[].",
            lambda: spend(
                adamx.scale_by_token_schedule(by_the_count, 5),
                [jnp.ones((), jnp.bfloat16)],
            ),
        ),
    ],
)
def test_says_what_is_wrong(kind, text, make):
    with pytest.raises(kind, match=re.escape(text)):
        make()
