"""Adam-mini: Zhang et al., 2024, https://arxiv.org/abs/2406.16793."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx._align import at
from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_all,
    check_state,
    describe,
)
from adamx._chain import chain
from adamx._numerics import (
    at_most_max,
    capped_sq,
    cast,
    complement,
    float64,
    hyperparameter,
    increment,
    is_zero,
    lerp,
    one_minus_power,
    safe_divide,
    safe_sqrt,
    split,
    times,
)
from adamx._rounding import storage_of
from adamx._rules import by_leaf, rule_for
from adamx._transforms.decay import BIAS_OR_NORM, EMBEDDING, descent
from adamx._tree import map_leaves, zero_count, zeros_like

Axes = tuple[int, ...]


class ScaleByAdamMiniState(NamedTuple):
    """State of `scale_by_adam_mini`."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; running mean of g
    nu: Updates  # like params, real, of size 1 in v_axes; running mean of mean |g|²


def scale_by_adam_mini(
    v_axes: Any,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by Adam's ratio with one second moment for each block.

        mu = mu + (1 - b1)·(g - mu)                    c1 = 1 - b1^t,   t = count + 1
        nu = nu + (1 - b2)·(mean(|g|², v_axes) - nu)   c2 = 1 - b2^t
        u  = (mu / c1) / (√(nu / c2 + eps_root) + eps)

    A block is what v_axes average over: a matrix whose axis 0 is averaged keeps nu in
    one row, and the state is hardly more than half of Adam's.

    Args:
      v_axes: The axes to average over: a tree of tuples of integers like the
        parameters, a prefix of one, a function from shapes to such a tree,
        `by_path(rule)`, or `adam_mini_axes()`, for Transformers. `()` is Adam.
      b1: Decay of mu per step, in [0, 1).
      b2: Decay of nu per step, in [0, 1).
      eps: Added to the root, in units of the gradient; in [0, ∞).
      eps_root: Added inside the root, in units of the gradient squared; in [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.

    Returns:
      A transformation. State: `ScaleByAdamMiniState`, one array for each parameter and
      one of size 1 in v_axes.

    Raises:
      ValueError: A number out of its range; at init, axes that do not fit the
        parameters; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Example:
      >>> tx = adamx.scale_by_adam_mini({"w": (0,), "b": ()})
      >>> params = {"w": jnp.zeros((512, 8)), "b": jnp.zeros(8)}
      >>> print(jax.tree.map(jnp.shape, tx.init(params).nu))
      {'b': (8,), 'w': (1, 8)}

    Reference: Zhang et al., 2024, Algorithm 1, https://arxiv.org/abs/2406.16793
    """
    who = "scale_by_adam_mini"
    axes_of = rule_for(who, "v_axes", v_axes, as_axes, is_axes)
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_all(who, "[0, inf)", eps=eps, eps_root=eps_root)
    w1, w2 = complement(b1), complement(b2)
    mu_storage = storage_of(who, "mu_dtype", mu_dtype, w1)
    nu_storage = storage_of(who, "nu_dtype", nu_dtype, w2, real=True)
    eps, eps_root = hyperparameter(eps), hyperparameter(eps_root)

    def blocks(tree: Any) -> tuple[list[Axes], list[Any]]:
        """The axes to average over and the shapes of mu and nu, for each leaf."""
        plans, shapes, leaves = [], [], jax.tree.leaves(tree)
        for i, (x, axes) in enumerate(zip(leaves, axes_of(tree), strict=True)):
            shape = np.shape(x)
            if not all(-len(shape) <= axis < len(shape) for axis in axes):
                raise ValueError(
                    f"{who}: expected v_axes as axes of {describe(x)}, got "
                    f"{axes}{at(tree, i)}."
                )
            averaged = sorted({axis % len(shape) for axis in axes})
            reduced = [1 if j in averaged else n for j, n in enumerate(shape)]
            plans.append(tuple(averaged))
            shapes.append((shape, tuple(reduced)))
        return plans, shapes

    def init(params: Params) -> ScaleByAdamMiniState:
        mu = zeros_like(who, params, mu_storage)
        shapes = [reduced for _, reduced in blocks(params)[1]]
        nu = zeros_like(who, params, nu_storage, real=True, shapes=shapes)
        return ScaleByAdamMiniState(zero_count(), mu, nu)

    @jax.jit
    def corrections(count: Array) -> tuple[Any, ...]:
        # As in `scale_by_adam`, the corrections are folded into scalars.
        with float64():
            c1, c2 = one_minus_power(w1, count), one_minus_power(w2, count)
            return split(c1 / jnp.sqrt(c2), c1 * eps, c2 * eps_root)

    def leaf(
        g: Array, mu: Array, nu: Array, factor: Any, floor: Any, offset: Any, axes: Axes
    ) -> tuple[Any, Array, Array]:
        def u(mu: Array, nu: Array) -> Array:
            a = nu if is_zero(eps_root) else nu + cast(offset, nu)
            return safe_divide(mu, times(safe_sqrt(a), factor) + cast(floor, a))

        return u, lerp(mu, g, w1), lerp(nu, block_mean(capped_sq(g), axes), w2)

    def update(
        updates: Updates,
        state: ScaleByAdamMiniState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, ScaleByAdamMiniState]:
        del params, extra_args
        check_state(who, state, ScaleByAdamMiniState)
        count = increment(state.count)
        plans, shapes = blocks(updates)
        updates, mu, nu = map_leaves(
            who,
            leaf,
            updates,
            state.mu,
            state.nu,
            scalars=corrections(count),
            shapes=shapes,
            plans=plans,
            storages=(mu_storage, nu_storage),
            count=count,
        )
        return updates, ScaleByAdamMiniState(count, mu, nu)

    return GradientTransformation(init, update)


def adam_mini(
    learning_rate: ScalarOrSchedule,
    v_axes: Any,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes Adam-mini, Adam with half the memory.

        u = -learning_rate·(mu / c1) / (√(nu / c2 + eps_root) + eps)

    where nu averages |g|² over v_axes; with weight decay
    -learning_rate·(... + weight_decay·p). Hyperparameters are those of `adamw`.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of a step.
      v_axes: As in `scale_by_adam_mini`, like all up to `nu_dtype`; such as
        `adam_mini_axes()`.
      b1: In [0, 1).
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByAdamMiniState, EmptyState)`, with the part of
      `add_decayed_weights` between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_adam_mini`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Example:
      >>> tx = adamx.adam_mini(0.1, v_axes=(0,))
      >>> params = jnp.zeros(2)
      >>> print(tx.update(jnp.array([1.0, 7.0]), tx.init(params))[0].round(6))
      [-0.02 -0.14]

    Reference: Zhang et al., 2024, Algorithm 1, https://arxiv.org/abs/2406.16793
    """
    return chain(
        scale_by_adam_mini(v_axes, b1, b2, eps, eps_root, mu_dtype, nu_dtype=nu_dtype),
        *descent("adam_mini", learning_rate, weight_decay, mask),
    )


# Names of projections in Flax and elsewhere, and what their second moments average.
ATTENTION = [
    (re.compile(r"^(query|key|w?[qk]|[qk]_proj|(query|key)_proj)$"), (-3, -1)),
    (re.compile(r"^(value|w?v|v_proj|value_proj)$"), (-3,)),
    (re.compile(r"^(out|w?o|o_proj|out_proj)$"), (-3, -2)),
]


def adam_mini_axes() -> Callable[[Params], Any]:
    """Makes the v_axes of Adam-mini for a Transformer, by the names of Flax.

        embedding             [token, feature]        one nu for each token
        query, key kernel     [in, head, feature]     one for each head
        out kernel            [head, feature, out]    one for each output neuron
        other kernels         [..., in, out]          one for each output neuron
        biases, norms, other vectors                  one for each entry, as Adam

    A value kernel [in, head, feature] is one of the others, with two axes of outputs;
    so is a query or key [in, out], which does not show its heads. Scanned layers stay.

    Returns:
      A function from parameters to a tree of tuples like them.

    Differs from the authors' code: norms keep one nu for each entry, not one for all.

    Example:
      >>> attention = {"query": {"kernel": jnp.ones((6, 2, 3))}}
      >>> adamx.adam_mini_axes()({"attn": attention, "norm": {"scale": jnp.ones(6)}})
      {'attn': {'query': {'kernel': (-3, -1)}}, 'norm': {'scale': ()}}

    Reference: Zhang et al., 2024, https://arxiv.org/abs/2406.16793, and its code,
      https://github.com/zyushun/Adam-mini
    """
    return by_leaf(transformer_axes)


def transformer_axes(names: tuple[str, ...], shape: tuple[int, ...]) -> Axes:
    """The axes of one leaf that share a second moment."""
    if len(shape) < 2 or any(map(BIAS_OR_NORM.search, names)):
        return ()
    if names[-1] != "kernel" and any(map(EMBEDDING.search, names)):
        return (-1,)
    for projection, axes in ATTENTION:
        if len(shape) > 2 and any(map(projection.search, names)):
            return axes
    return (-2,)


def block_mean(x: Array, axes: Axes) -> Array:
    """The mean over axes, which are kept; 0 of nothing."""
    if not axes:
        return x
    size = max(np.prod([x.shape[axis] for axis in axes]), 1)
    return at_most_max(jnp.sum(x, axes, keepdims=True)) / float(size)


def is_axes(x: Any) -> bool:
    """Whether x is an answer, a tuple of integers, and not a node of a tree."""
    return type(x) is tuple and all(type(axis) is int for axis in x)


def as_axes(who: str, answer: Any, where: str) -> Axes:
    """An answer of v_axes, checked."""
    if is_axes(answer):
        return answer
    raise TypeError(
        f"{who}: expected v_axes as a tuple of integers, got {describe(answer)}{where}."
    )
