"""The picture of a comparison, as numbers, as an SVG file, and as a page in a browser.

A Chromium that is installed is driven; without one the tests of the page are skipped.
"""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exactcpt.training.comparison.charts import charts
from exactcpt.training.comparison.endpoints import Evaluation, evaluations_of
from exactcpt.training.comparison.evaluated import Gains, Probed
from exactcpt.training.comparison.losses import Delta, Losses, Row
from exactcpt.training.comparison.picture import draw_page, draw_svg
from exactcpt.training.comparison.ruler_endpoints import RulerEvaluation, ruler_evaluations
from exactcpt.training.comparison.ruler_scores import RulerKey, RulerScores, Series
from exactcpt.training.comparison.runs import Comparison

STEPS = 20
CONTEXTS = [(0, 7), (8, 15), (16, 31), (32, 63)]
ARMS = ("exact", "matched")


def losses(name: str, first_step: int = STEPS) -> Losses:
    rows = [
        Row(
            contexts=contexts,
            in_tail=contexts is not None and contexts[0] >= 16,
            targets=10,
            baseline=4.0,
            arms={
                arm: Delta(loss=4.0 + delta, delta=delta, interval=0.01 if arm == "exact" else None)
                for arm in ARMS
                for delta in [0.02 * (2 - i) / (1 + ARMS.index(arm))]
            },
        )
        for i, contexts in enumerate([None, *CONTEXTS])
    ]
    return Losses(name=name, first_step=first_step, step=STEPS, rows=rows)


def probed() -> Evaluation:
    """Gains of random numbers at three distances, two seeds per arm."""
    random = np.random.default_rng(0)
    distances = np.array([32, 128, 512])
    key = (1024, "replace", "i")
    arms = {
        arm: [{key: probe(gains_at(distances, random.normal(size=(4, 3))))} for _ in range(2)]
        for arm in (*ARMS, "uniform")
    }
    (found,) = evaluations_of(arms, "uniform", floor="matched")
    return found


def gains_at(distances: NDArray[np.int64], values: NDArray[np.float64]) -> Gains:
    exact = np.broadcast_to(distances, values.shape).astype(np.float64)
    return Gains(distances=distances, exact=exact, values=values)


def ruler() -> RulerEvaluation:
    """Scores of random numbers at two lengths, of which one is longer than the windows."""
    random = np.random.default_rng(1)
    series = Series(suite="ruler", tasks=("vt",), per_task=5, seed=0, haystack="h", tokenizer="t")
    arms = {
        arm: [
            {
                RulerKey(series, "choice", length, "i"): RulerScores(
                    step=STEPS, extrapolated=length > 1024, values=random.normal(size=5)
                )
                for length in (1024, 4096)
            }
            for _ in range(2)
        ]
        for arm in (*ARMS, "uniform")
    }
    (found,) = ruler_evaluations(arms, "uniform", floor="matched")
    return found


def probe(gains: Gains) -> Probed:
    return Probed(
        folder="f", step=STEPS, tau=256, extrapolated=False, numbered=4, gains={"fixed": gains}
    )


@pytest.fixture(scope="module")
def found() -> Comparison:
    arms = ("exact", "matched", "uniform")
    empty: dict[str, Any] = {"settings": {}, "unwanted": [], "unlike": [], "unmeasured": [],
                             "pairs": [], "seeds": [], "unprobed": [], "skipped": {}}  # fmt: skip
    return Comparison(
        baseline="uniform",
        arms={arm: [f"runs/{arm}"] for arm in arms},
        curves={arm: [(step, 5 - step / 100) for step in range(1, STEPS + 1)] for arm in arms},
        losses=[losses("books"), losses("training windows", 19)],
        probed=[probed()],
        ruler=[ruler()],
        standard=[],
        **empty,
    )


def test_it_has_every_figure(found):
    (_, curves), (title, books), _, (gains_title, gains), *_ = charts(found)
    assert len(curves["data"]["values"]) == 3 * STEPS
    assert title == "books, step 20: loss minus the loss of uniform"
    shown = {(v["at"], v["arm"]): v for v in books["data"]["values"]}
    for row in found.losses[0].rows[1:]:
        for arm, delta in row.arms.items():
            value = shown.pop((f"{row.contexts[0]}-{row.contexts[1]}", arm))
            half = delta.interval or 0.0
            assert (value["delta"], value["shaded"]) == (delta.delta, row.in_tail)
            assert (value["low"], value["high"]) == (delta.delta - half, delta.delta + half)
    assert not shown
    assert gains_title == (
        "Probe, prompts of 1,024 tokens, context fixed: gain minus the gain of uniform"
    )
    drawn = {(v["distance"], v["arm"]): v for v in gains["data"]["values"]}
    floor, tau = (layer["data"]["values"] for layer in gains["layer"][:2])
    rows = [row for row in found.probed[0].endpoints if row.distance is not None]
    assert [(v["distance"], v["high"]) for v in floor] == [(r.distance, r.floor) for r in rows]
    assert tau == [{"tau": 256}]
    for row in rows:
        for arm, finding in row.arms.items():
            value = drawn.pop((row.distance, arm))
            half = finding.over_seeds
            assert value["delta"] == finding.delta
            assert (value["low"], value["high"]) == (finding.delta - half, finding.delta + half)
    assert not drawn


