"""What the tests of checkpoints share: a run, and what is wrong for it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from streams import make_params

import adamx

SHAPES = {"w": (3, 5), "b": {"x": (7,), "y": ()}, "empty": (0, 2)}
PARAMS = jax.tree.map(jnp.asarray, make_params("float32", SHAPES))
W = {"w": jnp.ones((3, 5), jnp.float32)}
TX = adamx.adamw(0.1)


def scrambled(state):
    """A state of the same types, of entries that all differ and are not round."""
    rng = np.random.default_rng(0)

    def leaf(x):
        if jnp.issubdtype(x.dtype, jnp.inexact):
            return jnp.asarray(rng.normal(size=x.shape)).astype(x.dtype)
        return jnp.asarray(rng.integers(0, 7, x.shape)).astype(x.dtype)

    return jax.tree.map(leaf, state)


def assert_same(got, want):
    """The same structure, types and bits."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        assert isinstance(x, jax.Array)
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.weak_type == y.weak_type
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


class Renamed(NamedTuple):
    count: Any
    mu: Any
    exp_avg_sq: Any


def renamed():
    inner = adamx.scale_by_adam()
    tx = adamx.GradientTransformation(
        lambda params: Renamed(*inner.init(params)), inner.update
    )
    return adamx.chain(tx, adamx.identity(), adamx.identity())


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


END = (
    "; give the tx and params of the run that was saved, with adamx "
    f"{adamx.__version__}."
)

# What is asked for where TX and W were saved, and what is then wrong.
MISFITS = {
    "another class": (
        adamx.adabelief(0.1),
        W,
        "expected a ScaleByBeliefState, got a ScaleByAdamState at opt_state[0]",
    ),
    "an extra field": (
        adamx.amsgrad(0.1),
        W,
        "expected a ScaleByAmsgradState, got a ScaleByAdamState at opt_state[0]; "
        "expected f32[3,5], got nothing at opt_state[0].nu_max['w']",
    ),
    "a renamed field": (
        renamed(),
        W,
        "expected opt_state[0].exp_avg_sq, got opt_state[0].nu of the same shapes; "
        "expected a Renamed, got a ScaleByAdamState at opt_state[0]",
    ),
    "nothing to keep": (
        adamx.sgd(0.1),
        W,
        "expected nothing, got i32[] at opt_state[0].count; expected nothing, got "
        "f32[3,5] at opt_state[0].mu['w']; expected nothing, got f32[3,5] at "
        "opt_state[0].nu['w']",
    ),
    "another place": (
        adamx.chain(adamx.clip(1.0), TX),
        W,
        "expected opt_state[1][0].count, got opt_state[0].count of the same shapes; "
        "expected opt_state[1][0].mu, got opt_state[0].mu of the same shapes; "
        "expected opt_state[1][0].nu, got opt_state[0].nu of the same shapes",
    ),
    "a schedule": (
        adamx.adamw(adamx.linear_schedule(0.1, 0.0, 10)),
        W,
        "expected i32[], got nothing at opt_state[2].count",
    ),
    "another dtype": (
        adamx.adamw(0.1, mu_dtype=jnp.bfloat16),
        W,
        "expected bf16[3,5], got f32[3,5] at opt_state[0].mu['w']",
    ),
    "another shape": (
        TX,
        {"w": shape(5, 3)},
        "expected f32[5,3], got f32[3,5] at params['w']; expected f32[5,3], got "
        "f32[3,5] at opt_state[0].mu['w']; expected f32[5,3], got f32[3,5] at "
        "opt_state[0].nu['w']",
    ),
    "more parameters": (
        TX,
        W | {"u": shape(3), "v": shape(4)},
        "expected f32[3], got nothing at params['u'] and 1 more; expected f32[3], got "
        "nothing at opt_state[0].mu['u'] and 1 more; expected f32[3], got nothing at "
        "opt_state[0].nu['u'] and 1 more",
    ),
}
