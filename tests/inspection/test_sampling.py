"""`inspect` of raw corpora: what is drawn, what is read, and how near the estimate comes."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import TOKENIZER, bundled, done, run, source, write_jsonl

from exactcpt.pipeline.config import PackConfig, TokenizeConfig, parse_source
from exactcpt.pipeline.inspection import sampling
from exactcpt.pipeline.inspection.sampling import OfBlocks, OfDocuments, draw
from exactcpt.pipeline.sources.splits import Member
from exactcpt.pipeline.tokens.plan import plan_tokenize

pytestmark = pytest.mark.slow

WORDS = ["alpha ", "beta gamma ", "a longer phrase, ", "\n"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four thousand documents of 1 to some 1,500 tokens, long ones close together; some MB."""
    rng = np.random.default_rng(0)
    lengths = np.sort(rng.lognormal(4.5, 1.2, 4000).clip(1, 1500).astype(int))
    lengths = np.roll(lengths.reshape(40, 100), 7, axis=1).reshape(-1)
    records = [{"id": str(i), "text": "".join(rng.choice(WORDS, n))} for i, n in enumerate(lengths)]
    folder = tmp_path_factory.mktemp("corpus")
    write_jsonl(folder / "plain.jsonl", records)
    write_jsonl(folder / "packed.jsonl.gz", records)
    return folder


def sampled(path: Path, fraction: float, seed: int = 0) -> OfBlocks | OfDocuments:
    config = TokenizeConfig(sources=(parse_source(f"docs={path}"),), tokenizer=str(TOKENIZER))
    packing = PackConfig(window=512, seed=seed)
    (found,) = draw(plan_tokenize(config), "gigatoken", fraction, packing)["docs"]
    return found


def test_a_sample_of_everything_is_everything(corpus: Path):
    whole = {path: sampled(path, 1.0) for path in corpus.iterdir()}
    for one in whole.values():
        assert len(one.lengths) == 4000
        assert set(one.weight.tolist()) == {1.0}
    one, other = whole.values()
    assert sorted(one.lengths.tolist()) == sorted(other.lengths.tolist())


@pytest.mark.parametrize("name", ["plain.jsonl", "packed.jsonl.gz"])
def test_of_a_small_source_the_fraction_is_tokenized_and_all_is_read(corpus: Path, name: str):
    one = sampled(corpus / name, 0.1)
    assert isinstance(one, OfDocuments)
    assert one.all.count.sum() == 4000
    assert one.read == one.whole
    several = [sampled(corpus / name, 0.1, seed) for seed in range(10)]
    drawn = [each.tokenized / each.whole for each in several]
    stands_for = [float(each.weight @ each.sizes) / each.whole for each in several]
    assert np.mean(drawn) == pytest.approx(0.1, rel=0.1)
    assert np.mean(stands_for) == pytest.approx(1, rel=0.1)
    assert np.array_equal(several[0].lengths, one.lengths)
    assert not np.array_equal(several[1].lengths, one.lengths)


def test_documents_are_drawn_alike_if_their_text_does_not_fit_into_memory(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sampling, "HELD_BYTES", 1 << 10)
    one = sampled(corpus / "plain.jsonl", 0.1)
    assert isinstance(one, OfDocuments)
    assert one.all.count.sum() == 4000
    assert float(one.weight @ one.sizes) == pytest.approx(one.whole, rel=0.3)


def test_of_a_tiny_source_everything_is_tokenized(tmp_path: Path):
    records = [{"id": str(i), "text": "alpha " * 9} for i in range(3)]
    one = sampled(write_jsonl(tmp_path / "tiny.jsonl", records), 0.001)
    assert (one.documents, one.tokenized) == (3, one.whole)


