"""The optimizers of PyTorch: their hyperparameters, what they keep, what they are here.

An optimizer is known by the names in its `param_groups`: a `state_dict()` does not have
the name of the class.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import adamx
from adamx._base import GradientTransformation

Group = dict[str, Any]

DECOUPLED = "decoupled_weight_decay"


class Kind(NamedTuple):
    """An optimizer of PyTorch."""

    hyperparams: str  # their names
    fields: Callable[[Group, int], str]  # in the state of a parameter of some rank
    make: Callable[[Group], GradientTransformation]


def adam_settings(g: Group) -> Group:
    """What all relatives of Adam have."""
    b1, b2 = g["betas"]
    return {"learning_rate": g["lr"], "b1": b1, "b2": b2, "eps": g["eps"]}


def adam(g: Group) -> GradientTransformation:
    """Adam and AMSGrad, with L2 or decoupled decay."""
    settings = adam_settings(g)
    if g["amsgrad"]:
        decay = decoupled(g)
        return l2(g, adamx.amsgrad(**settings, variant="torch", weight_decay=decay))
    if (decay := decoupled(g)) is None:
        return l2(g, adamx.adam(**settings))
    return adamx.adamw(**settings, weight_decay=decay)


def nadam(g: Group) -> GradientTransformation:
    """NAdam with its rising momentum."""
    settings, rise = adam_settings(g), g["momentum_decay"]
    if (decay := decoupled(g)) is None:
        return l2(g, adamx.nadam(**settings, momentum_decay=rise))
    return adamx.nadamw(**settings, weight_decay=decay, momentum_decay=rise)


def radam(g: Group) -> GradientTransformation:
    """RAdam, with eps where the authors have it."""
    settings = adam_settings(g)
    tx = adamx.radam(**settings, variant="torch", weight_decay=decoupled(g))
    return l2(g, tx)


def adamax(g: Group) -> GradientTransformation:
    """AdaMax."""
    return l2(g, adamx.adamax(**adam_settings(g)))


def adagrad(g: Group) -> GradientTransformation:
    """AdaGrad, of which the learning rate may fall with the count."""
    rate, fall = g["lr"], g["lr_decay"]

    def falling(count: Any) -> Any:
        return rate / (1 + fall * jnp.asarray(count).astype(jnp.result_type(float)))

    return l2(
        g,
        adamx.adagrad(
            falling if fall else rate,
            g["initial_accumulator_value"],
            g["eps"],
            eps_in_sqrt=False,
        ),
    )


def adadelta(g: Group) -> GradientTransformation:
    """Adadelta, whose decay is L2 here, too."""
    return adamx.adadelta(g["lr"], g["rho"], g["eps"], g["weight_decay"])


def rmsprop(g: Group) -> GradientTransformation:
    """RMSProp with the learning rate behind the momentum."""
    make = adamx.scale_by_stddev if g["centered"] else adamx.scale_by_rms
    blocks = [make(g["alpha"], g["eps"], eps_in_sqrt=False)]
    if g["momentum"]:
        blocks.append(adamx.trace(g["momentum"]))
    return l2(g, adamx.chain(*blocks, adamx.scale_by_learning_rate(g["lr"])))


def sgd(g: Group) -> GradientTransformation:
    """Gradient descent with momentum."""
    if g["momentum"] and g["dampening"]:
        raise ValueError(f"dampening 0, got {g['dampening']}")
    return l2(g, adamx.sgd(g["lr"], g["momentum"] or None, g["nesterov"]))


def adafactor(g: Group) -> GradientTransformation:
    """Adafactor of PyTorch."""
    eps, least = g["eps"]
    if least != 1e-3:
        raise ValueError(f"the second eps 1e-3, got {least}")
    return adamx.adafactor(
        g["lr"],
        decay_rate=-g["beta2_decay"],
        clipping_threshold=g["d"],
        weight_decay_rate=g["weight_decay"] or None,
        eps=float(np.finfo(np.float32).eps) if eps is None else eps,
        variant="torch",
    )


def l2(g: Group, tx: GradientTransformation) -> GradientTransformation:
    """With L2 regularization before, where there is decay that is not decoupled."""
    if g["weight_decay"] and not g.get(DECOUPLED):
        return adamx.chain(adamx.add_decayed_weights(g["weight_decay"]), tx)
    return tx


def decoupled(g: Group) -> float | None:
    """The decoupled weight decay, or None."""
    return g["weight_decay"] if g["weight_decay"] and g.get(DECOUPLED) else None


def factors(g: Group, rank: int) -> str:
    """What Adafactor keeps."""
    return "step row_var col_var" if rank > 1 else "step variance"


def sums(g: Group, rank: int) -> str:
    """What RMSprop keeps."""
    centered = " grad_avg" * bool(g["centered"])
    return "step square_avg" + centered + " momentum_buffer" * bool(g["momentum"])


def moments(g: Group, rank: int) -> str:
    """What Adam keeps."""
    return "step exp_avg exp_avg_sq" + " max_exp_avg_sq" * bool(g.get("amsgrad"))


KINDS = {
    "Adam": Kind(
        "lr betas eps weight_decay amsgrad decoupled_weight_decay", moments, adam
    ),
    "NAdam": Kind(
        "lr betas eps weight_decay momentum_decay decoupled_weight_decay",
        lambda g, rank: "step mu_product exp_avg exp_avg_sq",
        nadam,
    ),
    "RAdam": Kind("lr betas eps weight_decay decoupled_weight_decay", moments, radam),
    "Adamax": Kind(
        "lr betas eps weight_decay", lambda g, rank: "step exp_avg exp_inf", adamax
    ),
    "Adagrad": Kind(
        "lr lr_decay weight_decay eps initial_accumulator_value",
        lambda g, rank: "step sum",
        adagrad,
    ),
    "Adadelta": Kind(
        "lr rho eps weight_decay", lambda g, rank: "step square_avg acc_delta", adadelta
    ),
    "RMSprop": Kind("lr momentum alpha eps centered weight_decay", sums, rmsprop),
    "SGD": Kind(
        "lr momentum dampening weight_decay nesterov",
        lambda g, rank: "momentum_buffer" * bool(g["momentum"]),
        sgd,
    ),
    "Adafactor": Kind("lr beta2_decay eps d weight_decay", factors, adafactor),
}