def test_scores_of_ruler_by_length(found):
    (chart,) = (chart for title, chart in charts(found) if title.startswith("ruler"))
    drawn = {(v["at"], v["arm"]): v for v in chart["data"]["values"]}
    assert {(at, value["shaded"]) for (at, _), value in drawn.items()} == {
        ("1,024", True), ("4,096", False),
    }  # fmt: skip
    for row in found.ruler[0].endpoints:
        if row.name == "length":
            for arm, finding in row.arms.items():
                assert drawn.pop((f"{row.lengths[0]:,}", arm))["delta"] == finding.delta
    assert not drawn


def test_all_endpoints_side_by_side(found):
    """Each unit has its own axis; an endpoint stands with its interval and the noise floor."""
    forests = {title: chart for title, chart in charts(found) if title.startswith("All")}
    assert [*forests] == [
        f"All endpoints in {unit}: difference from uniform"
        for unit in ("nats", "nats per doubling", "share of items")
    ]
    drawn = {
        (value["at"], value["arm"]): value
        for chart in forests.values()
        for value in chart["data"]["values"]
    }
    rows = {
        f"{row.name}, fixed 1,024": row for row in found.probed[0].endpoints if row.distance is None
    } | {f"ruler, {row.name}": row for row in found.ruler[0].endpoints if row.name != "length"}
    assert [*rows] == [
        "far, fixed 1,024", "near, fixed 1,024", "slope, fixed 1,024",
        "ruler, trained", "ruler, extrapolated",
    ]  # fmt: skip
    for label, row in rows.items():
        for arm, finding in row.arms.items():
            value = drawn.pop((label, arm))
            ends = (finding.delta - finding.over_seeds, finding.delta + finding.over_seeds)
            assert (value["low"], value["high"]) == ends
            assert (value["floor"], value["below"]) == (row.floor, -row.floor)
    assert not drawn


def test_an_arm_has_one_colour(found):
    scales = [
        encoding["color"]["scale"]
        for _, chart in charts(found)
        for layer in chart.get("layer") or [chart]
        if "color" in (encoding := layer["encoding"])
    ]
    assert len(scales) == 5 + 1 + 3 * 2
    assert all(scale == scales[0] for scale in scales)
    assert scales[0]["domain"] == ["exact", "matched", "uniform"]


def labels(drawn: str) -> list[str]:
    return re.findall(r">(\d+-\d+)<", drawn)


def test_contexts_rise_in_the_file(found):
    drawn = draw_svg(found)
    assert labels(drawn) == ["0-7", "8-15", "16-31", "32-63"] * 2
    assert drawn.startswith("<svg")
    width = re.match(r'<svg[^>]* width="([\d.]+)"', drawn)
    assert width is not None
    assert float(width[1]) < 800


def test_ten_steps_are_counted_in_whole_numbers(found):
    ten = {arm: points[:10] for arm, points in found.curves.items()}
    drawn = draw_svg(replace(found, curves=ten, losses=[], probed=[], ruler=[]))
    steps = [n for n in re.findall(r">([^<>]+)</text>", drawn) if re.fullmatch(r"\d\S*", n)]
    assert steps[:10] == [str(n) for n in range(1, 11)]


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits(found, browser, tmp_path, width):
    hostile = "</script><img src=x onerror=document.title='x'>"
    named = [replace(found.losses[0], name=hostile), *found.losses[1:]]
    shown = replace(found, losses=named, curves=found.curves | {hostile: [(1, 5.0)]})
    (tmp_path / "page.html").write_text(draw_page(shown), "utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800})
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: failures.append(request.url))
    page.goto(f"file://{tmp_path}/page.html")
    page.wait_for_function("document.querySelectorAll('canvas, .vega-embed svg').length === 8")
    assert failures == [f"file://{tmp_path}/page.html"]
    assert page.title() == "exact and matched and uniform compared"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    widths = page.evaluate(
        "[...document.querySelectorAll('canvas, .vega-embed svg')]"
        ".map(each => each.getBoundingClientRect().width)"
    )
    assert min(widths) > 0.8 * min(width, 928)
    page.close()
