import errno
import gzip
import json
import sys
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
import tokenizers
import xxhash
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from stores import (
    DATA,
    EOS,
    bundled,
    content_hash,
    contents,
    differing,
    parts_of,
    read_store,
    splits_of,
    summaries,
    task_of,
    tokenize_all,
    write_jsonl,
)

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.sources.reading import BadFileError
from exactcpt.pipeline.sources.records import Fields, Strings
from exactcpt.pipeline.tokens import builder, parts
from exactcpt.pipeline.tokens.encoders import shared_encoder
from exactcpt.pipeline.tokens.hashes import content_hashes, hash_prefixes
from exactcpt.pipeline.tokens.parts import write_parts
from exactcpt.pipeline.tokens.store import open_tokens, read_ids, read_index
from exactcpt.schemas.errors import BackendDifferenceError, ExactcptError, FormatError
from exactcpt.schemas.store import index_schema, part_schema

LINES = [
    '{"id": "x", "text": "Once upon a midnight dreary"}',
    "",
    '{"id": "y", "text": ""}',
    '{"id": "broken", "text": "no end}',
    '{"id": "z", "text": "a"}',
    '{"text": "without an id <|endoftext|> and with a special token"}',
    '{"id": "w", "tex": "no such field"}',
    '{"id": "x", "text": "Once upon a midnight dreary"}',
    '{"id": 7, "text": "Ünïcödé 漢字 \\ud83d\\ude00"}',
    '{"id": "u", "text": null}',
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(LINES) + "\n")
    return path


@cache
def library(allow: bool) -> tokenizers.Tokenizer:
    loaded = tokenizers.Tokenizer.from_buffer(bundled().json)
    loaded.encode_special_tokens = not allow
    return loaded


def encode(text: str, allow: bool = False) -> list[int]:
    return library(allow).encode(text, add_special_tokens=False).ids


def expected_of(
    lines: list[str],
    file: str,
    *,
    bos: Sequence[int] = (),
    min_tokens: int = 0,
    allow: bool = False,
) -> tuple[list, list, dict]:
    """One line after the other: (id, tokens, hash), (line, reason), and what was dropped."""
    documents, rejected = [], []
    dropped = {"empty": 0, "short": 0}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            rejected.append((number, "malformed JSON"))
            continue
        if not isinstance(record.get("text"), str):
            reason = "field 'text' is null" if "text" in record else "no field 'text'"
            rejected.append((number, reason))
            continue
        text, ids = record["text"], encode(record["text"], allow)
        if not ids:
            dropped["empty"] += 1
        elif len(ids) < min_tokens:
            dropped["short"] += 1
        else:
            name = str(record.get("id", f"{file}:{number}"))
            documents.append((name, [*bos, *ids, EOS], content_hash(text)))
    return documents, rejected, {reason: n for reason, n in dropped.items() if n}


@pytest.mark.parametrize("backend", ["gigatoken", "tokenizers"])
@pytest.mark.parametrize("options", [{}, {"bos": [5]}, {"min_tokens": 3}, {"allow": True}])
def test_a_store_of_one_file(tmp_path, corpus, backend, options):
    store = tmp_path / "store"
    task = task_of(
        store,
        backend=backend,
        check=backend == "gigatoken",
        bos_id=options.get("bos", [None])[0],
        min_tokens=options.get("min_tokens", 0),
        special_tokens_in_text=options.get("allow", False),
    )
    tokenize_all(splits_of({"a": corpus}), task)
    documents, rejected, dropped = expected_of(LINES, "corpus.jsonl", **options)
    found = read_store(store)
    assert [(d.id, d.tokens, d.content_hash) for d in found] == documents
    assert {(d.part, d.source) for d in found} == {("000000-0000", "a")}
    lines = (store / "rejected" / "000000-0000.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"file": "corpus.jsonl", "unit": "line", "at": at, "reason": reason}
        for at, reason in rejected
    ]
    (summary,) = summaries(store)
    sizes = {
        kind: (store / f"parts/000000-0000{suffix}").stat().st_size
        for kind, suffix in (("file", ".arrow"), ("index", ".index.arrow"))
    }
    assert {kind: summary[kind]["bytes"] for kind in sizes} == sizes
    assert summary["file"]["path"] == "parts/000000-0000.arrow"
    assert summary["documents"] == len(documents)
    assert summary["tokens"] == sum(len(tokens) for _, tokens, _ in documents)
    texts = [json.loads(line).get("text") for line in LINES if line and "no end" not in line]
    assert summary["text_bytes"] == sum(len(text.encode()) for text in texts if text)
    assert summary["dropped"] == dropped
    assert summary["rejected"] == {
        reason: sum(r == reason for _, r in rejected) for reason in sorted({r for _, r in rejected})
    }
    assert len(summary["first_rejected"]) == 3
    assert summary["backend"] == backend
    assert summary["last"] is True
    assert (summary["compared_bytes"] > 0) == (backend == "gigatoken")


