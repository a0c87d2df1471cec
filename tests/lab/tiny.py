"""A task of a few numbers, and results written by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from adamx.lab import Results, Task, Trial

X = np.linspace(-1, 1, 20, dtype=np.float32)[:, None] ** np.arange(3, dtype=np.float32)
Y = X @ np.array([[1, -2], [0.5, 0], [0, 3]], np.float32)


def init(key):
    """Starts two layers."""
    first, second = jax.random.split(key)
    return {
        "first": jax.random.normal(first, (3, 4), jnp.float32),
        "second": {"w": jax.random.normal(second, (4, 2), jnp.float32)},
    }


def loss(params, batch):
    """Mean square error of a network with one hidden layer."""
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["first"]) @ params["second"]["w"] - y) ** 2)


def accuracy(params):
    """Part of the examples that are near."""
    x, y = jnp.asarray(X), jnp.asarray(Y)
    near = jnp.abs(jnp.tanh(x @ params["first"]) @ params["second"]["w"] - y) < 0.5
    return jnp.mean(near, dtype=jnp.float32)


TASK = Task("tiny", init, loss, (X, Y), accuracy=accuracy, batch_size=6, steps=8)


def trial(
    training, accuracy=None, *, steps=4, planned=4, validation=None, decays=None
) -> Trial:
    """Makes the runs of rates 0.1, 1, ... with these final losses [settings][seeds].

    With `decays`, each rate is tried with each of them.
    """
    final = {"training": training, "validation": validation, "accuracy": accuracy}
    final = {k: np.array(v, np.float32) for k, v in final.items() if v is not None}
    settings, seeds = final["training"].shape
    count = 1 if decays is None else len(decays)
    rates = np.float32(10) ** np.arange(-1, settings // count - 1, dtype=np.float32)
    fall = np.linspace(4, 1, steps, dtype=np.float32)
    points = np.zeros((settings, seeds, 1), np.float32)
    along = {k: v[..., None] * np.float32([0.5, 1]) for k, v in final.items()}
    del along["training"]
    return Trial(
        learning_rates=rates.repeat(count),
        weight_decays=decays and np.tile(np.float32(decays), len(rates)),
        curve_steps=np.arange(1, steps + 1, dtype=np.int32),
        curves=final["training"][:, :, None] * fall + points,
        ratios=fall / 1000 + points,
        final=final,
        evaluation_steps=np.array([2, 4] if along else [], np.int32),
        evaluations=along,
        steps=steps,
        planned_steps=planned,
        seconds=2.4,
        compile_seconds=1.0,
        state_bytes_per_parameter=8.25,
    )


def results(trials, *, optimizers=None, target_loss=None, criterion="training"):
    """Makes a comparison of these trials."""
    some = next(iter(trials.values()), None)
    rates = some and np.unique(some.learning_rates).tolist()
    tried = (one.weight_decays for one in trials.values())
    decays = (np.unique(one).tolist() for one in tried if one is not None)
    config = {
        "description": "two layers",
        "optimizers": optimizers or list(trials),
        "learning_rates": [0.1, 1.0] if some is None else rates,
        "weight_decays": next(iter(decays), None),
        "schedule": "constant",
        "seeds": [0, 1],
        "steps": 4,
        "batch_size": 6,
        "evaluate_every": None,
        "target_loss": target_loss,
        "loss_unit": "m²",
        "criterion": criterion,
    }
    return Results("tiny", config, {"adamx": "0"}, trials)
