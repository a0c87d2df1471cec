"""AdaGrad: Duchi, Hazan & Singer, 2011, JMLR 12."""

from typing import Any, NamedTuple

from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_flag,
    check_in,
)
from adamx._chain import chain
from adamx._numerics import (
    at_most_max,
    capped_sq,
    cast,
    hyperparameter,
    ratio,
    safe_divide,
    safe_sqrt,
)
from adamx._rounding import storage_of
from adamx._stateful import Moment, stateful
from adamx._transforms.decay import descent


class ScaleByRssState(NamedTuple):
    """State of `scale_by_rss`."""

    sum_of_squares: Updates  # like params, real; initial value plus the sum of |g|²


def scale_by_rss(
    initial_accumulator_value: Scalar = 0.1,
    eps: Scalar = 1e-7,
    *,
    eps_in_sqrt: bool = True,
    nu_dtype: Any = None,
) -> GradientTransformation:
    """Scales updates by the root of the sum of all squared ones.

        sum_of_squares = sum_of_squares + |g|²
        u = g / √(sum_of_squares + eps)        (outside: g / (√sum_of_squares + eps))

    Args:
      initial_accumulator_value: Where the sum starts, in units of the gradient squared;
        in [0, ∞).
      eps: In [0, ∞), in units of the gradient squared inside the root, of the gradient
        outside.
      eps_in_sqrt: Whether eps is inside the root; PyTorch has it outside.
      nu_dtype: Dtype in which the sum is kept, or a `Storage`; None is float32 or
        wider. Of narrower ones only a `Storage` that rounds to the nearest, with which
        the sum stands still from 2^8 |g|² to 2^9 |g|² on (bfloat16): the state has no
        count for stochastic rounding.

    Returns:
      A transformation. State: `ScaleByRssState`, one array for each parameter.

    Raises:
      ValueError: A number out of its range, a nu_dtype that does not follow the sum; at
        update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: 16-bit parameters get a float32 sum.

    Example:
      >>> tx = adamx.scale_by_rss(initial_accumulator_value=0.0, eps=0.0)
      >>> print(tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))[0])
      [1.]

    Reference: Duchi, Hazan & Singer, 2011, https://jmlr.org/papers/v12/duchi11a.html
    """
    who = "scale_by_rss"
    check_in(who, "initial_accumulator_value", initial_accumulator_value, "[0, inf)")
    check_in(who, "eps", eps, "[0, inf)")
    check_flag(who, "eps_in_sqrt", eps_in_sqrt)
    eps = hyperparameter(eps)

    def leaf(g: Array, total: Array) -> tuple[Array, Array]:
        total = at_most_max(total + capped_sq(g))
        if eps_in_sqrt:
            return safe_divide(g, safe_sqrt(total + cast(eps, total))), total
        return ratio(g, safe_sqrt(total) + cast(eps, total), eps), total

    storage = storage_of(who, "nu_dtype", nu_dtype, 0.0, real=True, counted=False)
    start = Moment(storage, real=True, fill=initial_accumulator_value)
    return stateful(who, ScaleByRssState, leaf, sum_of_squares=start)


def adagrad(
    learning_rate: ScalarOrSchedule,
    initial_accumulator_value: Scalar = 0.1,
    eps: Scalar = 1e-7,
    *,
    eps_in_sqrt: bool = True,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Makes AdaGrad: u = -learning_rate·g / √(sum_of_squares + eps).

    With weight decay -learning_rate·(... + weight_decay·p).

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the size of the first steps.
      initial_accumulator_value: As in `scale_by_rss`, like all that follow.
      eps: In [0, ∞).
      eps_in_sqrt: Whether eps is inside the root.
      nu_dtype: As in `scale_by_rss`.
      weight_decay: Decoupled, as in `adamw`; None is none.
      mask: Where to decay, as in `masked`; None is everywhere.

    Returns:
      A transformation. State: `(ScaleByRssState, EmptyState)`, the last
      `ScaleByScheduleState` with a schedule, and the part of `add_decayed_weights`
      between them where there is weight decay.

    Raises:
      ValueError: As in `scale_by_rss`, `add_decayed_weights` and
        `scale_by_learning_rate`; or a mask without weight decay.
      TypeError: As in these.

    Differs from PyTorch: it starts at 0 and adds eps = 1e-10 outside the root:
      `adagrad(learning_rate, 0.0, 1e-10, eps_in_sqrt=False)`.

    Example:
      >>> tx = adamx.adagrad(0.1, 0.0)
      >>> print(tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))[0])
      [-0.1]

    Reference: Duchi, Hazan & Singer, 2011, https://jmlr.org/papers/v12/duchi11a.html
    """
    return chain(
        scale_by_rss(
            initial_accumulator_value, eps, eps_in_sqrt=eps_in_sqrt, nu_dtype=nu_dtype
        ),
        *descent("adagrad", learning_rate, weight_decay, mask),
    )
