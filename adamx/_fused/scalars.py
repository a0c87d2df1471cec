"""What all elements of a fused step share."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from adamx._base import Array, Scalar, ScalarOrSchedule, Updates
from adamx._numerics import as_float64, cast, float64, hyperparameter, parts
from adamx._optimizers.adam import corrections
from adamx._transforms.clip import clipping_factor


class Hyperparameters(NamedTuple):
    """What a step depends on; arrays among them are arguments of its program."""

    learning_rate: ScalarOrSchedule | None
    b1: Scalar
    b2: Scalar
    eps: Scalar
    eps_root: Scalar
    weight_decay: ScalarOrSchedule | None
    max_norm: Scalar | None


def scalars(
    h: Hyperparameters, w1: Any, w2: Any, count: Array, nesterov: bool, grads: Updates
) -> Array:
    """What all elements share, f32[17], in the order of `Scalars` in adamw.h."""
    eps, eps_root = hyperparameter(h.eps), hyperparameter(h.eps_root)
    rate = 1.0 if h.learning_rate is None else hyperparameter(h.learning_rate)
    decay = 0.0 if h.weight_decay is None else h.weight_decay
    b1 = hyperparameter(h.b1)
    clip = 1.0 if h.max_norm is None else clipping_factor(grads, h.max_norm)
    with float64():
        shared = corrections(count, b1, w1, w2, eps, eps_root, nesterov)
        factor, floor, offset, ahead, least = shared
        chosen = [*nearer(w1), *nearer(w2)]
    chosen += [*two(ahead), *two(w1), one(offset), one(least), *two(factor)]
    chosen += [one(floor), one(decay), *two(rate), one(clip)]
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in chosen])


def nearer(w: Any) -> tuple[Any, Any]:
    """The weight of the farther end, and 1 where that is the old mean; as in `lerp`."""
    w = as_float64(w)
    far = w > 0.5
    return one(jnp.where(far, 1 - w, w)), far.astype(jnp.float32)


def two(c: Any) -> tuple[Any, Any]:
    """A scalar as what `times` makes of it."""
    power, rest = parts(c, jnp.float32)
    return power, 0.0 if rest is None else rest


def one(c: Any) -> Any:
    """A scalar in float32."""
    return cast(c, jnp.float32(0))
