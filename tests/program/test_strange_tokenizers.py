"""What a job does with tokenizers that forge, draw at random, lose text or fail on it."""

import json
from pathlib import Path

import harness
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import done, run, source
from vocabularies import BOS, EOS, bpe, byte_level, dumped, unigram, with_model, word_level

pytestmark = pytest.mark.slow

TEXTS = ["the cat sat", f"the cat {EOS} sat under {BOS} a door", "a door under the cat", EOS]


def corpus(tmp_path: Path, texts: list[str] = TEXTS) -> list[str]:
    records = [{"id": f"d{i}", "text": text} for i, text in enumerate(texts)]
    return source("web", harness.write_jsonl(tmp_path / "web.jsonl", records))


def tokenizer(tmp_path: Path, data: bytes, **config: object) -> list[object]:
    folder = tmp_path / "tokenizer"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_bytes(data)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": EOS} | config))
    return ["--tokenizer", folder, "--workers", 1]


def tokens_of(store: Path) -> list[list[int]]:
    (part,) = store.glob("parts/*-0000.arrow")
    return pa.ipc.open_file(part).read_all()["tokens"].to_pylist()


def encoding_of(folder: Path) -> dict[str, int]:
    (read,) = harness.manifest(folder)["sources"]
    return read["read"]["encoding"]


def test_a_unigram_model_forges_no_end(tmp_path):
    flags = [*corpus(tmp_path), *tokenizer(tmp_path, dumped(unigram()))]
    done("prepare", *flags, "--window", 16, "--out", tmp_path / "out")
    eos = unigram().token_to_id(EOS)
    assert [each.count(eos) for each in tokens_of(tmp_path / "out.store")] == [1, 1, 1, 1]
    assert encoding_of(tmp_path / "out")["inner_ends"] == 0
    done("verify", tmp_path / "out")


def test_ends_that_are_allowed_are_counted(tmp_path):
    flags = [*corpus(tmp_path), *tokenizer(tmp_path, dumped(unigram()))]
    allow = ["--special-tokens-in-text", "allow"]
    outcome = done("tokenize", *flags, *allow, "--out", tmp_path / "store", "--json")
    found = encoding_of(tmp_path / "store")
    assert (found["inner_ends"], found["documents_with_inner_ends"]) == (1, 1)
    assert "'</s>' is inside 1 document (1 time)" in " ".join(outcome.json["warnings"])
    assert "end tokens inside documents" in outcome.err


def test_dropout_is_off_and_said(tmp_path):
    flags = [*corpus(tmp_path, ["under the door sat the cat"] * 40)]
    plain = tokenizer(tmp_path, dumped(bpe()))
    done("tokenize", *flags, *plain, "--out", tmp_path / "plain")
    random = tokenizer(tmp_path, with_model(bpe(), dropout=0.5))
    outcome = done("tokenize", *flags, *random, "--out", tmp_path / "random", "--json")
    assert tokens_of(tmp_path / "random") == tokens_of(tmp_path / "plain")
    assert any("has dropout 0.5" in warning for warning in outcome.json["warnings"])


def test_text_that_gets_lost_is_counted_and_said(tmp_path):
    texts = ["the cat", "the \u6f22\u5b57 cat", "a zebra under a door"]
    flags = [*corpus(tmp_path, texts), *tokenizer(tmp_path, dumped(word_level()))]
    outcome = done("prepare", *flags, "--window", 16, "--out", tmp_path / "out")
    found = encoding_of(tmp_path / "out")
    assert found["unknown_tokens"] == 2
    assert found["sampled_characters"] == sum(map(len, texts))
    assert found["lost_characters"] >= 7
    assert "2 of 13 tokens (15.38%) are the unknown token" in outcome.err
    assert "the tokens cannot give back" in outcome.err
    assert harness.manifest(tmp_path / "out")["tokenizer"]["unk_id"] == 3
    done("verify", tmp_path / "out")


def test_a_beginning_that_only_the_config_asks_for(tmp_path):
    asked = {"add_bos_token": True, "bos_token": BOS}
    flags = [*corpus(tmp_path), *tokenizer(tmp_path, dumped(unigram()), **asked)]
    outcome = done("tokenize", *flags, "--out", tmp_path / "store")
    bos = unigram().token_to_id(BOS)
    assert [(each[0], each.count(bos)) for each in tokens_of(tmp_path / "store")] == [(bos, 1)] * 4
    assert "warning: documents begin with '<s>': add_bos_token is true" in outcome.err


@pytest.mark.parametrize("command", ["tokenize", "inspect"])
def test_a_text_on_which_the_tokenizer_fails_is_named(tmp_path, command):
    """The probe does not see it: it looks at the beginnings of texts only."""
    texts = ["the cat"] * 20 + ["the " * 2000 + "zebra"]
    data = with_model(word_level(), unk_token="there is none")
    flags = [*corpus(tmp_path, texts), *tokenizer(tmp_path, data)]
    rest = ["--out", tmp_path / "store"] if command == "tokenize" else ["--sample", "100%"]
    outcome = run(command, *(flags if command == "tokenize" else flags[:-2]), *rest)
    assert outcome.code == 1
    message = outcome.err.partition("error: ")[2]
    assert message.startswith("the tokenizer fails on a text: WordLevel error: Missing [UNK]")
    assert "document 'd20' of source 'web'" in message
    assert "Traceback" not in message


@pytest.mark.parametrize("word", ["door", "under"])
def test_a_sample_may_end_inside_a_word(tmp_path, word):
    """Every document can be encoded, but not the beginning of a long one that ends in a word."""
    long = " ".join([word] * 2000)
    data = with_model(word_level(), unk_token="there is none")
    flags = [*corpus(tmp_path, ["the cat", long]), *tokenizer(tmp_path, data)]
    done("tokenize", *flags, "--out", tmp_path / "store")
    assert [len(each) for each in tokens_of(tmp_path / "store")] == [3, 2001]
    assert encoding_of(tmp_path / "store")["lost_characters"] == 0


def test_rows_that_were_packed_already(tmp_path):
    made = byte_level("the cat sat")
    eos = made.token_to_id(EOS)
    rows = [[*made.encode("the cat").ids, eos, *made.encode("sat").ids, eos]] * 5
    pq.write_table(pa.table({"ids": rows}), tmp_path / "packed.parquet")
    flags = source("web", tmp_path / "packed.parquet", tokens="ids")
    outcome = done(
        "tokenize", *flags, *tokenizer(tmp_path, dumped(made)), "--out", tmp_path / "store"
    )
    assert "'</s>' is inside 5 documents (5 times)" in outcome.err
    assert "give every document a row of its own" in outcome.err
    assert encoding_of(tmp_path / "store")["inner_ends"] == 5
