"""Scores of `standard`, arm against baseline."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exactcpt.schemas.errors import FormatError
from exactcpt.training.comparison.standard_endpoints import (
    StandardKey,
    StandardScores,
    read_standard,
    standard_endpoints,
)
from exactcpt.training.comparison.standard_table import standard_table
from exactcpt.training.evaluation.standard.suite import SCORE_TABLE
from exactcpt.training.evaluation.standard.tasks import SIX

SIZES = {task: 3 + 2 * n for n, task in enumerate(SIX)}


def scores(seed: int, tasks=SIX, digest: str = "i", count=None) -> dict:
    draw = np.random.default_rng(seed)
    return {
        StandardKey(task, SIX[task].metric, digest): StandardScores(
            step=2, values=draw.integers(0, 2, count or SIZES[task]).astype(np.float64)
        )
        for task in tasks
    }


def arms(seeds: int = 3, **more) -> dict:
    return {
        arm: [scores(10 * seed + k, **more) for seed in range(seeds)]
        for k, arm in enumerate(("uniform", "exact"))
    }


def test_a_task_is_a_mean_over_items_and_the_macro_one_over_the_six():
    found = standard_endpoints(arms(), "uniform")
    given = arms()
    assert [row.name for row in found] == [*SIX, "macro"]

    def mean(arm, task):
        return np.mean([run[StandardKey(task, SIX[task].metric, "i")].values for run in given[arm]])

    for row in found[:-1]:
        assert row.baseline == pytest.approx(mean("uniform", row.name))
        assert row.arms["exact"].delta == pytest.approx(
            mean("exact", row.name) - mean("uniform", row.name)
        )
        assert row.items == SIZES[row.name]
        assert row.arms["exact"].equivalent is None
    macro = found[-1]
    assert macro.baseline == pytest.approx(np.mean([mean("uniform", task) for task in SIX]))
    assert macro.arms["exact"].value == pytest.approx(np.mean([mean("exact", t) for t in SIX]))
    assert macro.arms["exact"].equivalent is False


def test_equal_arms_are_unchanged():
    same = {arm: [scores(seed) for seed in range(3)] for arm in ("uniform", "exact")}
    assert standard_endpoints(same, "uniform")[-1].arms["exact"].equivalent is True


def test_there_is_no_macro_of_fewer_tasks():
    found = standard_endpoints(arms(tasks=[*SIX][1:]), "uniform", primary=True)
    assert [row.name for row in found] == [*SIX][1:]
    assert not any(row.primary for row in found)


def test_only_the_macro_is_primary():
    found = standard_endpoints(arms(), "uniform", primary=True)
    assert [row.name for row in found if row.primary] == ["macro"]


def test_the_macro_takes_the_evaluation_of_most_items():
    given = arms()
    for of_arm in given.values():
        for run in of_arm:
            run.update(scores(99, tasks=["piqa"], digest="few", count=2))
    found = standard_endpoints(given, "uniform")
    assert [row.name for row in found].count("piqa") == 2
    assert found[-1] == standard_endpoints(arms(), "uniform")[-1]


def test_items_that_a_run_lacks_are_left_out():
    given = arms()
    key = StandardKey("gsm8k", SIX["gsm8k"].metric, "i")
    del given["exact"][1][key]
    assert [row.name for row in standard_endpoints(given, "uniform")] == [*SIX][:-1]


def write(run: Path, task: str, rows: list, step: int, digest: str = "i" * 32) -> Path:
    folder = run / "eval" / f"standard-{task}-{step}{digest[:3]}"
    folder.mkdir(parents=True)
    count = len({row[0] for row in rows})
    pq.write_table(pa.table({"item": range(count)}), folder / "items.parquet")
    columns = [
        pa.array(c, f.type) for f, c in zip(SCORE_TABLE, zip(*rows, strict=True), strict=True)
    ]
    pq.write_table(pa.table(columns, names=SCORE_TABLE.names), folder / "scores.parquet")
    manifest = {
        "format": "exactcpt evaluation", "format_version": 1, "suite": "standard",
        "suite_version": 1, "length": None, "tasks": [task], "seed": 0, "ablation": None,
        "haystack": None, "tokenizer": "a" * 32, "items": "b" * 32, "model": "c" * 32,
        "step": step, "tau": 8, "window": 64, "positions": 64, "extrapolated": False,
        "precision": "fp32", "device": "cpu", "versions": {"exactcpt": "1"}, "seconds": 1,
        "tokens": None, "harness": "0.4.13", "shots": 0, "asked": None, "lengths": None,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_what_is_read_of_a_run(tmp_path):
    both = [(n, m, float(n == 1), None) for n in (1, 0) for m in ("acc", "acc_norm")]
    write(tmp_path, "piqa", both, step=1)
    write(tmp_path, "piqa", [(0, "acc_norm", 1.0, None), (1, "acc_norm", 0.0, None)], step=2)
    write(tmp_path, "boolq", both, step=1)
    found = read_standard(tmp_path)
    assert [(key.task, key.metric) for key in found] == [
        ("boolq", "acc"), ("boolq", "acc_norm"), ("piqa", "acc_norm"),
    ]  # fmt: skip
    newest = found[StandardKey("piqa", "acc_norm", "b" * 32)]
    assert (newest.step, newest.values.tolist()) == (2, [1.0, 0.0])
    assert found[StandardKey("boolq", "acc", "b" * 32)].values.tolist() == [0.0, 1.0]


def test_scores_that_are_not_of_the_items_are_refused(tmp_path):
    folder = write(tmp_path, "piqa", [(0, "acc_norm", 1.0, None)], step=1)
    pq.write_table(pa.table({"item": range(2)}), folder / "items.parquet")
    with pytest.raises(FormatError, match="the scores are not of these items"):
        read_standard(tmp_path)


def test_the_table():
    from io import StringIO

    from rich.console import Console

    rows = standard_endpoints(arms(), "uniform")
    console = Console(width=140, record=True, file=StringIO())
    console.print(standard_table(rows, 3, "uniform", ["exact"]))
    text = console.export_text()
    for task in (*SIX, "macro"):
        assert task in text
    assert "macro: the mean of the six tasks" in text
    assert "exploratory" in text
