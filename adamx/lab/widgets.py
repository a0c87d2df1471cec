"""Views with sliders that need no kernel and no network."""

import base64
import hashlib
import html
import io
import json
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

SCRIPTS = files("adamx.lab") / "js"


class Widget:
    """A view that JavaScript draws in the page, with a picture where none runs.

    A notebook shows it where it is the value of a cell, and keeps both forms; the
    pictures are PNG, and all bytes are the same in every run.

    Args:
      scripts: JavaScript, of which the last part defines `mount(root, data)`: it fills
        the element `root`, which holds the poster until then.
      poster: The picture, as PNG.
      alt: What the picture shows, in words.
      data: What `mount` gets, as JSON.

    Example:
      >>> script = "function mount(root, data) { root.textContent = data.word; }"
      >>> poster = png(Figure(figsize=(1, 1)))
      >>> widget = adamx.lab.Widget([script], poster, "a word", {"word": "hello"})
      >>> sorted(widget._repr_mimebundle_())
      ['image/png', 'text/html', 'text/plain']
    """

    def __init__(self, scripts: Iterable[str], poster: bytes, alt: str, data: Any):
        image, words = base64.b64encode(poster).decode(), html.escape(alt)
        source = "\n".join([*scripts, f"const data = {inline(data)};"])
        # A name by content: the same in every run, and another for another widget.
        name = hashlib.sha256(source.encode()).hexdigest()[:12]
        self.alt, self.poster = alt, image
        self.html = (
            f'<div data-adamx="{name}"><img alt="{words}" style="max-width:100%" '
            f'src="data:image/png;base64,{image}"></div>\n<script>(() => {{\n'
            f"{closed(source)}\n"
            f"const roots = document.querySelectorAll('[data-adamx=\"{name}\"]');\n"
            "roots.forEach(root => {\n"
            "  if (root.dataset.ready) return;\n"
            '  root.dataset.ready = "yes";\n'
            "  mount(root, data);\n"
            "});\n})();</script>"
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        del include, exclude
        return {
            "text/plain": f"{type(self).__name__}: {self.alt}",
            "text/html": self.html,
            "image/png": self.poster,
        }


class FrameSlider(Widget):
    """Figures behind one slider.

    Args:
      figures: Matplotlib's, one for each place of the slider; they are closed.
      labels: What the slider says at each place.
      title: What the slider sets.
      start: The place where it starts, which is also the poster.
      dpi: Dots per inch of the figures.

    Raises:
      ValueError: No figure, not a label for each, or a start that is no place.

    Example:
      >>> figures = [Figure(figsize=(1, 1)) for _ in range(3)]
      >>> adamx.lab.FrameSlider(figures, [1, 10, 100], "steps", start=1)
      FrameSlider('steps', 3 frames)
    """

    def __init__(
        self,
        figures: Iterable[Figure],
        labels: Sequence[Any],
        title: str,
        start: int = 0,
        *,
        dpi: float = 110,
    ):
        frames = [png(figure, dpi) for figure in figures]
        if not frames or len(frames) != len(labels):
            raise ValueError(
                "FrameSlider: expected figures and a label for each, got "
                f"{len(frames)} figures and {len(labels)} labels."
            )
        if not 0 <= start < len(frames):
            raise ValueError(
                f"FrameSlider: expected start from 0 to {len(frames) - 1}, got {start}."
            )
        self.title, self.count = title, len(frames)
        data = {
            "frames": [base64.b64encode(frame).decode() for frame in frames],
            "labels": [str(label) for label in labels],
            "title": title,
            "start": start,
        }
        super().__init__(
            load("chart.js", "frames.js"),
            frames[start],
            f"{title}: {labels[start]}",
            data,
        )

    def __repr__(self) -> str:
        return f"FrameSlider({self.title!r}, {self.count} frames)"


def png(figure: Figure, dpi: float = 110) -> bytes:
    """Draws a figure as PNG, the same bytes in every run, and closes it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    # Only pyplot keeps figures, for a notebook to show them a second time.
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close(figure)
    return compact(buffer.getvalue())


def compact(picture: bytes) -> bytes:
    """Writes a PNG again in its own 256 colors, a third of the bytes or so, alone.

    What else was in the file, such as the version of the software, is left out.
    """
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def load(*names: str) -> list[str]:
    """Reads scripts of the lab."""
    return [(SCRIPTS / name).read_text(encoding="utf-8") for name in names]


def inline(value: Any) -> str:
    """Writes JSON that ends no script, whatever its strings hold."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def closed(source: str) -> str:
    """Writes JavaScript whose strings and comments end no script."""
    return re.sub(r"<(?=/script)|<(?=!--)", r"<\\", source, flags=re.IGNORECASE)
