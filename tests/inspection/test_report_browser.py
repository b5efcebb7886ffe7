"""The report in a browser: its numbers are Python's, and it is for everybody.

A Chromium that is installed is driven; without one these tests are skipped.
"""

import json
import re
import shlex
from collections.abc import Iterator
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from harness import bundled, done, manifest, until
from hypothesis import given
from hypothesis import strategies as st
from inspections import (
    COUNTS,
    WINDOW,
    exposure_of,
    inspection_of,
    row_of,
    small_inspection,
    subject_of,
)
from playwright.sync_api import BrowserContext, Page
from strategies import exacts, histograms

from exactcpt.pipeline.core.buckets import lower_edges
from exactcpt.pipeline.core.exact import weight_table
from exactcpt.pipeline.core.parameters import Exact
from exactcpt.pipeline.core.weighting import Weighting, weigh
from exactcpt.pipeline.core.whatif import Exposure
from exactcpt.pipeline.inspection import report

pytestmark = pytest.mark.slow


def near(expected: Any) -> Any:
    """Equal to 1e-6; what is None stays None."""
    if isinstance(expected, (list, tuple)):
        return [near(one) for one in expected]
    return None if expected is None else pytest.approx(expected, rel=1e-6, abs=1e-6)


PATIENCE = 120_000  # ms, on a busy machine
PHONE, LAPTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
SMALL = {"width": 320, "height": 640}
HOSTILE = "</script><img src=x onerror=\"document.title='x'\"><b>&amp; {{data}}"


class Opened:
    """A report that is open, and what the browser said about it meanwhile."""

    def __init__(self, context: BrowserContext, path: Path):
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = path.as_uri()
        self.page.goto(self.url)
        self.drawn()

    def drawn(self) -> None:
        self.wait_for(
            "[...document.querySelectorAll('.chart')].every("
            "chart => !chart.offsetParent || chart.querySelector('svg'))"
        )

    def wait_for(self, expression: str) -> None:
        """Asks again and again from here: in the page its policy keeps Playwright from it."""
        assert until(lambda: self.page.evaluate(expression), PATIENCE / 1000), expression

    def slide(self, name: str, value: float) -> None:
        self.page.locator(f"[name='{name}-slider']").first.fill(str(value))

    def enter(self, name: str, value: object) -> None:
        self.page.locator(f"#{name}-0").fill("" if value is None else str(value))

    def set(self, **settings: object) -> None:
        for name, value in settings.items():
            self.enter(name, value)

    def numbers(self, selector: str) -> list[list[float | None]]:
        """The numbers of a table's rows, with all their digits."""
        rows = self.page.locator(f"{selector} tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.querySelectorAll('data')].map(d => d.value))"
        )
        return [[float(value) if value else None for value in row] for row in rows]

    def figures(self) -> dict[str, float | None]:
        pairs = self.page.locator(".figures > div").evaluate_all(
            "all => all.map(one => "
            "[one.querySelector('dt').textContent, one.querySelector('data').value])"
        )
        return {name: float(value) if value else None for name, value in pairs}

    def text(self, name: str) -> str:
        return self.page.locator(f"[data-text='{name}']").first.inner_text()

    @property
    def command(self) -> str:
        return self.page.locator(".command code").first.inner_text()


@pytest.fixture
def opened(browser, tmp_path) -> Iterator[Any]:
    """Opens inspections; at the end nothing may have gone wrong or been asked of the network."""
    contexts, reports = [], []

    def open_report(inspection: dict[str, Any], **how: Any) -> Opened:
        path = tmp_path / f"report-{len(reports)}.html"
        path.write_text(report.html(inspection))
        contexts.append(browser.new_context(**{"viewport": LAPTOP, **how}))
        contexts[-1].set_default_timeout(PATIENCE)
        reports.append(Opened(contexts[-1], path))
        return reports[-1]

    yield open_report
    for shown in reports:
        assert shown.complaints == []
        assert shown.requests == [shown.url]
        assert not re.search(
            r"NaN|Infinity|undefined|\[object", shown.page.locator("body").inner_text()
        )
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("browser") / "set"
    done("prepare", *bundled(), "--window", 512, "--out", out)
    return out.with_suffix(".store")


def inspect(*arguments: object) -> dict[str, Any]:
    return done("inspect", *arguments, "--json").json


# Its numbers


