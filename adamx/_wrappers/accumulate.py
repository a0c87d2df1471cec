"""Several gradients in one step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_flags,
    check_in,
    check_scalar_or_schedule,
    check_state,
    describe,
    is_number,
)
from adamx._chain import as_transformation
from adamx._dtypes import compute_dtypes, convert
from adamx._numerics import abs_sq, cast
from adamx._rounding import storage_of
from adamx._wrappers.window import SkipFn, Window

WHO = "MultiSteps"


class MultiSteps(GradientTransformation):
    """Gives the inner transformation the mean of several gradients, and 0 in between.

        share = 1 / (mini_step + 1),   weighted: weight / (weight_sum + weight)
        acc_grads = acc_grads + share·(g - acc_grads)
        u = opt(acc_grads), acc_grads = 0   at every k-th gradient
        u = 0                               at the others

    A large batch in the memory of a small one. `opt` is not run in between, and its
    counts and schedules advance by one per window of k gradients.

    Args:
      opt: The transformation, which sees the mean in float32 or wider.
      every_k_schedule: k, a whole number from 1; a schedule is called with the number
        of inner updates so far, and is rounded up.
      use_grad_mean: Whether `opt` sees the mean; else it sees the sum.
      should_skip_update_fn: None, or a function `(updates, gradient_step, params) ->
        (skip, skip_state)`, such as `skip_not_finite`. Where skip, a bool[], is true,
        the gradient is left out: nothing but skip_state, a tree of arrays, changes.
      accumulator_dtype: Dtype of acc_grads, or a `Storage`; float32, or None, is
        float32 or wider. In bfloat16 windows of 50 gradients or more, and those of a
        schedule, are rounded stochastically, others to the nearest.
      weighted: Whether `update` takes the extra argument `weight`, a scalar from 0,
        such as the number of tokens in the batch of which g is the mean: batches that
        are padded unlike then count as in one large batch. A gradient of weight 0 may
        be NaN.

    Returns:
      A transformation, which also has `flush` and `has_updated`. State:
      `MultiStepsState`, one array for each parameter beside the state of `opt`;
      `WeightedMultiStepsState`.

    Raises:
      ValueError: A window shorter than 1 or fractional; at update, no weight, or trees
        that do not match.
      TypeError: `opt` is no transformation; a wrong kind of argument.

    Differs from Optax: `opt` runs once per window, not at every gradient; sees the mean
      in float32 of 16-bit gradients; float64 and complex gradients are accumulated as
      such; a window is closed also where k has become smaller than mini_step.

    Example:
      >>> tx = adamx.MultiSteps(adamx.sgd(0.5), every_k_schedule=2)
      >>> params = jnp.zeros(1)
      >>> state = tx.init(params)
      >>> for g in (jnp.array([1.0]), jnp.array([3.0])):
      ...     updates, state = tx.update(g, state, params)
      ...     print(updates, tx.has_updated(state))
      [0.] False
      [-1.] True
    """

    _window: Window

    def __new__(
        cls,
        opt: GradientTransformation,
        every_k_schedule: ScalarOrSchedule,
        use_grad_mean: bool = True,
        should_skip_update_fn: SkipFn | None = None,
        accumulator_dtype: Any = jnp.float32,
        *,
        weighted: bool = False,
    ) -> "MultiSteps":
        inner = as_transformation(WHO, "opt", opt)
        check_window(WHO, every_k_schedule)
        check_flags(WHO, use_grad_mean=use_grad_mean, weighted=weighted)
        if not (should_skip_update_fn is None or callable(should_skip_update_fn)):
            raise TypeError(
                f"{WHO}: expected should_skip_update_fn as a function of updates, "
                f"gradient_step and params, got {describe(should_skip_update_fn)}."
            )
        k: Any = every_k_schedule
        least_share = 1 / k if is_number(k) else k
        storage = storage_of(WHO, "accumulator_dtype", accumulator_dtype, least_share)
        window = Window(
            WHO,
            inner,
            every_k_schedule,
            use_grad_mean,
            should_skip_update_fn,
            None if storage and storage.dtype == jnp.float32 else storage,
            weighted,
        )
        self = super().__new__(cls, window.init, window.update)
        self._window = window
        return self

    def __reduce__(self) -> Any:
        w = self._window
        args = w.inner, w.every_k, w.use_grad_mean, w.should_skip, w.storage
        return functools.partial(MultiSteps, weighted=w.weighted), args

    @property
    def inner_opt(self) -> GradientTransformation:
        """The inner transformation."""
        return self._window.inner

    def flush(
        self, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        """Closes a window early: u = opt(acc_grads); 0 if no gradient came.

        For the end of an epoch, or of training, in the middle of a window.

        Args:
          state: The state, or one that it is in, of a wrapper around this.
          params: The parameters.
          **extra_args: For the inner transformation.

        Returns:
          Updates in the dtypes of `params`, or else of acc_grads, and the state.

        Raises:
          ValueError: A state with none of `MultiSteps` in it, or with several.
        """
        return self._window.flush(state, params, **extra_args)

    def has_updated(self, state: OptState) -> Array:
        """Says whether the last gradient closed a window: bool[].

        Also after gradients that were skipped right behind such a one.
        """
        check_state(WHO, state, self._window.kind)
        return (state.mini_step == 0) & (state.gradient_step > 0)

    def gradient_transformation(self) -> GradientTransformation:
        """Gives `init` and `update` alone."""
        return GradientTransformation(self.init, self.update)


def check_window(who: str, value: Any) -> None:
    """Raises unless a window is a whole number from 1, a scalar array or a schedule."""
    check_scalar_or_schedule(who, "every_k_schedule", value, "[1, inf)")
    if is_number(value) and value % 1 != 0:
        raise ValueError(
            f"{who}: expected every_k_schedule as a whole number, got {value}."
        )


def skip_not_finite(
    updates: Updates, gradient_step: Array, params: Params | None
) -> tuple[Array, dict[str, Array]]:
    """Says that a gradient with a NaN or an infinity is skipped, for `MultiSteps`.

    Args:
      updates: The gradient.
      gradient_step: Not used.
      params: Not used.

    Returns:
      bool[], and the dictionary with it as `should_skip` and with the number of entries
      that are not finite as `num_not_finite`, i32[].

    Example:
      >>> tx = adamx.MultiSteps(adamx.sgd(1.0), 2, True, adamx.skip_not_finite)
      >>> params = jnp.zeros(1)
      >>> _, state = tx.update(jnp.array([jnp.nan]), tx.init(params), params)
      >>> print(state.mini_step, state.skip_state["num_not_finite"])
      0 1
    """
    del gradient_step, params
    counts = [
        jnp.sum(~jnp.isfinite(x), dtype=jnp.int32) for x in jax.tree.leaves(updates)
    ]
    found = jnp.sum(jnp.stack([*counts, jnp.int32(0)]), dtype=jnp.int32)
    return found > 0, {"should_skip": found > 0, "num_not_finite": found}


def skip_large_updates(
    updates: Updates,
    gradient_step: Array,
    params: Params | None,
    max_squared_norm: Scalar,
) -> tuple[Array, dict[str, Array]]:
    """Says that a gradient whose norm is large, or NaN, is skipped, for `MultiSteps`.

        skip = not Σ |g|² < max_squared_norm

    Args:
      updates: The gradient.
      gradient_step: Not used.
      params: Not used.
      max_squared_norm: In (0, ∞), in units of g²; to be bound by `functools.partial`.

    Returns:
      bool[], and the dictionary with it as `should_skip` and with the sum as
      `norm_squared`, f32[] or, where a leaf is float64, f64[].

    Raises:
      ValueError: A number out of its range.
      TypeError: No number and no scalar array.

    Differs from Optax: sums in float32 or wider; complex gradients count with |g|².

    Example:
      >>> g = jnp.array([3.0, 4.0])
      >>> skip, found = adamx.skip_large_updates(g, 0, None, max_squared_norm=20.0)
      >>> print(skip, found["norm_squared"])
      True 25.0
    """
    del gradient_step, params
    check_in("skip_large_updates", "max_squared_norm", max_squared_norm, "(0, inf)")
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(updates)]
    inside = compute_dtypes(jnp.dtype(jnp.float32), *(x.dtype for x in leaves))[1:]
    squares = [
        jnp.sum(abs_sq(convert(x, dtype)))
        for x, dtype in zip(leaves, inside, strict=True)
    ]
    norm_squared = jnp.sum(jnp.stack(squares)) if squares else jnp.zeros([])
    skip = ~(norm_squared < cast(max_squared_norm, norm_squared))
    return skip, {"should_skip": skip, "norm_squared": norm_squared}
