import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import bucket_by_search
from stores import EOS, parts_of, read_store, splits_of, task_of, tokenize_all, write_jsonl
from strategies import segments

from exactcpt.pipeline.core.buckets import bucket_count, context_codes
from exactcpt.pipeline.files.arrow import map_batches, map_table
from exactcpt.pipeline.files.storage import Folder, checksum
from exactcpt.pipeline.pack.documents import Documents, PartRef, PlanSettings
from exactcpt.pipeline.pack.documents_table import documents_table, write_documents
from exactcpt.pipeline.pack.plan import Group, GroupMember, plan_group, plan_table
from exactcpt.pipeline.pack.segment_codes import SegmentCodes
from exactcpt.pipeline.pack.shards import (
    Gather,
    ShardTask,
    windows_per_shard,
    write_shard,
)
from exactcpt.pipeline.tokens.store import read_ids, read_index
from exactcpt.schemas import shard as shard_format
from exactcpt.schemas.errors import FormatError

WINDOW = 32
PAD = 77
LISTS = pa.large_list(pa.field("item", pa.int32(), nullable=False))


@pytest.fixture
def store(tmp_path: Path, monkeypatch) -> Path:
    """Two sources, several parts, several record batches per part."""
    monkeypatch.setattr("exactcpt.pipeline.sources.reading.BLOCK_BYTES", 700)
    long, short = ("The sea, the sea. " * n for n in range(30)), (f"{n}!" for n in range(40))
    patterns = {
        "a": write_jsonl(tmp_path / "in" / "long.jsonl", long),
        "b": write_jsonl(tmp_path / "in" / "short.jsonl", short),
    }
    splits = splits_of(patterns, 3000)
    tokenize_all(splits, task_of(tmp_path / "store", split_bytes=3000))
    return tmp_path / "store"


def documents_of(store: Path, copies: int = 1) -> tuple[Group, dict[str, Documents]]:
    parts = parts_of(store)
    chosen = {}
    for part in parts:
        lengths = read_index(store / f"parts/{part.part}.index.arrow").lengths
        chosen[part.part] = Documents(
            index=part.first_document + np.arange(part.documents),
            lengths=lengths,
            validates=lengths % 5 == 0,
            copies=np.full(part.documents, copies, np.int32),
            repeated=np.zeros(part.documents, bool),
        )
    return Group(
        0, tuple(GroupMember(part, copy) for part in parts for copy in range(copies))
    ), chosen


def parts_in(group: Group) -> tuple[PartRef, ...]:
    return tuple(dict.fromkeys(member.part for member in group.members))


def plans_of(store: Path, packing: str = "concat", window: int = WINDOW):
    group, chosen = documents_of(store, copies=2)
    settings = PlanSettings(window=window, packing=packing, validation_fraction=0, seed=3)
    plans = plan_group(group, lambda part: chosen[part.part], settings).splits
    return group, {split: plan_table(plan) for split, plan in plans.items()}


