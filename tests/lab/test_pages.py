"""A notebook as a page: it needs no network, and its sliders change its pictures."""

import re
import sys
from pathlib import Path

import pytest

from .browser import needs_browser, run

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

nbformat = pytest.importorskip("nbformat", reason="needs adamx[notebooks]")
for package in ("jupytext", "latex2mathml", "nbclient"):
    pytest.importorskip(package, reason="needs adamx[notebooks]")


@pytest.fixture(scope="module")
def build():
    """The module notebooks/build.py."""
    sys.path.insert(0, str(NOTEBOOKS))
    try:
        import build
    finally:
        sys.path.remove(str(NOTEBOOKS))
    return build


def notebook(output):
    cell = nbformat.v4.new_code_cell("x", outputs=[output])
    text = nbformat.v4.new_markdown_cell("# A *title* & more\n$a_1^2$\n\n$$b$$")
    return nbformat.v4.new_notebook(cells=[text, cell])


def test_a_page_has_formulas_code_and_outputs(build):
    stream = nbformat.v4.new_output("stream", text="1 < 2")
    page = build.page(notebook(stream))
    assert "<title>A *title* &amp; more</title>" in page
    assert page.count("<math") == 2
    assert 'display="block"' in page
    assert "<pre>1 &lt; 2</pre>" in page


@pytest.mark.parametrize(
    "text", ["<object at 0x7f00aa11bb22>", "done at 12:34:56", str(NOTEBOOKS / "x.py")]
)
def test_what_is_of_this_machine_is_found(build, text):
    output = nbformat.v4.new_output("execute_result", data={"text/plain": text})
    assert build.local(notebook(output))


def test_numbers_are_of_no_machine(build):
    output = nbformat.v4.new_output("stream", text="0x1 and 12:30, 3.4e-05")
    assert build.local(notebook(output)) == []


def test_pictures_in_documents_are_those_of_the_notebooks(build):
    made = {}
    for path in NOTEBOOKS.glob("*.ipynb"):
        made |= build.pictures(nbformat.read(path, as_version=4))
    shown = {path.stem: path.read_bytes() for path in NOTEBOOKS.glob("*.png")}
    assert shown == made
    readme = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(notebooks/(\w+)\.png\)", readme)) == set(made)


@needs_browser
def test_the_page_of_a_notebook_works_offline(build):
    name = NOTEBOOKS / "05_what_adam_does.ipynb"
    script = """
    const state = root => root.innerHTML;
    const answer = {};
    for (const name of ["t", "sample", "frame", "steps", "rate", "b1", "b2"]) {
      const input = document.querySelector(`[data-adamx] [name=${name}]`);
      const root = input.closest("[data-adamx]");
      const pictures = () => [...root.querySelectorAll("svg, img")].map(picture =>
        picture.src || picture.innerHTML).join();
      const before = pictures();
      input.value = input.max;
      input.dispatchEvent(new Event("input", {bubbles: true}));
      answer[name] = pictures() !== before;
    }
    const formula = document.querySelector("math").getBoundingClientRect();
    report({changed: answer, formula: formula.width});
    """
    page = build.page(nbformat.read(name, as_version=4))
    seen = run(page, script)
    assert seen["changed"] == dict.fromkeys(
        ["t", "sample", "frame", "steps", "rate", "b1", "b2"], True
    )
    assert 1 < seen["formula"] < 300
    assert [r for r in seen["requests"] if not r.startswith("data:")] == []
