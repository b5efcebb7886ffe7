import json
import os
from pathlib import Path

import pytest
from corpora import LFS
from handmade import EOS, edit_manifest
from tiny import DATA, END, shard_set
from tokenizers import Tokenizer

from exactcpt.schemas import regular
from exactcpt.schemas.errors import ExactcptError, FormatError, UsageError
from exactcpt.schemas.shard_set import ShardSet, open_set
from exactcpt.training.windows.agreement import check_agreement, end_token_of, model_fingerprint


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> ShardSet:
    return open_set(shard_set(tmp_path_factory.mktemp("agreement") / "shards"))


def model(folder: Path, change=lambda tokenizer: None, **config) -> Path:
    """A folder with all that is looked at, and no weights."""
    tokenizer = json.loads((DATA / "tokenizer.json").read_text("utf-8"))
    change(tokenizer)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "config.json").write_text(
        json.dumps({"model_type": "llama", "vocab_size": 4096} | config)
    )
    return folder


def test_one_tokenizer(shards, tmp_path):
    check_agreement(shards, model(tmp_path))


def test_a_tokenizer_that_was_saved_again(shards, tmp_path):
    folder = model(tmp_path)
    Tokenizer.from_file(str(folder / "tokenizer.json")).save(str(folder / "tokenizer.json"))
    assert (folder / "tokenizer.json").read_bytes() != shards.tokenizer.read_bytes()
    check_agreement(shards, folder)


def test_another_vocabulary(shards, tmp_path):
    def swap(tokenizer):
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]

    with pytest.raises(UsageError) as caught:
        check_agreement(shards, model(tmp_path, swap))
    vocabulary = json.loads((DATA / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    a, b = vocabulary["A"], vocabulary["B"]
    assert caught.value.found == (
        f"the vocabularies differ in 2 tokens: 'A' has id {a} in the shards and id {b} in the model"
    )


def test_an_added_token(shards, tmp_path):
    def add(tokenizer):
        token = {"id": 5000, "content": "<more>", "special": True, "single_word": False,
                 "lstrip": False, "rstrip": False, "normalized": False}  # fmt: skip
        tokenizer["added_tokens"].append(token)

    with pytest.raises(UsageError, match="differ in 1 token: '<more>' has no id in the shards"):
        check_agreement(shards, model(tmp_path, add))


def test_another_encoding_with_one_vocabulary(shards, tmp_path):
    def no_merges(tokenizer):
        tokenizer["model"]["merges"] = []

    with pytest.raises(UsageError, match="the same vocabulary but encode text differently"):
        check_agreement(shards, model(tmp_path, no_merges))


FOR_BATCHES = {
    "padding": {
        "strategy": {"Fixed": 256},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    },
    "truncation": {
        "direction": "Right",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    },
}


@pytest.mark.parametrize("key", FOR_BATCHES)
def test_what_is_saved_for_batches_is_no_part_of_the_encoding(shards, tmp_path, key):
    check_agreement(shards, model(tmp_path, lambda t: t.update({key: FOR_BATCHES[key]})))


def test_dropout_is_no_part_of_the_encoding(shards, tmp_path):
    check_agreement(shards, model(tmp_path, lambda t: t["model"].update(dropout=0.5)))


def test_truncation_hides_no_difference(shards, tmp_path):
    def only_the_first_words_agree(tokenizer):
        tokenizer["truncation"] = FOR_BATCHES["truncation"]
        tokenizer["normalizer"] = {
            "type": "Replace",
            "pattern": {"String": "\u6f22"},
            "content": "x",
        }

    with pytest.raises(UsageError, match="encode text differently"):
        check_agreement(shards, model(tmp_path, only_the_first_words_agree))


def test_vocabularies_that_cannot_encode_the_probe(tmp_path):
    """A vocabulary of whole words without an unknown token; two of them have to be the same."""
    words = {"type": "WordLevel", "vocab": {"<|endoftext|>": 0, "the": 1}, "unk_token": "none"}

    def of_words(tokenizer):
        tokenizer["model"] = words

    made = shard_set(tmp_path / "shards")
    model(made, of_words)
    folder = model(tmp_path / "model", of_words)
    check_agreement(open_set(made), folder)


def test_ids_that_the_model_lacks(shards, tmp_path):
    check_agreement(shards, model(tmp_path, vocab_size=5000))
    with pytest.raises(UsageError, match="ids up to 99, but the model embeds only 99 tokens"):
        check_agreement(shards, model(tmp_path, vocab_size=99))


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs(shards, tmp_path, name):
    folder = model(tmp_path)
    (folder / name).write_bytes(LFS)
    with pytest.raises(ExactcptError, match="this is a Git LFS pointer") as caught:
        check_agreement(shards, folder)
    assert caught.value.where == str(folder / name)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", [None, "{"])
def test_a_file_that_cannot_be_read(shards, tmp_path, name, text):
    folder = model(tmp_path)
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(FormatError) as caught:
        check_agreement(shards, folder)
    assert caught.value.where == str(folder / name)


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "pytorch_model.bin"])
def test_fingerprints(tmp_path, monkeypatch, name):
    """Every byte counts, of more blocks than one."""
    monkeypatch.setattr(regular, "HASHED", 64)
    folder = model(tmp_path)
    (folder / name).write_bytes(b"a" * 150)
    first = model_fingerprint(folder)
    assert model_fingerprint(folder) == first
    altered = [b"a" * i + b"b" + b"a" * (149 - i) for i in (0, 63, 64, 149)]
    for data in (*altered, b"a" * 151):
        (folder / name).write_bytes(data)
        assert model_fingerprint(folder) != first
    (folder / name).write_bytes(b"a" * 150)
    assert model_fingerprint(folder) == first
    model(folder, vocab_size=1)
    assert model_fingerprint(folder) != first


def test_no_fingerprint_of_a_pipe(tmp_path):
    folder = model(tmp_path)
    os.mkfifo(folder / "pytorch_model.bin")
    with pytest.raises(FormatError, match="this is a named pipe"):
        model_fingerprint(folder)


def test_no_fingerprint_of_no_model(tmp_path):
    with pytest.raises(FormatError, match=r"the model's config\.json cannot be read"):
        model_fingerprint(tmp_path)


def test_the_end_token_is_one_of_the_tokenizer(tmp_path):
    """A name that the vocabulary lacks, or has for another id, would be a new token to others."""
    folder = shard_set(tmp_path / "shards")
    assert end_token_of(open_set(folder)) == END
    for wrong in ({"eos_token": "<none>"}, {"eos_id": EOS + 1}):
        edit_manifest(folder, lambda manifest, wrong=wrong: manifest["tokenizer"].update(wrong))
        assert end_token_of(open_set(folder)) is None
