"""Rows with labels, as TRL and Axolotl write them: what they leave out is no target."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from harness import DATA, TOKENIZER, done, run, source
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.core.boundaries import Cut, CutError, Rows
from exactcpt.pipeline.verify import verify
from exactcpt.pipeline.weigh.labels import spans_of_labels
from exactcpt.schemas.shard import PADDING

READ = ["--tokenizer", TOKENIZER, "--quiet"]
WORDS = list(range(5, 13))


def rows_from(lists: list[list[int]]) -> Rows:
    return Rows(
        np.cumsum([0, *map(len, lists)]), np.array([x for row in lists for x in row], np.int32)
    )


@st.composite
def labelled(draw: Any) -> tuple[list[list[int]], list[list[int]], list[list[int]], list[int]]:
    """Ids and labels of rows, the lengths of their segments, and how much padding each has."""
    lengths = draw(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1))
    padding = [draw(st.integers(0, 3)) for _ in lengths]
    totals = [sum(some) + pad for some, pad in zip(lengths, padding, strict=True)]
    ids = [draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)) for n in totals]
    labels = [[x if draw(st.booleans()) else -100 for x in row] for row in ids]
    return ids, labels, lengths, padding


@given(labelled())
def test_spans_are_the_runs_of_labels(drawn) -> None:
    """Each token is asked by itself whether it is in a span."""
    ids, labels, lengths, padding = drawn
    texts = [len(row) - pad for row, pad in zip(ids, padding, strict=True)]
    flat = np.array([n for row in lengths for n in row])
    cut = Cut(flat, np.array([len(row) for row in lengths]), np.array(texts))
    spans = spans_of_labels(rows_from(ids), rows_from(labels), cut)
    assert len(spans) == len(flat)
    segment = 0
    for row, some in zip(labels, lengths, strict=True):
        at = 0
        for length in some:
            mine = slice(spans.bounds[segment], spans.bounds[segment + 1])
            pairs = [*zip(spans.start[mine].tolist(), spans.stop[mine].tolist(), strict=True)]
            inside = [any(a <= i < b for a, b in pairs) for i in range(length)]
            assert inside == [label != -100 for label in row[at : at + length]]
            assert all(a < b for a, b in pairs)
            assert all(b < c for (_, b), (c, _) in pairwise(pairs))
            at, segment = at + length, segment + 1


@given(labelled(), st.data())
def test_a_label_that_is_not_its_id_is_found(drawn, data) -> None:
    ids, labels, lengths, padding = drawn
    row = data.draw(st.integers(0, len(ids) - 1))
    text = len(ids[row]) - padding[row]
    at = data.draw(st.integers(0, text - 1))
    labels[row][at] = ids[row][at] + 100
    texts = np.array([len(r) - pad for r, pad in zip(ids, padding, strict=True)])
    cut = Cut(np.concatenate(lengths), np.array([len(r) for r in lengths]), texts)
    with pytest.raises(CutError) as caught:
        spans_of_labels(rows_from(ids), rows_from(labels), cut)
    assert caught.value.row == row
    assert f"token {at + 1:,} has the id {ids[row][at]:,}" in caught.value.found


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions and answers beside plain text, as `prepare` packs and weighs them."""
    out = tmp_path_factory.mktemp("answers") / "shards"
    options = "prompt=question,answer=answer,context=passage"
    sources = [*source("qa", f"{DATA / 'questions.jsonl'},{options}")]
    sources += [*source("poems", f"{DATA / 'poems.jsonl'},epochs=0.1")]
    flags = ["--window", 256, "--packing", "best_fit", "--validation-fraction", 0, "--tau", 32]
    done("prepare", *sources, *READ, *flags, "--out", out)
    return out


def windows_of(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / "train").glob("*.arrow"))
    tables = [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files]
    return pa.concat_tables(tables).to_pylist()


