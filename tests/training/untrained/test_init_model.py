"""`exactcpt init-model`: a folder that everything else takes as a model."""

import json
import os
import shutil
from pathlib import Path

import pytest
from harness import TOKENIZER, Outcome, done, run
from safetensors.torch import load_file
from tiny import config, shard_set
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer

from exactcpt.schemas.extras import install_line
from exactcpt.training.train import train

SMALL = ["--hidden", 16, "--layers", 1, "--positions", 512]
END = "<|endoftext|>"


def made(folder: Path, *more: object, tokenizer: Path = TOKENIZER) -> Outcome:
    return run("init-model", folder, "--tokenizer", tokenizer, *more)


def settings(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_training_takes_it(tmp_path):
    shard_set(tmp_path / "shards")
    assert made(tmp_path / "model", *SMALL).code == 0
    assert train(config(tmp_path, tmp_path / "run", steps=1), lambda _: None).finished


def test_evaluation_takes_it(tmp_path):
    shard_set(tmp_path / "shards", times=4)
    assert made(tmp_path / "model", *SMALL).code == 0
    few = ["--items", 1, "--lengths", 128, "--tasks", "number", "--device", "cpu"]
    out = ["--haystack", tmp_path / "shards", "--out", tmp_path / "evaluated"]
    assert done("evaluate", tmp_path / "model", *few, *out, "--json").json["evaluations"]


def test_one_seed_gives_one_folder(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert made(tmp_path / name, *SMALL, "--seed", seed).code == 0
    one, same, other = (content(tmp_path / name) for name in "abc")
    assert one == same
    assert one.keys() == other.keys() == {"config.json", "model.safetensors", "tokenizer.json"}
    assert {name for name in one if one[name] != other[name]} == {"model.safetensors"}


def test_what_is_written(tmp_path):
    outcome = made(tmp_path / "model", *SMALL, "--json")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float32"}
    parameters = sum(tensor.numel() for tensor in weights.values())
    assert outcome.json == {
        "model": str(tmp_path / "model"), "parameters": parameters, "vocabulary": 4096,
    }  # fmt: skip
    assert outcome.err == (
        f"{tmp_path / 'model'} is complete: {parameters:,} parameters, "
        "4,096 tokens in the vocabulary\n"
    )
    assert (tmp_path / "model" / "tokenizer.json").read_bytes() == TOKENIZER.read_bytes()
    assert made(tmp_path / "quiet", *SMALL, "--quiet") == Outcome(0, "", "")


@pytest.fixture
def words(tmp_path) -> Path:
    """A tokenizer with its own folder, a hole in its ids, and an end token."""
    folder = tmp_path / "words"
    folder.mkdir()
    Tokenizer(WordLevel({"a": 0, END: 7}, unk_token="a")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END})
    )
    (folder / "model.safetensors").write_bytes(b"of another model")
    return folder


@pytest.mark.parametrize("named", ["", "tokenizer.json"], ids=["folder", "file"])
def test_the_tokenizer_gives_the_vocabulary_and_the_end(tmp_path, words, named):
    assert made(tmp_path / "model", *SMALL, tokenizer=words / named).code == 0
    found = settings(tmp_path / "model")
    assert (found["vocab_size"], found["eos_token_id"]) == (8, 7)
    assert content(tmp_path / "model").keys() == {*content(words), "config.json"}
    assert AutoTokenizer.from_pretrained(tmp_path / "model").eos_token_id == 7


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ({"eos_token": {"content": END}}, 7),
        ({"eos_token": "other"}, None),
        ({"eos_token": 7}, None),
        ({}, None),
    ],
)
def test_the_end_token_as_the_tokenizer_names_it(tmp_path, words, text, end):
    (words / "tokenizer_config.json").write_text(json.dumps(text))
    assert made(tmp_path / "model", *SMALL, tokenizer=words).code == 0
    assert settings(tmp_path / "model")["eos_token_id"] == end


