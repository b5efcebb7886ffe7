"""Windows, segments and rows of the documents table, read back as a plain reader reads them."""

import shutil
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pyarrow.parquet as pq
import pytest
from harness import done
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exactcpt.pipeline.document_rows import find_ids, ids_near, read_rows
from exactcpt.pipeline.shard_set import read_shard_set
from exactcpt.pipeline.storage import Folder
from exactcpt.pipeline.windows import read_segments, read_windows
from exactcpt.schemas.errors import FormatError


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Several shards of several record batches, documents in several parts, some dropped."""
    out = tmp_path_factory.mktemp("windows") / "shards"
    sources = [
        *harness.source("poems", harness.DATA / "poems.jsonl", epochs=0.5),
        *harness.source("proposals", harness.DATA / "proposals.jsonl"),
    ]
    flags = ["--tokenizer", harness.TOKENIZER, "--window=64", "--packing=best_fit", "--quiet"]
    sizes = ["--group-tokens=60k", "--shard-bytes=100k", "--split-bytes=60k"]
    done("prepare", *sources, *flags, *sizes, "--validation-fraction=0.1", "--out", out)
    return out


@pytest.fixture(scope="module")
def rows(made) -> list[dict[str, Any]]:
    return harness.documents(made)


def expected_segments(made: Path, split: str) -> list[tuple[int, int, int, int, int]]:
    found = []
    for number, row in enumerate(harness.windows(made, split)):
        start = 0
        columns = (row["seq_lengths"], row["doc_index"], row["doc_offset"])
        for length, document, offset in zip(*columns, strict=True):
            found.append((number, start, length, document, offset))
            start += length
    return found


@pytest.mark.parametrize("split", ["train", "validation"])
def test_segments(made, split):
    folder = Folder(str(made))
    manifest = read_shard_set(folder)
    assert len(manifest["shards"]["train"]) > 2
    found = []
    for s in read_segments(folder, manifest, split):
        arrays = (s.window, s.start, s.length, s.document, s.offset)
        found += zip(*(array.tolist() for array in arrays), strict=True)
    assert found == expected_segments(made, split)


def test_windows(made):
    folder = Folder(str(made))
    manifest = read_shard_set(folder)
    windows = harness.windows(made)
    wanted = sorted({0, 1, 37, len(windows) // 2, len(windows) - 1})
    found = list(read_windows(folder, manifest, "train", wanted))
    assert [w[0].window for w in found] == wanted
    for number, segments in zip(wanted, found, strict=True):
        row = windows[number]
        for name, column in (("tokens", "input_ids"), ("weights", "loss_weight")):
            values = np.concatenate([getattr(s, name) for s in segments])
            assert values.tolist() == row[column]
        supervised = np.concatenate([s.supervised for s in segments])
        assert supervised.tolist() == [w != 0 for w in row["loss_weight"]]
        assert [s.document for s in segments] == row["doc_index"]
        assert [s.offset for s in segments] == row["doc_offset"]
        assert [len(s.tokens) for s in segments] == row["seq_lengths"]


def test_a_shard_that_is_not_whole(made, tmp_path):
    shards = shutil.copytree(made, tmp_path / "shards")
    folder = Folder(str(shards))
    manifest = read_shard_set(folder)
    path = shards / manifest["shards"]["train"][1]["path"]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FormatError, match="the shard is damaged"):
        list(read_segments(folder, manifest, "train"))
    assert list(read_windows(folder, manifest, "train", [0]))
    path.write_bytes(b"\0" * manifest["shards"]["train"][1]["bytes"])
    with pytest.raises(FormatError, match="the shard cannot be read"):
        list(read_segments(folder, manifest, "train"))
    path.unlink()
    with pytest.raises(FormatError, match="the shard is missing"):
        list(read_segments(folder, manifest, "train"))


def test_fewer_windows_than_the_manifest_says(made):
    folder = Folder(str(made))
    manifest = read_shard_set(folder)
    last = manifest["shards"]["train"][-1]
    last["windows"] += 1
    with pytest.raises(FormatError, match="fewer than the manifest says"):
        list(read_windows(folder, manifest, "train", [manifest["splits"]["train"]["windows"]]))


# The documents table


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.data())
def test_rows(made, rows, data):
    folder = Folder(str(made))
    manifest = read_shard_set(folder)
    wanted = data.draw(st.sets(st.integers(-2, len(rows) + 2), max_size=9))
    found = read_rows(folder, manifest, wanted)
    assert found.keys() == wanted & set(range(len(rows)))
    for number, row in found.items():
        assert vars(row) == {name: rows[number][name] for name in vars(row)}


def test_the_fixture_has_what_these_tests_are_about(made, rows):
    (path,) = (made / "documents").glob("*.parquet")
    assert pq.ParquetFile(path).num_row_groups > 3
    assert {row["drop_reason"] for row in rows} == {None, "mixing"}


def test_ids(made, rows):
    folder = Folder(str(made))
    manifest = read_shard_set(folder)
    for number in (0, 5, len(rows) - 1):
        expected = [row["doc_index"] for row in rows if row["id"] == rows[number]["id"]]
        assert find_ids(folder, manifest, rows[number]["id"], 9) == expected
    assert find_ids(folder, manifest, "nobody", 9) == []


@pytest.mark.parametrize("wanted", ["", "a", "zzz", "5", "P"])
def test_near_ids(made, rows, wanted):
    folder = Folder(str(made))
    ids = [row["id"] for row in rows]
    containing = [x for x in ids if wanted.lower() in x.lower()][:1]
    before = sorted(x for x in ids if x < wanted)[-1:]
    after = sorted(x for x in ids if x > wanted)[:1]
    expected = list(dict.fromkeys([*containing, *before, *after]))
    assert ids_near(folder, read_shard_set(folder), wanted) == expected


def test_a_table_in_another_order(made, tmp_path):
    shards = shutil.copytree(made, tmp_path / "shards")
    (path,) = (shards / "documents").glob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(len(table)))[::-1]), path)
    folder = Folder(str(shards))
    with pytest.raises(FormatError, match="not in the order of doc_index"):
        read_rows(folder, read_shard_set(folder), [0])
    path.write_bytes(b"PAR1")
    with pytest.raises(FormatError, match="the documents table cannot be read"):
        read_rows(folder, read_shard_set(folder), [0])
    path.unlink()
    with pytest.raises(FormatError, match="a file of the documents table is missing"):
        read_rows(folder, read_shard_set(folder), [0])