@pytest.fixture(scope="module")
def formulas(browser) -> Iterator[Page]:
    """An empty page that knows weights.js."""
    page = browser.new_page()
    page.add_script_tag(content=resources.files(report).joinpath("weights.js").read_text())
    yield page
    page.close()


def in_browser(page: Page, function: str, *arguments: object) -> Any:
    """Calls a function of weights.js; JSON both ways, as in the report."""
    call = f"arguments => JSON.stringify({function}(...JSON.parse(arguments)))"
    return json.loads(page.evaluate(call, json.dumps(arguments, allow_nan=False)))


def settings_of(exact: Exact) -> dict[str, Any]:
    return {name: getattr(exact, name) for name in Exact.__dataclass_fields__}


def bare_buckets(counts: list[int], window: int) -> list[dict[str, int]]:
    rows = weight_table(counts, window, Exact(tau=0)).rows
    return [{"bucket": r.bucket, "low": r.low, "high": r.high, "targets": r.targets} for r in rows]


@given(drawn=histograms(), exact=exacts() | exacts(capped=True))
def test_weights_are_those_of_python(formulas, drawn, exact):
    counts, window = drawn
    expected = weight_table(counts, window, exact)
    found = in_browser(formulas, "weightTable", bare_buckets(counts, window), settings_of(exact))
    assert found["budget"] == near(expected.budget)
    for ours, theirs in zip(expected.rows, found["rows"], strict=True):
        assert theirs["weight"] == near(ours.weight)
        assert theirs["in_tail"] == ours.in_tail
        assert theirs["share"] == near(ours.share)
        assert theirs["inverse_frequency"] == near(ours.inverse_frequency)


@given(data=st.data(), drawn=histograms(), exact=exacts() | exacts(capped=True))
def test_figures_are_those_of_python(formulas, data, drawn, exact):
    counts, window = drawn
    split = [data.draw(st.integers(0, count)) for count in counts]
    rest = [count - part for count, part in zip(counts, split, strict=True)]
    row = row_of({"a": split, "b": rest}, window)
    shown = inspection_of(subject_of(row))["subjects"][0]["rows"][0]
    found = in_browser(formulas, "reweighted", shown, settings_of(exact))
    compare(found, weigh(row.exposure, exact))


def compare(found: dict[str, Any], expected: Weighting) -> None:
    assert [b["mass_before"] for b in found["buckets"]] == near(expected.mass_before)
    assert [b["mass_after"] for b in found["buckets"]] == near(expected.mass_after)
    for name in ("mean_weight", "effective_sample_size", "tail_windows"):
        assert found[name] == near(getattr(expected, name))
    for theirs, ours in zip(found["sources"], expected.sources.values(), strict=True):
        assert theirs["tail_targets"] == pytest.approx(ours.tail_targets, rel=1e-12)
        for name in ("mass_before", "mass_after", "mean_weight"):
            assert theirs[name] == near(getattr(ours, name))


ODD = st.sampled_from([-1, 0, 0.5, 1, 1.1499999, 1.15, 10, 10.01, 1000, 1001, 1e300])


@given(tau=st.integers(-2, 70), alpha=ODD, gamma=ODD, ceiling=st.none() | ODD)
def test_what_python_refuses_is_refused(formulas, tau, alpha, gamma, ceiling):
    settings = {"tau": tau, "alpha": alpha, "gamma": gamma, "epsilon": 0, "max_weight": ceiling}
    try:
        Exact(**settings)
        refused = tau >= 64  # the settings of a job refuse a tail that no context reaches
    except ValueError:
        refused = True
    assert (in_browser(formulas, "objection", settings, 64) is not None) == refused


def expect(shown: Opened, exposure: Exposure, exact: Exact) -> None:
    """What the page shows is what Python says, figure by figure."""
    expected = weigh(exposure, exact)
    table = [
        (before, after, row.weight, row.targets)
        for before, after, row in zip(
            expected.mass_before, expected.mass_after, expected.table.rows, strict=True
        )
    ]
    found = [row[:4] for row in shown.numbers("table.buckets")]
    assert found == near(table)
    tail = sum(source.tail_targets for source in expected.sources.values())
    assert [row[:4] for row in shown.numbers("table.sources")] == [
        near([s.mass_before, s.mass_after, s.tail_targets / tail if tail else 0, s.mean_weight])
        for s in expected.sources.values()
    ]
    figures = shown.figures()
    assert figures["Effective sample size"] == near(expected.effective_sample_size)
    assert figures["Largest weight"] == near(expected.largest_weight)
    assert figures["Mean weight"] == near(expected.mean_weight)
    assert figures["Mean extra weight in the tail"] == near(expected.table.budget)
    assert figures["Padding"] == near(exposure.padding / (exposure.windows * exposure.window))