def described(folder: Path, **changes: object) -> Path:
    """A config.json of a tiny model."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "num_key_value_heads": 2}  # fmt: skip
    path = folder / "described.json"
    path.write_text(json.dumps({"model_type": "qwen3", "vocab_size": 99, **sizes} | changes))
    return path


def test_a_configuration_of_another_model(tmp_path):
    """As older programs write it: theta on its own, and special ids that the vocabulary lacks."""
    old = described(
        tmp_path, rope_theta=5e5, torch_dtype="bfloat16", pad_token_id=50_000, bos_token_id=60_000
    )
    assert made(tmp_path / "model", "--config", old).code == 0
    found = settings(tmp_path / "model")
    assert found["architectures"] == ["Qwen3ForCausalLM"]
    assert (found["vocab_size"], found["hidden_size"]) == (4096, 16)
    assert found["rope_parameters"] == {"rope_theta": 5e5, "rope_type": "default"}
    assert found["dtype"] == "float32"
    assert [found[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [None] * 3


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"model_type": "bert"}, "a model of type bert"),
        ({"auto_map": {"AutoModel": "evil.Evil"}}, "config.json names code that comes with"),
        ({"quantization_config": {"quant_method": "gptq"}}, "the model's weights are quantized"),
        ({"attention_dropout": 0.1}, "attention_dropout 0.1"),
        ({"num_hidden_layers": 0}, "config.json has num_hidden_layers 0"),
        ({"hidden_size": "x"}, "no model can be made of this configuration"),
        ({"num_key_value_heads": 3}, "no model can be made of this configuration"),
    ],
)
def test_configurations_that_make_no_model(tmp_path, changes, found):
    path = described(tmp_path, **changes)
    outcome = made(tmp_path / "model", "--config", path)
    assert outcome.code in (1, 2)
    assert outcome.err.startswith(f"error: {found}")
    assert f"where:    {path}\n" in outcome.err
    assert not (tmp_path / "model").exists()


def test_mistakes(tmp_path, monkeypatch):
    path = described(tmp_path)
    for arguments, found in (
        (["--config", path, "--heads", 2], "both --config and --heads are given"),
        (["--config", tmp_path / "none.json"], "the configuration cannot be read"),
        (["--config", tmp_path], "this is a folder"),
        (["--seed", -1], "seed is -1"),
        (["--hidden", 100], "hidden is 100 with 4 heads"),
    ):
        outcome = made(tmp_path / "model", *arguments)
        assert outcome.code in (1, 2)
        assert found in outcome.err
    for tokenizer, found in (
        (tmp_path / "none", "there is no tokenizer"),
        (tmp_path, "there is no tokenizer"),
        (path, "the tokenizer cannot be read"),
    ):
        assert found in made(tmp_path / "model", tokenizer=tokenizer).err
    pointer = tmp_path / "pointer.json"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "Git LFS pointer" in made(tmp_path / "model", tokenizer=pointer).err
    assert not (tmp_path / "model").exists()
    monkeypatch.setattr("exactcpt.training.options.find_spec", lambda name: None)
    assert install_line("train") in made(tmp_path / "model").err


def test_a_pipe_makes_nobody_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "this is a named pipe" in made(tmp_path / "model", tokenizer=tmp_path / "pipe").err
    assert "this is a named pipe" in made(tmp_path / "model", "--config", tmp_path / "pipe").err


def test_a_second_time_is_no_mistake(tmp_path):
    """A program that was killed before it noted the end runs the same command again."""
    assert made(tmp_path / "model", *SMALL).code == 0
    before = (tmp_path / "model" / "model.safetensors").stat()
    assert made(tmp_path / "model", *SMALL).code == 0
    assert (tmp_path / "model" / "model.safetensors").stat() == before
    assert [*tmp_path.iterdir()] == [tmp_path / "model"]
    other = made(tmp_path / "model", *SMALL, "--seed", 1).err
    assert "exists, and its model.safetensors is not what would be written" in other


def test_what_exists_is_not_touched(tmp_path):
    (tmp_path / "model").mkdir()
    outcome = made(tmp_path / "model", *SMALL)
    assert outcome.code == 2
    assert "the folder to write exists" in outcome.err
    assert [*(tmp_path / "model").iterdir()] == []


def test_it_is_whole_or_absent(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert made(tmp_path / "model", *SMALL).code == 1
    assert [*tmp_path.iterdir()] == []
    monkeypatch.undo()
    assert made(tmp_path / "model", *SMALL).code == 0