def test_what_is_read_as_a_whole_is_read_in_large_pieces(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    """Small ones, of the size of blocks, take three times as long."""
    read: list[Member] = []
    read_member = sampling.read_member

    def watched(member: Any, fields: Any) -> Any:
        read.append(member)
        return read_member(member, fields)

    monkeypatch.setattr(sampling, "read_member", watched)
    path = corpus / "plain.jsonl"
    assert isinstance(sampled(path, 0.1), OfDocuments)
    assert len(read) <= 1 + path.stat().st_size // sampling.LARGEST_BLOCK


def test_only_blocks_of_a_large_file_are_read(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    """And every document is in one block: all come about equally often."""
    read: list[int] = []
    read_member = sampling.read_member

    def watched(member: Any, fields: Any) -> Any:
        read.append(member.stop - member.start)
        return read_member(member, fields)

    monkeypatch.setattr(sampling, "read_member", watched)
    monkeypatch.setattr(sampling, "LEAST_TEXT", 1 << 10)
    monkeypatch.setattr(sampling, "LEAST_BLOCKS", 2)
    size = (corpus / "plain.jsonl").stat().st_size
    one = sampled(corpus / "plain.jsonl", 0.1)
    assert isinstance(one, OfBlocks)
    assert sum(read) < 0.2 * size
    assert one.whole == size
    assert one.weight[0] == pytest.approx(size / one.read)
    assert len(one.block_bytes) == len(read)
    # The blocks have whole lines: as many bytes as the records that were read.
    assert one.read == pytest.approx(float(one.sizes.sum()), rel=0.2)
    seen = sum(len(sampled(corpus / "plain.jsonl", 0.1, seed).lengths) for seed in range(60))
    assert seen / 4000 == pytest.approx(6, rel=0.15)


def test_blocks_own_every_byte_once(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "LEAST_TEXT", 1)
    monkeypatch.setattr(sampling, "LEAST_BLOCKS", 1)
    one = sampled(corpus / "plain.jsonl", 0.9999)
    assert isinstance(one, OfBlocks)
    assert one.read == one.whole
    assert len(one.lengths) == 4000


def test_a_line_belongs_to_the_block_in_which_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Lines of 64 bytes: every block begins with a line."""
    monkeypatch.setattr(sampling, "LEAST_TEXT", 1)
    monkeypatch.setattr(sampling, "LEAST_BLOCKS", 1)
    line = b'{"id": "%05d", "text": "' + b"x " * 17
    lines = [line % i + b'"}'.rjust(63 - len(line % i), b"y") + b"\n" for i in range(4096)]
    assert {len(one) for one in lines} == {64}
    path = tmp_path / "even.jsonl"
    path.write_bytes(b"".join(lines))
    one = sampled(path, 0.9999)
    assert isinstance(one, OfBlocks)
    assert one.block_bytes.tolist() == (np.bincount(one.unit) * 64).tolist() == [64 << 10] * 4


def the_row(*arguments: object) -> dict[str, Any]:
    (subject,) = done("inspect", *arguments, "--json").json["subjects"]
    (row,) = subject["rows"]
    return row


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
@pytest.mark.parametrize("name", ["plain.jsonl", "packed.jsonl.gz"])
def test_the_estimate_is_near(corpus: Path, packing: str, name: str, tmp_path: Path):
    flags = ["--window", "512", "--packing", packing]
    corpora = [*source("docs", corpus / name), "--tokenizer", TOKENIZER]
    done("tokenize", *corpora, "--out", tmp_path / "store", "--quiet")
    exact = the_row(tmp_path / "store", *flags)
    estimate = the_row(*corpora, *flags, "--sample", "25%")
    intervals = estimate["intervals"]
    assert estimate["windows"] == pytest.approx(exact["windows"], rel=0.2)
    assert estimate["mean_weight"] == pytest.approx(exact["mean_weight"], rel=0.02)
    low, high = intervals["windows"]
    assert low < estimate["windows"] < high < 2 * low
    known = [pair for pair in zip(exact["buckets"], intervals["shares"], strict=True) if pair[1]]
    assert len(known) >= 5
    for bucket, (low, high) in known:
        spare = high - low  # twice the interval: one in some ten thousand is outside
        assert low - spare / 2 <= bucket["share"] <= high + spare / 2


def test_all_of_it_is_the_store_but_for_the_order(corpus: Path, tmp_path: Path):
    """Under best_fit the order does not matter, so everything is equal to the integer."""
    flags = ["--window", "512", "--packing", "best_fit", "--alpha", "0.3", "--seed", "5"]
    corpora = [*source("docs", corpus / "plain.jsonl"), "--tokenizer", TOKENIZER]
    done("tokenize", *corpora, "--out", tmp_path / "store", "--quiet")
    exact = the_row(tmp_path / "store", *flags)
    estimate = the_row(*corpora, *flags, "--sample", "1")
    intervals = estimate.pop("intervals")
    assert estimate | {"command": ""} == exact | {"command": ""}
    assert intervals["windows"] is None
    assert intervals["reason"].startswith("everything was tokenized")


def test_the_command_prepares_what_was_estimated(tmp_path: Path):
    flags = ["--window", "2k", "--packing", "best_fit", "--sample", "100%"]
    sources = [flag.replace("poems.jsonl", "poems.jsonl,epochs=0.5") for flag in bundled()]
    row = the_row(*sources, *flags, "--min-tokens", "50", "--no-bos")
    program, *words = shlex.split(row["command"])
    assert program == "exactcpt"
    assert words[-1] == "OUT"
    done(*words[:-1], tmp_path / "shards", "--quiet")
    packed = the_row(tmp_path / "shards")
    assert packed["settings"] == row["settings"]
    assert packed["tokens"] == pytest.approx(row["tokens"], rel=0.02)


def test_it_says_that_it_is_an_estimate(corpus: Path):
    flags = [*source("docs", corpus / "packed.jsonl.gz"), "--tokenizer", TOKENIZER]
    text = done("inspect", *flags, "--sample", "10%", "--window", "256").out
    assert "docs=" in text
    assert "estimated from " in text
    assert "95% intervals: windows " in text


def test_it_says_why_more_is_tokenized_than_was_asked_for(tmp_path: Path):
    path = write_jsonl(tmp_path / "one.jsonl", [{"id": "a", "text": "alpha " * 99}])
    text = " ".join(done("inspect", *source("docs", path), "--tokenizer", TOKENIZER).out.split())
    assert "2.0% of the text was asked for, 100.0% was read and 100.0% was tokenized" in text
    assert "(documents are tokenized whole, and at least one of each source)" in text
    assert "no intervals: everything was tokenized" in text


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--epochs", "docs=2"], "--epochs and --share are for token stores"),
        (["--dedup", "exact"], "a sample does not show which documents of the corpus are repeated"),
        (["somewhere"], "both --source and the path somewhere are given"),
        (["--sample", "0"], "0 is not above 0 and at most 100%"),
        (["--sample", "101%"], "101% is not above 0 and at most 100%"),
        (["--sample", "x%"], "'x%' is not a fraction such as 2% or 0.02"),
        (["--window", "1"], "window is 1"),
    ],
)
def test_what_cannot_be_asked(corpus: Path, flags: list[str], error: str):
    corpora = [*source("docs", corpus / "plain.jsonl"), "--tokenizer", TOKENIZER]
    outcome = run("inspect", *corpora, *flags)
    assert outcome.code == 2
    assert error in outcome.err
    assert outcome.out == ""


def test_a_tokenizer_is_for_corpora(tmp_path: Path):
    outcome = run("inspect", tmp_path, "--tokenizer", TOKENIZER)
    assert outcome.code == 2
    assert outcome.err.startswith("error: --tokenizer is for raw corpora")
    outcome = run("inspect", *source("docs", tmp_path))
    assert (outcome.code, outcome.err.splitlines()[0]) == (2, "error: --tokenizer is missing")


def test_a_corpus_without_documents(tmp_path: Path):
    path = write_jsonl(tmp_path / "empty.jsonl", [{"id": "a", "text": ""}])
    outcome = run("inspect", *source("docs", path), "--tokenizer", TOKENIZER)
    assert outcome.code == 1
    assert outcome.err.startswith("error: the sample has no documents")


def test_the_json_is_as_its_schema_says(corpus: Path):
    import jsonschema

    flags = [*source("docs", corpus / "plain.jsonl"), "--tokenizer", TOKENIZER, "--sample", "5%"]
    schema = Path(__file__).parents[2] / "schemas" / "inspection.schema.json"
    found = done("inspect", *flags, "--window", "128,256", "--json").json
    jsonschema.Draft202012Validator(json.loads(schema.read_text("utf-8"))).validate(found)
