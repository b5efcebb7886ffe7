import json
import shutil
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from oracles import histogram_by_counting
from stores import (
    contents,
    differing,
    part_of_nothing,
    parts_of,
    splits_of,
    task_of,
    tokenize_all,
    write_jsonl,
)

from exactcpt.pipeline.core.parameters import Exact
from exactcpt.pipeline.core.selection import Quota
from exactcpt.pipeline.files.arrow import write_batches
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.progress import Count
from exactcpt.pipeline.pack import units as pack_units
from exactcpt.pipeline.pack.documents import PartRef, PlanSettings
from exactcpt.pipeline.pack.plan import Group, GroupMember
from exactcpt.pipeline.pack.progress import TokensDone
from exactcpt.pipeline.pack.selection_units import plain_quotas
from exactcpt.pipeline.pack.task import PackTask
from exactcpt.pipeline.pack.units import (
    DocumentsTask,
    documents_tasks,
    fill_files,
    fill_shards,
    group,
    list_files,
    number_shards,
    plan,
    plan_name,
    train_histogram,
    work_of,
    write_weights,
)

WINDOW = 16


@pytest.fixture
def task(tmp_path: Path) -> PackTask:
    """Two sources in several parts."""
    patterns = {
        "a": write_jsonl(tmp_path / "in/a.jsonl", ("word " * n for n in range(60))),
        "b": write_jsonl(tmp_path / "in/b.jsonl", (f"{n}?" for n in range(60))),
    }
    tokenize_all(splits_of(patterns, 3000), task_of(tmp_path / "store"))
    return PackTask(
        store=str(tmp_path / "store"),
        out=str(tmp_path / "out"),
        parts=parts_of(tmp_path / "store"),
        settings=PlanSettings(
            window=WINDOW, packing="concat", validation_fraction=Fraction(1, 10), seed=1
        ),
        exact=Exact(tau=4),
        mixing={},
        token_budget=None,
        dedup=False,
        group_tokens=600,
        shard_bytes=5 * WINDOW * 20,
        pad_id=0,
    )


def pack_all(task: PackTask) -> list[dict]:
    """Everything the graph of packing does, one unit after the other."""
    quotas = plain_quotas(task)
    plans = [plan(one, task, {}, quotas) for one in group(task, quotas)]
    table = write_weights(
        sum(train_histogram(one, WINDOW) for one in plans), WINDOW, task.exact, task.out
    )
    for files in list_files(plans, task, None):
        fill_files(files, task, table, {}, quotas)
    return plans


def test_units_may_run_twice(task, tmp_path):
    pack_all(task)
    once = contents(tmp_path / "out")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.arrow")}
    pack_all(task)
    assert differing(contents(tmp_path / "out"), once) == []
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert len(times) > 8


@pytest.mark.parametrize(
    "lost", ["train/shard-00001-*", "documents/*", ".job/train/*", ".job/plans/*", ".job"]
)
def test_what_is_missing_is_written_again_with_equal_bytes(task, tmp_path, lost):
    """A summary says that its file is there; so what goes together is lost together."""
    out = tmp_path / "out"
    pack_all(task)
    once = contents(out)
    for path in [*out.glob(lost), *out.glob(f".job/{lost}"), *out.glob(f"{lost}/**/*")]:
        if path.is_file():
            path.unlink()
    assert differing(contents(out), once) != []
    pack_all(task)
    assert differing(contents(out), once) == []


def test_a_plan_s_summary_is_the_same_when_it_is_read_again(task):
    fresh, kept = pack_all(task), pack_all(task)
    assert fresh == kept
    assert json.loads(json.dumps(fresh)) == fresh


def test_a_plan_s_summary_adds_up(task, tmp_path):
    plans = pack_all(task)
    tokens = sum(part.tokens for part in task.parts)
    mine = [one["splits"][split] for one in plans for split in ("train", "validation")]
    assert sum(one["tokens"] for one in mine) == tokens
    for one in plans:
        for split, counts in one["splits"].items():
            table = pa.ipc.open_file(tmp_path / "out" / plan_name(one["group"], split)).read_all()
            rows = table.to_pylist()
            segments = [
                n
                for row in rows
                for d, n in zip(row["doc_index"], row["seq_lengths"], strict=True)
                if d != -1
            ]
            assert counts["windows"] == len(rows)
            assert counts["segments"] == len(segments)
            assert counts["tokens"] == sum(segments)
            assert counts["padding"] == len(rows) * WINDOW - sum(segments)
            histograms = [share["histogram"] for share in counts["sources"].values()]
            expected = histogram_by_counting(segments, WINDOW)
            assert [sum(column) for column in zip(*histograms, strict=True)] == expected
            if split == "train":
                assert train_histogram(one, WINDOW).tolist() == expected
                assert train_histogram(one, WINDOW).dtype == np.int64


