"""Spikes: what is one, what its value does to the window, what it is judged by."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import find
from jax import lax
from mistakes import rejected

import adamx


@functools.cache
def watching(**kwargs):
    """From losses to the state after each."""
    tx = adamx.skip_spikes(adamx.identity(), **kwargs)

    def body(state, x):
        _, state = tx.update(jnp.abs(x), state, value=x)
        return state, state

    start = tx.init(jnp.zeros((), jnp.float32))
    return jax.jit(lambda values: lax.scan(body, start, values)[1])


def watch(values, measure="value", **kwargs):
    """The state after each of these losses, and which of them were left out."""
    values = jnp.asarray(values, jnp.float32)
    states = jax.tree.map(np.asarray, watching(measure=measure, **kwargs)(values))
    return states, np.flatnonzero(states.last_skipped)


NOISE = 3 + 0.1 * np.random.default_rng(3).normal(size=400)


@pytest.mark.parametrize("measure", ["value", "grad_norm"])
def test_a_spike_is_left_out_and_changes_the_deviation_little(measure):
    values = NOISE.copy()
    values[200] = 1e30
    states, skipped = watch(values, measure)
    assert skipped.tolist() == [200]
    before, after = (states.values[i].std(ddof=1) for i in (199, 200))
    assert 1.0 < after / before < 1.2
    # As if it had been at the limit: six deviations above the mean of those before it.
    limit = NOISE[72:200].mean() + 6 * NOISE[72:200].std(ddof=1)
    assert float(states.values[200, -1]) == pytest.approx(limit, rel=1e-6)


def test_low_values_are_no_spikes():
    values = NOISE.copy()
    values[200] = -1e3
    _, skipped = watch(values)
    assert skipped.tolist() == []


@pytest.mark.parametrize(("rise", "most"), [(20, 11), (100, 24)])
def test_a_lasting_change_of_level_is_followed(rise, most):
    values = NOISE.copy()
    values[200:] += 0.1 * rise
    _, skipped = watch(values)
    assert 1 <= len(skipped) <= most
    assert skipped.tolist() == list(range(200, 200 + len(skipped)))


def test_what_is_not_finite_is_left_out_from_the_start_and_does_not_enter():
    values = NOISE[:100].copy()
    bad = [0, 1, 50, 99]
    values[bad] = [np.nan, np.inf, -np.inf, np.nan]
    states, skipped = watch(values, window=32)
    assert skipped.tolist() == bad
    assert states.total_skipped[-1] == 4
    want = np.delete(values, bad).astype(np.float32)
    np.testing.assert_array_equal(states.values[-1], want[-32:])
    assert states.known[[0, 2, 20, 98]].tolist() == [0, 1, 19, 32]


def test_a_few_values_do_not_judge():
    """A spike is one from min_steps values on, half a window unless said otherwise."""
    for kwargs, steps in [({"window": 9}, 4), ({"window": 9, "min_steps": 6}, 6)]:
        for i, want in [(steps - 1, []), (steps, [steps])]:
            values = NOISE[: steps + 1].copy()
            values[i] = 1e6
            assert watch(values, **kwargs)[1].tolist() == want


def test_the_deviation_does_not_cancel():
    """At 1e4 with a deviation of 0.01, whose square float32 has no digits for."""
    values = 1e4 + 0.01 * np.random.default_rng(4).integers(-2, 3, size=200)
    values = values.astype(np.float32)
    wide = values.astype(float)
    limit = wide[72:].mean() + 6 * wide[72:].std(ddof=1)
    below = np.float32(limit - 0.002)
    above = np.float32(limit + 0.002)
    assert below < limit < above
    assert watch([*values, below])[1].tolist() == []
    assert watch([*values, above])[1].tolist() == [200]


def test_constant_values_do_not_lock_the_window():
    """Above zeros nothing is a spike; a constant is left in the end."""
    assert watch([0.0] * 40 + [1.0] * 3, window=16)[1].tolist() == []
    _, skipped = watch([1.0] * 40 + [2.0] * 60, window=16)
    assert 0 < len(skipped) < 40
    assert skipped[0] == 40
    _, skipped = watch([1.0] * 40 + [1.0 + 2e-7] * 3, window=16)
    assert skipped.tolist() == []


def with_itself(state, g, p, t, **kwargs):
    """The window holds the value that is judged by it."""
    x = np.sqrt(sum(np.sum(np.abs(y) ** 2) for y in g))
    seen = [*state.get("window", {"values": []})["values"], x][-kwargs["window"] :]
    own = state | {"window": {"values": seen}}
    u, new = oracle.skip_spikes(own, g, p, t, **kwargs)
    seen[-1] = new["window"]["values"][-1]
    new["window"]["values"] = seen
    return u, new | {
        "values": np.array([0.0] * (kwargs["window"] - len(seen)) + seen),
        "known": np.float64(len(seen)),
    }


def two_sided(state, g, p, t, **kwargs):
    values = state.get("window", {"values": []})["values"]
    x = np.sqrt(sum(np.sum(np.abs(y) ** 2) for y in g))
    if len(values) >= 8 and x < np.mean(values) - 2 * np.std(values, ddof=1):
        g = [np.full_like(y, 1e30) for y in g]
    return oracle.skip_spikes(state, g, p, t, **kwargs)


def unclipped(state, g, p, t, **kwargs):
    u, new = oracle.skip_spikes(state, g, p, t, **kwargs)
    x = np.sqrt(sum(np.sum(np.abs(y) ** 2) for y in g))
    new["window"]["values"][-1] = x
    return u, new | {"values": np.array([*new["values"][:-1], x])}


def uncentered(state, g, p, t, **kwargs):
    """A deviation of n, not n - 1, values."""
    n = len(state.get("window", {"values": []})["values"])
    factor = ((n - 1) / n) ** 0.5 if n > 1 else 1.0
    return oracle.skip_spikes(state, g, p, t, **kwargs | {"sigmas": 2.0 * factor})


@pytest.mark.parametrize("mistake", [with_itself, two_sided, unclipped, uncentered])
def test_wrong_windows_are_rejected(mistake):
    case = find("skip_spikes")
    kwargs = {"sigmas": 2.0, "window": 16}
    assert not rejected("skip_spikes", case.step)
    assert rejected("skip_spikes", functools.partial(mistake, **kwargs))


def test_the_value_reaches_the_inner_transformation():
    seen = []

    def update(updates, state, params=None, *, value, **extra_args):
        seen.append(value)
        return updates, state

    tx = adamx.GradientTransformation(lambda params: (), update)
    for measure in ("value", "grad_norm"):
        tx2 = adamx.skip_spikes(tx, measure=measure)
        tx2.update(jnp.ones(2), tx2.init(jnp.ones(2)), value=3.0)
    assert seen == [3.0, 3.0]