def test_sliders(opened):
    shown = opened(small_inspection())
    exposure = exposure_of(COUNTS, WINDOW)
    lows = lower_edges(8).tolist()
    expect(shown, exposure, Exact(tau=256))
    for at, alpha, gamma in product((0, 5), (0.15, 0.9), (0, 0.5, 2)):
        shown.slide("tau", at)
        shown.slide("alpha", alpha)
        shown.slide("gamma", gamma)
        for ceiling in (None, 1 + alpha, 1.95):
            shown.slide("max_weight", 3 if ceiling is None else ceiling)
            exact = Exact(tau=lows[at], alpha=alpha, gamma=gamma, max_weight=ceiling)
            expect(shown, exposure, exact)
        shown.slide("max_weight", 3)


def test_number_fields(opened):
    shown = opened(small_inspection())
    for tau, alpha, gamma, ceiling in (
        (100, 0.123, 0.77, None),
        (0, 1000, 10, None),
        (513, 0.3, 1, 1.3),
        (65, 7.5, 3.25, 11),
        (1023, 0.15, 0.5, None),
    ):
        shown.set(max_weight=None, tau=tau, alpha=alpha, gamma=gamma)
        shown.enter("max_weight", ceiling)
        exact = Exact(tau=tau, alpha=alpha, gamma=gamma, max_weight=ceiling)
        expect(shown, exposure_of(COUNTS, WINDOW), exact)


def test_a_slider_by_its_keys(opened):
    shown = opened(small_inspection())
    slider = shown.page.locator("[name='alpha-slider']")
    slider.focus()
    for _ in range(3):
        shown.page.keyboard.press("ArrowRight")
    expect(shown, exposure_of(COUNTS, WINDOW), Exact(tau=256, alpha=0.18))
    assert slider.get_attribute("aria-valuetext") == "0.18"
    shown.page.locator("[name='tau-slider']").focus()
    shown.page.keyboard.press("ArrowLeft")
    expect(shown, exposure_of(COUNTS, WINDOW), Exact(tau=128, alpha=0.18))
    assert shown.page.locator("#tau-0").input_value() == "128"
    assert shown.page.locator("[name='tau-slider']").get_attribute("aria-valuetext") == "128 tokens"


def bar_heights(shown: Opened) -> list[float]:
    return shown.page.locator("[data-chart='exposure'] svg .mark-rect path").evaluate_all(
        "bars => bars.map(bar => bar.getBBox().height)"
    )


def test_charts_follow(opened):
    shown = opened(small_inspection())
    before = bar_heights(shown)
    shown.enter("alpha", 5)
    assert until(lambda: bar_heights(shown) != before)
    label = shown.page.locator("[data-chart='exposure']").get_attribute("aria-label")
    assert label == f"Bar chart. {shown.text('answer')} The table Buckets has every bar."


# What a person does


def test_a_row_brings_its_settings(opened, store):
    inspection = inspect(store, "--window", "256,1024", "--packing", "concat,best_fit")
    shown = opened(inspection)
    rows = inspection["subjects"][0]["rows"]
    for index, row in enumerate(rows):
        shown.enter("alpha", 0.7)
        shown.page.locator("#row-0").select_option(str(index))
        assert shown.page.locator("#tau-0").input_value() == str(row["settings"]["tau"])
        assert shown.page.locator("#alpha-0").input_value() == "0.15"
        assert [line[0] for line in shown.numbers("table.buckets")] == [
            near(bucket["mass_before"]) for bucket in row["buckets"]
        ]
        assert [line[1] for line in shown.numbers("table.buckets")] == [
            near(bucket["mass_after"]) for bucket in row["buckets"]
        ]
        assert shown.figures()["Windows"] == row["windows"]
        assert shown.command == row["command"]
    assert [line[3] for line in shown.numbers("table.rows")] == near(
        [row["effective_sample_size"] for row in rows]
    )


def weights_of(shards: Path) -> list[float]:
    return [row["weight"] for row in manifest(shards)["weights"]["table"]]


