"""Windows as Parquet: what a reader that has never met a shard sees in a file."""

import json
from pathlib import Path
from typing import Any

import duckdb
import harness
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade import Corpus, Document, edit_shard, write_shards, write_store
from harness import done

from exactcpt.pipeline.convert import parquet

LENGTHS = [40, 3, 1, 90, 64, 2, 17, 300, 5, 66]
SPLITS = ("train", "validation")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with several shards, padding, and weights above 1."""
    documents = [
        *(Document(n) for n in LENGTHS),
        *(Document(n, split="validation") for n in (30, 70)),
    ]
    corpus = Corpus([("a", documents)], packing="best_fit", windows_per_shard=3)
    folder = tmp_path_factory.mktemp("parquet")
    write_store(folder / "store", corpus)
    write_shards(folder / "shards", corpus, folder / "store")
    return folder / "shards"


@pytest.fixture(scope="module")
def written(made: Path) -> Path:
    out = made.with_name("out")
    done("convert", made, "--to", "parquet", "--out", out)
    return out


def expected(made: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a split, with the bucket of each target counted from where its segment begins."""
    rows = harness.windows(made, split)
    for row in rows:
        buckets: list[int] = []
        for length, document in zip(row["seq_lengths"], row["doc_index"], strict=True):
            contexts = range(length)
            buckets += [-1 if c == 0 or document < 0 else bucket(c) for c in contexts]
        row["context_bucket"] = buckets
    return rows


def bucket(context: int) -> int:
    return 0 if context < 8 else context.bit_length() - 3


def test_each_shard_is_a_file_of_its_name(made: Path, written: Path) -> None:
    shards = [e["path"] for split in SPLITS for e in harness.manifest(made)["shards"][split]]
    assert len(shards) > 2
    assert [*harness.files(written)] == [name.replace(".arrow", ".parquet") for name in shards]


@pytest.mark.parametrize("split", SPLITS)
def test_every_reader_sees_the_windows(made: Path, written: Path, split: str) -> None:
    rows = expected(made, split)
    files = f"{written}/{split}/*.parquet"
    assert pq.read_table(written / split).to_pylist() == rows
    assert pl.read_parquet(files).to_dicts() == rows
    assert duckdb.sql(f"SELECT * FROM '{files}'").to_arrow_table().to_pylist() == rows


def test_the_types_are_plain(written: Path) -> None:
    schema = pq.read_schema(next((written / "train").iterdir()))
    assert {field.name: field.type.value_type for field in schema} == {
        "input_ids": pa.int32(),
        "loss_weight": pa.float32(),
        "context_bucket": pa.int8(),
        "seq_lengths": pa.int32(),
        "doc_index": pa.int64(),
        "doc_offset": pa.int64(),
    }
    assert not any(field.nullable or field.type.value_field.nullable for field in schema)


@pytest.mark.parametrize("split", SPLITS)
def test_a_file_alone_says_what_it_holds(made: Path, written: Path, split: str) -> None:
    path = next((written / split).iterdir())
    told = {key.decode(): value for key, value in pq.read_metadata(path).metadata.items()}
    assert [*json.loads(told["exactcpt.columns"])] == pq.read_schema(path).names
    assert told["exactcpt.window"] == b"64"
    assert told["exactcpt.split"] == split.encode()
    manifest = harness.manifest(made)
    assert told["exactcpt.tokenizer_sha256"].decode() == manifest["tokenizer"]["sha256"]
    weights = {row["bucket"]: row["weight"] for row in json.loads(told["exactcpt.weights"])}
    for row in pq.read_table(path).to_pylist():
        for at, weight in zip(row["context_bucket"], row["loss_weight"], strict=True):
            assert weight == pytest.approx(weights[at] if at >= 0 else 0.0)


def test_row_groups_are_no_larger_than_they_may_be(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_TOKENS", 2 * 64 + 1)
    done("convert", made, "--to", "parquet", "--out", tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.parquet"):
        found = pq.read_metadata(path)
        groups = [found.row_group(i).num_rows for i in range(found.num_row_groups)]
        assert set(groups[:-1]) <= {2}
        assert 1 <= groups[-1] <= 2
        assert found.row_group(0).column(0).has_offset_index
    rows = [r for split in SPLITS for r in pq.read_table(tmp_path / "out" / split).to_pylist()]
    assert rows == [row for split in SPLITS for row in expected(made, split)]


@pytest.mark.parametrize("rows_per_batch", [1, 3, 5])
def test_batches_are_joined_to_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_batch: int
) -> None:
    corpus = Corpus([("a", [Document(64 * 11)])], windows_per_shard=11)
    write_store(tmp_path / "store", corpus)
    write_shards(tmp_path / "shards", corpus, tmp_path / "store")
    name = harness.manifest(tmp_path / "shards")["shards"]["train"][0]["path"]
    edit_shard(tmp_path / "shards", name, lambda columns: None, rows_per_batch=rows_per_batch)
    monkeypatch.setattr(parquet, "ROW_GROUP_TOKENS", 4 * 64)
    done("convert", tmp_path / "shards", "--to", "parquet", "--out", tmp_path / "out")
    (path,) = (tmp_path / "out" / "train").iterdir()
    found = pq.read_metadata(path)
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [4, 4, 3]
    assert pq.read_table(path).to_pylist() == expected(tmp_path / "shards", "train")
