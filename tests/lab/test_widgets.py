"""Views with sliders: their bytes, their arithmetic, and what a browser shows."""

import base64
import json
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from adamx import lab
from adamx.lab.gradients import moments
from adamx.lab.race import RACERS, path, playground, surface
from adamx.lab.widgets import FrameSlider, Widget, load, png

from .browser import needs_browser, run

PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"></head><body>{}</body>'
)
STARTS = {"ravine": [-2.0, -0.2], "rosenbrock": [-1.2, 1.0], "beale": [-1.0, -1.5]}
# Low enough that no path ends in jumps about the minimum, which magnify the last bits.
RATES = {"ravine": 0.01, "rosenbrock": 5e-4, "beale": 2e-3}

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node")


def figure(number=0):
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot([0, number])
    return drawn


def frames():
    return FrameSlider([figure(i) for i in range(3)], [1, 10, 100], "steps", start=1)


def normal_moments():
    normal = np.random.default_rng(0).normal
    return moments({0: normal(1, 2, 300), 50: normal(0, 1, 300)})


def node(files, expression):
    """The value of an expression of JavaScript."""
    command = f"{''.join(load(*files))};console.log(JSON.stringify({expression}))"
    done = subprocess.run(
        ["node", "-e", command], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("make", [frames, normal_moments, playground])
def test_a_view_is_the_same_bytes_in_every_run_and_names_no_program(make):
    first, second = (make()._repr_mimebundle_() for _ in range(2))
    assert first == second
    assert set(first) == {"text/plain", "text/html", "image/png"}
    poster = base64.b64decode(first["image/png"])
    assert poster.startswith(b"\x89PNG")
    assert b"Software" not in poster
    assert first["image/png"] in first["text/html"]
    assert not re.search(r"https?://(?!www\.w3\.org)", first["text/html"])


def test_a_figure_is_closed_once_it_is_drawn():
    import matplotlib.pyplot as plt

    drawn = plt.figure()
    assert png(drawn).startswith(b"\x89PNG")
    assert not plt.fignum_exists(drawn.number)


def test_no_string_ends_the_script():
    trap = "</script><!--<script>alert(1)"
    widget = Widget([f"const s = '{trap}';"], b"", '"><b>', {trap: trap})
    assert widget.html.count("</script") == widget.html.count("<script") - 1 == 1
    assert "<!--" not in widget.html
    assert '"><b>' not in widget.html
    written = re.search(r"const data = (.*);", widget.html)
    assert written
    assert json.loads(written[1]) == {trap: trap}


@needs_browser
def test_strings_that_would_end_the_script_arrive_whole():
    trap = "</script><!--<script>"
    script = (
        "function mount(root, data) "
        f"{{ root.textContent = ['{trap}', data].join(' '); }}"
    )
    widget = Widget([script], png(figure()), trap, trap)
    look = "report({text: document.querySelector('[data-adamx]').textContent})"
    assert run(PAGE.format(widget.html), look)["text"] == f"{trap} {trap}"


def test_frames_want_labels_and_a_start_among_them():
    with pytest.raises(ValueError, match="FrameSlider: expected figures and a label"):
        FrameSlider([figure()], [1, 2], "n")
    with pytest.raises(ValueError, match="got 0 figures and 0 labels"):
        FrameSlider([], [], "n")
    with pytest.raises(ValueError, match="expected start from 0 to 0, got 1"):
        FrameSlider([figure()], [1], "n", start=1)


def test_moments_want_samples():
    with pytest.raises(ValueError, match="moments: expected at least one distribution"):
        moments({})
    for wrong in ([np.nan, 1.0], [0.0, 0.0], [[1.0]]):
        with pytest.raises(ValueError, match="moments: expected finite samples"):
            moments({0: [1.0, 2.0], 7: wrong})


@needs_node
@pytest.mark.parametrize("b2", [0.99, 0.999])
@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("rule", RACERS)
def test_the_page_computes_what_adamx_computes(rule, name, b2):
    options = {"rate": RATES[name], "b1": 0.9, "b2": b2, "decay": 0.1, "steps": 400}
    seen = node(
        ["race.js"],
        f"race('{rule}', surfaces.{name}(30), {STARTS[name]}, {json.dumps(options)})",
    )
    with jax.enable_x64(True):
        tx = RACERS[rule].make(options["rate"], 0.9, b2, 0.1)
        expected = path(tx, surface(name, 30.0), STARTS[name], 400)
    assert expected.dtype == np.float64
    assert np.abs(expected[-1] - expected[0]).max() > 0.01  # it went somewhere
    np.testing.assert_allclose(seen, expected, rtol=1e-12, atol=1e-12)


@needs_node
def test_the_page_finds_the_best_rate():
    rates = [0.001, 0.01, 0.05, 5.0]
    found = node(
        ["race.js"],
        f"bestRate('sgd', surfaces.ravine(0), [-2, -0.2], {{steps: 50}}, {rates})",
    )
    value = surface("ravine", 0.0)
    makers = [RACERS["sgd"].make(rate, 0, 0, 0) for rate in rates]
    ends = np.array([value(path(tx, value, [-2, -0.2], 50)[-1]) for tx in makers])
    assert found == rates[np.nanargmin(ends)] == 0.05


@needs_node
@pytest.mark.parametrize("t", [-1.5, 0.0, 0.7])
def test_the_page_computes_moments(t):
    g = np.random.default_rng(1).normal(0.3, 1, 200)
    found = node(["moments.js"], f"momentsAt({g.tolist()}, {t})")
    weights = np.exp(t * g)
    for key, power in {"value": 0, "slope": 1, "curvature": 2}.items():
        expected = np.mean(g**power * weights)
        np.testing.assert_allclose(found[key], expected, rtol=1e-12)
    heights = node(["moments.js"], f"density({g.tolist()}, {t}, 6, 24)")
    np.testing.assert_allclose(np.sum(heights) * 0.5, 1, rtol=1e-12)


SLIDE = """
const slide = (name, value) => {
  const input = document.querySelector(`[name=${name}]`);
  input.value = value;
  input.dispatchEvent(new Event("input", {bubbles: true}));
};
const $ = selector => document.querySelector(selector);
"""


@needs_browser
def test_frames_follow_their_slider_offline():
    script = """
    const seen = [$("img").src];
    slide("frame", 2);
    seen.push($("img").src);
    report({seen, label: $("output").textContent, alt: $("img").alt});
    """
    seen = run(PAGE.format(frames().html), SLIDE + script)
    assert seen["label"] == "100"
    assert seen["alt"] == "steps: 100"
    for address, number in zip(seen["seen"], (1, 2), strict=True):
        data = address.removeprefix("data:image/png;base64,")
        assert base64.b64decode(data) == png(figure(number))
    assert [r for r in seen["requests"] if not r.startswith("data:")] == []


@needs_browser
def test_the_playground_follows_its_sliders_in_light_and_dark():
    script = """
    const cells = () => [...document.querySelectorAll("tbody tr")].map(row =>
      [...row.querySelectorAll("td")].map(cell => cell.textContent));
    const lines = () => $(".map").innerHTML;
    const dark = () => $("[data-adamx]").classList.contains("dark");
    const first = {cells: cells(), lines: lines(), dark: dark()};
    slide("steps", 200);
    const later = {cells: cells(), lines: lines(), label: $(".map").ariaLabel};
    document.body.style.color = "white";
    slide("steps", 400);
    slide("rate", -0.7);
    const fast = {cells: cells(), dark: dark()};
    $("[name=best]").click();
    const best = {cells: cells(), off: $("[name=rate]").disabled};
    const box = $(".map rect").getBoundingClientRect();
    const clientX = box.left + box.width / 2, clientY = box.top + box.height / 4;
    $(".map").dispatchEvent(new MouseEvent("click",
      {clientX, clientY, bubbles: true}));
    const circle = [...document.querySelectorAll(".map circle")].at(-1);
    const moved = circle.getBoundingClientRect();
    const off = [moved.left + moved.width / 2 - clientX,
      moved.top + moved.height / 2 - clientY];
    const unnamed = [...document.querySelectorAll("input, select")].filter(input =>
      !input.labels.length || !input.labels[0].textContent.trim()).length;
    report({first, later, fast, best, off, unnamed});
    """
    seen = run(PAGE.format(playground().html), SLIDE + script)
    rules = list(RACERS)
    values = {}
    for steps, when in ((100, "first"), (200, "later")):
        for rule in ("sgd", "adam"):
            tx = RACERS[rule].make(0.05, 0.9, 0.999, 0.1)
            end = path(tx, surface("ravine"), STARTS["ravine"], steps)[-1]
            values[rule] = float(surface("ravine")(end))
            rate, value = seen[when]["cells"][rules.index(rule)]
            assert float(rate) == 0.05
            assert float(value.replace("−", "-")) == pytest.approx(
                values[rule], rel=0.05
            )
    assert seen["first"]["lines"] != seen["later"]["lines"]
    assert "after 200 steps" in seen["later"]["label"]
    assert seen["first"]["cells"][rules.index("amsgrad")] == ["", ""]
    assert seen["fast"]["cells"][rules.index("sgd")][1] == "∞"
    assert not seen["first"]["dark"]
    assert seen["fast"]["dark"]
    assert seen["best"]["off"]
    rates = {rate for rate, _ in seen["best"]["cells"]} - {""}
    assert len(rates) > 2
    assert np.abs(seen["off"]).max() < 1
    assert seen["unnamed"] == 0


@needs_browser
def test_moments_follow_their_sliders():
    script = """
    const cells = () => [...document.querySelectorAll("td")].map(c => c.textContent);
    const first = {cells: cells(), curve: $("svg.curve").innerHTML};
    slide("t", 30);
    const right = {cells: cells(), curve: $("svg.curve").innerHTML};
    slide("sample", 1);
    report({first, right, other: cells(), label: $("svg.shape").ariaLabel});
    """
    seen = run(PAGE.format(normal_moments().html), SLIDE + script)
    g = np.random.default_rng(0).normal(1, 2, 300)
    mean, second = (float(seen["first"]["cells"][i].replace("−", "-")) for i in (0, 2))
    assert mean == pytest.approx(g.mean(), rel=5e-3)
    assert second == pytest.approx(np.mean(g * g), rel=5e-3)
    assert seen["first"]["cells"][0] == seen["first"]["cells"][1]
    assert seen["right"]["cells"][0] != seen["right"]["cells"][1]
    assert seen["first"]["curve"] != seen["right"]["curve"]
    assert seen["other"] != seen["right"]["cells"]
    assert "step 50" in seen["label"]


def test_the_lab_has_them():
    assert lab.playground is playground
    assert lab.moments is moments
