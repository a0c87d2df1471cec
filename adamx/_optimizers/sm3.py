"""SM3: Anil, Gupta, Koren & Singer, 2019, https://arxiv.org/abs/1901.11150."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._align import align, first_difference
from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_in,
    check_state,
)
from adamx._chain import chain
from adamx._numerics import (
    at_most_max,
    capped_sq,
    cast,
    complement,
    hyperparameter,
    lerp,
    safe_divide,
    safe_sqrt,
)
from adamx._rounding import storage_of
from adamx._transforms.decay import descent
from adamx._tree import map_leaves, require_real, zeros_like


class ScaleBySM3State(NamedTuple):
    """State of `scale_by_sm3`."""

    mu: Updates  # for each of params a list: for each axis, the largest v at each place
    nu: Updates  # like params; running mean of the scaled g


def scale_by_sm3(
    b1: Scalar | None = 0.9,
    b2: Scalar = 1.0,
    eps: Scalar = 1e-8,
    *,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by the root of a sum of squares kept as one vector for each axis.

        v  = min over axes i of mu_i + g²
        mu_i = max of v over all axes but i
        nu = nu + (1 - b1)·(g / √(v + eps) - nu)
        u  = nu

    v is at least AdaGrad's sum of squares, and equal to it for a vector; of a matrix
    of n·m numbers mu has n + m. With b2 < 1, v = min mu_i + (1 - b2)·(g² - min mu_i).

    Args:
      b1: Decay of nu per step, in [0, 1); None keeps no nu: u is what it would average.
      b2: Decay of v per step, in [0, 1]; 1 sums.
      eps: In [0, ∞), in units of the gradient squared; the authors have 1e-30.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider. A
        bfloat16 is for b1 < 0.98: the state has no count for stochastic rounding.

    Returns:
      A transformation. State: `ScaleBySM3State`, nu and the vectors of mu.

    Raises:
      ValueError: A number out of its range, a nu_dtype that does not follow nu; at
        update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter that is not real.

    Differs from Optax: parameters without axes and b1 = None work, where Optax raises;
      16-bit parameters get float32 state.

    Example:
      >>> tx = adamx.scale_by_sm3(b1=0.0)
      >>> params, grads = jnp.zeros((2, 3)), jnp.full((2, 3), 0.5)
      >>> updates, state = tx.update(grads, tx.init(params))
      >>> print(updates[0].round(4), *state.mu)
      [1. 1. 1.] [0.25 0.25] [0.25 0.25 0.25]

    Reference: Anil et al., 2019, SM3-II, https://arxiv.org/abs/1901.11150
    """
    who = "scale_by_sm3"
    keeps_mean = b1 is not None
    if keeps_mean:
        check_in(who, "b1", b1, "[0, 1)")
    check_in(who, "b2", b2, "[0, 1]")
    check_in(who, "eps", eps, "[0, inf)")
    w1 = complement(b1) if keeps_mean else 1.0
    storage = storage_of(who, "nu_dtype", nu_dtype, w1, counted=False)
    storages = (storage,) * keeps_mean
    w2, eps = complement(b2), hyperparameter(eps)

    def leaf(g: Array, *state: Array) -> tuple[Array, ...]:
        nu, mu = state[:keeps_mean], state[keeps_mean:]
        axes = [tuple(j for j in range(g.ndim) if j != i) for i in range(len(mu))]
        low = functools.reduce(jnp.minimum, map(jnp.expand_dims, mu, axes))
        square = capped_sq(g)
        v = jnp.where(cast(w2, g) == 0, low + square, lerp(low, square, w2))
        v = at_most_max(v)
        u = safe_divide(g, safe_sqrt(v + cast(eps, v)))
        nu = tuple(lerp(old, u, w1) for old in nu)
        return *(nu or (u,)), *nu, *(jnp.max(v, others, initial=0) for others in axes)

    def init(params: Params) -> ScaleBySM3State:
        require_real(who, params)
        mu = [
            zeros_like(who, [x] * len(vectors(x)), shapes=vectors(x))
            for x in jax.tree.leaves(params)
        ]
        nu = zeros_like(who, params, storage) if keeps_mean else None
        return ScaleBySM3State(jax.tree.unflatten(jax.tree.structure(params), mu), nu)

    def update(
        updates: Updates,
        state: ScaleBySM3State,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, ScaleBySM3State]:
        del params, extra_args
        check_state(who, state, ScaleBySM3State)
        rows, treedef = align(who, updates, (state.nu,) if keeps_mean else ())
        like = treedef.unflatten(
            [
                [jax.ShapeDtypeStruct(n, jnp.float32) for n in vectors(g)]
                for g, *_ in rows
            ]
        )
        if jax.tree.structure(like) != jax.tree.structure(state.mu):
            raise first_difference(who, like, state.mu, "state")
        # One by one, since each leaf has as many states as axes.
        new = []
        for row, mu in zip(rows, treedef.flatten_up_to(state.mu), strict=True):
            shapes = (row[0].shape,) * keeps_mean + vectors(row[0])
            new.append(
                map_leaves(who, leaf, *row, *mu, shapes=[shapes], storages=storages)
            )
        updates = treedef.unflatten([row[0] for row in new])
        nu = treedef.unflatten([row[1] for row in new]) if keeps_mean else None
        mu = treedef.unflatten([list(row[1 + keeps_mean :]) for row in new])
        return updates, ScaleBySM3State(mu, nu)

    return GradientTransformation(init, update)


def vectors(x: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of what is kept for x: a vector for each axis, or a number."""
    return tuple((n,) for n in jnp.shape(x)) or ((),)


def sm3(
    learning_rate: ScalarOrSchedule,
    momentum: Scalar | None = 0.9,
    *,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes SM3: u = -learning_rate·(mean of g / √(v + 1e-8)).

    With weight decay -learning_rate·(... + weight_decay·p).

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of the first steps.
      momentum: As b1 in `scale_by_sm3`, in [0, 1); with None a matrix of n·m numbers
        costs n + m.
      nu_dtype: Dtype in which the mean is kept, or a `Storage`; None is float32 or
        wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleBySM3State, EmptyState)`, the last
      `ScaleByScheduleState` with a schedule, and the part of `add_decayed_weights`
      between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_sm3`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Differs from Optax: as `scale_by_sm3`; the learning rate may be a schedule.

    Example:
      >>> tx = adamx.sm3(0.1, momentum=None)
      >>> params = jnp.zeros((2, 2))
      >>> print(tx.update(jnp.ones((2, 2)), tx.init(params), params)[0][0])
      [-0.1 -0.1]

    Reference: Anil et al., 2019, SM3-II, https://arxiv.org/abs/1901.11150
    """
    return chain(
        scale_by_sm3(momentum, nu_dtype=nu_dtype),
        *descent("sm3", learning_rate, weight_decay, mask),
    )
