"""Folders of strangers: what is no plain model is refused in plain words; nothing of it runs."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from models import tiny_config
from safetensors.torch import load_file, save_file

from exactcpt.schemas.errors import ExactcptError, FormatError, UsageError
from exactcpt.training.models.folder import read_config
from exactcpt.training.models.model import build
from exactcpt.training.models.weight_files import check_weights

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build(tiny_config(), window=64, backend="exact").causal_lm.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def change_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def save_in_two(folder: Path) -> dict[str, str]:
    """Spreads the weights over two files; the index says which tensor is where."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: SHARDS[i % 2] for i, name in enumerate(weights)}
    for file in SHARDS:
        ours = {name: weights[name] for name in weights if places[name] == file}
        save_file(ours, folder / file, {"format": "pt"})
    write_index(folder, places)
    return places


def write_index(folder: Path, places) -> None:
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def refused(folder: Path) -> ExactcptError:
    """The error that a model is refused with, the same when it is loaded."""
    with pytest.raises(ExactcptError) as caught:
        read_config(folder)
        check_weights(folder)
    with pytest.raises(ExactcptError) as again:
        build(folder, window=64, backend="exact")
    assert str(again.value) == str(caught.value)
    return caught.value


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8", "compressed-tensors"])
@pytest.mark.parametrize("field", ["quantization_config", "compression_config"])
def test_quantized_weights(folder, field, method):
    change_config(folder, **{field: {"quant_method": method, "bits": 4}})
    error = refused(folder)
    assert isinstance(error, UsageError)
    assert error.found == f"the model's weights are quantized: config.json has {field}, {method}"
    assert error.fix == "take the model that this one was made from"


@pytest.mark.parametrize("settings", [{}, [], {"quant_method": None}, "fp8"])
def test_quantized_somehow(folder, settings):
    change_config(folder, quantization_config=settings)
    assert refused(folder).found.startswith("the model's weights are quantized")


def test_a_model_that_says_it_is_not_quantized(folder):
    change_config(folder, quantization_config=None)
    build(folder, window=64, backend="exact")


@pytest.mark.parametrize("name", ["quantize_config.json", "hf_quant_config.json"])
def test_settings_of_a_quantization_beside_the_model(folder, name):
    (folder / name).write_text("{}")
    assert refused(folder).found == f"the model's weights are quantized: the folder has {name}"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_that_are_no_plain_numbers(folder, dtype):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].to(dtype)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    error = refused(folder)
    assert "quantized: model.norm.weight is stored as " in error.found


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_config_json_may_name_another_type_than_the_weights_have(folder, dtype):
    weights = load_file(folder / "model.safetensors")
    save_file({n: w.to(dtype) for n, w in weights.items()}, folder / "model.safetensors")
    change_config(folder, dtype="float16")
    model = build(folder, window=64, backend="exact")
    expected = weights["model.embed_tokens.weight"].to(dtype).float()
    assert torch.equal(model.causal_lm.get_input_embeddings().weight, expected)


def test_a_vocabulary_inside_a_text_config(folder):
    (folder / "config.json").write_text(
        json.dumps({"model_type": "gemma3", "text_config": {"vocab_size": 9}})
    )
    error = refused(folder)
    assert error.found == "a model of type gemma3"


