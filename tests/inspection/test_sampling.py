"""`inspect` of raw corpora: what is drawn, what is read, and how near the estimate comes."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import TOKENIZER, bundled, done, run, source, write_jsonl

from exactcpt.pipeline.config import TokenizeConfig, parse_source
from exactcpt.pipeline.inspection import sampling
from exactcpt.pipeline.inspection.sampling import Sampled, draw
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


def sampled(path: Path, fraction: float, seed: int = 0) -> Sampled:
    config = TokenizeConfig(sources=(parse_source(f"docs={path}"),), tokenizer=str(TOKENIZER))
    return draw(plan_tokenize(config), "gigatoken", fraction, seed)["docs"]


def test_a_sample_of_everything_is_everything(corpus: Path):
    whole = {path: sampled(path, 1.0) for path in corpus.iterdir()}
    for one in whole.values():
        assert len(one.lengths) == 4000
        assert set(one.weight.tolist()) == {1.0}
    one, other = whole.values()
    assert sorted(one.lengths.tolist()) == sorted(other.lengths.tolist())


def test_documents_of_a_compressed_file_are_drawn_one_by_one(corpus: Path):
    one = sampled(corpus / "packed.jsonl.gz", 0.1)
    assert 300 <= len(one.lengths) <= 500
    assert set(one.weight.tolist()) == {10.0}
    again, other = (sampled(corpus / "packed.jsonl.gz", 0.1, seed) for seed in (0, 1))
    assert np.array_equal(again.prefixes, one.prefixes)
    assert not np.array_equal(other.prefixes, one.prefixes)


def test_only_blocks_of_a_plain_file_are_read(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    """And every document is in one block: drawn again and again, all come about equally often."""
    read: list[int] = []
    read_member = sampling.read_member

    def watched(member: Any, fields: Any) -> Any:
        read.append(member.stop - member.start)
        return read_member(member, fields)

    monkeypatch.setattr(sampling, "read_member", watched)
    size = (corpus / "plain.jsonl").stat().st_size
    one = sampled(corpus / "plain.jsonl", 0.1)
    assert sum(read) < 0.2 * size
    assert one.weight[0] == pytest.approx(10, rel=0.3)
    assert len(set(one.block.tolist())) == len(read)
    seen = np.zeros(4000)
    numbers = {p: i for i, p in enumerate(sampled(corpus / "plain.jsonl", 1.0).prefixes.tolist())}
    for seed in range(60):
        drawn = [numbers[p] for p in sampled(corpus / "plain.jsonl", 0.1, seed).prefixes.tolist()]
        seen[drawn] += 1
    assert seen.mean() == pytest.approx(6, rel=0.15)
    assert (seen > 0).mean() > 0.97


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
    for bucket, (low, high) in zip(exact["buckets"], intervals["shares"], strict=True):
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
    assert intervals["windows"] == [exact["windows"]] * 2


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