def test_the_files_of_a_part(tmp_path, corpus):
    store = tmp_path / "store"
    tokenize_all(splits_of({"a": corpus}), task_of(store))
    part, index = (store / f"parts/000000-0000{s}" for s in (".arrow", ".index.arrow"))
    assert pa.ipc.open_file(part).schema.equals(part_schema("a"), check_metadata=True)
    assert pa.ipc.open_file(index).schema == index_schema()
    found = read_store(store)
    assert read_ids(Folder(str(store)), "000000-0000").to_pylist() == [d.id for d in found]
    read = read_index(index)
    assert read.lengths.tolist() == [len(d.tokens) for d in found]
    assert [h.tobytes() for h in read.hashes] == [d.content_hash for d in found]
    assert hash_prefixes(read.hashes).tolist() == [
        int.from_bytes(d.content_hash[:8], "big") for d in found
    ]
    [values] = open_tokens(part).values
    ends = [*open_tokens(part).starts.tolist(), len(values)]
    assert [values[a:b].tolist() for a, b in pairwise(ends)] == [d.tokens for d in found]


def test_a_part_has_a_record_batch_for_each_batch_of_the_input(tmp_path, monkeypatch):
    monkeypatch.setattr("exactcpt.pipeline.sources.reading.BLOCK_BYTES", 4 << 10)
    lines = [f"line {i} " * 40 for i in range(100)]
    store = tmp_path / "store"
    corpus = write_jsonl(tmp_path / "corpus.jsonl", lines)
    tokenize_all(splits_of({"a": corpus}), task_of(store))
    part = open_tokens(store / "parts/000000-0000.arrow")
    assert len(part.values) > 5
    assert part.run.tolist() == sorted(part.run) and len({*part.run}) == len(part.values)
    found = [
        values[a:b].tolist()
        for number, values in enumerate(part.values)
        for a, b in pairwise([*part.starts[part.run == number].tolist(), len(values)])
    ]
    assert found == [[*encode(line), EOS] for line in lines]
    assert [d.tokens for d in read_store(store)] == found


def test_many_small_files_come_in_few_record_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("exactcpt.pipeline.sources.reading.BLOCK_BYTES", 1000)
    texts = [f"{i}. " * 20 for i in range(100)]
    for i, text in enumerate(texts):
        path = tmp_path / "in" / f"{i:03d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    tokenize_all(splits_of({"a": tmp_path / "in"}), task_of(tmp_path / "store"))
    assert [d.tokens for d in read_store(tmp_path / "store")] == [[*encode(t), EOS] for t in texts]
    batches = open_tokens(tmp_path / "store/parts/000000-0000.arrow").values
    assert len(batches) == pytest.approx(sum(map(len, texts)) / 1000, rel=0.2)


@pytest.mark.parametrize("split_bytes", [1000, 3000, 10_000, 1 << 20])
def test_splits_together_hold_every_document_once(tmp_path, split_bytes):
    store = tmp_path / "store"
    patterns = {"a": DATA / "poems.jsonl", "b": DATA / "jargon.jsonl.gz"}
    split_bytes *= 8
    tokenize_all(splits_of(patterns, split_bytes), task_of(store, split_bytes=split_bytes))
    found = read_store(store)
    with gzip.open(patterns["b"], "rt") as file:
        lines = {"a": patterns["a"].read_text().splitlines(), "b": file.read().splitlines()}
    expected = [
        (source, *document)
        for source, some in lines.items()
        for document in expected_of(some, patterns[source].name)[0]
    ]
    assert [(d.source, d.id, d.tokens, d.content_hash) for d in found] == expected


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    """About 200 KB of text in one compressed file."""
    path = tmp_path / "corpus.jsonl.zst"
    lines = [json.dumps({"id": str(i), "text": f"document {i}. " * 100}) for i in range(150)]
    path.write_bytes(zstandard.compress("\n".join(lines).encode()))
    return path