def write(
    out: Path | Folder, store: Path | Folder, group: Group, plan, start: int, stop: int, **changes
):
    name = shard_format.shard_name("train", 0, 1)
    weights = [1.0 + b for b in range(bucket_count(WINDOW))]
    store = store if isinstance(store, Folder) else Folder(str(store))
    arguments = {
        "out": out if isinstance(out, Folder) else Folder(str(out)),
        "weights": weights,
    }
    task = ShardTask(name=name, split="train", group=0, start=start, stop=stop)
    with Gather(store, parts_in(group), WINDOW, PAD) as gather:
        return write_shard(task, plan, gather=gather, **(arguments | changes))


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
@pytest.mark.parametrize("split", shard_format.SPLITS)
@pytest.mark.parametrize("tokens_per_batch", [1, 5 * WINDOW, 1 << 20])
def test_a_shard_has_the_stores_tokens_and_their_codes(
    tmp_path, store, packing, split, tokens_per_batch, monkeypatch
):
    monkeypatch.setattr(shard_format, "TOKENS_PER_BATCH", tokens_per_batch)
    group, plans = plans_of(store, packing)
    plan = plans[split]
    assert len(parts_in(group)) > 3
    start, stop = 2, len(plan) - 1
    written = write(tmp_path, store, group, plan, start, stop)
    path = tmp_path / written["path"]
    assert written == {
        "path": "train/shard-00000-of-00001.arrow",
        "bytes": path.stat().st_size,
        "xxh3_128": checksum(path),
        "windows": stop - start,
    }
    documents = read_store(store)
    shard = pa.ipc.open_file(path)
    rows = shard_format.rows_per_batch(WINDOW)
    sizes = [shard.get_batch(i).num_rows for i in range(shard.num_record_batches)]
    assert sizes[:-1] == [rows] * (len(sizes) - 1)
    assert sum(sizes) == stop - start
    assert shard.schema == shard_format.shard_schema(WINDOW)
    table = shard.read_all()
    table.validate(full=True)
    segments = table.select(["seq_lengths", "doc_index", "doc_offset"])
    assert segments.to_pylist() == plan.slice(start, stop - start).to_pylist()
    codes = [
        code
        for chunk in table["loss_weight"].chunks
        for code in np.asarray(chunk.flatten().indices)
    ]
    for i, row in enumerate(table.to_pylist()):
        tokens, expected = [], []
        for document, offset, length in zip(
            row["doc_index"], row["doc_offset"], row["seq_lengths"], strict=True
        ):
            if document == shard_format.PADDING:
                tokens += [PAD] * length
                expected += [0] * length
            else:
                tokens += documents[document].tokens[offset : offset + length]
                expected += [0, *(bucket_by_search(c) + 1 for c in range(1, length))]
        assert row["input_ids"] == tokens
        assert codes[i * WINDOW : (i + 1) * WINDOW] == expected
        assert row["loss_weight"] == [float(code) for code in expected]


@given(segments(), st.randoms(use_true_random=False))
def test_codes_of_segments_end_to_end(drawn, random):
    lengths, window = drawn
    codes = context_codes(window).tolist()
    is_padding = np.array([random.random() < 0.3 for _ in lengths], bool)
    found = SegmentCodes(window).of(lengths, is_padding)
    assert found.tolist() == [
        0 if padding else code
        for length, padding in zip(lengths.tolist(), is_padding, strict=True)
        for code in codes[:length]
    ]
    assert found.dtype == np.uint8


def test_the_dictionary_has_every_bucket(tmp_path, store):
    group, plans = plans_of(store)
    written = write(tmp_path, store, group, plans["train"], 0, 1, weights=[1.0, 1.25, 3.5])
    shard = pa.ipc.open_file(tmp_path / written["path"])
    column = shard.get_batch(0)["loss_weight"].flatten()
    assert column.dictionary.to_pylist() == [0.0, 1.0, 1.25, 3.5]
    assert column.dictionary.type == pa.float32()


def test_shards_together_are_the_plan(tmp_path, store):
    """Wherever it is cut."""
    group, plans = plans_of(store)
    plan = plans["train"]
    whole = write(tmp_path / "whole", store, group, plan, 0, len(plan))
    whole = map_table(tmp_path / "whole" / whole["path"]).to_pylist()
    cuts = [0, 1, 4, len(plan)]
    for start, stop in pairwise(cuts):
        out = tmp_path / str(start)
        piece = write(out, store, group, plan, start, stop)
        assert map_table(out / piece["path"]).to_pylist() == whole[start:stop]


def test_a_shard_of_a_remote_store_in_a_remote_folder(tmp_path, store):
    group, plans = plans_of(store)
    plan = plans["train"]
    here = write(tmp_path, store, group, plan, 0, 9)
    remote = Folder(f"memory:/{tmp_path}/store")
    for part in parts_in(group):
        name = f"parts/{part.part}.arrow"
        remote.write(name, (store / name).read_bytes())
    out = Folder(f"memory:/{tmp_path}/out")
    assert write(out, remote, group, plan, 0, 9) == here
    assert out.read(here["path"]) == (tmp_path / here["path"]).read_bytes()


