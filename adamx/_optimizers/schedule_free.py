"""Schedule-Free learning: Defazio et al., 2024, https://arxiv.org/abs/2405.15682."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx._average import put, put_averages
from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_flag,
    check_in,
    check_scalar_or_schedule,
    check_state,
    require_params,
)
from adamx._chain import as_transformation
from adamx._numerics import (
    as_float64,
    cast,
    complement,
    float64,
    hyperparameter,
    increment,
    is_zero,
    lerp,
    split,
    times,
)
from adamx._rounding import storage_of
from adamx._transforms.scale import schedule_value
from adamx._transforms.wide import widened
from adamx._tree import copy_of, map_leaves, scalar_dtype


class ScheduleFreeState(NamedTuple):
    """State of `schedule_free`."""

    b1: Array  # f32[]; the weight of x in y, with which x is recovered
    weight_sum: Array  # f32[]; sum of the weights of all z in x
    step_count: Array  # i32[]; the step to come, counted from 1
    max_lr: Array  # f32[]; largest learning rate so far
    base_optimizer_state: OptState  # of the base optimizer
    z: Params  # like params; where the base optimizer has led

    def eval_params(self, params: Params) -> Params:
        """Recovers x from y: the average of all z."""
        with float64():
            (weight,) = split(complement(self.b1) / hyperparameter(self.b1))

        def value(z: Array, y: Array) -> Array:
            return map_leaves(
                "eval_params", recovered, y, read=(z,), scalars=(weight,)
            )[0]

        return put("eval_params", value, self.z, params)


class ScheduleFreeWithAverageState(NamedTuple):
    """State of `schedule_free` that stores x."""

    b1: Array  # f32[]; the weight of x in y
    weight_sum: Array  # f32[]; sum of the weights of all z in x
    step_count: Array  # i32[]; the step to come, counted from 1
    max_lr: Array  # f32[]; largest learning rate so far
    base_optimizer_state: OptState  # of the base optimizer
    z: Params  # like params; where the base optimizer has led
    x: Params  # like params; weighted mean of all z

    def eval_params(self, params: Params) -> Params:
        """Returns x, in the dtypes of the parameters."""
        return put_averages(self.x, params)


def recovered(y: Array, z: Array, weight: Any) -> Array:
    """The x of which y = b1·x + (1 - b1)·z, for the weight (1 - b1) / b1."""
    return y + times(y - z, weight)


def schedule_free(
    base_optimizer: GradientTransformation,
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    weight_lr_power: Scalar = 2.0,
    state_dtype: Any = None,
    *,
    r: Scalar = 0.0,
    store_x: bool = False,
) -> GradientTransformation:
    """Replaces the momentum and the schedule of an optimizer by an average.

        max_lr     = max(max_lr, learning_rate)
        weight     = t^r·max_lr^weight_lr_power,   t = step_count
        weight_sum = weight_sum + weight,          c = weight / weight_sum
        z = z + base_optimizer(g, y)               (y are the parameters)
        x = x + c·(z - x)
        y = b1·x + (1 - b1)·z,   so that   u = c·(z - y) + (1 - b1·(1 - c))·(step of z)

    Gradients are taken at y, which is what trains; evaluate and export at x, which
    `eval_params` gives. The learning rate needs a warm-up at most, and no decay.

    Args:
      base_optimizer: An optimizer without momentum, such as `sgd`, which sees gradients
        and y in float32 or wider.
      learning_rate: That of the base optimizer, by which steps are weighed; a schedule
        is called with the number of updates applied before this one.
      b1: Weight of x in y, in [0, 1]: what momentum is elsewhere.
      weight_lr_power: In [0, ∞); steps during the warm-up count by that power of the
        largest learning rate so far.
      state_dtype: Dtype in which z is kept, or a `Storage`; None is float32 or wider.
        Narrower ones are rounded stochastically, since steps fall below what they
        resolve; x stays float32 or wider.
      r: In [0, ∞); later steps count more, by that power of t.
      store_x: Whether to keep x, for one more array; else it is recovered as
        y + (1 - b1) / b1·(y - z), which has the rounding errors of y: of bfloat16
        parameters keep it. With b1 = 0 it is always kept.

    Returns:
      A transformation. State: `ScheduleFreeState`, one array for each parameter beside
      the state of the base optimizer; `ScheduleFreeWithAverageState`, two.

    Raises:
      ValueError: A number out of its range; at update, no parameters, or trees that do
        not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: the weights see the learning rate of the step, where Optax's see
      that of the next one; scalars and z are float32 for 16-bit parameters; b1 = 0 and
      a learning rate that starts at 0 work.

    Example:
      >>> tx = adamx.schedule_free(adamx.sgd(0.5), 0.5, b1=0.5)
      >>> params = jnp.array([2.0])
      >>> updates, state = tx.update(jnp.ones(1), tx.init(params), params)
      >>> params = adamx.apply_updates(params, updates)
      >>> print(params, adamx.eval_params(state, params))
      [1.5] [1.5]

    Reference: Defazio et al., 2024, Algorithm 1, https://arxiv.org/abs/2405.15682
    """
    who = "schedule_free"
    base = as_transformation(who, "base_optimizer", base_optimizer)
    check_scalar_or_schedule(who, "learning_rate", learning_rate, "[0, inf)")
    check_in(who, "b1", b1, "[0, 1]")
    check_in(who, "weight_lr_power", weight_lr_power, "[0, inf)")
    check_in(who, "r", r, "[0, inf)")
    check_flag(who, "store_x", store_x)
    # z is a sum of steps that may be as small as they like beside it; x stays wide: in
    # a narrow dtype it would be no nearer than what is recovered from a narrow y.
    storage = storage_of(who, "state_dtype", state_dtype, 0.0)
    stored = store_x or is_zero(b1)
    kind = ScheduleFreeWithAverageState if stored else ScheduleFreeState
    w1, b1 = complement(b1), hyperparameter(b1)
    weight_lr_power, r = hyperparameter(weight_lr_power), hyperparameter(r)
    constant: Any = None if callable(learning_rate) else hyperparameter(learning_rate)

    def scheduled(count: Any) -> Array | None:
        if callable(learning_rate):
            return schedule_value(who, learning_rate, count)
        return None

    def init(params: Params) -> OptState:
        scheduled(np.int32(0))
        dtype = scalar_dtype(params)
        b = jnp.asarray(cast(b1, jnp.zeros([], dtype)))
        weight_sum, max_lr = (jnp.zeros([], dtype) for _ in range(2))
        # A copy for each, lest one buffer be donated twice.
        inner = base.init(copy_of(who, params))
        z = copy_of(who, params, storage)
        x = [copy_of(who, params)] if stored else []
        return kind(b, weight_sum, jnp.ones([], jnp.int32), max_lr, inner, z, *x)

    @jax.jit
    def averaging(
        step_count: Array, weight_sum: Array, max_lr: Array, value: Array | None
    ) -> tuple[Any, ...]:
        with float64():
            rate = constant if value is None else hyperparameter(value)
            t, largest, total = map(as_float64, (step_count, max_lr, weight_sum))
            largest = jnp.where(rate > largest, rate, largest)
            weight = power(t, r) * power(largest, weight_lr_power)
            total = total + weight
            # Of learning rates that were all 0 the limit.
            c = jnp.where(total > 0, weight / jnp.where(total > 0, total, 1), 1)
            sums = total.astype(weight_sum.dtype), largest.astype(max_lr.dtype)
            return sums, split(c, w1 + b1 * c)

    # The first argument only says in which dtype the updates leave.
    def leaf(g: Array, z: Array, step: Array, y: Array, c: Any, share: Any) -> Any:
        del g
        return times(z - y, c) + times(step, share), z + step

    def leaf_with_x(
        g: Array, z: Array, x: Array, step: Array, y: Array, c: Any, share: Any
    ) -> Any:
        del g, share
        z = z + step
        x = lerp(x, z, c)
        # From where y landed to where it should be, so that no rounding of it adds up.
        return lerp(z, x, b1) - y, z, x

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        y = require_params(who, params)
        check_state(who, state, kind)
        value = scheduled(state.step_count - 1)
        (weight_sum, max_lr), scalars = averaging(
            state.step_count, state.weight_sum, state.max_lr, value
        )
        steps, inner = base.update(
            widened(updates), state.base_optimizer_state, widened(y), **extra_args
        )
        averages = (state.z, state.x) if stored else (state.z,)
        updates, *averages = map_leaves(
            who,
            leaf_with_x if stored else leaf,
            updates,
            *averages,
            read=(steps, y),
            scalars=scalars,
            storages=(storage,),
            count=state.step_count,
        )
        count = increment(state.step_count)
        return updates, kind(state.b1, weight_sum, count, max_lr, inner, *averages)

    return GradientTransformation(init, update)


def power(x: Array, exponent: Any) -> Array:
    """x^exponent in float64 for x >= 0, by operations whose derivatives stay in it."""
    positive = jnp.where(x > 0, x, 1)
    zero = 1.0 if is_zero(exponent) else 0.0
    return jnp.where(x > 0, jnp.exp(exponent * jnp.log(positive)), zero)


def schedule_free_eval_params(state: OptState, params: Params) -> Params:
    """Gives the x of `schedule_free`, where Optax's state may stand for ours.

    `eval_params` also finds other averages.

    Args:
      state: A state that holds one of `schedule_free`, wherever it is.
      params: The parameters after the same update.

    Returns:
      A tree with the structure, shapes and dtypes of `params`.

    Raises:
      ValueError: No such state, or one of other parameters.

    Differs from Optax: finds the state in a chain; keeps the dtypes of `params`.

    Example:
      >>> tx = adamx.schedule_free_sgd(0.5)
      >>> params = jnp.array([2.0])
      >>> print(adamx.schedule_free_eval_params(tx.init(params), params))
      [2.]

    Reference: Defazio et al., 2024, section 4, https://arxiv.org/abs/2405.15682
    """
    kinds = {c._fields: c for c in (ScheduleFreeState, ScheduleFreeWithAverageState)}

    def known(x: Any) -> bool:
        return getattr(x, "_fields", None) in kinds

    found = list(filter(known, jax.tree.leaves(state, is_leaf=known)))
    if not found:
        raise ValueError(
            "schedule_free_eval_params: expected a state of schedule_free, got none in "
            f"a {type(state).__name__}; eval_params finds other averages."
        )
    for part in found:
        params = kinds[part._fields](*part).eval_params(params)
    return params
