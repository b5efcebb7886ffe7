import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from exactcpt.pipeline.sources import reading as sources
from exactcpt.pipeline.sources.listing import Source, find_files
from exactcpt.pipeline.sources.reading import BadFileError
from exactcpt.pipeline.sources.records import Fields, Strings
from exactcpt.pipeline.tokens import probe
from exactcpt.pipeline.tokens.encoders import Encoder, make_encoder
from exactcpt.pipeline.tokens.probe import Estimate, Probe, estimate, look_at
from exactcpt.schemas.errors import ExactcptError

TEXT = Fields()
TOKENS = Fields(tokens="tokens")

BUNDLED = {
    "novels.jsonl.zst": 127_451,
    "proposals.jsonl": 100_104,
    "jargon.jsonl.gz": 72_036,
    "poems.jsonl": 84_150,
}
"""Tokens, as tests/data/README.md has them."""


class Bytes:
    """A tokenizer of bytes."""

    def encode(self, texts: Strings) -> Strings:
        return Strings(texts.offsets, texts.data.astype(np.int32))


@pytest.fixture(scope="module")
def encoder(data: Path) -> Encoder:
    return make_encoder("tokenizers", (data / "tokenizer.json").read_bytes(), False)


def look(pattern: Path, fields: Fields = TEXT, *, skip_bad_files: bool = False) -> Probe:
    files = find_files(Source(name="books", pattern=str(pattern), fields=fields)).files
    return look_at("books", files, fields, skip_bad_files=skip_bad_files)


def tokens_of(pattern: Path, encoder: Encoder, fields: Fields = TEXT) -> int:
    files = find_files(Source(name="books", pattern=str(pattern), fields=fields)).files
    seen = look_at("books", files, fields)
    found = estimate({"books": seen}, {"books": files}, encoder, {"books": fields}, {}, None)
    tokens = found.tokens["books"]
    assert tokens is not None
    return tokens


def texts(seen: Probe) -> list[bytes]:
    return [seen.documents[i].tobytes() for i in range(len(seen.documents))]


def records(*texts: str, **more: object) -> bytes:
    return b"".join(json.dumps({"text": text, **more}).encode() + b"\n" for text in texts)