@pytest.mark.parametrize(
    ("spoilt", "expected"),
    [
        (lambda batch: batch.slice(1), r"\d+ documents, as the manifest says, not \d+"),
        (
            lambda batch: batch.set_column(1, "tokens", pa.array([[1]] * len(batch), LISTS)),
            "documents as long as their index says",
        ),
        (lambda batch: batch.drop_columns(["tokens"]), "a part; reading it"),
    ],
)
def test_a_part_that_contradicts_its_index(tmp_path, store, spoilt, expected):
    """Another shard may compare the part with the manifest only later."""
    group, plans = plans_of(store)
    path = store / parts_in(group)[0].file.path
    batches = [spoilt(batch) for batch in map_batches(path)]
    with pa.ipc.new_file(tmp_path / "spoilt", batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    (tmp_path / "spoilt").replace(path)
    with pytest.raises(FormatError, match="is damaged") as caught:
        write(tmp_path, store, group, plans["train"], 0, len(plans["train"]))
    assert re.match(expected, caught.value.expected)


def test_a_writer_that_fails_leaves_nothing(tmp_path, store):
    group, plans = plans_of(store)
    with pytest.raises(FileNotFoundError):
        write(tmp_path, tmp_path / "no store", group, plans["train"], 0, 9)
    assert not list((tmp_path / "train").iterdir())


@pytest.mark.parametrize(
    ("shard_bytes", "window", "expected"),
    [(256 << 20, 8192, 6553), (5 * 8192, 8192, 1), (5 * 8192 * 2 - 1, 8192, 1), (1, 8192, 1)],
)
def test_windows_per_shard(shard_bytes, window, expected):
    assert windows_per_shard(shard_bytes, window) == expected


def test_the_documents_table(tmp_path, store):
    """All of the store's documents, in its order, and what became of them."""
    stored = read_store(store)
    group, chosen = documents_of(store)
    fates = np.array([0, 1, 2, 0, 3])
    repeated = np.array([True, False, False, False, False])

    def tables():
        for part in parts_in(group):
            mine = chosen[part.part]
            decided = Documents(
                index=mine.index,
                lengths=mine.lengths,
                validates=mine.validates,
                copies=fates[mine.index % 5].astype(np.int32),
                repeated=repeated[mine.index % 5],
            )
            index = read_index(store / f"parts/{part.part}.index.arrow")
            ids = read_ids(Folder(str(store)), part.part)
            yield documents_table(part.source, part.part, ids, index.hashes, decided)

    written = write_documents(Folder(str(tmp_path)), "documents/part-00000.parquet", tables())
    path = tmp_path / written["path"]
    assert written == {
        "path": "documents/part-00000.parquet",
        "bytes": path.stat().st_size,
        "xxh3_128": checksum(path),
        "rows": len(stored),
    }
    table = pq.ParquetFile(path).read()
    assert table.schema.remove_metadata() == shard_format.documents_schema()
    assert pq.ParquetFile(path).num_row_groups == len(parts_in(group))
    reasons = ["duplicate", None, None, "mixing", None]
    firsts = {part.part: part.first_document for part in parts_in(group)}
    assert table.to_pylist() == [
        {
            "doc_index": i,
            "id": document.id,
            "source": document.source,
            "part": document.part,
            "row": i - firsts[document.part],
            "n_tokens": len(document.tokens),
            "content_hash": document.content_hash,
            "split": "validation" if len(document.tokens) % 5 == 0 else "train",
            "copies": int(fates[i % 5]),
            "drop_reason": reasons[i % 5],
        }
        for i, document in enumerate(stored)
    ]
    assert all(document.tokens[-1] == EOS for document in stored)
