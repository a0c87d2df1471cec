"""Documents are true: arguments, results, examples, the README's code and files."""

import importlib
import inspect
import pkgutil
import re
import runpy
from pathlib import Path

import jax
import pytest

import adamx
import adamx.interop

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def public(module):
    """The functions and classes of a module that are its own."""
    inside = "adamx." if module is adamx else module.__name__
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and getattr(thing, "__module__", "").startswith(inside)
        and callable(thing)
    }


def interop():
    """Those of the parts of `adamx.interop` whose libraries are installed."""
    found = {}
    for part in pkgutil.iter_modules(adamx.interop.__path__):
        if not part.name.startswith("_"):
            try:
                module = importlib.import_module(f"adamx.interop.{part.name}")
            except ImportError:
                continue
            named = public(module).items()
            found |= {f"interop.{part.name}.{name}": thing for name, thing in named}
    return found


PUBLIC = public(adamx)
FUNCTIONS = {n: f for n, f in PUBLIC.items() if not inspect.isclass(f)}
DOCUMENTED = FUNCTIONS | {n: f for n, f in interop().items() if not inspect.isclass(f)}


def section(docstring, title):
    """The lines under a title of a docstring."""
    found = re.search(rf"^{title}:\n((?:[ ]{{2}}.*\n|\n)+)", docstring + "\n", re.M)
    return found.group(1) if found else ""


def documented(docstring):
    """The arguments that a docstring describes, in order."""
    found = re.findall(r"^  (\*{0,2}\w+): ", section(docstring, "Args"), re.M)
    return [name.lstrip("*") for name in found]


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_a_function_documents_its_arguments_result_errors_and_an_example(name):
    function = DOCUMENTED[name]
    docstring, source = inspect.getdoc(function), inspect.getsource(function)
    assert documented(docstring) == list(inspect.signature(function).parameters)
    assert re.match(r"[A-Z]\w+s\b.*[.:]$", docstring.partition("\n")[0])
    assert section(docstring, "Returns")
    assert ">>> " in section(docstring, "Example")
    if re.search(r"\b(raise|refuse|as_transformation)\b", source):
        assert section(docstring, "Raises")


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - set(FUNCTIONS)))
def test_a_class_says_what_it_is_and_what_its_fields_hold(name):
    cls = PUBLIC[name]
    assert inspect.getdoc(cls)
    if name.endswith("State"):
        for field in cls._fields:
            assert re.search(rf"^    {field}: .*# ", inspect.getsource(cls), re.M), (
                field
            )


def test_an_argument_that_is_not_documented_is_found():
    docstring = "Does.\n\nArgs:\n  one: A number.\n  *rest: More.\n\nReturns:\n  It.\n"
    assert documented(docstring) == ["one", "rest"]


def test_the_code_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 2
    names = {}
    # A reader has JAX's own promotion, which the code needs where float64 is on.
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(block, names)
    assert names["tx"].init({"embed": 1.0, "out": 1.0})


def test_the_readme_names_files_that_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    files = [link for link in links if not link.startswith("http")]
    assert len(files) >= 8
    assert [f for f in files if not (ROOT / f).exists()] == []
    mentioned = re.findall(r"`((?:benchmarks|notebooks|tests)/[\w./]+)`", README)
    assert [f for f in mentioned if not (ROOT / f).exists()] == []


def test_the_readme_lists_every_optimizer():
    table = README.partition("## Optimizers")[2].partition("\n## ")[0]
    rows = set(re.findall(r"`(\w+)`", table))
    folder = Path(adamx.__file__).parent / "_optimizers"
    made = {
        name
        for name, f in FUNCTIONS.items()
        if f.__module__.startswith("adamx._optimizers.")
        and "learning_rate" in inspect.signature(f).parameters
        and "scale_by" not in name
    }
    assert made <= rows
    # A block without a recipe stands there itself.
    assert {f.stem for f in folder.glob("[a-z]*.py")} <= {
        FUNCTIONS[name].__module__.rpartition(".")[2] for name in rows & set(FUNCTIONS)
    }


LONGER = {"Coming from Optax or PyTorch": 30, "Scaling": 30, "Speed": 36}


def test_the_figures_of_speed_are_those_that_were_measured():
    benchmarks = ROOT / "benchmarks"
    table = runpy.run_path(str(benchmarks / "speed.py"))["table"]
    assert f"<!-- speed -->\n{table(benchmarks / 'results')}\n\n" in README


def test_the_readme_is_short_and_gives_its_commands():
    sections = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", README, re.M))
    lines = {name: len(sections[name].splitlines()) for name in LONGER}
    assert all(lines[name] <= limit for name, limit in LONGER.items())
    assert len(README.splitlines()) - sum(lines.values()) <= 200
    for mark in ("compare", "test"):
        assert re.search(rf"<!-- {mark} -->\n```bash\n(.+\n)+```\n", README)


def test_the_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+", adamx.__version__)
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
