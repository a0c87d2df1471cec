"""Adafactor: Shazeer & Stern, 2018, https://arxiv.org/abs/1804.04235."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Params,
    Scalar,
    ScalarOrSchedule,
    Schedule,
    Updates,
    check_choice,
    check_flag,
    check_in,
    check_scalar_or_schedule,
    check_state,
)
from adamx._chain import chain
from adamx._numerics import (
    at_most_max,
    capped_sq,
    cast,
    float64,
    hyperparameter,
    increment,
    lerp,
    safe_divide,
    safe_sqrt,
    split,
)
from adamx._transforms.clip import clip_by_block_rms
from adamx._transforms.decay import add_decayed_weights
from adamx._transforms.moments import ema
from adamx._transforms.scale import scale, scale_by_learning_rate, value_at
from adamx._transforms.trust import scale_by_param_block_rms
from adamx._transforms.wide import rounded_once
from adamx._tree import map_leaves, zero_count, zeros_like

VARIANTS = ("optax", "torch")


class FactoredState(NamedTuple):
    """State of `scale_by_factored_rms`; a part that a leaf does not use has shape (1,).

    Of a leaf that is factored over the axes a and b, v_row lacks b and v_col lacks a.
    """

    count: Array  # i32[]; updates applied so far
    v_row: Updates  # real; running mean of |g|² averaged over axis b
    v_col: Updates  # real; running mean of |g|² averaged over axis a
    v: Updates  # real; running mean of |g|² of leaves that are not factored


def power_decay(step: Array, decay_rate: Scalar) -> Array:
    """1 - (step + 1)**-decay_rate: 0 at step 0, where nothing is to be remembered."""
    with float64():
        t = step.astype(jnp.float64) + 1
        return 1 - jnp.exp(-hyperparameter(decay_rate) * jnp.log(t))


def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: Scalar = 0.8,
    step_offset: Scalar = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: Scalar = 1e-30,
    decay_rate_fn: Callable[[Array, Scalar], Any] = power_decay,
    *,
    variant: str = "optax",
) -> GradientTransformation:
    """Scales updates by their root mean square, kept as one row and one column.

        w = t^-decay_rate,     t = max(count - step_offset, 0) + 1
        "optax":  s = |g|² + epsilon          "torch":  s = |g|²
        v_row = v_row + w·(mean of s over b - v_row)
        v_col = v_col + w·(mean of s over a - v_col)
        V = v_row·v_col / mean of v_row over a       (not factored: V like v_row, whole)
        "optax":  u = g / √V                  "torch":  u = g / max(√V, epsilon)

    The matrix V costs a row and a column instead of a whole second moment. "torch"
    keeps the mean of v_row above epsilon, too.

    Args:
      factored: Whether to factor at all.
      decay_rate: In (0, ∞); how fast w falls, and the mean with it grows longer.
      step_offset: Updates to leave out of t, for a count that goes on from an earlier
        run.
      min_dim_size_to_factor: In the variant "optax", the least size of the two largest
        axes of a leaf to factor; of these b is the larger.
      epsilon: In [0, ∞); in units of the gradient squared in the variant "optax", of
        the gradient in "torch".
      decay_rate_fn: From count - step_offset and decay_rate to 1 - w, in [0, 1); to
        keep it below 1 as Zhai et al. do, put a minimum around it.
      variant: "optax", or "torch", which factors the last two axes, a and b, of every
        leaf that has them.

    Returns:
      A transformation. State: `FactoredState`, in float32 or wider; for a matrix of
      n·m numbers n + m.

    Raises:
      ValueError: A number out of its range or an unknown variant; at update, trees that
        do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: 16-bit parameters get float32 statistics, where a bfloat16 mean
      stops moving once w is below 2^-8, at step 1024; 1 - w is exact; before
      step_offset w is 1, not NaN; the parameters are not needed.

    Example:
      >>> tx = adamx.scale_by_factored_rms(min_dim_size_to_factor=2)
      >>> params = jnp.zeros((2, 3))
      >>> updates, state = tx.update(jnp.full((2, 3), 0.5), tx.init(params))
      >>> print(updates[0], state.v_row, state.v_col)
      [1. 1. 1.] [0.25 0.25] [0.25 0.25 0.25]

    Reference: Shazeer & Stern, 2018, Algorithms 4 and 5,
      https://arxiv.org/abs/1804.04235; Zhai et al., 2022,
      https://arxiv.org/abs/2106.04560
    """
    who = "scale_by_factored_rms"
    check_flag(who, "factored", factored)
    check_in(who, "decay_rate", decay_rate, "(0, inf)")
    check_in(who, "step_offset", step_offset, "(-inf, inf)")
    check_in(who, "min_dim_size_to_factor", min_dim_size_to_factor, "[0, inf)")
    check_in(who, "epsilon", epsilon, "[0, inf)")
    if not callable(decay_rate_fn):
        raise TypeError(
            f"{who}: expected decay_rate_fn as a function of a step and decay_rate, "
            f"got {decay_rate_fn!r}."
        )
    check_choice(who, "variant", variant, VARIANTS)
    eps = hyperparameter(epsilon)
    floored = variant == "torch"

    def axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
        if not factored or len(shape) < 2 or 0 in shape:
            return None
        if floored:
            return len(shape) - 2, len(shape) - 1
        a, b = (int(i) for i in np.argsort(shape)[-2:])
        return (a, b) if shape[a] >= min_dim_size_to_factor else None

    def state_shapes(x: Any) -> tuple[tuple[int, ...], ...]:
        shape = jnp.shape(x)
        factors = axes(shape)
        if factors is None:
            return (1,), (1,), shape
        return *(shape[:i] + shape[i + 1 :] for i in reversed(factors)), (1,)

    def init(params: Params) -> FactoredState:
        parts = zip(*map(state_shapes, jax.tree.leaves(params)), strict=True)
        columns = list(parts) or [()] * 3
        v = [zeros_like(who, params, real=True, shapes=shapes) for shapes in columns]
        return FactoredState(zero_count(), *v)

    @jax.jit
    def weight(count: Array) -> tuple[Any, ...]:
        step = jnp.maximum(count - jnp.asarray(step_offset, jnp.int32), 0)
        kept = decay_rate_fn(step, decay_rate)
        with float64():
            return split(1 - jnp.asarray(kept, jnp.float64))

    def leaf(
        g: Array, row: Array, col: Array, v: Array, w: Any
    ) -> tuple[Array, Array, Array, Array]:
        square = capped_sq(g)
        if not floored:
            square = at_most_max(square + cast(eps, square))
        factors = axes(g.shape)
        if factors is None:
            v = lerp(v, square, w)
            root = safe_sqrt(v)
        else:
            a, b = factors
            row, col = lerp(row, mean(square, b), w), lerp(col, mean(square, a), w)
            rows, cols = jnp.expand_dims(row, b), jnp.expand_dims(col, a)
            level = mean(rows, a, keepdims=True)
            if floored:
                level = jnp.maximum(level, cast(eps, level))
            # Roots first: the product of a row and a column can leave the range.
            root = safe_sqrt(rows) * safe_divide(safe_sqrt(cols), safe_sqrt(level))
        if floored:
            root = jnp.maximum(root, cast(eps, root))
        return safe_divide(g, root), row, col, v

    def update(
        updates: Updates,
        state: FactoredState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, FactoredState]:
        del params, extra_args
        check_state(who, state, FactoredState)
        shapes = [state_shapes(x) for x in jax.tree.leaves(updates)]
        updates, *v = map_leaves(
            who, leaf, updates, *state[1:], scalars=weight(state.count), shapes=shapes
        )
        return updates, FactoredState(increment(state.count), *v)

    return GradientTransformation(init, update)


def mean(x: Array, axis: int, keepdims: bool = False) -> Array:
    """The mean over an axis, or the largest number where the sum overflows."""
    return at_most_max(jnp.mean(x, axis, keepdims=keepdims))


def adafactor(
    learning_rate: ScalarOrSchedule | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: Scalar = 0.8,
    decay_offset: Scalar = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Scalar | None = 1.0,
    momentum: Scalar | None = None,
    dtype_momentum: Any = jnp.float32,
    weight_decay_rate: ScalarOrSchedule | None = None,
    eps: Scalar = 1e-30,
    factored: bool = True,
    weight_decay_mask: MaskOrFn | None = None,
    *,
    variant: str = "optax",
) -> GradientTransformation:
    """Makes Adafactor, with weight decay that the learning rate does not scale.

        x = scale_by_factored_rms(g)
        x = x / max(1, rms(x) / clipping_threshold)
        x = learning_rate·max(rms(p), 1e-3)·x
        x = momentum·x_before + (1 - momentum)·x              (with momentum)
        u = -(x + weight_decay_rate·p)

    In the variant "torch" learning_rate is min(learning_rate, 1/√t) and the decay
    learning_rate·weight_decay_rate·p: a thousand times less at 1e-3, so bring a
    weight_decay of AdamW or PyTorch as learning_rate·weight_decay to the variant
    "optax", whose decay is the authors' own in T5X, too.

    Args:
      learning_rate: As in `scale_by_learning_rate`, relative to the size of the
        parameters, 1e-3 to 1e-2; None is 1 in the variant "optax" and 1e-2 in "torch".
      min_dim_size_to_factor: As in `scale_by_factored_rms`, the least size of the two
        largest axes of a leaf to factor.
      decay_rate: As in `scale_by_factored_rms`, in (0, ∞).
      decay_offset: As step_offset in `scale_by_factored_rms`.
      multiply_by_parameter_scale: Whether steps are relative to rms(p).
      clipping_threshold: As in `clip_by_block_rms`, in (0, ∞); None does not clip.
      momentum: Decay of the mean of x, in [0, 1); None keeps no mean.
      dtype_momentum: Dtype in which that mean is kept, or a `Storage`; None is float32
        or wider.
      weight_decay_rate: As in `add_decayed_weights`, the share of p per step; None is
        none.
      eps: As epsilon in `scale_by_factored_rms`. PyTorch's is that of the parameters'
        dtype, 1.2e-7 for float32.
      factored: Whether to factor second moments.
      weight_decay_mask: Where to decay, as in `masked`; None is everywhere.
      variant: "optax" or "torch".

    Returns:
      A transformation. State: a tuple of `FactoredState` and one part for each block,
      which is `EmaState` for momentum, `ScaleByScheduleState` for a schedule and
      `EmptyState` otherwise.

    Raises:
      ValueError: As in the blocks; or a mask without weight decay.
      TypeError: As in the blocks.

    Differs from Optax: as `scale_by_factored_rms`.

    Example:
      >>> tx = adamx.adafactor(0.01)
      >>> params = jnp.full(3, 2.0)
      >>> print(tx.update(jnp.ones(3), tx.init(params), params)[0])
      [-0.02 -0.02 -0.02]

    Reference: Shazeer & Stern, 2018, Algorithms 4 and 5,
      https://arxiv.org/abs/1804.04235
    """
    who = "adafactor"
    check_flag(who, "multiply_by_parameter_scale", multiply_by_parameter_scale)
    if weight_decay_mask is not None and weight_decay_rate is None:
        raise ValueError(
            f"{who}: expected no weight_decay_mask without weight_decay_rate; give "
            "weight_decay_rate too."
        )
    blocks = [
        scale_by_factored_rms(
            factored,
            decay_rate,
            decay_offset,
            min_dim_size_to_factor,
            eps,
            variant=variant,
        )
    ]
    if variant == "torch":
        rate = 1e-2 if learning_rate is None else learning_rate
        check_scalar_or_schedule(who, "learning_rate", rate, "[0, inf)")
        learning_rate = relative_step(rate)
        if weight_decay_rate is not None:
            weight_decay_rate = product_of(rate, weight_decay_rate)
    if clipping_threshold is not None:
        blocks.append(clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        blocks.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        blocks.append(scale_by_param_block_rms())
    if momentum is not None:
        blocks.append(ema(momentum, debias=False, accumulator_dtype=dtype_momentum))
    if weight_decay_rate is not None:
        blocks.append(add_decayed_weights(weight_decay_rate, weight_decay_mask))
    return rounded_once(chain(*blocks, scale(-1.0)))


def relative_step(rate: ScalarOrSchedule) -> Schedule:
    """min(rate, 1/√t), the step relative to the parameters (section 9 of the paper)."""

    def schedule(count: Any) -> Array:
        t = jnp.asarray(count).astype(jnp.result_type(float)) + 1
        return jnp.minimum(cast(value_at("adafactor", rate, count), t), 1 / jnp.sqrt(t))

    return schedule


def product_of(x: ScalarOrSchedule, y: ScalarOrSchedule) -> ScalarOrSchedule:
    """x·y, a schedule if one of them is."""

    def product(count: Any) -> Any:
        with float64():
            return value_at("adafactor", x, count) * value_at("adafactor", y, count)

    return product if callable(x) or callable(y) else product(0)