def as_others_write(windows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows of ids, boundaries and labels; padding has no label."""
    rows: dict[str, list[Any]] = {"input_ids": [], "seq_lengths": [], "labels": []}
    for window in windows:
        pairs = zip(window["seq_lengths"], window["doc_index"], strict=True)
        lengths = [length for length, document in pairs if document != PADDING]
        spans = [range(span["start"], span["stop"]) for span in window["supervised"]]
        ids = window["input_ids"][: sum(lengths)]
        rows["input_ids"].append(ids)
        rows["seq_lengths"].append(lengths)
        rows["labels"].append(
            [x if any(i in span for span in spans) else -100 for i, x in enumerate(ids)]
        )
    return rows


def parquet(path: Path, rows: dict[str, Any]) -> Path:
    pq.write_table(pa.table(rows), path, row_group_size=7)  # fits into no shard
    return path


def test_they_are_weighed_as_prepare_weighs_answers(answers, tmp_path):
    """The same windows, spans, weights and histogram; and `verify` finds nothing wrong."""
    expected = windows_of(answers)
    file = parquet(tmp_path / "a.parquet", as_others_write(expected))
    flags = ["--window", 256, "--tau", 32, "--shard-bytes", "20k"]
    done("weigh", file, *READ, *flags, "--out", tmp_path / "out")
    report = verify(str(tmp_path / "out"))
    assert report.ok, report.findings
    found = windows_of(tmp_path / "out")
    for name in ("input_ids", "loss_weight", "supervised", "seq_lengths"):
        assert [window[name] for window in found] == [window[name] for window in expected]
    ours, theirs = (
        json.loads((f / "manifest.json").read_text()) for f in (tmp_path / "out", answers)
    )
    assert ours["format_version"] == theirs["format_version"] == 2
    assert ours["weights"] == theirs["weights"]
    assert ours["warnings"] == []
    assert ours["settings"]["tokenize"]["sources"]["a"]["labels"] == "labels"
    asked = ["--packed", file, "--window", 256, "--tau", 32, "--tokenizer", TOKENIZER, "--json"]
    (counted,) = done("inspect", *asked).json["subjects"][0]["rows"]
    (shards,) = done("inspect", answers, "--json").json["subjects"][0]["rows"]
    for name in ("targets", "windows_by_largest", "buckets"):
        assert counted[name] == shards[name]
    done("reweigh", tmp_path / "out", "--alpha", 1, "--quiet", "--out", tmp_path / "more")
    assert verify(str(tmp_path / "more")).ok


def test_plain_rows_beside_them_are_learnt_whole(tmp_path):
    labels = [[-100] * 4 + WORDS[4:], WORDS]
    one = {"input_ids": [WORDS] * 2, "seq_lengths": [[3, 5]] * 2, "labels": labels}
    parquet(tmp_path / "a.parquet", one)
    parquet(tmp_path / "b.parquet", {n: one[n] for n in ("input_ids", "seq_lengths")})
    done("weigh", tmp_path / "a.parquet", tmp_path / "b.parquet", *READ, "--out", tmp_path / "out")
    assert verify(str(tmp_path / "out")).ok
    found = [window["supervised"] for window in windows_of(tmp_path / "out")]
    whole = [{"start": 0, "stop": 3}, {"start": 3, "stop": 8}]
    assert found == [[{"start": 4, "stop": 8}], whole, whole, whole]
    splits = json.loads((tmp_path / "out" / "manifest.json").read_text())["splits"]
    assert splits["train"]["targets"] == 4 + 3 * (2 + 4)


def test_what_is_learnt_need_not_end_a_segment(tmp_path):
    """The largest context is that of the last target; rows are in order, wherever they are cut."""
    ids = [[5 + (i + row) % 90 for i in range(32)] for row in range(11)]
    labels = [[*row[: 10 + i], *[-100] * (22 - i)] for i, row in enumerate(ids)]
    rows = {"input_ids": ids, "seq_lengths": [[32]] * 11, "labels": labels}
    file = parquet(tmp_path / "a.parquet", rows)
    asked = ["--packed", file, "--tokenizer", TOKENIZER, "--json"]
    (counted,) = done("inspect", *asked).json["subjects"][0]["rows"]
    assert counted["windows_by_largest"] == [0, 7, 4]  # 9 to 15, 16 to 19
    done("weigh", file, *READ, "--shard-bytes", 1000, "--out", tmp_path / "out")
    assert verify(str(tmp_path / "out")).ok
    found = [window["supervised"] for window in windows_of(tmp_path / "out")]
    assert found == [[{"start": 0, "stop": 10 + i}] for i in range(11)]
    assert len([*(tmp_path / "out" / "train").iterdir()]) == 3  # of 6, 1 and 4 windows


NO_FIT = "make the labels from the same ids"


@pytest.mark.parametrize(
    ("labels", "found", "fix"),
    [
        ([*WORDS[1:], -100], "token 1 has the id 5 and the label 6", "move them back by one"),
        ([-100, -100, *WORDS[3:], -100], "token 3 has the id 7", "move them back by one"),
        ([*WORDS[:7], 99], "token 8 has the id 12 and the label 99", NO_FIT),
        ([*[-100] * 7, 99], "token 8 has the id 12 and the label 99", NO_FIT),
        ([*WORDS[:7], -1], "token 8 has the id 12 and the label -1", NO_FIT),
        (WORDS[:7], "a row has 8 tokens and 7 labels", None),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, found, fix, tmp_path):
    rows = {"input_ids": [WORDS] * 2, "seq_lengths": [[3, 5]] * 2, "labels": [WORDS, labels]}
    refused = run("weigh", parquet(tmp_path / "a.parquet", rows), *READ, "--out", tmp_path / "out")
    assert refused.code == 1
    assert found in refused.err and "row a.parquet:2" in refused.err
    assert fix is None or fix in refused.err


def test_files_with_and_without_the_column_are_refused(tmp_path):
    rows = {"input_ids": [WORDS] * 2, "seq_lengths": [[3, 5]] * 2, "labels": [WORDS] * 2}
    (tmp_path / "in").mkdir()
    parquet(tmp_path / "in" / "a.parquet", rows)
    del rows["labels"]
    parquet(tmp_path / "in" / "b.parquet", rows)
    refused = run("weigh", tmp_path / "in", *READ, "--out", tmp_path / "out")
    assert refused.code == 1
    assert "no column 'labels'" in refused.err
    (tmp_path / "in" / "0.parquet").write_bytes((tmp_path / "in" / "b.parquet").read_bytes())
    refused = run("weigh", tmp_path / "in", *READ, "--out", tmp_path / "out")
    assert refused.code == 2
    assert "a.parquet has one" in refused.err and "0.parquet has none" in refused.err
    nulls = {**rows, "labels": [[None] * 8] * 2}
    refused = run("weigh", parquet(tmp_path / "c.parquet", nulls), *READ, "--out", tmp_path / "out")
    assert refused.code == 1
    assert "column 'labels'" in refused.err