class TestEstimate:
    @pytest.mark.parametrize("name", BUNDLED)
    def test_the_bundled_corpus(self, data: Path, encoder: Encoder, name: str) -> None:
        assert BUNDLED[name] / 1.3 < tokens_of(data / name, encoder) < BUNDLED[name] * 1.3

    @pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
    @pytest.mark.parametrize("escaped", [True, False])
    def test_what_surrounds_the_text_does_not_count(
        self, tmp_path: Path, suffix: str, escaped: bool
    ) -> None:
        text, notes = "Über " * 20, "noise " * 100
        lines = [json.dumps({"n": notes, "text": text}, ensure_ascii=escaped) for _ in range(500)]
        content = "\n".join(lines).encode()
        compress = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
        (tmp_path / f"a.jsonl{suffix}").write_bytes(compress(content))
        truth = 500 * len(text.encode())
        assert truth / 1.1 < tokens_of(tmp_path, Bytes()) < truth * 1.1

    def test_columns(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        documents = [rng.bytes(50).hex() for _ in range(2000)]
        table = pa.table({"other": [rng.bytes(400) for _ in documents], "text": documents})
        pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
        with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as sink:
            sink.write_table(table, max_chunksize=500)
        for name in ("a.parquet", "a.arrow"):
            assert 180_000 < tokens_of(tmp_path / name, Bytes()) < 220_000

    def test_token_ids_are_counted(self, tmp_path: Path) -> None:
        documents = [[*range(10_000 + n, 10_100 + n)] for n in range(200)]
        table = pa.table({"tokens": documents})
        pq.write_table(table, tmp_path / "a.parquet")
        with pa.ipc.new_stream(tmp_path / "b.arrow", table.schema) as sink:
            sink.write_table(table)
        lines = [json.dumps({"tokens": ids}).encode() for ids in documents]
        (tmp_path / "c.jsonl").write_bytes(b"\n".join(lines))
        (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines)))
        for name in ("a.parquet", "b.arrow", "c.jsonl", "d.jsonl.gz"):
            assert 18_000 < tokens_of(tmp_path / name, Bytes(), TOKENS) < 22_000

    def test_text_files(self, tmp_path: Path) -> None:
        for n in range(5):
            (tmp_path / f"{n}.txt").write_text("x" * 1000)
            (tmp_path / f"{n}z.txt.gz").write_bytes(gzip.compress(b"x" * 1000))
        assert tokens_of(tmp_path / "?.txt", Bytes()) == 5000
        assert 4900 <= tokens_of(tmp_path / "*.gz", Bytes()) <= 5000

    def test_files_larger_than_what_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 19)
        monkeypatch.setattr(probe, "BLOCK_BYTES", 1 << 19)
        rng = np.random.default_rng(0)
        documents = [rng.bytes(rng.integers(1, 400)).hex() for _ in range(3000)]
        documents[0] = "one document of many blocks " * 40_000
        truth = sum(map(len, documents))
        (tmp_path / "short.jsonl").write_bytes(records(*documents[1:]))
        (tmp_path / "long.jsonl").write_bytes(records(*documents[:1]))
        (tmp_path / "short.jsonl.gz").write_bytes(gzip.compress(records(*documents[1:])))
        shorter = truth - len(documents[0])
        assert shorter / 1.2 < tokens_of(tmp_path / "short.jsonl", Bytes()) < shorter * 1.2
        assert shorter / 1.3 < tokens_of(tmp_path / "short.jsonl.gz", Bytes()) < shorter * 1.3
        table = pa.table({"text": documents[1:]})
        with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as sink:
            sink.write_table(table)
        assert shorter / 1.2 < tokens_of(tmp_path / "a.arrow", Bytes()) < shorter * 1.2
        longer = len(documents[0])
        assert longer / 1.2 < tokens_of(tmp_path / "long.jsonl", Bytes()) < longer * 1.2

    def test_sums(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("x" * 1000)
        (tmp_path / "b.txt").write_text("x" * 500)
        files = {
            name: find_files(
                Source(name=name, pattern=str(tmp_path / f"{name}.txt"), fields=TEXT)
            ).files
            for name in ("a", "b")
        }
        probes = {name: look_at(name, files[name], TEXT) for name in files}
        fields = {"a": TEXT, "b": TEXT}
        found = estimate(probes, files, Bytes(), fields, {"b": 2.5}, 1000)
        assert found == Estimate(
            tokens={"a": 1000, "b": 500}, windows=3, store_bytes=6300, shard_bytes=11475
        )
        without_shards = estimate(probes, files, Bytes(), fields, {}, None)
        assert (without_shards.windows, without_shards.shard_bytes) == (0, 0)

    def test_of_a_size_nobody_knows(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("x" * 1000)
        [file] = find_files(Source(name="a", pattern=str(tmp_path), fields=TEXT)).files
        unknown = replace(file, bytes=None)
        seen = {"a": look_at("a", [file], TEXT)}
        found = estimate(seen, {"a": [file, unknown]}, Bytes(), {"a": TEXT}, {}, 10)
        assert found == Estimate(tokens={"a": None}, windows=0, store_bytes=0, shard_bytes=0)


class TestLookAt:
    def test_documents_of_the_first_file_that_has_some(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b"\n \n")
        (tmp_path / "b.jsonl").write_bytes(records("one", "two"))
        (tmp_path / "c.jsonl").write_bytes(records("three"))
        assert sorted(texts(look(tmp_path))) == [b"one", b"two"]

    def test_no_more_than_64_kib(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(records(*["word " * 5000] * 50))
        seen = look(tmp_path)
        assert len(seen.documents) > 1
        assert len(seen.documents.data) <= 1 << 16

    def test_a_source_without_documents(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b"")
        assert texts(look(tmp_path)) == []

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_a_field_that_is_nowhere(self, tmp_path: Path, suffix: str) -> None:
        lines = b'{"title":1,"body":"a"}\nmalformed\n[]\n{"body":"b","lang":"en"}\n'
        data = gzip.compress(lines) if suffix else lines
        for name in ("a", "b"):
            (tmp_path / f"{name}.jsonl{suffix}").write_bytes(data)
        with pytest.raises(ExactcptError) as caught:
            look(tmp_path)
        assert str(caught.value) == (
            "source 'books': no record has a field 'text'\n"
            f"  where:    {tmp_path}/a.jsonl{suffix}\n"
            "  expected: one of the fields it has: title, body, lang\n"
            "  fix:      name the field with ,text=FIELD (or ,tokens=FIELD) in the source"
        )

    def test_a_field_that_only_another_file_has(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b'{"about":"the set"}\n')
        (tmp_path / "b.jsonl").write_bytes(records("one"))
        assert texts(look(tmp_path)) == [b"one"]

    def test_a_column_that_is_not_there(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"body": ["a"], "lang": ["en"]}), tmp_path / "a.parquet")
        with pytest.raises(ExactcptError, match="no column 'text'") as caught:
            look(tmp_path)
        assert caught.value.expected == "one of its columns: body, lang"

    def test_a_first_file_that_is_bad(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
        (tmp_path / "b.jsonl").write_bytes(records("one"))
        assert texts(look(tmp_path)) == [b"one"]

    def test_only_bad_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
        (tmp_path / "b.jsonl.zst").write_bytes(b"no zstd")
        (tmp_path / "c.jsonl").write_bytes(b"")
        with pytest.raises(BadFileError) as caught:
            look(tmp_path)
        assert caught.value.where == f"{tmp_path}/a.jsonl.gz"
        assert texts(look(tmp_path, skip_bad_files=True)) == []