@pytest.fixture
def pieces(compressed: Path, tmp_path: Path, monkeypatch):
    """The splits and the task of a compressed file that yields several parts."""
    monkeypatch.setattr("exactcpt.pipeline.sources.reading.BLOCK_BYTES", 10_000)
    return splits_of({"a": compressed}, 40_000), task_of(tmp_path / "store", split_bytes=40_000)


def test_a_compressed_file_yields_several_parts(pieces, tmp_path):
    splits, task = pieces
    assert len(splits) == 1
    tokenize_all(splits, task)
    found = summaries(tmp_path / "store")
    assert [s["part"] for s in found] == [f"000000-{i:04d}" for i in range(len(found))]
    assert [s["last"] for s in found] == [False] * (len(found) - 1) + [True]
    assert len(found) > 3
    assert all(40_000 <= s["text_bytes"] <= 60_000 for s in found[:-1])
    assert [d.id for d in read_store(tmp_path / "store")] == [str(i) for i in range(150)]


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_run_that_was_cut_off_goes_on_with_equal_bytes(pieces, tmp_path, kept):
    splits, task = pieces
    tokenize_all(splits, task)
    store = tmp_path / "store"
    whole = contents(store)
    for path in (store / "parts").iterdir():
        if int(path.name[7:11]) >= kept:
            path.unlink()
    if kept:
        (store / f"parts/000000-{kept - 1:04d}.json").unlink()
    tokenize_all(splits, task)
    assert differing(contents(store), whole) == []


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_second_run_writes_nothing(pieces, tmp_path):
    splits, task = pieces
    tokenize_all(splits, task)
    before = times(tmp_path / "store")
    tokenize_all(splits, task)
    assert times(tmp_path / "store") == before


def test_a_finished_split_is_not_even_read(corpus, tmp_path):
    splits, task = splits_of({"a": corpus}), task_of(tmp_path / "store")
    write_parts(splits[0], task, {})
    corpus.unlink()
    write_parts(splits[0], task, {})


def test_parts_of_the_other_backend_do_not_count(pieces, tmp_path):
    """A job that fell back was killed before it had removed them."""
    splits, task = pieces
    tokenize_all(splits, task)
    tokenize_all(splits, task_of(tmp_path / "store", split_bytes=40_000, backend="tokenizers"))
    assert {s["backend"] for s in summaries(tmp_path / "store")} == {"tokenizers"}


def test_a_worker_that_was_left_behind_writes_nothing(pieces, tmp_path):
    """The job has fallen back meanwhile."""
    splits, task = pieces
    store = tmp_path / "store"
    (store / ".job").mkdir(parents=True)
    (store / ".job/backend.json").write_text('{"used": "tokenizers", "fallback": "why"}')
    write_parts(splits[0], task, {})
    assert not (store / "parts").exists()


def test_a_split_without_documents_is_complete_all_the_same(tmp_path):
    store, corpus = tmp_path / "store", tmp_path / "corpus.jsonl"
    corpus.write_text('\n\n{"text": ""}\n')
    tokenize_all(splits_of({"a": corpus}), task_of(store))
    (summary,) = summaries(store)
    assert (summary["documents"], summary["last"], summary["dropped"]) == (0, True, {"empty": 1})
    assert [path.name for path in (store / "parts").iterdir()] == ["000000-0000.json"]
    assert not (store / "rejected").exists()
    assert parts_of(store) == ()


def test_a_million_empty_documents_would_be_fine(tmp_path):
    store, corpus = tmp_path / "store", tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": ""}\n' * 20_000 + '{"id": "a", "text": "a"}\n')
    tokenize_all(splits_of({"a": corpus}), task_of(store))
    assert [d.id for d in read_store(store)] == ["a"]
    assert summaries(store)[0]["dropped"] == {"empty": 20_000}


