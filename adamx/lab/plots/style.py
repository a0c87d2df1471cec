"""How an optimizer looks in every picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adamx.lab.statistics import ranking

if TYPE_CHECKING:
    from adamx.lab.results import Results

# One color means one optimizer in every picture, whichever others are in it. Okabe and
# Ito's colors, told apart by color-blind readers, and one more.
COLORS = {
    "adam": "#0072B2",
    "adamw": "#56B4E9",
    "nadam": "#D55E00",
    "nadamw": "#E69F00",
    "amsgrad": "#CC79A7",
    "rmsprop": "#009E73",
    "adagrad": "#8C6D31",
    "sgd": "#000000",
}
# Tol's muted colors; dashes tell apart those that share one.
OTHERS = ("#882255", "#44AA99", "#999933", "#AA4499", "#117733", "#6699CC")
DASHES = (), (4, 2), (1, 1.5), (6, 2, 1, 2), (6, 2, 1, 2, 1, 2)  # widths on, off, ...
MARKERS = "osD^vP*Xh<>p"
MANY = 12  # of more, the best are colored and the others gray
GRAY = "#B8B8B8"


def styles(results: Results) -> dict[str, dict]:
    """Gives each optimizer its color, marker and dashes."""
    others = [name for name in results.config["optimizers"] if name not in COLORS]
    looks = {
        # Decay changes little here: dashes let the line below show.
        name: (color, DASHES[name in ("adamw", "nadamw")])
        for name, color in COLORS.items()
    }
    for i, name in enumerate(others):
        row, column = divmod(i, len(OTHERS))
        looks[name] = OTHERS[column], DASHES[row % len(DASHES)]
    return {
        name: {
            "color": color,
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": (0, dashes),
            "linewidth": 1.3,
        }
        for i, (name, (color, dashes)) in enumerate(looks.items())
        if name in results.trials
    }


def lines(results: Results) -> dict[str, dict]:
    """Gives the style of each line: of many, only the best stand out."""
    looks = styles(results)
    if len(looks) <= MANY:
        return looks
    shown = ranking(results)[:MANY]
    gray = {
        "color": GRAY,
        "marker": "",
        "linestyle": (0, ()),
        "linewidth": 0.7,
        "zorder": 1,
        "label": f"the {len(looks) - len(shown)} others",
    }
    for name in looks:
        if name not in shown:
            looks[name] = gray
            gray = gray | {"label": "_"}  # once in the legend
    return {name: looks[name] for name in [*shown, *looks]}


def band(ax, x, low, high, style) -> None:
    """Shades the range of the seeds; not of a line among many."""
    if style["color"] != GRAY:
        ax.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)


def setting(trial) -> str:
    """Writes the best setting of an optimizer."""
    decay = "" if trial.best_decay is None else f", {trial.best_decay:g}"
    return f"{trial.best_rate:g}{decay}"


def setting_title(results: Results) -> str:
    """Says what `setting` wrote."""
    decays = results.config["weight_decays"] is not None
    return "rate, decay" if decays else "rate"


def unit(results: Results) -> str:
    """Returns the unit of the loss for an axis label."""
    return f" ({results.config['loss_unit']})" if results.config["loss_unit"] else ""


def legend(ax, title: str) -> None:
    """Puts the legend beside the picture, where it hides nothing."""
    if ax.get_legend_handles_labels()[0]:
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        ax.legend(title=title, frameon=False, **place)
