"""The report as a file; nothing runs it here: that is in test_report_browser."""

import base64
import hashlib
import json
import re
import shlex
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest
from harness import bundled, done, run
from inspections import COUNTS, WINDOW, inspection_of, row_of, small_inspection, subject_of

from exactcpt.pipeline.inspection import report
from exactcpt.pipeline.inspection.command_lines import reweigh_command

VOID = {"meta", "input", "br", "img", "link", "hr"}
HOSTILE = "</script><img src=x onerror=alert(1)> {{script}} <!--"
UNPRINTABLE = "a\x07b\udc80c\ufffe"


class Page(HTMLParser):
    """Elements in order: tag, attributes, text, and the tags around it."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[dict] = []
        self.open: list[dict] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        around = [element["tag"] for element in self.open]
        element = {"tag": tag, "attributes": dict(attrs), "text": "", "around": around}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, *tags: str) -> list[dict]:
        return [element for element in self.elements if element["tag"] in tags]

    def ids(self) -> Counter:
        return Counter(e["attributes"]["id"] for e in self.elements if "id" in e["attributes"])


@pytest.fixture(scope="module")
def text() -> str:
    return report.html(small_inspection())


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


# One file


def test_nothing_is_loaded(page):
    for element in page.elements:
        for name in ("src", "srcset", "data", "action", "poster"):
            assert name not in element["attributes"], element
        if "href" in element["attributes"]:
            assert element["attributes"]["href"].startswith("#")
    assert not page.all("link", "iframe", "object", "embed", "base")
    style = page.all("style")[0]["text"]
    assert "@import" not in style
    assert "url(" not in style


def test_the_policy_allows_the_scripts_of_the_page_and_nothing_else(page):
    policy = next(
        element["attributes"]["content"]
        for element in page.all("meta")
        if element["attributes"].get("http-equiv") == "Content-Security-Policy"
    )
    scripts = [s["text"] for s in page.all("script") if s["attributes"]["type"] == "module"]
    assert len(scripts) == 2
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}'; "
        "style-src 'unsafe-inline'"
    )


def test_the_inspection_is_in_it_whole(page):
    data = next(s for s in page.all("script") if s["attributes"].get("id") == "data")
    assert json.loads(data["text"])["inspection"] == small_inspection()


def test_text_of_the_data_cannot_leave_its_element():
    counts = {HOSTILE: COUNTS["books"], "notes": COUNTS["notes"]}
    inspection = inspection_of(subject_of(row_of(counts, WINDOW), path=HOSTILE))
    page = Page(report.html(inspection))
    assert not page.all("img")
    assert len(page.all("script")) == 3
    data = next(s for s in page.all("script") if s["attributes"].get("id") == "data")
    assert json.loads(data["text"])["inspection"] == inspection


def test_a_path_that_is_no_text_is_no_trouble():
    inspection = inspection_of(subject_of(row_of(COUNTS, WINDOW), path=UNPRINTABLE))
    assert report.html(inspection).encode()
    assert "a\ufffdb\ufffdc\ufffd" in report.svg(inspection)


def test_what_is_not_finite_is_refused():
    inspection = small_inspection()
    inspection["subjects"][0]["rows"][0]["mean_weight"] = float("nan")
    with pytest.raises(ValueError):
        report.html(inspection)


def test_the_same_inspection_gives_the_same_files(text):
    assert report.html(small_inspection()) == text
    assert report.svg(small_inspection()) == report.svg(small_inspection())


def test_licences_of_what_is_in_the_page(page):
    notice = " ".join(page.all("details")[0]["text"].split())
    for words in (
        "University of Washington Interactive Data Lab",
        "Redistributions in binary form must reproduce the above copyright notice",
        "Mike Bostock",
        "Isaac Z. Schlueter",
        "Joachim Wester",
        "Simon Lydell",
        "Cynthia Brewer",
    ):
        assert words in notice


# For everybody


def test_language_title_and_viewport(page):
    assert page.all("html")[0]["attributes"]["lang"] == "en"
    assert page.all("title")[0]["text"]
    metas = {m["attributes"].get("name"): m["attributes"] for m in page.all("meta")}
    assert metas["viewport"]["content"] == "width=device-width, initial-scale=1"
    assert metas["color-scheme"]["content"] == "light dark"


def test_headings_are_in_order(page):
    levels = [int(e["tag"][1]) for e in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


def test_ids_are_unique_and_what_refers_to_them_finds_them(page):
    assert max(page.ids().values()) == 1
    for element in page.elements:
        for name in ("for", "aria-labelledby", "aria-describedby"):
            for target in element["attributes"].get(name, "").split():
                assert page.ids()[target] == 1, f"{name}={target}"


def test_every_control_has_a_label(page):
    labelled = {label["attributes"]["for"] for label in page.all("label") if label["text"].strip()}
    controls = page.all("input", "select")
    assert len(controls) == 9
    for control in controls:
        attributes = control["attributes"]
        assert attributes.get("id") in labelled or attributes.get("aria-label"), attributes
    assert all(button["text"].strip() for button in page.all("button"))


def test_every_chart_is_an_image_with_a_table_in_its_section(page):
    charts = [e for e in page.elements if "chart" in e["attributes"].get("class", "").split()]
    assert [chart["attributes"]["data-chart"] for chart in charts] == [
        "exposure",
        "weights",
        "sources",
        "plans",
    ]
    for chart in charts:
        assert chart["attributes"]["role"] == "img"
        assert "figure" in chart["around"]
    tables = [table["attributes"]["class"] for table in page.all("table")]
    assert tables == ["comparison", "buckets", "sources", "rows"]
    assert all(head["attributes"]["scope"] == "col" for head in page.all("th"))


def test_landmarks_and_what_is_spoken(page):
    assert len(page.all("main")) == 1
    roles = Counter(e["attributes"].get("role") for e in page.elements)
    assert roles["status"] == 2
    assert roles["alert"] == 1
    scrollable = [e for e in page.elements if e["attributes"].get("class") == "scroll"]
    assert all(e["attributes"]["tabindex"] == "0" for e in scrollable)


def variables(style: str, scheme: str) -> dict[str, str]:
    """The colours of one scheme, as the style sheet gives them."""
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#\w{6});", light))
    return found | (dict(re.findall(r"--([\w-]+): (#\w{6});", dark)) if scheme == "dark" else {})


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page, scheme):
    colours = variables(page.all("style")[0]["text"], scheme)
    for background in ("paper", "page"):
        for ink in ("ink", "soft", "accent", "trouble"):
            assert contrast(colours[ink], colours[background]) >= 4.5, (ink, background)
    for ink in ("ink", "soft"):
        assert contrast(colours[ink], colours["tail-cell"]) >= 4.5, ink
    marks = ["outline", "after", *(f"series-{n}" for n in range(1, 9))]
    for mark in marks:
        assert contrast(colours[mark], colours["paper"]) >= 3, mark


def test_the_picture_has_the_colours_of_the_light_page(page):
    colours = variables(page.all("style")[0]["text"], "light")
    assert {name: colours[name] for name in report.charts.PAPER} == report.charts.PAPER


# Names of rows


def labels(*rows) -> list[str]:
    return report.row_labels(inspection_of(subject_of(*rows))["subjects"][0]["rows"])


def test_rows_are_named_by_what_tells_them_apart():
    assert labels(row_of(COUNTS, WINDOW)) == ["window 1,024, concat"]
    assert labels(row_of(COUNTS, WINDOW), row_of(COUNTS, WINDOW, packing="best_fit")) == [
        "window 1,024, concat",
        "window 1,024, best_fit",
    ]
    assert labels(row_of(COUNTS, WINDOW, tau=64), row_of(COUNTS, WINDOW, tau=128, alpha=0.5)) == [
        "window 1,024, concat, alpha 0.15, tau 64",
        "window 1,024, concat, alpha 0.5, tau 128",
    ]


def test_a_tail_that_follows_the_window_is_not_named():
    half = {name: counts[:7] for name, counts in COUNTS.items()}
    assert labels(row_of(COUNTS, WINDOW), row_of(half, 512)) == [
        "window 1,024, concat",
        "window 512, concat",
    ]


def test_how_far_the_targets_of_a_plan_see():
    counts = {"a": [1, 1, 2, 4]}
    rows = [row_of(counts, 64), row_of(counts, 64, alpha=0.5), row_of({"a": [3, 1]}, 16)]
    found = report.reaches(inspection_of(subject_of(*rows))["subjects"][0]["rows"])
    assert [(r["others"], r["packing"], r["low"], r["reach"]) for r in found] == [
        ("window 64", "concat", 0, 1.0),
        ("window 64", "concat", 8, 0.875),
        ("window 64", "concat", 16, 0.75),
        ("window 64", "concat", 32, 0.5),
        ("window 16", "concat", 0, 1.0),
        ("window 16", "concat", 8, 0.25),
    ]


def test_rows_with_other_weights_alone_are_not_compared():
    rows = [row_of(COUNTS, WINDOW), row_of(COUNTS, WINDOW, alpha=0.5)]
    assert report.reaches(inspection_of(subject_of(*rows))["subjects"][0]["rows"]) == []


# Commands


def test_the_command_keeps_all_but_weights_and_output():
    row = row_of(COUNTS, WINDOW, seed=7, epsilon=1e-3, max_weight=2.0, packing="best_fit")
    subject = inspection_of(subject_of(row))["subjects"][0]
    assert shlex.split(subject["rows"][0]["command"])[-2:] == ["--out", "OUT"]
    assert report.unweighted_command(subject, subject["rows"][0]) == (
        "exactcpt pack corpus.store --window 1024 --packing best_fit --seed 7"
    )


def test_a_shard_set_is_reweighed():
    row = row_of(COUNTS, WINDOW)
    subject = inspection_of(subject_of(row, path="my shards", kind="shard set"))["subjects"][0]
    start = report.unweighted_command(subject, subject["rows"][0])
    assert start == "exactcpt reweigh 'my shards'"
    assert reweigh_command("my shards", row.settings).startswith(f"{start} --")


# The picture


def words(svg: str) -> list[str]:
    return [text for element in ET.fromstring(svg).iter() if (text := (element.text or "").strip())]


def test_the_picture_shows_every_part():
    found = words(report.svg(small_inspection()))
    assert found[0] == "Loss weight by effective context. corpus.store: window 1,024, concat"
    for text in (
        "Loss weight by effective context",
        "Weight of a target",
        "Sources",
        "Settings compared",
    ):
        assert text in found
    assert {"books", "notes", "before", "after", "of the tail", "window 512"} <= set(found)


def test_the_picture_of_two_has_both():
    one = subject_of(row_of(COUNTS, WINDOW), path="one")
    other = subject_of(row_of(COUNTS, WINDOW, alpha=0.5), path=HOSTILE)
    found = words(report.svg(inspection_of(one, other)))
    assert f"{HOSTILE}: window 1,024, concat" in found
    assert found.count("Weight of a target") == 2


def test_the_picture_of_a_sample_says_so():
    inspection = small_inspection()
    inspection["subjects"][0]["sample"] = {"fraction": 0.02}
    title = "corpus.store: window 1,024, concat, estimated from a sample of 2.0%"
    assert title in words(report.svg(inspection))


@pytest.mark.parametrize("counts", [[0] * 8, [0] * 7 + [1], [1] + [0] * 7])
def test_a_corpus_of_nothing_has_a_report(counts):
    inspection = inspection_of(subject_of(row_of({"a": counts}, WINDOW)))
    assert report.html(inspection)
    assert not re.search("NaN|Infinity", report.svg(inspection))


# The command line


@pytest.fixture(scope="module")
def inspected(tmp_path_factory) -> tuple[Path, list[str]]:
    """A token store, and flags to inspect it with."""
    out = tmp_path_factory.mktemp("report") / "set"
    done("prepare", *bundled(), "--window", 512, "--out", out)
    return out.with_suffix(".store"), ["--window", "256,1024", "--packing", "concat,best_fit"]


@pytest.mark.slow
def test_files_are_written_beside_what_is_printed(tmp_path, inspected):
    store, flags = inspected
    page, picture = tmp_path / "report.html", tmp_path / "deep" / "report.svg"
    outcome = run("inspect", store, *flags, "--json", "--html", page, "--svg", picture)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert page.read_text() == report.html(found)
    assert picture.read_text() == report.svg(found)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["report.html", "report.svg"]


def test_a_file_needs_a_name(tmp_path, inspected):
    store, _ = inspected
    outcome = run("inspect", store, "--html", f"{tmp_path}/")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "error: --html is a folder",
        f"  where:    {tmp_path}/",
        "  expected: the name of a file",
    ]


def test_the_parts_of_the_page_are_installed():
    files = {path.name for path in resources.files(report).iterdir()}
    assert {"page.html", "page.css", "page.js", "weights.js", "third-party.txt"} <= files