# documents that are tokens already


def test_documents_that_are_tokens(tmp_path):
    """BOS and EOS are added where they are missing, and count neither as length nor as content."""
    documents = [[7, 8], [5, 7, 8], [7, 8, EOS], [5, EOS], [EOS], [], [9], [5, 9, EOS]]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"ids": ids}) + "\n" for ids in documents))
    fields = Fields(tokens="ids", largest_id=4095)
    store = tmp_path / "store"
    task = task_of(store, fields={"a": fields}, bos_id=5, min_tokens=2)
    tokenize_all(splits_of({"a": corpus}, fields=fields), task)
    found = read_store(store)
    assert [d.tokens for d in found] == [[5, 7, 8, EOS]] * 3
    assert [d.id for d in found] == [f"corpus.jsonl:{i}" for i in (1, 2, 3)]
    (summary,) = summaries(store)
    assert summary["dropped"] == {"empty": 3, "short": 2}
    assert summary["text_bytes"] == summary["compared_bytes"] == 0
    hashes = content_hashes(Strings.of_ids(documents[:3]))
    assert [d.content_hash for d in found] == [h.tobytes() for h in hashes]
    assert len({d.content_hash for d in found}) == 3


def test_an_id_outside_the_vocabulary_is_rejected(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"ids": [4095]}\n{"ids": [4096]}\n{"ids": [-1]}\n')
    fields = Fields(tokens="ids", largest_id=4095)
    store = tmp_path / "store"
    tokenize_all(splits_of({"a": corpus}, fields=fields), task_of(store, fields={"a": fields}))
    assert [d.tokens for d in read_store(store)] == [[4095, EOS]]
    assert summaries(store)[0]["rejected"] == {"field 'ids' has an id outside 0..4095": 2}


# content hashes


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8), st.integers(0, 2))
def test_content_hashes_are_of_the_text(texts, left_out):
    whole = Strings.of_texts([text.encode() for text in ["before"] * left_out + texts])
    found = content_hashes(Strings(whole.offsets[left_out:], whole.data))
    assert [h.tobytes() for h in found] == [content_hash(text) for text in texts]


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=4), max_size=5))
def test_content_hashes_of_tokens_are_of_their_little_endian_bytes(documents):
    found = content_hashes(Strings.of_ids(documents))
    little = [b"".join(i.to_bytes(4, "little") for i in ids) for ids in documents]
    assert [h.tobytes() for h in found] == [xxhash.xxh3_128_digest(data) for data in little]
    assert sys.byteorder == "little"


# the sample that both backends encode


class Recording:
    """The reference; keeps what it was asked to encode."""

    def __init__(self, encoder, wrong: bytes | None = None) -> None:
        self.encoder, self.wrong, self.seen = encoder, wrong, []

    def encode(self, texts: Strings) -> Strings:
        some = [texts[i].tobytes() for i in range(len(texts))]
        self.seen += some
        if self.wrong in some:
            return Strings.of_ids([[1] for _ in some])
        return self.encoder.encode(texts)


@pytest.fixture
def reference(monkeypatch):
    """Takes the place of the reference backend."""
    recording = Recording(None)

    def shared(spec, backend=None):
        encoder = shared_encoder(spec, backend)
        if backend != "tokenizers":
            return encoder
        recording.encoder = encoder
        return recording

    monkeypatch.setattr(parts, "shared_encoder", shared)
    return recording


def test_small_parts_are_compared_too(tmp_path, corpus, reference):
    tokenize_all(splits_of({"a": corpus}), task_of(tmp_path / "store"))
    texts = {
        json.loads(line)["text"] for line in LINES if '"text": "' in line and "end}" not in line
    }
    assert {text.decode() for text in reference.seen} == texts


def test_a_sample_of_every_part_is_compared(pieces, tmp_path, reference):
    splits, task = pieces
    tokenize_all(splits, task)
    found = summaries(tmp_path / "store")
    assert all(0 < s["compared_bytes"] <= 32 << 10 for s in found)
    assert sum(s["compared_bytes"] for s in found) == sum(map(len, reference.seen))