def test_what_was_dropped_is_counted_by_reason(task):
    everything = Group(0, tuple(GroupMember(part, 0) for part in task.parts))
    quotas = {"a": Quota(Fraction(0)), "b": Quota(Fraction(1))}
    first = task.parts[0].first_document
    name = "repeated.arrow"
    batch = pa.record_batch([pa.array([first, first + 1])], names=["doc_index"])
    write_batches(Folder(task.out), name, batch.schema, [batch])
    summary = plan(everything, task, {task.parts[0].part: name}, quotas)
    validating = summary["splits"]["validation"]["sources"]
    packed = summary["splits"]["train"]["sources"]
    documents = {
        source: sum(part.documents for part in task.parts if part.source == source)
        for source in "ab"
    }
    assert summary["dropped"]["a"]["duplicate"] == 2
    assert packed["a"]["documents"] == 0
    left = validating["a"]["documents"] + summary["dropped"]["a"]["mixing"] + 2
    assert left == documents["a"]
    assert summary["dropped"]["b"] == {"duplicate": 0, "mixing": 0}
    assert packed["b"]["documents"] + validating["b"]["documents"] == documents["b"]


def test_groups_are_counted_and_copies_told(task, tmp_path):
    quotas = {"a": Quota(Fraction(5, 2)), "b": Quota(Fraction(0)), "empty": Quota(Fraction(3))}
    groups = group(task, quotas)
    written = json.loads((tmp_path / "out/.job/groups.json").read_text())
    assert written == {
        "groups": len(groups),
        "copies": {"a": 2.5, "b": 0.0, "empty": 3.0},
    }
    copies = Counter(member.part.source for one in groups for member in one.members)
    parts = Counter(part.source for part in task.parts)
    assert copies == {"a": 3 * parts["a"], "b": parts["b"]}


def test_a_document_is_dropped_once_however_many_copies_its_part_has(task):
    quotas = {"a": Quota(Fraction(7, 2), (0, 0)), "b": Quota(Fraction(0))}
    plans = [plan(one, task, {}, quotas) for one in group(task, quotas)]
    dropped = Counter()
    for one in plans:
        for source, counts in one["dropped"].items():
            dropped[source] += counts["mixing"]
    held_out = sum(
        one["splits"]["validation"]["sources"].get("b", {"documents": 0})["documents"]
        for one in plans
    )
    assert dropped == {
        "a": 0,
        "b": sum(p.documents for p in task.parts if p.source == "b") - held_out,
    }


def test_weights_are_written_for_the_manifest(task, tmp_path):
    table = write_weights(np.array([100, 10], np.int64), WINDOW, task.exact, task.out)
    written = json.loads((tmp_path / "out/.job/weights.json").read_text())
    assert written["budget"] == table.budget
    assert [row["weight"] for row in written["table"]] == list(table.weights)
    assert [row["targets"] for row in written["table"]] == [100, 10]


def summary_of(group: int, train: int, validation: int) -> dict:
    splits = {"train": {"windows": train}, "validation": {"windows": validation}}
    return {"group": group, "splits": splits}


def test_shards_are_numbered_by_group_and_window(task):
    """Twenty windows per shard, no shard of two groups; plans come in any order."""
    summaries = [summary_of(1, 20, 0), summary_of(2, 0, 5), summary_of(0, 45, 3)]
    shards = [shard for (shard,) in number_shards(summaries, task, None)]
    assert [(s.name, s.split, s.group, s.start, s.stop) for s in shards] == [
        ("train/shard-00000-of-00004.arrow", "train", 0, 0, 20),
        ("train/shard-00001-of-00004.arrow", "train", 0, 20, 40),
        ("train/shard-00002-of-00004.arrow", "train", 0, 40, 45),
        ("train/shard-00003-of-00004.arrow", "train", 1, 0, 20),
        ("validation/shard-00000-of-00002.arrow", "validation", 0, 0, 3),
        ("validation/shard-00001-of-00002.arrow", "validation", 2, 0, 5),
    ]


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        (None, ["0 1 2 v0", "3 v1"]),  # an engine: one worker for a group
        (1, ["0 1 2 v0", "3 v1"]),
        (4, ["0 2", "1 v0", "3", "v1"]),  # fewer groups than workers: they share
        (9, ["0", "1", "2", "v0", "3", "v1"]),
    ],
)
def test_shards_of_a_group_are_written_together_if_the_store_is_remote(task, workers, expected):
    remote = replace(task, store="memory://nowhere")
    found = number_shards([summary_of(0, 60, 1), summary_of(1, 20, 1)], remote, workers)
    names = [" ".join(f"{s.split[0]}{int(s.name[-20:-15])}" for s in some) for some in found]
    assert [each.replace("t", "") for each in names] == expected


