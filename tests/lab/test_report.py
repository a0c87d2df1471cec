"""The page of a comparison: self-contained, safe, the same for the same results."""

import json
import re
from html.parser import HTMLParser

import pytest

from adamx.lab import Results
from adamx.lab.report import live, render
from lab.tiny import results, trial

NAN = float("nan")
TRIED = trial(
    [[4, 4], [3, 3], [2, NAN], [1, 2]],
    [[0.1, 0.1], [0.2, 0.2], [0.3, NAN], [0.9, 0.8]],
    decays=[0, 0.1],
)
TRIALS = {"adamw": TRIED, "sgd": trial([[2, 2], [3, 3]], [[0.5, 0.6], [0.4, 0.4]])}


class Page(HTMLParser):
    """Collects the elements of a page and checks that they close in order."""

    VOID = "meta", "input", "img", "link", "br"

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        place = self.open[-1] if self.open else ""
        self.texts.setdefault(place, []).append(data)


@pytest.fixture(scope="module")
def page():
    return render(results(TRIALS, target_loss=2.5))


def test_nothing_comes_from_outside(page):
    attributes = [a for _, attrs in Page(page).elements for a in attrs.items()]
    for name, value in attributes:
        if name in ("src", "href", "action", "data", "srcset"):
            assert value.startswith("data:image/png;base64,")
    assert "@import" not in page
    assert set(re.findall(r"url\([^)]*\)", page)) == {"url(#inside)"}
    # The one address is the name of SVG, which nothing fetches.
    assert set(re.findall(r"https?://[^\"'\s<]*", page)) == {
        "http://www.w3.org/2000/svg"
    }
    policy = "\"default-src 'none'; img-src data:; "
    assert policy in page


def test_says_what_the_text_says(page):
    comparison = results(TRIALS, target_loss=2.5)
    texts = Page(page).texts
    assert comparison.advice() in texts["p"]
    words = comparison.table().split()
    for cell in texts["td"] + texts["th"]:
        assert all(word in words for word in cell.split())
    assert "adamx" in texts["dt"]
    assert "0.1, 1" in texts["dd"]


def test_what_a_reader_of_the_screen_needs(page):
    elements = Page(page).elements
    assert ("html", {"lang": "en"}) in elements
    ids = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    pictures = [attrs for tag, attrs in elements if tag == "img"]
    assert len(pictures) == 6
    assert all(attrs["alt"] for attrs in pictures)
    for tag, attrs in elements:
        assert attrs.get("aria-labelledby", ids[0]) in ids
        assert tag != "th" or attrs["scope"] in ("col", "row")


def test_same_results_give_the_same_bytes(tmp_path, page):
    comparison = results(TRIALS, target_loss=2.5)
    comparison.save_report(tmp_path / "report.html")
    comparison.save(tmp_path / "results.json")
    again = render(Results.load(tmp_path / "results.json"))
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page == again


def test_no_text_can_leave_its_place():
    name = "</script><script>alert(1)</script>&<!--$title"
    comparison = results({name: TRIED, "sgd": TRIED})
    comparison.config["description"] = name
    text = render(comparison)
    page = Page(text)
    assert [tag for tag, _ in page.elements].count("script") == 2
    data = text.partition('id="data">')[2].partition("</script>")[0]
    assert "<" not in data
    assert json.loads(data)["optimizers"][0]["name"] == name
    assert f"tiny: {name}" in "".join(page.texts["h1"])


def test_the_numbers_of_the_live_part():
    data = live(results(TRIALS))
    assert data["rates"] == [0.1, 1]
    assert data["decays"] == pytest.approx([0, 0.1])
    assert [q["key"] for q in data["quantities"]] == ["curves", "ratios", "accuracy"]
    adamw, sgd = data["optimizers"]
    assert adamw["best"] == 3
    assert adamw["rates"] == [0.1, 0.1, 1, 1]
    assert adamw["decays"] == [0, 0.1, 0, 0.1]
    assert adamw["diverged"] == [False, False, True, False]
    curves = adamw["series"]["curves"]
    assert curves["steps"] == [1, 2, 3, 4]
    assert curves["mean"][3] == [6, 4.5, 3, 1.5]
    assert curves["low"][3] == [4, 3, 2, 1]
    assert curves["high"][3] == [8, 6, 4, 2]
    assert curves["mean"][2] == [None] * 4
    accuracy = adamw["series"]["accuracy"]
    assert accuracy["steps"] == [2, 4]
    assert accuracy["mean"][3] == [42.5, 85]
    assert sgd["decays"] is None


@pytest.mark.parametrize("lost", [{}, {"adam": trial([[NAN, NAN]])}])
def test_a_page_of_nothing(lost):
    comparison = results(lost, optimizers=["adam"])
    assert comparison.advice() in Page(render(comparison)).texts["p"]
