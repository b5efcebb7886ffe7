"""Windows, segments and rows of the documents table, read back as a plain reader reads them."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade import edit_manifest, refresh_checksums
from harness import done, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.shard_set.documents import find_ids, ids_near, read_rows
from exactcpt.pipeline.shard_set.recognize import open_shard_set
from exactcpt.pipeline.shard_set.windows import read_segments, read_windows
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
    manifest = open_shard_set(folder)
    assert len(manifest["shards"]["train"]) > 2
    found = []
    for s in read_segments(folder, manifest, split):
        arrays = (s.window, s.start, s.length, s.document, s.offset)
        found += zip(*(array.tolist() for array in arrays), strict=True)
    assert found == expected_segments(made, split)


def test_windows(made):
    folder = Folder(str(made))
    manifest = open_shard_set(folder)
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
    manifest = open_shard_set(folder)
    path = shards / manifest["shards"]["train"][1]["path"]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FormatError, match="a file of the shard set is damaged"):
        list(read_segments(folder, manifest, "train"))
    assert list(read_windows(folder, manifest, "train", [0]))
    path.write_bytes(b"\0" * manifest["shards"]["train"][1]["bytes"])
    with pytest.raises(FormatError, match="a file of the shard set cannot be read"):
        list(read_segments(folder, manifest, "train"))
    path.unlink()
    with pytest.raises(FormatError, match="a file of the shard set is missing"):
        list(read_segments(folder, manifest, "train"))


def test_fewer_windows_than_the_manifest_says(made, tmp_path):
    shards = Path(shutil.copytree(made, tmp_path / "shards"))
    folder = Folder(str(shards))
    edit_manifest(shards, one_window_later)
    manifest = open_shard_set(folder)
    with pytest.raises(FormatError, match="but the manifest says"):
        list(read_windows(folder, manifest, "train", [0]))


def one_window_later(manifest: dict[str, Any]) -> None:
    """The first shard is said to have one less, the last one more."""
    manifest["shards"]["train"][0]["windows"] -= 1
    manifest["shards"]["train"][-1]["windows"] += 1


def patched(made: Path, to: Path, column: str, buffer: int, at: int, value: int) -> Path:
    """A copy of the set in which one value of a buffer of the first shard is another."""
    shards = Path(shutil.copytree(made, to))
    path = first_shard(shards)
    with pa.memory_map(str(path)) as view:
        batch: Any = pa.ipc.open_file(view).get_batch(0)
        buffers = batch.column(column).buffers()
        where = buffers[buffer].address - view.read_buffer(1).address
        if column in ("doc_index", "doc_offset") and buffer == VALUES:
            size = 8
        else:
            size = 1 if column == "loss_weight" else 4
        count = batch.num_rows + 1
    data = bytearray(path.read_bytes())
    begin = where + size * (at if at >= 0 else count + at)
    assert data[begin : begin + size] != value.to_bytes(size, "little", signed=value < 0)
    data[begin : begin + size] = value.to_bytes(size, "little", signed=value < 0)
    path.write_bytes(data)
    return shards


def first_shard(shards: Path) -> Path:
    return shards / harness.manifest(shards)["shards"]["train"][0]["path"]


OFFSETS, VALUES = 1, 3
NO_SEGMENTS = {
    "an offset below 0": ("seq_lengths", OFFSETS, 1, -7, "Offset invariant failure"),
    "offsets that fall": ("seq_lengths", OFFSETS, 2, 0, "Offset invariant failure"),
    "an offset past the values": ("seq_lengths", OFFSETS, -1, 1 << 30, "larger than values array"),
    "a documents' offset past them": (
        "doc_index",
        OFFSETS,
        -1,
        1 << 30,
        "larger than values array",
    ),
    "a length above the window": (
        "seq_lengths",
        VALUES,
        0,
        1000,
        "segment that is not 1 to 64 tokens long",
    ),
    "a length below 1": (
        "seq_lengths",
        VALUES,
        0,
        -5,
        "window 0 has a segment that is not 1 to 64",
    ),
    "another length": (
        "seq_lengths",
        VALUES,
        0,
        1,
        "window 0 has segments that do not add up to 64 tokens",
    ),
    "fewer documents": ("doc_index", OFFSETS, 1, 0, "window 0 has different numbers of entries in"),
    "fewer places": ("doc_offset", OFFSETS, 1, 0, "window 0 has different numbers of entries in"),
}


@pytest.mark.parametrize("name", NO_SEGMENTS)
def test_segments_that_are_none(made, rows, tmp_path, name):
    column, buffer, at, value, reason = NO_SEGMENTS[name]
    shards = patched(made, tmp_path / "shards", column, buffer, at, value)
    document = next(i for i, row in enumerate(rows) if row["split"] == "train" and row["copies"])
    last = harness.manifest(shards)["shards"]["train"][0]["windows"] - 1
    number = last if at == -1 else max(0, at - 1)
    for command in (
        ["inspect", shards],
        ["show", shards, "--heaviest", 3],
        ["show", shards, "--doc", f"#{document}"],
        ["show", shards, "--window", number],
    ):
        outcome = run(*command)
        assert outcome.code == 1
        assert outcome.err.startswith("error: a file of the shard set cannot be read: ")
        assert f"  where:    {first_shard(shards)}\n" in outcome.err
        assert outcome.err.endswith(
            "  fix:      run `exactcpt verify` on the shard set to see all that is wrong\n"
        )
        if command[0] == "inspect":
            assert reason in outcome.err


def test_a_code_without_a_weight(made, tmp_path):
    shards = patched(made, tmp_path / "shards", "loss_weight", 2, 3, 200)
    outcome = run("show", shards, "--window", 0)
    assert outcome.code == 1
    assert outcome.err.startswith("error: a file of the shard set cannot be read: ")


@pytest.mark.parametrize("column", ["input_ids", "loss_weight"])
def test_a_buffer_shorter_than_its_column(made, tmp_path, column):
    """What the metadata says of it is changed: where it is in the batch, and how long."""
    shards = shutil.copytree(made, tmp_path / "shards")
    path = first_shard(shards)
    tokens = harness.manifest(shards)["shards"]["train"][0]["windows"] * 64
    start, size = {"input_ids": (0, 4 * tokens), "loss_weight": (4 * tokens, tokens)}[column]
    data, said = path.read_bytes(), struct.pack("<qq", start, size)
    assert said in data
    path.write_bytes(data.replace(said, struct.pack("<qq", start, 8), 1))
    outcome = run("show", shards, "--window", 0)
    assert outcome.code == 1
    assert outcome.err.startswith("error: a file of the shard set cannot be read: ")
    assert "too small" in outcome.err


def test_a_segment_longer_than_any_document(made, tmp_path):
    shards = shutil.copytree(made, tmp_path / "shards")
    (path,) = (shards / "documents").glob("*.parquet")
    table = pq.read_table(path)
    at = table.schema.get_field_index("n_tokens")
    short = pa.array(np.full(len(table), 7, np.int32))
    pq.write_table(table.set_column(at, table.schema.field("n_tokens"), short), path)
    changed = harness.manifest(shards)
    changed["documents"][0]["bytes"] = path.stat().st_size
    (shards / "manifest.json").write_text(json.dumps(changed))
    outcome = run("inspect", shards)
    assert outcome.code == 1
    assert "the shards have a segment of 64 tokens" in outcome.err
    assert "expected: at most 7, the length of the longest document" in outcome.err


# The documents table


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.data())
def test_rows(made, rows, data):
    folder = Folder(str(made))
    manifest = open_shard_set(folder)
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
    manifest = open_shard_set(folder)
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
    assert ids_near(folder, open_shard_set(folder), wanted) == expected


def test_a_table_in_another_order(made, tmp_path):
    shards = shutil.copytree(made, tmp_path / "shards")
    (path,) = (shards / "documents").glob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(len(table)))[::-1]), path)
    folder = Folder(str(shards))
    with pytest.raises(FormatError, match="a file of the shard set is damaged"):
        read_rows(folder, open_shard_set(folder), [0])
    refresh_checksums(shards)
    with pytest.raises(FormatError, match="not sorted by doc_index"):
        read_rows(folder, open_shard_set(folder), [0])
    path.write_bytes(b"PAR1")
    refresh_checksums(shards)
    with pytest.raises(FormatError, match="a file of the shard set cannot be read"):
        read_rows(folder, open_shard_set(folder), [0])
    path.unlink()
    with pytest.raises(FormatError, match="a file of the shard set is missing"):
        read_rows(folder, open_shard_set(folder), [0])