def test_the_command_makes_what_the_page_shows(opened, store, tmp_path):
    shown = opened(inspect(store, "--window", 1024, "--packing", "best_fit"))
    shown.set(tau=64, alpha=0.31, gamma=1.25, max_weight=1.4)
    expected = [row[2] for row in shown.numbers("table.buckets")]
    program, *arguments = shlex.split(shown.command)
    assert program == "exactcpt"
    out = tmp_path / "packed"
    done(*[out if word == "OUT" else word for word in arguments])
    assert weights_of(out) == near(expected)
    assert manifest(out)["settings"]["packing"] == "best_fit"

    again = opened(inspect(out))
    assert shlex.split(again.command)[:2] == ["exactcpt", "pack"]
    again.set(max_weight=None)
    again.set(alpha=0.5, gamma=0)
    expected = [row[2] for row in again.numbers("table.buckets")]
    program, *arguments = shlex.split(again.command)
    assert arguments[:2] == ["reweigh", str(out)]
    reweighed = tmp_path / "reweighed"
    done(*[reweighed if word == "OUT" else word for word in arguments])
    assert weights_of(reweighed) == near(expected)


def test_copy(opened):
    shown = opened(small_inspection())
    shown.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown.enter("alpha", 0.4)
    shown.page.locator("[name=copy]").click()
    shown.page.locator("[name=copy]", has_text="Copied").wait_for()
    assert shown.page.evaluate("navigator.clipboard.readText()") == shown.command
    assert shown.text("copied") == "The command was copied."
    assert shlex.split(shown.command) == [
        *["exactcpt", "pack", "corpus.store", "--window", "1024", "--packing", "concat"],
        *["--tau", "256", "--alpha", "0.4", "--gamma", "0.5", "--epsilon", "1e-8", "--out", "OUT"],
    ]


IMPOSSIBLE = [
    ({"alpha": 0.6, "max_weight": 1.5}, "leaves room for alpha 0.5 at most", "max_weight"),
    ({"tau": 1024}, "Tau must be a whole number from 0 to 1023.", "tau"),
    ({"tau": ""}, "Tau must be a whole number from 0 to 1023.", "tau"),
    ({"tau": 0.5}, "Tau must be a whole number from 0 to 1023.", "tau"),
    ({"alpha": -1}, "Alpha must be from 0 to 1000.", "alpha"),
    ({"gamma": 11}, "Gamma must be from 0 to 10.", "gamma"),
    ({"max_weight": 0.5}, "Max weight must be from 1 to 1001.", "max_weight"),
]


def test_impossible_settings(opened):
    shown = opened(small_inspection())
    before = shown.numbers("table.buckets")
    for settings, words, field in IMPOSSIBLE:
        shown.set(**settings)
        assert words in shown.text("trouble")
        assert shown.page.locator(f"#{field}-0").get_attribute("aria-invalid") == "true"
        assert shown.page.locator("[name=copy]").is_disabled()
        shown.page.locator("button[type=reset]").click()
        assert not shown.page.locator("[data-text=trouble]").is_visible()
        assert shown.numbers("table.buckets") == before
        assert shown.page.locator("[name=copy]").is_enabled()


def test_an_empty_tail(opened):
    shown = opened(inspection_of(subject_of(row_of({"a": [5, 4, 3, 0, 0, 0, 0, 0]}, WINDOW))))
    assert shown.text("answer") == (
        "The tail is empty: no bucket that begins at 256 tokens of effective context or later has "
        "targets. The "
        "largest effective context is 1,023. Every weight is 1."
    )
    assert {row[2] for row in shown.numbers("table.buckets")} == {1}
    shown.enter("tau", 8)
    assert shown.text("answer").startswith(
        "The 58.3% of targets that see 8 tokens or more of their own document get "
    )


def test_one_is_singular(opened):
    inspection = inspection_of(subject_of(row_of({"a": [1, 1]}, 16, tau=0)))
    inspection["subjects"][0].update(documents=1, tokens=1, longest_document=1)
    shown = opened(inspection)
    assert shown.text("facts") == "Token store · 1 document · 1 token · longest document: 1 token"
    slider = shown.page.locator("[name='tau-slider']")
    assert slider.get_attribute("aria-valuetext") == "0 tokens"
    shown.enter("tau", 1)
    assert slider.get_attribute("aria-valuetext") == "1 token"


def test_a_corpus_of_nothing(opened):
    shown = opened(inspection_of(subject_of(row_of({"a": [0] * 8}, WINDOW))))
    assert shown.figures()["Mean weight"] is None
    for name in ("tau", "alpha", "gamma"):
        shown.slide(name, 0)