@pytest.mark.parametrize("model_type", ["llama", "mine"])
def test_code_beside_the_model_is_never_run(folder, tmp_path, monkeypatch, model_type):
    """Nobody is asked either: nothing is read from the terminal."""
    marker = tmp_path / "marker"
    (folder / "code.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    names = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    change_config(folder, model_type=model_type, auto_map=names)
    assert refused(folder).found == (
        "config.json names code that comes with the model (auto_map), which is never run"
    )
    assert not marker.exists()
    assert "code" not in {name.rpartition(".")[2] for name in sys.modules if "transformers" in name}


@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter(folder, whole):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')
    if not whole:
        (folder / "config.json").unlink()
    error = refused(folder)
    assert error.found.startswith("the folder has an adapter")
    assert "merge_and_unload" in (error.fix or "")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_weights_as_pickles(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    assert refused(folder).found == (f"the model's weights are pickles, which can run code: {name}")


def test_gguf(folder):
    (folder / "model.safetensors").rename(folder / "model.gguf")
    assert refused(folder).found == "the model's weights are in the GGUF format"


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert refused(folder).found == "the folder has no weights"


def test_weights_somewhere_else(folder):
    change_config(folder, transformers_weights="../other.safetensors")
    assert "transformers_weights" in refused(folder).found


def test_weights_in_two_files(folder):
    expected = load_file(folder / "model.safetensors")
    save_in_two(folder)
    model = build(folder, window=64, backend="exact")
    for name, weight in model.causal_lm.state_dict().items():
        assert torch.equal(weight, expected[name])


def test_one_of_two_files_is_missing(folder):
    save_in_two(folder)
    (folder / SHARDS[1]).unlink()
    assert refused(folder).found == (
        f"1 of 2 files of the model's weights are missing, the first is {SHARDS[1]}"
    )


@pytest.mark.parametrize("outside", ["../other.safetensors", "/other.safetensors", "..", ""])
def test_an_index_that_leads_elsewhere(folder, outside):
    places = save_in_two(folder)
    write_index(folder, places | {"lm_head.weight": outside})
    error = refused(folder)
    assert isinstance(error, FormatError)
    assert error.found == (
        f"the index of the model's weights names {outside!r}, which is not in the folder"
    )


@pytest.mark.parametrize("places", [None, [], {"lm_head.weight": 1}])
def test_an_index_of_nothing(folder, places):
    save_in_two(folder)
    write_index(folder, places)
    assert refused(folder).found.endswith("does not say which file has which tensor")


def test_a_tensor_in_two_files(folder):
    save_in_two(folder)
    weights = load_file(folder / SHARDS[0]) | load_file(folder / SHARDS[1])
    save_file(weights, folder / SHARDS[1], {"format": "pt"})
    assert refused(folder).found.startswith("two files have the tensor ")


def test_a_head_that_config_json_ties_to_the_embedding(folder):
    """transformers would keep it, and an export would leave it out."""
    change_config(folder, tie_word_embeddings=True)
    with pytest.raises(FormatError) as caught:
        build(folder, window=64, backend="exact")
    assert caught.value.found.startswith("the weights have an lm_head.weight of their own")


def test_a_head_that_is_the_embedding(folder):
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    change_config(folder, tie_word_embeddings=True)
    build(folder, window=64, backend="exact")


@pytest.mark.parametrize("name", ["vocab_size", "max_position_embeddings", "num_hidden_layers"])
@pytest.mark.parametrize("number", [None, "9", 0, -1, 1.5, 10**30, [9]])
def test_numbers_that_make_no_sense(folder, name, number):
    change_config(folder, **{name: number})
    error = refused(folder)
    assert error.found == f"config.json has {name} {json.dumps(number)}"


@pytest.mark.parametrize(
    "changes",
    [
        {"head_dim": 0},
        {"hidden_act": "x"},
        {"hidden_size": 10**30},
        {"num_attention_heads": 0},
        {"rope_parameters": []},
        {"initializer_range": "x"},
        {"dtype": "none"},
        {"layer_types": 1},
    ],
)
def test_values_that_the_library_trips_over(folder, changes):
    change_config(folder, **changes)
    with pytest.raises(ExactcptError) as caught:
        build(folder, window=64, backend="exact")
    assert caught.value.where == str(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_config_that_is_none(folder, text):
    (folder / "config.json").write_text(text)
    assert refused(folder).found.startswith("the model's config.json cannot be read")


def test_a_pipe_makes_nobody_wait(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    error = refused(folder)
    assert error.found == "this is a named pipe"
    assert error.where == str(folder / "model.safetensors")
