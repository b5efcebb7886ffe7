"""The probe's figures against slow ones, figure by figure, seed by seed, fact by fact."""

import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from recorded_runs import Cell, text_of, write, write_probe

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.comparison import intervals
from exactcpt.training.comparison.endpoints import Endpoint, Evaluation
from exactcpt.training.comparison.intervals import half_width, holm, p_value
from exactcpt.training.comparison.runs import compare

DISTANCES = (32, 64, 128, 448)
TAU = 128
FACTS = [("number", 0), ("number", 1), ("place", 0), ("alias", 4)]

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)


def gain_of(arm: str, seed: int, fact: int, context: str, distance: int) -> float:
    """A gain for every cell; that of arms differs in every way that the figures tell apart."""
    own = {"uniform": 0.0, "matched": 0.01, "exact": 0.1 * math.log2(distance) - 0.6}[arm]
    phase = {"uniform": 7, "matched": 9, "exact": 5}[arm]
    noise = math.sin(seed * 7.1 + fact * 3.3 + distance + len(context) + phase)
    return 2.0 + fact + 0.5 * seed + own + 0.1 * noise


def cells_of(arm: str, seed: int) -> list[Cell]:
    return [
        (task, number, context, distance, gain_of(arm, seed, fact, context, distance))
        for context in ("fixed", "minimal")
        for fact, (task, number) in enumerate(FACTS)
        for distance in DISTANCES
        if (task, distance) != ("alias", 448)
    ]


def natural_cells_of(arm: str, seed: int) -> list[Cell]:
    """Facts and places: each of those has a distance of its own."""
    places = [(0, 23), (0, 60), (0, 130), (1, 45), (1, 46), (1, 100)]
    places += [(1, 339), (2, 338), (2, 500)]
    natural = [
        ("natural", number, "document", exact, gain_of(arm, seed, number, "document", exact))
        for number, exact in places
    ]
    return cells_of(arm, seed) + natural


def evaluate(
    run: str,
    arm: str,
    seed: int,
    name: str = "probe-512-abc",
    cells: Callable[[str, int], list[Cell]] = cells_of,
    **changes: Any,
) -> None:
    """The files of an evaluation, by hand."""
    write_probe(run, cells(arm, seed), name, **changes)


def made(tmp_path: Path, seeds: int = 3, **changes: Any) -> list[str]:
    runs: list[str] = []
    for arm in ("exact", "matched", "uniform"):
        for seed in range(seeds):
            run = write(tmp_path / f"{arm}{seed}", arm, seed=seed)
            evaluate(run, arm, seed, **changes)
            runs.append(run)
    return runs


def slow_values(arm: str, seed: int, context: str, name: str, distance: int | None) -> list[float]:
    """The value of each fact that has the figure."""
    values: list[float] = []
    for fact, (task, _) in enumerate(FACTS):
        has = [d for d in DISTANCES if (task, d) != ("alias", 448)]
        gains = {d: gain_of(arm, seed, fact, context, d) for d in has}
        if name == "gain":
            assert distance is not None
            values += [gains[distance]] if distance in gains else []
        elif name == "slope":
            octaves = [math.log2(d) for d in has]
            values.append(statistics.linear_regression(octaves, list(gains.values())).slope)
        else:
            far = name == "far"
            values.append(statistics.mean(g for d, g in gains.items() if (d >= TAU) == far))
    return values


def endpoints(found: Evaluation) -> dict[tuple[str, str, int | None], Endpoint]:
    return {(e.context, e.name, e.distance): e for e in found.endpoints}


