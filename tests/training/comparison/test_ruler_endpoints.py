"""Scores of `ruler`, arm against baseline: from files by hand to figures worked out slowly."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recorded_runs import text_of, write

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.comparison import intervals
from exactcpt.training.comparison.intervals import half_width, holm, p_value
from exactcpt.training.comparison.ruler_endpoints import RulerEvaluation
from exactcpt.training.comparison.runs import compare
from exactcpt.training.evaluation.config import TASKS
from exactcpt.training.evaluation.ruler.items import SCORES

TASKS_OF = ("niah_single_1", "vt")
ELEVEN = TASKS["ruler"][:11]
WINDOW = 1024
LENGTHS = (512, 1024, 2048)
ANSWER = 5
PER_TASK = 3


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)


def match_of(arm: str, seed: int, length: int, number: int) -> float:
    own = {"uniform": 0.0, "matched": 0.01, "exact": 0.1 + 0.05 * (length > WINDOW)}[arm]
    return 0.4 + own + 0.1 * math.sin(seed * 7.1 + number * 3.3 + length + len(arm))


def loglik_of(arm: str, seed: int, length: int, number: int) -> float:
    return -3 + 2 * match_of(arm, seed, length, number)


def evaluate(
    run: str,
    arm: str,
    run_seed: int,
    length: int,
    *,
    tasks: tuple[str, ...] = TASKS_OF,
    generates: bool = True,
    name: str = "abc",
    **changes: Any,
) -> None:
    """The files of an evaluation, by hand."""
    folder = Path(run) / "eval" / f"ruler-{length}-{name}"
    folder.mkdir(parents=True)
    count = PER_TASK * len(tasks)
    task = [task for task in tasks for _ in range(PER_TASK)]
    number = [n for _ in tasks for n in range(PER_TASK)]
    item = list(range(count))
    pq.write_table(
        pa.table({"item": item, "task": task, "number": number}), folder / "items.parquet"
    )
    chosen = [name == "niah_single_1" for name in task]
    rows = [
        {
            "item": i, "logp_gold": ANSWER * loglik_of(arm, run_seed, length, i),
            "n_answer_tokens": ANSWER,
            "mean_logp_best_other": -2.0 if chosen[i] else None,
            "correct": loglik_of(arm, run_seed, length, i) > -2 if chosen[i] else None,
            "output": "said" if generates else None,
            "match": match_of(arm, run_seed, length, i) if generates else None,
        }
        for i in reversed(item)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, SCORES), folder / "scores.parquet")
    manifest = {
        "format": "exactcpt evaluation", "format_version": 1, "suite": "ruler", "suite_version": 1,
        "length": length, "tasks": list(tasks), "seed": 0, "ablation": None, "score": ["loglik"],
        "haystack": "0" * 32, "tokenizer": "0" * 32, "items": f"{length:032x}", "model": "0" * 32,
        "step": 20, "tau": 256, "window": WINDOW, "positions": 1024, "extrapolated": False,
        "precision": "fp32", "device": "cpu", "versions": {"exactcpt": "0"}, "seconds": 1.0,
        "tokens": 1,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def made(tmp_path: Path, seeds: int = 3, lengths=LENGTHS, **changes: Any) -> list[str]:
    runs: list[str] = []
    for arm in ("exact", "matched", "uniform"):
        for seed in range(seeds):
            run = write(tmp_path / f"{arm}{seed}", arm, seed=seed)
            for length in lengths:
                evaluate(run, arm, seed, length, **changes)
            runs.append(run)
    return runs


def by_measure(found: list[RulerEvaluation]) -> dict[str, RulerEvaluation]:
    return {each.measure: each for each in found}


def slow(value, arm: str, lengths: tuple[int, ...]) -> np.ndarray:
    """One value per seed and item."""
    items = range(PER_TASK * len(TASKS_OF))
    return np.array(
        [[value(arm, seed, length, i) for length in lengths for i in items] for seed in range(3)]
    )


def test_every_figure(tmp_path):
    found = by_measure(compare(made(tmp_path)).ruler)
    assert [*found] == ["match", "choice", "loglik"]
    for measure, value in (("match", match_of), ("loglik", loglik_of)):
        each = found[measure]
        assert (each.score, each.tasks, each.seeds) == (None, 2, 3)
        expected = {
            ("trained", False): (512, 1024), ("extrapolated", True): (2048,),
            ("length 512", False): (512,), ("length 1024", False): (1024,),
            ("length 2048", True): (2048,),
        }  # fmt: skip
        for endpoint, ((name, beyond), lengths) in zip(
            each.endpoints, expected.items(), strict=True
        ):
            assert (endpoint.name, endpoint.extrapolated) == (name.split()[0], beyond)
            assert endpoint.lengths == [*lengths]
            values = {arm: slow(value, arm, lengths) for arm in ("uniform", "matched", "exact")}
            differences = values["exact"] - values["uniform"]
            by_seed = differences.mean(axis=1).tolist()
            finding = endpoint.arms["exact"]
            assert endpoint.items == differences.shape[1]
            assert endpoint.baseline == pytest.approx(values["uniform"].mean())
            assert finding.value == pytest.approx(values["exact"].mean())
            assert finding.delta == pytest.approx(differences.mean())
            assert finding.over_seeds == pytest.approx(half_width(by_seed))
            assert finding.p == pytest.approx(p_value(by_seed))
            assert finding.over_items[0] <= finding.delta <= finding.over_items[1]
            assert finding.adjusted is None
            assert endpoint.floor == pytest.approx(
                abs((values["matched"] - values["uniform"]).mean())
            )


def test_choice_is_of_the_tasks_that_have_it(tmp_path):
    found = by_measure(compare(made(tmp_path)).ruler)["choice"]
    assert (found.tasks, found.score) == (1, None)
    assert found.endpoints[-1].items == PER_TASK


def test_the_score_of_all_tasks_has_a_name(tmp_path):
    runs = made(tmp_path, 1, (512,), tasks=ELEVEN)
    found = by_measure(compare(runs).ruler)
    assert (found["match"].score, found["match"].tasks) == ("ruler-11", 11)
    assert found["choice"].score is None


def test_without_outputs_there_is_no_match(tmp_path):
    found = compare(made(tmp_path, generates=False), primary=["ruler"]).ruler
    assert [each.measure for each in found] == ["choice", "loglik"]
    assert [e.name for e in found[1].endpoints if e.primary] == ["trained", "extrapolated"]


def test_ruler_is_primary_by_its_outputs_and_adjusted(tmp_path):
    found = compare(made(tmp_path), primary=["ruler"]).ruler
    named = [(each.measure, e) for each in found for e in each.endpoints if e.primary]
    assert [(measure, e.name) for measure, e in named] == [
        ("match", "trained"), ("match", "extrapolated"),
    ]  # fmt: skip
    findings = [finding for _, e in named for finding in e.arms.values()]
    assert [f.adjusted for f in findings] == pytest.approx(holm([f.p or 0.0 for f in findings]))


def test_trained_lengths_alone(tmp_path):
    found = by_measure(compare(made(tmp_path, lengths=(512,))).ruler)["match"]
    assert [e.name for e in found.endpoints] == ["trained", "length"]


def test_other_items_are_not_paired(tmp_path):
    runs = made(tmp_path)
    evaluate(runs[0], "exact", 0, 4096)
    found = compare(runs)
    assert {length for each in found.ruler for e in each.endpoints for length in e.lengths} == {
        *LENGTHS
    }
    assert found.unprobed == runs[1:]


def test_items_of_another_series_have_figures_of_their_own(tmp_path):
    runs = made(tmp_path, 1)
    for run, arm in zip(runs, ("exact", "matched", "uniform"), strict=True):
        evaluate(run, arm, 0, 512, name="other", items="f" * 32, seed=1)
    found = [each for each in compare(runs).ruler if each.measure == "match"]
    assert [[e.lengths for e in each.endpoints if e.name == "trained"] for each in found] == [
        [[512, 1024]], [[512]],
    ]  # fmt: skip


def test_the_last_step_counts(tmp_path):
    runs = made(tmp_path, 1)
    for run, arm in zip(runs, ("exact", "matched", "uniform"), strict=True):
        evaluate(run, arm, 5, 512, name="old", step=10)
    assert compare(runs).ruler == compare(made(tmp_path / "alone", 1)).ruler


def test_scores_of_the_same_items_by_another_command_are_joined(tmp_path):
    """One command has scored, another one has generated."""
    runs = made(tmp_path, 1, generates=False)
    for run, arm in zip(runs, ("exact", "matched", "uniform"), strict=True):
        evaluate(run, arm, 0, 512, name="other")
    found = by_measure(compare(runs).ruler)
    assert found["match"].endpoints[0].lengths == [512]
    assert found["loglik"].endpoints[0].lengths == [512, 1024]


def test_primary_without_an_evaluation(tmp_path):
    runs = [write(tmp_path / "e", "exact"), write(tmp_path / "u")]
    with pytest.raises(UsageError, match="there is no endpoint 'ruler' to be primary"):
        compare(runs, primary=["ruler"])


def test_scores_of_other_items(tmp_path):
    runs = made(tmp_path, 1)
    path = Path(runs[2]) / "eval" / "ruler-512-abc" / "scores.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(FormatError, match="the scores are not of these items") as caught:
        compare(runs)
    assert caught.value.where == str(path.parent)


def test_what_a_person_sees(tmp_path):
    found = compare(made(tmp_path), primary=["ruler"])
    text = text_of(found, 200)
    assert "ruler, 2 tasks: share of the right answers that the output has" in text
    for label in ("trained ", "extrapolated ", "512 ", "1,024 ", "2,048 + "):
        assert label in text
    assert "ruler, trained" in text
    assert "longer than the windows of the training" in text
    narrow = text_of(found, 80)
    assert "…" not in narrow
    shown = narrow[narrow.index("ruler, 2 tasks") :]
    assert shown.count("extrapolated ") >= 6 + 2
    assert len(re.findall(r"[+-]\d\.\d{4} ± \d\.\d{4}", shown)) == 2 * 5 * 3 + 4
    assert all(len(line) <= 80 for line in shown.splitlines())
