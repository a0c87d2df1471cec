"""The moment generating function of a gradient, as a view with sliders."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from adamx.lab.widgets import Widget, load, png


def moments(gradients: Mapping[Any, Any], title: str = "step") -> Widget:
    """Makes a view of a gradient's distribution and of M(t) = E e^(tg).

    One slider chooses the distribution, another t, where a tangent and a parabola touch
    M. At t = 0 their slope and curvature are the means of g and g², the two numbers
    that Adam's mu and nu follow.

    Args:
      gradients: For each place of the first slider, such as steps of training, samples
        of the gradient of one weight, f32[n]; the page gets four digits of each.
      title: What the first slider sets.

    Returns:
      A view for a notebook or a page.

    Raises:
      ValueError: No samples, or some that are not finite or all 0.

    Example:
      >>> normal = np.random.default_rng(0).normal
      >>> adamx.lab.moments({0: normal(1, 1, 500), 100: normal(0, 1, 500)}).alt
      'The distribution of a gradient and its moment generating function, step 0.'
    """
    samples = [np.asarray(g, np.float64) for g in gradients.values()]
    for label, g in zip(gradients, samples, strict=True):
        if g.ndim != 1 or not (np.isfinite(g).all() and g.any()):
            raise ValueError(
                "moments: expected finite samples f32[n] that are not all 0, got "
                f"others at {title} {label}."
            )
    if not samples:
        raise ValueError("moments: expected at least one distribution, got none.")
    samples = [np.array([float(f"{x:.4g}") for x in g]) for g in samples]
    largest = max(np.abs(g).max() for g in samples)
    data = {
        "labels": [str(label) for label in gradients],
        "samples": [g.tolist() for g in samples],
        "title": title,
        "end": 1.001 * largest,
        "farthest": 2 / max(np.sqrt(np.mean(g * g)) for g in samples),
    }
    first = data["labels"][0]
    return Widget(
        load("chart.js", "moments.js"),
        png(draw(samples[0], data["end"], data["farthest"], f"{title} {first}")),
        "The distribution of a gradient and its moment generating function, "
        f"{title} {first}.",
        data,
    )


def draw(g: np.ndarray, end: float, farthest: float, title: str) -> Figure:
    """Draws what the page shows at first."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    shape, curve = figure.subplots(1, 2)
    shape.hist(g, np.linspace(-end, end, 49), density=True, color="#0072B2", alpha=0.55)
    shape.set(xlabel="gradient g of one weight", ylabel="density", title=title)
    t = np.linspace(-farthest, farthest, 121)
    first, second = g.mean(), np.mean(g * g)
    curve.plot(t, 1 + t * first + t**2 / 2 * second, "--", color="#CC79A7")
    curve.plot(t, 1 + t * first, color="#D55E00")
    curve.plot(t, np.exp(t[:, None] * g).mean(1), color="#0072B2")
    curve.plot(0, 1, "o", color="#D55E00")
    curve.set(xlabel="t", ylabel="M(t) = E eᵗᵍ", ylim=(0, 5))
    curve.set_title(f"M′(0) = {first:.2g}, M″(0) = {second:.2g}")
    for axes in (shape, curve):
        axes.grid(alpha=0.25)
    return figure
