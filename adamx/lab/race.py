"""Optimizers race on functions of two numbers; the page computes, sliders steer."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import adamx
from adamx.lab.plots import COLORS
from adamx.lab.widgets import Widget, load, png

SURFACES = "ravine", "rosenbrock", "beale"
RATE, B1, B2, DECAY, STEPS, TURN = 0.05, 0.9, 0.999, 0.1, 100, 30.0  # at first


class Racer(NamedTuple):
    """An optimizer as the page shows it."""

    label: str
    color: str
    make: Callable[..., adamx.GradientTransformation]  # of rate, b1, b2, decay
    shown: bool = False
    dash: str = ""


def uncorrected(rate, b1, b2, decay) -> adamx.GradientTransformation:
    """Makes Adam without bias correction."""
    del decay
    block = adamx.scale_by_adam(b1, b2, debias=False)
    return adamx.chain(block, adamx.scale_by_learning_rate(rate))


# By the names of the rules in race.js.
RACERS = {
    "sgd": Racer("SGD", "#7F7F7F", lambda rate, b1, b2, decay: adamx.sgd(rate), True),
    "momentum": Racer(
        "momentum", COLORS["sgd"], lambda rate, b1, b2, decay: adamx.sgd(rate, b1), True
    ),
    "adagrad": Racer(
        "AdaGrad", COLORS["adagrad"], lambda rate, b1, b2, decay: adamx.adagrad(rate)
    ),
    "rmsprop": Racer(
        "RMSProp",
        COLORS["rmsprop"],
        lambda rate, b1, b2, decay: adamx.rmsprop(rate, b2),
        True,
    ),
    "adam": Racer(
        "Adam",
        COLORS["adam"],
        lambda rate, b1, b2, decay: adamx.adam(rate, b1, b2),
        True,
    ),
    "uncorrected": Racer("Adam, uncorrected", "#D55E00", uncorrected, True, dash="7 4"),
    "amsgrad": Racer(
        "AMSGrad",
        COLORS["amsgrad"],
        lambda rate, b1, b2, decay: adamx.amsgrad(rate, b1, b2),
    ),
    "adamw": Racer(
        "AdamW",
        COLORS["adamw"],
        lambda rate, b1, b2, decay: adamx.adamw(rate, b1, b2, weight_decay=decay),
        dash="2 5",
    ),
}


def surface(name: str, turn: float = TURN) -> Callable[[Any], jax.Array]:
    """Returns a function of two numbers that the page draws."""

    def ravine(p):
        c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        x, y = p[0] - 1, p[1] - 1
        along, across = c * x + s * y, c * y - s * x
        return along * along / 8 + 12.5 * across * across

    def rosenbrock(p):
        x, y = p
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2

    def beale(p):
        x, y = p
        terms = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
        return sum(term**2 for term in terms)

    return {"ravine": ravine, "rosenbrock": rosenbrock, "beale": beale}[name]


def path(tx: adamx.GradientTransformation, value, start, steps: int) -> np.ndarray:
    """Returns the points that an optimizer visits, the start among them."""

    def step(carry, _):
        p, state = carry
        updates, state = tx.update(jax.grad(value)(p), state, p)
        p = adamx.apply_updates(p, updates)
        return (p, state), p

    start = jnp.asarray(start, float)
    run = jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), length=steps))
    return np.vstack([start, run()[1]])


def draw() -> Figure:
    """Draws what the page shows at first."""
    value = surface("ravine")
    figure = Figure(figsize=(9.5, 4.5), layout="constrained")
    plane, values = figure.subplots(1, 2, width_ratios=[1, 1.1])
    grid = np.linspace(-3, 3, 200)
    heights = np.asarray(value(jnp.stack(jnp.meshgrid(grid, grid))))
    levels = 0.02 * 3.0 ** np.arange(13)
    plane.contourf(grid, grid, heights, levels, cmap="Blues", norm="log", alpha=0.5)
    plane.contour(grid, grid, heights, levels, colors="0.6", linewidths=0.5)
    for racer in RACERS.values():
        if not racer.shown:
            continue
        tx = racer.make(RATE, B1, B2, DECAY)
        points = path(tx, value, [-2.0, -0.2], STEPS)
        style = {"color": racer.color, "linestyle": "--" if racer.dash else "-"}
        plane.plot(*points.T, **style)
        plane.plot(*points[-1], "o", color=racer.color)
        values.semilogy(np.asarray(value(points.T)), **style, label=racer.label)
    plane.plot(1, 1, "o", color="#2CA02C", markersize=9, zorder=0)
    plane.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    plane.set_title(f"{STEPS} steps of {RATE:g} down a ravine")
    values.set(xlabel="step", ylabel="value")
    values.grid(alpha=0.25)
    values.legend(frameon=False)
    return figure


def playground() -> Widget:
    """Makes a race of optimizers that sliders steer, with no kernel and no network.

    On a ravine, Rosenbrock's or Beale's function: SGD, momentum, AdaGrad, RMSProp, Adam
    with and without bias correction, AMSGrad and AdamW, as adamx computes them.

    Returns:
      A view for a notebook or a page.

    Example:
      >>> adamx.lab.playground().alt
      'Five optimizers race down a ravine for 100 steps.'
    """
    optimizers = [
        {
            "rule": rule,
            "label": racer.label,
            # Black would vanish on a dark page.
            "ink": "currentColor" if racer.color == "#000000" else racer.color,
            "shown": racer.shown,
            "dash": racer.dash,
        }
        for rule, racer in RACERS.items()
    ]
    return Widget(
        load("chart.js", "race.js", "playground.js"),
        png(draw()),
        f"Five optimizers race down a ravine for {STEPS} steps.",
        {"optimizers": optimizers},
    )
