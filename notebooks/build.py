"""Runs the notebooks: `python notebooks/build.py [--check] [--html OUT] [NAME ...]`.

NAME.py, a jupytext percent script, is the source. Without --check the whole experiment
is run and the executed NAME.ipynb is written beside it; with it the short one is run,
assertions included, and the NAME.ipynb that is there must have its cells. --twice runs
each two times, of which all outputs must be the same. --html writes OUT/NAME.html from
the outputs, a page that needs no network. --jobs 2 runs two notebooks at a time.
The picture of a cell with a tag is written to TAG.png, for other documents to show.
"""

import argparse
import base64
import html
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TQDM_DISABLE", "1")  # a bar would be stored as an error
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

import jupytext  # the environment above comes first
import latex2mathml.converter
import nbformat
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from adamx.lab.widgets import compact

HERE = Path(__file__).parent
# Addresses in memory, times of the day, folders of this machine.
LOCAL = re.compile(
    rf"\b0x[0-9a-f]{{6,}}\b|\b\d\d:\d\d:\d\d\b|{re.escape(str(HERE.parent.resolve()))}"
)
LIGHT, DARK = (HtmlFormatter(style=style) for style in ("default", "github-dark"))
STYLE = f"""
:root {{ color-scheme: light dark; }}
body {{ font: 17px/1.55 system-ui, sans-serif; max-width: 52em; margin: 3em auto;
  padding: 0 1em; }}
pre {{ font-size: 13px; line-height: 1.45; overflow-x: auto; padding: .7em 1em;
  border-radius: 6px; }}
.highlight pre {{ background: #8881; }}
img {{ max-width: 100%; background: white; border-radius: 6px; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .1em .8em .1em 0; }}
{LIGHT.get_style_defs(".highlight")}
@media (prefers-color-scheme: dark) {{ {DARK.get_style_defs(".highlight")} }}
.highlight {{ background: none; }}
"""
HEAD = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><style>{STYLE}</style>"""


def execute(script: Path) -> nbformat.NotebookNode:
    """The notebook of a script with its outputs, without anything that changes."""
    notebook = jupytext.read(script)
    folder = {"metadata": {"path": str(script.parent)}}
    NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # how many messages a text came in is chance
        resources=folder,
    ).execute()
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i}"
    for data in outputs(notebook):
        if "image/png" in data:
            image = compact(base64.b64decode(data["image/png"]))
            data["image/png"] = base64.b64encode(image).decode()
    notebook.metadata.pop("language_info", None)  # it names the patch version of Python
    return notebook


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """What the script and the notebook must share."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def outputs(notebook: nbformat.NotebookNode):
    """All outputs: streams as text, the others by the type of their data."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            yield output.get("data", {"text/plain": output.get("text", "")})


def local(notebook: nbformat.NotebookNode) -> list[str]:
    """What in the printed outputs would be otherwise elsewhere."""
    texts = [output.get("text/plain", "") for output in outputs(notebook)]
    return [found for text in texts for found in LOCAL.findall(text)]


def pictures(notebook: nbformat.NotebookNode) -> dict[str, bytes]:
    """The pictures that documents show, by the tags of their cells."""
    return {
        tag: base64.b64decode(output.data["image/png"])
        for cell in notebook.cells
        for tag in cell.metadata.get("tags", [])
        for output in cell.outputs
    }


def page(notebook: nbformat.NotebookNode) -> str:
    """The notebook as one page, with formulas as MathML: nothing is fetched."""
    markdown = (
        MarkdownIt("commonmark")
        .enable("table")
        .use(
            dollarmath_plugin,
            renderer=lambda tex, options: latex2mathml.converter.convert(
                tex, display="block" if options["display_mode"] else "inline"
            ),
        )
    )
    title = re.search(r"^# (.*)", notebook.cells[0].source, re.MULTILINE)[1]
    parts = [f"{HEAD}<title>{html.escape(title)}</title></head><body>"]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(markdown.render(cell.source))
            continue
        parts.append(highlight(cell.source, PythonLexer(), LIGHT))
        for data in outputs(nbformat.v4.new_notebook(cells=[cell])):
            if "text/html" in data:
                parts.append(data["text/html"])
            elif "image/png" in data:
                image = data["image/png"].strip()
                alt = html.escape(data["text/plain"])
                parts.append(f'<img alt="{alt}" src="data:image/png;base64,{image}">')
            else:
                parts.append(f"<pre>{html.escape(data['text/plain'])}</pre>")
    return "\n".join([*parts, "</body></html>\n"])


def build(arguments: argparse.Namespace, script: Path) -> list[str]:
    """Runs a notebook, writes what is asked for, and says what is wrong."""
    start, wrong, target = time.perf_counter(), [], script.with_suffix(".ipynb")
    if arguments.check and not target.exists():
        return [f"{script.name}: there is no {target.name}; build it"]
    try:
        built = execute(script)
        again = execute(script) if arguments.twice else built
    except CellExecutionError as error:
        return [f"{script.name}: {error}"]
    if list(outputs(built)) != list(outputs(again)):
        wrong.append("a second run had other outputs")
    if found := local(built):
        wrong.append(f"outputs that are of this machine: {', '.join(found)}")
    if not arguments.check:
        nbformat.write(built, target)
        for name, image in pictures(built).items():
            (HERE / f"{name}.png").write_bytes(image)
    elif cells(built) != cells(nbformat.read(target, as_version=4)):
        wrong.append(f"other cells than {target.name}; build it again")
    if arguments.html:
        arguments.html.mkdir(parents=True, exist_ok=True)
        text = page(built)
        (arguments.html / f"{script.stem}.html").write_text(text, encoding="utf-8")
    print(f"{script.name}: {time.perf_counter() - start:.1f} s", flush=True)
    return [f"{script.name}: {what}" for what in wrong]


def main() -> int:
    """Builds or checks, and says how long each notebook took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("--html", type=Path, metavar="OUT")
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    arguments = parser.parse_args()
    os.environ["ADAMX_NOTEBOOK"] = "short" if arguments.check else "full"
    scripts = [HERE / f"{name}.py" for name in arguments.names]
    scripts = scripts or sorted(HERE.glob("[0-9]*.py"))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        wrong = list(chain.from_iterable(pool.map(partial(build, arguments), scripts)))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