def test_two_side_by_side(opened):
    one = subject_of(row_of(COUNTS, WINDOW), path="one", kind="shard set")
    other = subject_of(row_of(COUNTS, WINDOW, packing="best_fit"), path="other", kind="sample")
    shown = opened(inspection_of(one, other))

    def compared() -> dict[str, list[str]]:
        rows = shown.page.locator("table.comparison tr").evaluate_all(
            "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
        )
        return {head: cells for head, *cells in rows}

    def largest(**settings: Any) -> str:
        return f"{row_of(COUNTS, WINDOW, **settings).weighting.largest_weight:.3f}"

    assert compared()["What"] == ["one", "other"]
    assert compared()["packing ≠"] == ["concat", "best_fit"]
    assert compared()["Largest weight"] == [largest(), largest()]
    assert compared()["kind ≠"] == ["shard set", "sample"]
    assert list(compared())[:4] == ["What", "kind ≠", "packing ≠", "Tail's loss weight"]
    shown.page.locator("#alpha-1").fill("0.5")
    assert compared()["alpha ≠"] == ["0.15", "0.5"]
    assert compared()["Largest weight ≠"] == [largest(), largest(alpha=0.5)]
    more = {**COUNTS, "poems": [9] * 8}
    third = opened(inspection_of(one, subject_of(row_of(more, WINDOW), path="more")))
    heads = third.page.locator("table.comparison tbody th").all_inner_texts()
    assert {"source poems documents ≠", "source poems tokens ≠", "Targets ≠"} <= set(heads)
    assert not any(head.startswith("source books") for head in heads)
    far = {**COUNTS, "books": [*COUNTS["books"][:-1], 123_456_789]}
    fourth = opened(inspection_of(one, subject_of(row_of(far, WINDOW), path="far")))
    assert "123,462,802" in fourth.page.locator("table.comparison").inner_text()
    ids = shown.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_a_tail_between_buckets_says_what_its_targets_see(opened):
    shown = opened(small_inspection())
    shown.enter("tau", 100)
    assert "targets that see 128 tokens or more of their own document" in shown.text("answer")


def test_text_of_the_data_is_text(opened):
    counts = {HOSTILE: COUNTS["books"], "notes": COUNTS["notes"]}
    one = subject_of(row_of(counts, WINDOW), path=HOSTILE, kind="shard set")
    shown = opened(inspection_of(one, one))
    shown.enter("alpha", 0.5)
    assert shown.page.locator("table.sources tbody th").first.inner_text() == HOSTILE
    assert shown.page.locator("table.comparison thead th").last.inner_text() == HOSTILE
    assert shown.text("path") == HOSTILE
    assert shlex.split(shown.command)[2] == HOSTILE
    assert shown.page.title() == f"{HOSTILE}, {HOSTILE} – loss weight by effective context"
    assert shown.page.locator("img, b").count() == 0
    bar = shown.page.locator("[data-chart='sources'] svg .mark-rect path").first
    bar.hover()
    tooltip = shown.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert HOSTILE in tooltip.inner_text()
    assert shown.page.locator("img, b").count() == 0


def test_a_sample_says_that_it_is_one(opened):
    inspection = small_inspection()
    subject = inspection["subjects"][0]
    subject["kind"] = "sample"
    subject["sample"] = {"fraction": 0.02, "documents": 40, "tokens": 9000, "resamples": 200}
    row = subject["rows"][0]
    shares = [[0.1, 0.2]] * len(row["buckets"])
    row["intervals"] = {"level": 0.95, "shares": shares, "windows": [20, 1500.5]}
    shown = opened(inspection)
    assert shown.text("sample") == (
        "All figures are estimates from a sample of 2.0%: 40 documents, 9,000 tokens. "
        "Ranges are 95% intervals."
    )
    assert "20 to 1,501; " in shown.page.locator(".figures").inner_text()
    assert "10.0% to 20.0%" in shown.page.locator("table.buckets tbody tr").first.inner_text()


def test_a_sample_says_where_it_cannot_tell(opened):
    inspection = small_inspection()
    subject = inspection["subjects"][0]
    subject["kind"] = "sample"
    parts = {"asked": 0.02, "read": 1, "tokenized": 0.025}
    counts = {"documents": 4, "tokens": 900, "resamples": 0}
    subject["sample"] = {"fraction": 0.01, **counts, **parts}
    row = subject["rows"][0]
    nothing = {"shares": [None] * len(row["buckets"]), "windows": None, "mean_weight": None}
    row["intervals"] = {"level": 0.95, **nothing, "reason": "4 documents are too few"}
    shown = opened(inspection)
    assert shown.text("sample") == (
        "All figures are estimates from a sample of 1.0%: 4 documents, 900 tokens. "
        "2.0% of the text was asked for, 100.0% was read and 2.5% was tokenized. "
        "There are no intervals: 4 documents are too few."
    )
    assert "no interval" in shown.page.locator("table.buckets tbody tr").first.inner_text()


