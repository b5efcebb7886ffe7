"""A comparison in the room that there is: every figure stands whole, whatever the width."""

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_runs import text_of, write
from rich.cells import cell_len

from exactcpt.training.comparison.endpoints import Endpoint, Evaluation, Finding
from exactcpt.training.comparison.losses import Delta
from exactcpt.training.comparison.runs import Comparison, compare

DISTANCES = (8, 128, 131_072)
TAU = 100
NAMES = st.text("abcdefghij-_ 0123456789äß漢", min_size=1, max_size=60).map(str.strip)
ARMS = st.lists(NAMES.filter(lambda name: name not in ("", "base")), max_size=9, unique=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Comparison:
    """Two runs, by which to make up comparisons of more."""
    folder = tmp_path_factory.mktemp("runs")
    return compare([write(folder / "e", "exact"), write(folder / "u")])


def drawn(draw: random.Random) -> float:
    return draw.uniform(-1, 1) * 10 ** draw.randint(-5, 3)


def finding(draw: random.Random, seeds: int) -> Finding:
    half = None if seeds == 1 else abs(drawn(draw))
    return Finding(
        value=drawn(draw), delta=drawn(draw), over_seeds=half,
        over_items=(drawn(draw), drawn(draw)), over_both=None,
        p=None if half is None else 0.5, adjusted=None if half is None else draw.random(),
        equivalent=draw.choice([None, True, False]), detectable=half,
        seeds_for_half=None if half is None else draw.randint(2, 5000),
    )  # fmt: skip


def made_up(plain: Comparison, names: list[str], seeds: int, draw: random.Random) -> Comparison:
    """A comparison with figures of all sizes."""
    arms = {name: [f"/runs/{name}/{n}" for n in range(seeds)] for name in ("base", *names)}
    paths = [path for runs in arms.values() for path in runs]

    def delta() -> Delta:
        return Delta(loss=abs(drawn(draw)), delta=drawn(draw),
                     interval=None if seeds == 1 else abs(drawn(draw)))  # fmt: skip

    losses = [
        replace(each, rows=[replace(row, targets=draw.randint(1, 10**12), baseline=drawn(draw),
                                    arms={n: delta() for n in names}) for row in each.rows])
        for each in plain.losses
    ]  # fmt: skip
    endpoints = [
        Endpoint(name=name, context="fixed", distance=distance, primary=distance is None, facts=3,
                 baseline=drawn(draw), floor=draw.choice([abs(drawn(draw))]),
                 arms={n: finding(draw, seeds) for n in names})
        for name, distance in (("far", None), *(("gain", d) for d in DISTANCES))
    ]  # fmt: skip
    probed = Evaluation(length=131_073, ablation="replace", tau=TAU, extrapolated=False,
                        seeds=seeds, endpoints=endpoints)  # fmt: skip
    values = {path: draw.choice([0.1, 2e-05, None, [1.0, 2.31]]) for path in paths}
    return replace(
        plain, baseline="base", arms=arms, settings={"learning_rate": values}, pairs=[],
        losses=losses, probed=[probed],
    )  # fmt: skip


def figures(found: Comparison) -> Iterator[str]:
    """Every figure that a table has, as it is printed."""
    for losses in found.losses:
        for row in losses.rows:
            yield from (f"{row.targets:,}", f"{row.baseline:.4f}")
            yield "all" if row.contexts is None else "{:,}-{:,}".format(*row.contexts)
            for each in row.arms.values():
                half = "" if each.interval is None else f" ± {each.interval:.4f}"
                yield from (f"{each.loss:.4f}", f"{signed(each.delta)}{half}")
    for endpoint in found.probed[0].endpoints:
        yield from (f"{endpoint.baseline:+.4f}", f"{endpoint.floor:.4f}")
        yield "far" if endpoint.distance is None else f"{endpoint.distance:,}"
        for each in endpoint.arms.values():
            half = "" if each.over_seeds is None else f" ± {each.over_seeds:.4f}"
            yield f"{signed(each.delta)}{half}"
            yield "[{}, {}]".format(*map(signed, each.over_items))
            yield f"{each.delta / endpoint.baseline:+.0%}"
            if endpoint.primary and each.adjusted is not None:
                yield from (f"{each.adjusted:.3f}", f"{each.detectable:.4f}")
                yield f"{each.seeds_for_half:,}"
    for value in found.settings["learning_rate"].values():
        yield from map(str, value if isinstance(value, list) else [value or "none"])


def signed(value: float) -> str:
    return f"{round(value, 4) + 0.0:+.4f}"


def is_whole(figure: str, text: str) -> bool:
    """Whether a figure stands between spaces, commas or the lines of a table."""
    shown = figure.removesuffix(".0")
    return re.search(rf"(?<![^\s│┃]){re.escape(shown)}(?:\.0)?(?![^\s│┃,])", text) is not None


@settings(max_examples=40, deadline=None)
@given(names=ARMS, seeds=st.integers(1, 24), width=st.integers(60, 200), seed=st.integers(0, 99))
def test_every_figure_stands_whole(plain, names, seeds, width, seed):
    found = made_up(plain, names, seeds, random.Random(seed))
    text = text_of(found, width)
    assert "…" not in text
    assert max(map(cell_len, text.splitlines())) <= width
    assert [figure for figure in figures(found) if not is_whole(figure, text)] == []
    for name in names:
        if " " not in name and cell_len(name) <= 12:
            assert name in text


def test_a_figure_that_is_cut_or_broken_is_seen():
    for text in ("0.12", "0.1234 ±\n0.1", "10.1234", "0.12345", "-0.1234"):
        assert not is_whole("0.1234 ± 0.1" if "±" in text else "0.1234", text)
    assert is_whole("0.1234", "│ 0.1234 │")


def test_one_block_where_there_is_room(plain):
    found = made_up(plain, ["a", "b"], 2, random.Random(1))
    wide, narrow = (text_of(found, width) for width in (200, 60))
    title = "Probe, prompts of 131,073 tokens, context fixed"
    assert wide.count(title) == 1
    assert (wide.count("131,072 *"), narrow.count("131,072 *")) == (1, 4)
    assert narrow.count("exploratory") == wide.count("exploratory")


def setting_rows(found: Comparison) -> list[list[str]]:
    text = text_of(found, 160).partition("Settings that differ")[2].partition("paired")[0]
    lines = [line.split("│")[1:-1] for line in text.splitlines() if "│" in line]
    return [[cell.strip() for cell in line] for line in lines]


def test_settings_by_arm(tmp_path):
    """However many runs: a line for each value and the arms that have it."""
    runs = [
        write(tmp_path / f"{arm}{seed}", weighting, seed=seed, arm=arm, table=table,
              learning_rate=0.2 if arm == "hot" else 0.1)
        for arm, weighting, table in (
            ("plain", "uniform", None), ("near", "near", None), ("hot", "near", [1.0, 1.15, 2.5])
        )
        for seed in range(8)
    ]  # fmt: skip
    assert setting_rows(compare(runs)) == [
        ["learning_rate", "plain, near", "0.1"],
        ["", "hot", "0.2"],
        ["seed", "all", "0, 1, 2, 3, 4, 5, 6, 7"],
        ["weight_table", "plain, near", "none"],
        ["", "hot", "1 1.15 2.5"],
        ["weighting", "plain", "uniform"],
        ["", "near, hot", "near"],
    ]


def test_runs_of_an_arm_with_other_settings_are_told(plain: Any):
    arms = {"base": ["a", "b"], "x": ["c", "d"]}
    values = {"a": 1, "b": 2, "c": 2, "d": 1}
    found = replace(plain, arms=arms, settings={"seed": values}, baseline="base", pairs=[])
    assert setting_rows(found) == [["seed", "base", "1, 2"], ["", "x", "2, 1"]]