def test_every_figure(tmp_path):
    (found,) = compare(made(tmp_path)).probed
    assert (found.length, found.ablation, found.seeds, found.tau) == (512, "replace", 3, TAU)
    names = [("far", None), ("near", None), ("slope", None), *(("gain", d) for d in DISTANCES)]
    by_key = endpoints(found)
    assert [*by_key] == [(context, *name) for context in ("fixed", "minimal") for name in names]
    for (context, name, distance), endpoint in by_key.items():
        slow = {
            arm: np.array([slow_values(arm, seed, context, name, distance) for seed in range(3)])
            for arm in ("uniform", "matched", "exact")
        }
        assert endpoint.facts == slow["uniform"].shape[1]
        assert endpoint.baseline == pytest.approx(slow["uniform"].mean())
        differences = slow["exact"] - slow["uniform"]
        finding = endpoint.arms["exact"]
        assert finding.value == pytest.approx(slow["exact"].mean())
        assert finding.delta == pytest.approx(differences.mean())
        by_seed = differences.mean(axis=1).tolist()
        assert finding.over_seeds == pytest.approx(half_width(by_seed))
        assert finding.p == pytest.approx(p_value(by_seed))
        low, high = finding.over_items
        assert differences.min() <= low <= finding.delta <= high <= differences.max()
        assert finding.over_both is None
        assert finding.adjusted is None
        assert (finding.equivalent is None) == (name != "near")
        floor = (slow["matched"] - slow["uniform"]).mean()
        assert endpoint.floor == pytest.approx(abs(floor))
    far, near = by_key["fixed", "far", None], by_key["fixed", "near", None]
    assert far.facts == len(FACTS)
    assert by_key["fixed", "gain", 448].facts == len(FACTS) - 1
    assert far.arms["exact"].delta > 0 > near.arms["exact"].delta


def test_natural_places_are_figures_of_their_own_on_the_grid(tmp_path):
    """In the other contexts nothing changes; a place is at the nearest distance."""
    (found,) = compare(made(tmp_path / "all", cells=natural_cells_of), primary=["far"]).probed
    (plain,) = compare(made(tmp_path / "plain"), primary=["far"]).probed
    ours = [e for e in found.endpoints if e.context == "document"]
    assert found.endpoints == plain.endpoints + ours
    assert [(e.name, e.distance, e.facts) for e in ours] == [
        ("far", None, 3), ("near", None, 2), ("slope", None, 3),
        ("gain", 32, 2), ("gain", 64, 2), ("gain", 128, 2), ("gain", 256, 1), ("gain", 448, 2),
    ]  # fmt: skip
    gains = [
        [gain_of("uniform", seed, number, "document", exact) for seed in range(3)]
        for number, exact in ((1, 339), (2, 500))
    ]
    assert ours[-1].baseline == pytest.approx(np.mean(gains))
    # 100 is shown at 128, which is tau, and lies below it.
    near = {0: (23, 60), 1: (45, 46, 100)}
    means = [
        np.mean([gain_of("uniform", seed, number, "document", exact) for exact in distances])
        for seed in range(3)
        for number, distances in near.items()
    ]
    assert ours[1].baseline == pytest.approx(np.mean(means))
    assert not any(e.primary for e in ours)


def test_primary_endpoints_are_adjusted_together(tmp_path):
    (found,) = compare(made(tmp_path), primary=["far", "slope"]).probed
    primary = [e for e in found.endpoints if e.primary]
    assert [(e.context, e.name) for e in primary] == [("fixed", "far"), ("fixed", "slope")]
    findings = [finding for e in primary for finding in e.arms.values()]
    assert [f.adjusted for f in findings] == pytest.approx(holm([f.p or 0.0 for f in findings]))
    rest = [f for e in found.endpoints if not e.primary for f in e.arms.values()]
    assert {f.adjusted for f in rest} == {None}


def test_five_seeds_have_an_interval_over_both(tmp_path):
    (found,) = compare(made(tmp_path, seeds=5)).probed
    finding = found.endpoints[0].arms["exact"]
    assert finding.over_both is not None
    assert finding.over_both[0] < finding.delta < finding.over_both[1]


def test_one_seed_is_no_verdict(tmp_path):
    compared = compare(made(tmp_path, seeds=1), primary=["far"])
    finding = compared.probed[0].endpoints[0].arms["exact"]
    assert (finding.over_seeds, finding.p, finding.adjusted, finding.detectable) == (None,) * 4
    text = text_of(compared)
    assert "one seed: no verdict" in text
    assert "± 0" not in text


