"""The page of a comparison in a real browser, by events as a hand makes them."""

import math
from functools import cache

import pytest

from adamx.lab.report import render
from lab import browser
from lab.tiny import results, trial

pytestmark = browser.needs_browser

NAN = float("nan")
ADAMW = trial(
    [[4, 4], [3, 3], [2, NAN], [1, 2]],
    [[0.1, 0.1], [0.2, 0.2], [0.3, NAN], [0.9, 0.8]],
    decays=[0, 0.1],
)
SGD = trial([[2, 2], [3, 3]], [[0.5, 0.6], [0.4, 0.4]])


@cache
def page():
    return render(results({"sgd": SGD, "adamw": ADAMW}, target_loss=2.5))


WATCH = """
const by = (id) => document.getElementById(id);
const set = (id, value) => {
  by(id).value = value;
  by(id).dispatchEvent(new Event("input", {bubbles: true}));
  by(id).dispatchEvent(new Event("change", {bubbles: true}));
};
const look = () => ({
  lines: Object.fromEntries([...document.querySelectorAll("#plot polyline")].map(
    (line) => [line.dataset.name, line.getAttribute("points")])),
  label: by("plot").getAttribute("aria-label"),
  rate: by("rate-value").value,
  missing: by("missing").textContent,
});
const column = (index) =>
  [...by("table").tBodies[0].rows].map((row) => row.cells[index].textContent);
"""


def run(script):
    answer = browser.run(page(), WATCH + script)
    assert answer.pop("requests") == []
    return answer


def test_the_slider_redraws_every_line():
    answer = run(
        """
        const before = look();
        set("rate", 0);
        const low = look();
        set("rate", 1);
        const high = look();
        set("decay", 1);
        report({before, low, high, decayed: look(), best: by("best").checked});
        """
    )
    loss = "training loss (m²) against steps at"
    before, low, high = answer["before"], answer["low"], answer["high"]
    assert set(before["lines"]) == set(low["lines"]) == {"adamw", "sgd"}
    assert before["rate"] == "best"
    assert before["label"] == f"{loss} the best settings"
    assert low["rate"] == "0.1"
    assert low["label"] == f"{loss} learning rate 0.1, weight decay 0"
    assert low["missing"] == before["missing"] == ""
    assert before["lines"]["adamw"] != low["lines"]["adamw"] != ""
    assert high["missing"] == "Diverged: adamw."
    assert high["lines"]["adamw"] == ""
    assert answer["decayed"]["missing"] == ""
    # At rate 1 and decay 0.1, its best, adamw is where it began, beside another sgd.
    assert len(answer["decayed"]["lines"]["adamw"].split()) == 4
    assert answer["best"] is False


def test_heights_are_the_losses():
    answer = run(
        """
        set("rate", 0);
        report({lines: look().lines, ticks: [...document.querySelectorAll("#plot text")]
          .map((text) => [text.textContent, Number(text.getAttribute("y"))])});
        """
    )
    # sgd's loss falls from 8 to 2, adamw's from 16 to 4, in four steps of a log scale.
    heights = {
        name: [float(point.split(",")[1]) for point in points.split()]
        for name, points in answer["lines"].items()
    }

    def height(loss):
        return pytest.approx(
            392 - (392 - 12) * math.log(loss / 2) / math.log(8), abs=0.1
        )

    assert heights["adamw"] == [height(loss) for loss in (16, 12, 8, 4)]
    assert heights["sgd"] == [height(loss) for loss in (8, 6, 4, 2)]
    ticks = dict(map(tuple, answer["ticks"]))
    assert ticks["10"] - 4 == height(10)  # its letters hang below the line


def test_optimizers_can_be_switched_off_and_quantities_chosen():
    answer = run(
        """
        const boxes = document.querySelectorAll("#optimizers input");
        boxes[0].click();
        const one = look();
        by("none").click();
        const none = look();
        by("all").click();
        set("quantity", 2);
        report({one, none, all: look(), names: by("optimizers").textContent});
        """
    )
    assert set(answer["one"]["lines"]) == {"adamw"}
    assert answer["none"]["lines"] == {}
    assert set(answer["all"]["lines"]) == {"adamw", "sgd"}
    assert (
        answer["all"]["label"] == "test accuracy (%) against steps at the best settings"
    )
    assert "sgd" in answer["names"]


def test_pointer_and_keys_show_values():
    answer = run(
        """
        const box = by("plot").getBoundingClientRect();
        const below = box.bottom - box.height * 48 / 440;
        const at = {clientX: box.right - 20, clientY: below};
        by("plot").dispatchEvent(new PointerEvent("pointermove", at));
        const tip = () => by("tip").hidden ? null : [...by("tip").childNodes].map(
          (node) => node.textContent);
        const near = () => document.querySelector("#plot .near")?.dataset.name;
        const pointed = {tip: tip(), near: near()};
        by("plot").dispatchEvent(new PointerEvent("pointerleave"));
        const left = tip();
        for (let i = 0; i < 20; i++)
          by("plot").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"}));
        report({pointed, left, keyed: tip()});
        """
    )
    assert answer["pointed"]["tip"] == ["step 4", "2  sgd", "1.5  adamw"]
    assert answer["pointed"]["near"] == "adamw"
    assert answer["left"] is None
    assert answer["keyed"][0] == "step 2"  # 20 fiftieths to the left


def test_the_table_sorts_both_ways():
    answer = run(
        """
        const headers = [...by("table").tHead.rows[0].cells];
        const titles = headers.map((header) => header.textContent);
        const index = titles.indexOf("training loss");
        const press = () => headers[index].firstChild.click();
        const orders = [column(0)];
        press(); orders.push(column(0));
        const sorted = headers.map((header) => header.ariaSort);
        press(); orders.push(column(0));
        headers[titles.indexOf("best decay")].firstChild.click();
        report({orders, index, sorted, last: column(0)});
        """
    )
    up = ["adamw", "sgd"]
    assert answer["orders"] == [up[::-1], up, up[::-1]]
    assert answer["sorted"][answer["index"]] == "ascending"
    assert answer["sorted"].count("none") == len(answer["sorted"]) - 1
    assert answer["last"] == up  # sgd has no decay


def test_dark_and_light_differ():
    script = "report({page: getComputedStyle(document.body).backgroundColor});"
    light = browser.run(page(), script)
    dark = browser.run(page(), script, "--blink-settings=preferredColorScheme=0")
    assert light["page"] == "rgb(255, 255, 255)"
    assert dark["page"] == "rgb(20, 23, 27)"


def test_the_browser_sees_requests_and_errors():
    empty = "<!doctype html><html><head></head><body>{}</body></html>"
    outside = empty.format('<img src="http://adamx.invalid/x.png">')
    answer = browser.run(outside, "report({});")
    assert answer == {"requests": ["http://adamx.invalid/x.png"]}
    with pytest.raises(AssertionError, match="nothing is not defined"):
        browser.run(empty.format("<script>nothing();</script>"), "")
    with pytest.raises(AssertionError, match="no report from the page"):
        browser.run(empty.format(""), "")