# For everybody


WIDER_THAN_THEIR_PLACE = (
    "[...document.querySelectorAll('.chart svg')].some("
    "svg => svg.getBoundingClientRect().width > svg.closest('.chart').clientWidth + 1)"
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out(opened, scheme):
    rows = [row_of(COUNTS, WINDOW), row_of(COUNTS, WINDOW, packing="best_fit")]
    one = subject_of(*rows, path="a" * 90)
    shown = opened(inspection_of(one, one), viewport=PHONE, color_scheme=scheme)
    for size in (PHONE, LAPTOP, SMALL):
        shown.page.set_viewport_size(size)
        shown.wait_for(f"!({WIDER_THAN_THEIR_PLACE})")
        assert shown.page.evaluate("document.documentElement.scrollWidth") == size["width"]
    background = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(246, 247, 249)", "dark": "rgb(15, 18, 22)"}[scheme]


def test_charts_take_their_width_from_the_window(opened):
    shown = opened(small_inspection())
    chart = shown.page.locator("[data-chart='exposure'] svg")
    wide = chart.bounding_box()
    shown.page.set_viewport_size(PHONE)
    shown.wait_for("document.querySelector(\"[data-chart='exposure'] svg\").clientWidth < 390")
    assert wide is not None
    assert wide["width"] > 600


def test_the_order_of_the_keyboard(opened):
    shown = opened(small_inspection())
    order = []
    while True:
        shown.page.keyboard.press("Tab")
        where, outline, left = shown.page.evaluate(
            "(e => [e.name || e.getAttribute('aria-label') || e.textContent.trim(),"
            " getComputedStyle(e).outlineStyle, e === document.body])(document.activeElement)"
        )
        if left:
            break
        assert outline != "none", where
        order.append(where)
    fields = ("tau", "alpha", "gamma", "max_weight")
    assert order == [
        "Skip to the figures",
        "row",
        *(f"{name}{end}" for name in fields for end in ("", "-slider")),
        "Reset to the inspected settings",
        "Buckets, table",
        "Sources, table",
        "Settings compared, table",
        "Command",
        "copy",
        "Licences of the software in this page",
    ]


def test_a_screen_reader_is_told_when_the_slider_rests(opened):
    shown = opened(small_inspection())
    announced = shown.page.locator("[data-text=announcement]")
    assert announced.get_attribute("role") == "status"
    assert until(announced.inner_text)
    first = announced.inner_text()
    at_once = shown.page.locator("[name='alpha-slider']").evaluate(
        "slider => {"
        " slider.value = 0.5;"
        " slider.dispatchEvent(new Event('input', {bubbles: true}));"
        " return document.querySelector('[data-text=announcement]').textContent; }"
    )
    assert at_once == first
    assert shown.text("answer") != first
    assert until(lambda: announced.inner_text() != first)
    assert announced.inner_text() == shown.text("answer")


def test_names_of_controls(opened):
    shown = opened(small_inspection())
    for role, names in (
        ("combobox", ["Settings inspected"]),
        ("slider", ["Tail from, tau", "Extra weight, alpha", "Rarity, gamma", "Max weight"]),
        ("spinbutton", ["Tail from tau", "Extra weight alpha", "Rarity gamma", "Max weight"]),
    ):
        for name in names:
            assert shown.page.get_by_role(role, name=name, exact=True).count() == 1, name
    images = shown.page.get_by_role("img", name=re.compile("^(Bar chart|Line chart|Chart)"))
    assert images.count() == 4


def test_less_motion(opened):
    for wish, seconds in (("no-preference", "0.15s"), ("reduce", "0s")):
        shown = opened(small_inspection(), reduced_motion=wish)
        transition = "getComputedStyle(document.querySelector('.results')).transitionDuration"
        assert shown.page.evaluate(transition) == seconds


def test_without_scripts_it_says_so(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(report.html(small_inspection()))
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert "exactcpt inspect --json" in page.locator("body").inner_text()
    context.close()