def test_equal_runs_are_equivalent(tmp_path):
    runs: list[str] = []
    for arm in ("exact", "uniform"):
        for seed in range(2):
            run = write(tmp_path / f"{arm}{seed}", arm, seed=seed)
            evaluate(run, "uniform", seed)
            runs.append(run)
    (found,) = compare(runs).probed
    near = endpoints(found)["fixed", "near", None].arms["exact"]
    assert (near.delta, near.over_seeds, near.over_items, near.p) == (0, 0, (0, 0), 1)
    assert near.equivalent is True


def test_without_tau_there_is_no_far_and_near(tmp_path):
    (found,) = compare(made(tmp_path, tau=None)).probed
    assert {e.name for e in found.endpoints} == {"slope", "gain"}


def test_other_items_are_not_paired(tmp_path):
    runs = made(tmp_path)
    evaluate(runs[0], "exact", 0, "probe-512-def", items="1" * 32)
    found = compare(runs)
    assert len(found.probed) == 1
    assert found.unprobed == runs[1:]
    assert f"8 runs not evaluated with all items of the others, which are left out: {runs[1]}" in (
        text_of(found, 2000)
    )


def test_the_last_step_counts(tmp_path):
    runs = made(tmp_path, seeds=1)
    for run, arm in zip(runs, ("exact", "matched", "uniform"), strict=True):
        evaluate(run, arm, 5, "probe-512-abd", step=10)
        evaluate(run, arm, 5, "other-suite", suite="buckets")
    (found,) = compare(runs).probed
    (earlier,) = compare(made(tmp_path / "alone", seeds=1)).probed
    assert found == earlier


@pytest.mark.parametrize("primary", ["gain", "probe"])
def test_no_such_endpoint(tmp_path, primary):
    with pytest.raises(UsageError, match=f"there is no endpoint '{primary}' to be primary"):
        compare(made(tmp_path), primary=[primary])


def test_primary_without_an_evaluation(tmp_path):
    runs = [write(tmp_path / "e", "exact"), write(tmp_path / "u")]
    with pytest.raises(UsageError, match="there is no endpoint 'far' to be primary"):
        compare(runs, primary=["far"])
    assert compare(runs).probed == []


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": "exactcpt evaluation"}')


def lose_scores(folder: Path) -> None:
    (folder / "scores.parquet").unlink()


def drop_a_score(folder: Path) -> None:
    table = pq.read_table(folder / "scores.parquet")
    pq.write_table(table.slice(1), folder / "scores.parquet")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (damage_manifest, "'format_version' is a required property"),
        (lose_scores, "an evaluation cannot be read"),
        (drop_a_score, "an evaluation cannot be read: 1 items have no scores"),
    ],
)
def test_damaged_evaluations(tmp_path, damage, told):
    runs = made(tmp_path)
    damage(Path(runs[4]) / "eval" / "probe-512-abc")
    with pytest.raises(FormatError, match=told) as caught:
        compare(runs)
    assert str(caught.value.where).startswith(f"{runs[4]}/eval/probe-512-abc")


def test_what_a_person_sees(tmp_path):
    found = compare(made(tmp_path), primary=["far", "near"])
    text = text_of(found, 200)
    assert "Probe, prompts of 512 tokens, context fixed, ablation replace" in text
    for label in ("far ", "near ", "slope ", "128 *", "64  "):
        assert label in text
    delta = found.probed[0].endpoints[0].arms["exact"]
    assert f"{delta.delta:+.4f} ± {delta.over_seeds:.4f}" in text
    assert "floor: what the scale of the loss alone does" in text
    assert "Primary endpoints" in text
    assert "exploratory" in text  # the context minimal
    narrow = text_of(found, 80)
    assert "…" not in narrow
    assert narrow.count("Probe, prompts of 512 tokens") == 2  # one title for all of its blocks
    # Figures are neither cut nor broken, whatever else is.
    gains = narrow[narrow.index("Probe,") :]
    assert len(re.findall(r"[+-]\d\.\d{4} ± \d\.\d{4}", gains)) == 2 * 2 * 7 + 4
    assert len(re.findall(r"\[[+-]\d\.\d{4}, [+-]\d\.\d{4}\]", narrow)) == 2 * 2 * 7
