"""A comparison as one page of HTML: sentence, table, pictures, and a live part."""

from __future__ import annotations

import base64
import io
import json
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from adamx.lab import plots, table
from adamx.lab.plots.style import MANY, unit
from adamx.lab.records import shortest
from adamx.lab.statistics import ranking

if TYPE_CHECKING:
    from adamx.lab.results import Results
    from adamx.lab.trial import Trial

EXPLODED = 30  # times the first loss: what is higher is cut off


def render(results: Results) -> str:
    """Writes the page; nothing in it comes from elsewhere."""
    title, *notes = table.head(results)
    return Template(read("report.html")).substitute(
        title=escape(title),
        advice=escape(results.advice()),
        notes="".join(f"<li>{escape(note)}</li>\n" for note in notes),
        table=table_html(table.cells(results)),
        pictures="".join(picture_html(one) for one in plots.pictures(results)),
        made=made_html(results.config | results.versions),
        # So that no text in it, such as </script>, can end the element.
        data=json.dumps(live(results), allow_nan=False).replace("<", "\\u003c"),
        css=read("report.css"),
        js=read("report.js"),
    )


def read(name: str) -> str:
    """Reads a part of the page."""
    return files("adamx.lab").joinpath(name).read_text(encoding="utf-8")


def table_html(rows: list[list[str]]) -> str:
    """Writes the table, its first row as buttons that sort it."""
    titles, *rows = rows
    cells = (
        f'<th scope="col" aria-sort="none"><button type="button">{escape(title)}'
        "</button></th>"
        for title in titles
    )
    lines = [f"<thead>\n<tr>{''.join(cells)}</tr>\n</thead>", "<tbody>"]
    for name, *others in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>\n"])


def picture_html(picture: plots.Picture) -> str:
    """Draws a picture into the page."""
    file = io.BytesIO()
    plots.save(picture.draw, file, picture.height)
    code = base64.b64encode(file.getvalue()).decode()
    source = f"data:image/png;base64,{code}"
    return f'<figure><img alt="{escape(picture.alt)}" src="{source}"></figure>\n'


def made_html(record: dict[str, Any]) -> str:
    """Lists what was asked for, and the software and machine that made it."""

    def text(value):
        if isinstance(value, list):
            return ", ".join(text(one) for one in value)
        return f"{value:g}" if isinstance(value, float) else str(value)

    return "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(text(value))}</dd>\n"
        for name, value in record.items()
        if value not in (None, "")
    )


def live(results: Results) -> dict[str, Any]:
    """Collects what the live part draws."""
    looks, best, loss = plots.styles(results), ranking(results), unit(results)
    on = results.trials if len(results.trials) <= MANY else best[:MANY]
    first = [trial.curves[..., 0] for trial in results.trials.values()]
    start = min((float(np.nanmin(x)) for x in first if np.isfinite(x).any()), default=0)
    cap = EXPLODED * start
    quantities = [
        {"key": "curves", "label": f"training loss{loss}", "log": True, "cap": cap},
        {"key": "ratios", "label": "‖update‖ / ‖parameters‖ of a step", "log": True},
        {
            "key": "validation",
            "label": f"validation loss{loss}",
            "log": True,
            "cap": cap,
        },
        {"key": "accuracy", "label": "test accuracy (%)", "log": False},
    ]
    optimizers = [
        {
            "name": name,
            "color": looks[name]["color"],
            "dash": dash(looks[name]["linestyle"][1]),
            "on": name in on,
            "best": trial.best,
            "rates": to_list(trial.learning_rates),
            "decays": None
            if trial.weight_decays is None
            else to_list(trial.weight_decays),
            "diverged": trial.diverged.any(axis=1).tolist(),
            "steps": trial.steps,
            "series": series(trial),
        }
        for name, trial in results.trials.items()
    ]
    measured = {key for optimizer in optimizers for key in optimizer["series"]}
    return {
        "rates": distinct(one["rates"] for one in optimizers),
        "decays": distinct(one["decays"] for one in optimizers) or None,
        "quantities": [one for one in quantities if one["key"] in measured],
        "optimizers": optimizers,
    }


def distinct(grids) -> list[float]:
    """Lists all values of some grids, ascending."""
    return sorted({value for grid in grids for value in grid or ()})


def series(trial: Trial) -> dict[str, dict[str, list]]:
    """Condenses each quantity to mean, lowest and highest over the seeds."""
    values = {"curves": trial.curves, "ratios": trial.ratios} | trial.evaluations
    if "accuracy" in values:
        values["accuracy"] = 100 * values["accuracy"]
    return {
        key: {
            "steps": (
                trial.evaluation_steps
                if key in trial.evaluations
                else trial.curve_steps
            ).tolist(),
            "mean": rounded(seeds.mean(axis=1)),
            "low": rounded(seeds.min(axis=1)),
            "high": rounded(seeds.max(axis=1)),
        }
        for key, seeds in values.items()
    }


def rounded(values: np.ndarray) -> list[list[float | None]]:
    """Keeps four digits, which is more than a screen shows; None where not finite."""
    return [
        [float(f"{value:.4g}") if np.isfinite(value) else None for value in row]
        for row in values
    ]


def dash(widths: tuple[float, ...]) -> str:
    """Writes a pattern of dashes for SVG, whose lines are about two units wide."""
    return " ".join(f"{2 * width:g}" for width in widths) or "none"


def to_list(numbers: np.ndarray) -> list[float]:
    """Writes each float32 in its shortest decimals, as `config` has them."""
    return [shortest(number) for number in numbers]