@pytest.mark.parametrize(("epochs", "groups"), [(1, 1), (1, 3), (2, 2)])
def test_a_remote_store_is_hardly_read_more_than_is_written(tmp_path, monkeypatch, epochs, groups):
    """However many shards a group has, and though each needs documents of all its parts."""
    texts = ("the sea, the sea " * (20 + n % 90) for n in range(200))
    patterns = {"a": write_jsonl(tmp_path / "in/a.jsonl", texts)}
    tokenize_all(splits_of(patterns, 20_000), task_of(tmp_path / "store"))
    remote = Folder(f"memory:/{tmp_path}/store")
    for name, data in contents(tmp_path / "store").items():
        remote.write(name, data)
    parts = parts_of(tmp_path / "store")
    tokens = epochs * sum(part.tokens for part in parts)
    task = PackTask(
        store=remote.url,
        out=str(tmp_path / "out"),
        parts=parts,
        settings=PlanSettings(
            window=64, packing="concat", validation_fraction=Fraction(1, 10), seed=1
        ),
        exact=Exact(tau=16),
        mixing={},
        token_budget=None,
        dedup=False,
        group_tokens=tokens // groups + max(part.tokens for part in parts),
        shard_bytes=5 * tokens // groups // 10,
        pad_id=0,
    )
    quotas = {"a": Quota(Fraction(epochs))}
    plans = [plan(one, task, {}, quotas) for one in group(task, quotas)]
    table = write_weights(np.ones(4, np.int64), 64, task.exact, task.out)
    read, cat_file = Counter(), MemoryFileSystem.cat_file

    def counted(fs, path, **where):
        data = cat_file(fs, path, **where)
        read[path] += len(data)
        return data

    monkeypatch.setattr(MemoryFileSystem, "cat_file", counted)
    for shards in number_shards(plans, task, None):
        fill_shards(shards, task, table)
    written = [path.stat().st_size for path in (tmp_path / "out").glob("*/*.arrow")]
    assert len(written) >= 10 * groups
    assert {path.rpartition("/")[2] for path in read} == {f"{part.part}.arrow" for part in parts}
    assert read.total() / sum(written) <= 1.5
    local = replace(task, store=str(tmp_path / "store"), out=str(tmp_path / "local"))
    shutil.copytree(tmp_path / "out/.job/plans", tmp_path / "local/.job/plans")
    for shards in number_shards(plans, local, None):
        fill_shards(shards, local, table)
    assert differing(contents(tmp_path / "local"), contents(tmp_path / "out")) == [
        ".job/groups.json", ".job/weights.json"
    ]  # fmt: skip


def test_shards_and_the_files_of_the_documents_table_are_dealt_by_their_work(task):
    full, other, documents, part = list_files([summary_of(0, 40, 1)], task, None)
    assert [documents] == documents_tasks(task.parts)
    windows = [work_of(each, WINDOW) // WINDOW for each in (full, other, part)]
    assert windows == [20, 20, 1]
    rows = sum(part.documents for part in task.parts)
    assert work_of(documents, WINDOW) == 50 * rows


def test_the_files_of_the_documents_table_lie_evenly_among_the_shards(task, monkeypatch):
    monkeypatch.setattr(pack_units, "DOCUMENTS_PER_FILE", 1)
    task = replace(task, parts=parts_with(1, 1, 1))
    files = list_files([summary_of(0, 20 * 12, 0)], task, None)
    kinds = "".join("d" if isinstance(each, DocumentsTask) else "s" for each in files)
    assert kinds == "ssdssssdssssdss"
    assert [each for each in files if not isinstance(each, DocumentsTask)] == number_shards(
        [summary_of(0, 20 * 12, 0)], task, None
    )


def test_no_windows_no_shards(task):
    assert number_shards([summary_of(0, 0, 0)], task, 2) == []
    assert number_shards([], task, 2) == []


def parts_with(*documents: int) -> list[PartRef]:
    return [
        part_of_nothing(part=f"{i}", source="a", first_document=0, documents=n, tokens=n)
        for i, n in enumerate(documents)
    ]


def test_files_of_the_documents_table_hold_consecutive_parts(monkeypatch):
    monkeypatch.setattr(pack_units, "DOCUMENTS_PER_FILE", 20)
    tasks = documents_tasks(parts_with(5, 15, 1, 30, 20, 1))
    assert [(task.name, task.rows) for task in tasks] == [
        ("documents/part-00000.parquet", 20),
        ("documents/part-00001.parquet", 1),
        ("documents/part-00002.parquet", 30),
        ("documents/part-00003.parquet", 20),
        ("documents/part-00004.parquet", 1),
    ]
    assert documents_tasks([]) == []


def test_how_far_packing_is(task):
    """Until every group is planned, the total is the store's tokens; then it is exact."""
    done = TokensDone(Folder(task.out), task)
    stored = sum(part.tokens for part in task.parts)
    assert done() == Count(0, stored, about=True)
    pack_all(task)
    total = sum(read["windows"] for read in shard_summaries(task)) * task.settings.window
    assert done() == Count(total, total)
    assert total > stored


def shard_summaries(task: PackTask) -> list[dict]:
    job = Path(task.out) / ".job"
    names = [name for split in ("train", "validation") for name in job.glob(f"{split}/*.json")]
    return [json.loads(name.read_bytes()) for name in names]
