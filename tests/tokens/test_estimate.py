import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from archives import archive, page
from stores import DATA

from exactcpt.pipeline.config import PackConfig, SourceConfig, TokenizeConfig
from exactcpt.pipeline.sources import reading
from exactcpt.pipeline.sources.records import Fields, Strings
from exactcpt.pipeline.tokens import probe
from exactcpt.pipeline.tokens.encoders import Encoder, make_encoder
from exactcpt.pipeline.tokens.estimate import Estimate, estimate
from exactcpt.pipeline.tokens.plan import TokenizePlan, plan_tokenize
from exactcpt.pipeline.tokens.probe import probe_sources

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


def plan_of(*sources: SourceConfig) -> TokenizePlan:
    """A plan in which any token id belongs to the vocabulary."""
    plan = plan_tokenize(TokenizeConfig(sources=sources, tokenizer=str(DATA)))
    fields = {source.name: Fields(tokens=source.tokens) for source in sources}
    return replace(plan, fields=fields)


def tokens_of(pattern: Path, encoder: Encoder, field: str | None = None) -> int:
    plan = plan_of(SourceConfig(name="books", pattern=str(pattern), tokens=field))
    tokens = estimate(plan, probe_sources(plan), encoder, None).tokens["books"]
    assert tokens is not None
    return tokens


def records(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_corpus(data: Path, encoder: Encoder, name: str) -> None:
    assert BUNDLED[name] / 1.3 < tokens_of(data / name, encoder) < BUNDLED[name] * 1.3


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("escaped", [True, False])
def test_what_surrounds_the_text_does_not_count(tmp_path: Path, suffix: str, escaped: bool) -> None:
    text, notes = "Über " * 20, "noise " * 100
    lines = [json.dumps({"n": notes, "text": text}, ensure_ascii=escaped) for _ in range(500)]
    content = "\n".join(lines).encode()
    compress = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    (tmp_path / f"a.jsonl{suffix}").write_bytes(compress(content))
    truth = 500 * len(text.encode())
    assert truth / 1.1 < tokens_of(tmp_path, Bytes()) < truth * 1.1


def test_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.bytes(50).hex() for _ in range(2000)]
    table = pa.table({"other": [rng.bytes(400) for _ in documents], "text": documents})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as sink:
        sink.write_table(table, max_chunksize=500)
    for name in ("a.parquet", "a.arrow"):
        assert 180_000 < tokens_of(tmp_path / name, Bytes()) < 220_000


def test_token_ids_are_counted(tmp_path: Path) -> None:
    documents = [[*range(10_000 + n, 10_100 + n)] for n in range(200)]
    table = pa.table({"tokens": documents})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(tmp_path / "b.arrow", table.schema) as sink:
        sink.write_table(table)
    lines = [json.dumps({"tokens": ids}).encode() for ids in documents]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines)))
    for name in ("a.parquet", "b.arrow", "c.jsonl", "d.jsonl.gz"):
        assert 18_000 < tokens_of(tmp_path / name, Bytes(), "tokens") < 22_000


def test_text_files(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"{n}.txt").write_text("x" * 1000)
        (tmp_path / f"{n}z.txt.gz").write_bytes(gzip.compress(b"x" * 1000))
    assert tokens_of(tmp_path / "?.txt", Bytes()) == 5000
    assert 4900 <= tokens_of(tmp_path / "*.gz", Bytes()) <= 5000


def test_files_larger_than_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1 << 19)
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


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("name", ["a.csv", "a.tar", "a.wet"])
def test_records_that_are_read_one_by_one(tmp_path: Path, name: str, suffix: str) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.bytes(500).hex() for _ in range(3000)]
    content = {
        "a.csv": lambda: "\n".join(["text,note", *(f"{text},note" for text in documents)]).encode(),
        "a.tar": lambda: archive(
            member
            for n, text in enumerate(documents)
            for member in ((f"{n}.jpg", rng.bytes(2000)), (f"{n}.txt", text.encode()))
        ),
        "a.wet": lambda: b"".join(page(str(n), text.encode()) for n, text in enumerate(documents)),
    }[name]()
    (tmp_path / f"{name}{suffix}").write_bytes(gzip.compress(content, 1) if suffix else content)
    truth = sum(map(len, documents))
    assert truth / 1.2 < tokens_of(tmp_path / f"{name}{suffix}", Bytes()) < truth * 1.2


def test_sums(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 1000)
    (tmp_path / "b.txt").write_text("x" * 500)
    sources = (
        SourceConfig(name="a", pattern=str(tmp_path / "a.txt")),
        SourceConfig(name="b", pattern=str(tmp_path / "b.txt"), epochs=2.5),
    )
    plan = plan_of(*sources)
    probes = probe_sources(plan)
    found = estimate(plan, probes, Bytes(), PackConfig(window=1000))
    assert found == Estimate(
        tokens={"a": 1000, "b": 500}, windows=3, store_bytes=6300, shard_bytes=11475
    )
    without_shards = estimate(plan, probes, Bytes(), None)
    assert (without_shards.windows, without_shards.shard_bytes) == (0, 0)
    budget = estimate(plan, probes, Bytes(), PackConfig(window=1000, token_budget=4001))
    assert (budget.windows, budget.shard_bytes) == (5, 20405)


def test_of_a_size_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 1000)
    plan = plan_of(SourceConfig(name="a", pattern=str(tmp_path)))
    [file] = plan.files["a"]
    unknown = replace(plan, files={"a": [file, replace(file, bytes=None)]})
    found = estimate(unknown, probe_sources(plan), Bytes(), PackConfig(window=10))
    assert found == Estimate(tokens={"a": None}, windows=0, store_bytes=0, shard_bytes=0)