def test_a_difference_in_a_sample_ends_the_part(tmp_path, corpus, reference):
    reference.wrong = b"a"
    with pytest.raises(BackendDifferenceError, match=r"."):
        tokenize_all(splits_of({"a": corpus}), task_of(tmp_path / "store"))
    assert not (tmp_path / "store/parts").exists()


def test_without_a_check_nothing_is_compared(tmp_path, corpus, reference):
    tokenize_all(splits_of({"a": corpus}), task_of(tmp_path / "store", check=False))
    assert reference.seen == []
    assert summaries(tmp_path / "store")[0]["compared_bytes"] == 0


# what goes wrong


def test_a_damaged_file_leaves_no_part_of_its_last_piece(tmp_path, compressed, monkeypatch):
    monkeypatch.setattr("exactcpt.pipeline.sources.reading.BLOCK_BYTES", 10_000)
    data = compressed.read_bytes()
    compressed.write_bytes(data[: len(data) * 2 // 3])
    splits = splits_of({"a": compressed}, 40_000)
    with pytest.raises(BadFileError) as error:
        write_parts(splits[0], task_of(tmp_path / "store", split_bytes=40_000), {})
    assert error.value.where == str(compressed)
    assert not any(s["last"] for s in summaries(tmp_path / "store"))


def test_a_document_may_have_no_more_tokens_than_an_index_can_say(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(builder, "MAX_DOCUMENT_TOKENS", 10)
    with pytest.raises(ExactcptError, match=r"a document has \d+ tokens"):
        tokenize_all(splits_of({"a": corpus}), task_of(tmp_path / "store"))
    assert summaries(tmp_path / "store") == []


@pytest.mark.parametrize("fails_at", range(4))
def test_a_full_disk_leaves_nothing_behind_that_counts(tmp_path, corpus, monkeypatch, fails_at):
    """Whichever of the part's files it is that cannot be written."""
    store = tmp_path / "store"
    create, written = Folder.create, []

    def fail(folder, name):
        written.append(name)
        if len(written) == fails_at + 1:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        return create(folder, name)

    monkeypatch.setattr(Folder, "create", fail)
    with pytest.raises(OSError, match="No space left"):
        write_parts(splits_of({"a": corpus})[0], task_of(store), {})
    monkeypatch.undo()
    assert summaries(store) == []
    assert not list(store.rglob("*.tmp"))
    tokenize_all(splits_of({"a": corpus}), task_of(store))
    assert len(read_store(store)) == 5


def test_a_writer_that_fails_in_the_middle_removes_its_temporary_file(
    tmp_path, corpus, monkeypatch
):
    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr("exactcpt.pipeline.files.growing.GrowingFile.describe", fail)
    with pytest.raises(RuntimeError):
        write_parts(splits_of({"a": corpus})[0], task_of(tmp_path / "store"), {})
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []


def test_the_store_may_be_remote(tmp_path, corpus):
    store = "memory://stores/small"
    tokenize_all(splits_of({"a": corpus}), task_of(store))
    tokenize_all(splits_of({"a": corpus}), task_of(tmp_path / "store"))
    assert [s["documents"] for s in summaries(store)] == [5]
    assert summaries(store) == summaries(tmp_path / "store")


def test_equal_inputs_give_equal_bytes(tmp_path, corpus):
    for name in ("one", "two"):
        tokenize_all(splits_of({"a": corpus}), task_of(tmp_path / name))
    assert differing(contents(tmp_path / "one"), contents(tmp_path / "two")) == []


@pytest.mark.parametrize(
    "spans", [[[]], [[(5, 100_000)]], [[(3, 3)]], [[(4, 6), (2, 3)]], [[(0, 2), (1, 3)]]]
)
def test_spans_that_are_none_of_a_document(tmp_path, spans):
    columns = [pa.array([9], pa.int32()), pa.array([bytes(16)], pa.binary(16)),
               pa.array([0], pa.int32()),
               pa.array([[{"start": a, "stop": b} for a, b in each] for each in spans],
                        index_schema(True).field("supervised").type)]  # fmt: skip
    batch = pa.RecordBatch.from_arrays(columns, schema=index_schema(True))
    with pa.ipc.new_file(str(tmp_path / "index.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(FormatError, match="the supervised spans of a document are none"):
        read_index(tmp_path / "index.arrow")
