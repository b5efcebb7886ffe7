"""Models and tokenizers by their name on a Hugging Face hub, in every command that takes one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import done, run
from hub import FakeHub, client_of, served
from tiny import shards_and_model

from exactcpt.schemas.errors import UsageError
from exactcpt.training.evaluation.subjects import find_subjects
from exactcpt.training.models.named import WEIGHTS, commit_of, model_folder

FEW = ["--steps", 2, "--global-batch", 2, "--precision", "fp32", "--device", "cpu"]
MODEL = "acme/tiny"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards_and_model(tmp_path_factory.mktemp("made"))


@pytest.fixture
def hub(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the model and with files that must never be fetched."""
    with served(FakeHub()) as found:
        client_of(found.url, tmp_path / "cache", monkeypatch)
        files = {path.name: path.read_bytes() for path in (made / "model").iterdir()}
        others = (
            "pytorch_model.bin",
            "modeling.py",
            "onnx/model.safetensors",
            "original.safetensors",
        )
        found.commit(MODEL, files | {name: name.encode() for name in others})
        yield found


def fetched(hub: FakeHub) -> set[str]:
    return {name.removeprefix(f"{MODEL}/") for name in hub.asked}


def test_only_what_a_run_reads_is_fetched(hub, made):
    folder = model_folder(MODEL)
    assert fetched(hub) == {path.name for path in (made / "model").iterdir()}
    assert (folder / WEIGHTS[0]).read_bytes() == (made / "model" / WEIGHTS[0]).read_bytes()
    assert model_folder(str(made / "model")) == made / "model"


def test_a_model_that_cannot_be_trained_is_refused_before_its_weights(hub, made):
    config = json.loads((made / "model" / "config.json").read_text())
    files = {WEIGHTS[0]: b"gigabytes", "config.json": json.dumps(config | {"model_type": "x"})}
    hub.commit(MODEL, {name: data if isinstance(data, bytes) else data.encode()
                       for name, data in files.items()})  # fmt: skip
    with pytest.raises(UsageError, match="a model of type x"):
        commit_of(MODEL)
    assert fetched(hub) == {"config.json"}
    assert model_folder(MODEL, trained=False).is_dir()


@pytest.mark.parametrize(
    ("without", "says"),
    [
        ("config.json", f"the repository {MODEL} has no config.json"),
        (WEIGHTS[0], f"the repository {MODEL} has no weights as safetensors"),
    ],
)
def test_what_a_repository_lacks(without, says, hub, made):
    [files] = hub.commits[MODEL].values()
    hub.commit(MODEL, {name: data for name, data in files.items() if name != without})
    with pytest.raises(UsageError) as caught:
        model_folder(MODEL)
    assert caught.value.found == says


def test_training(hub, made, tmp_path):
    commit = hub.branches[MODEL]["main"]
    named = ["train", "--shards", made / "shards", *FEW]
    outcome = done(*named, "--model", MODEL, "--out", tmp_path / "named")
    assert f"the model is {MODEL}@{commit}" in outcome.err
    done(*named, "--model", made / "model", "--out", tmp_path / "folder")
    one, other = (json.loads((tmp_path / n / "run.json").read_text()) for n in ("named", "folder"))
    assert one["model_origin"] == f"{MODEL}@{commit}"
    assert "model_origin" not in other
    assert one["identity"] == other["identity"]

    hub.commit(MODEL, {})  # the branch goes on, and the run stays with its commit
    shutil.rmtree(tmp_path / "named" / "checkpoints")
    outcome = run(*named, "--model", f"{MODEL}@{commit}", "--out", tmp_path / "named")
    assert outcome.code == 0, outcome.err


def test_evaluation(hub, tmp_path):
    with pytest.raises(UsageError, match="has no place for results"):
        find_subjects([MODEL], None)
    assert hub.asked == []
    [subject] = find_subjects([MODEL], str(tmp_path))
    assert (subject.name, subject.step) == ("tiny", None)
    assert subject.results == tmp_path / "tiny"
    assert WEIGHTS[0] in fetched(hub)
    with pytest.raises(UsageError, match="no revision '7'"):
        find_subjects([f"{MODEL}@7"], str(tmp_path))


def test_a_trainer_that_is_neither_here_nor_there(hub, made):
    outcome = run("check-trainer", "acme/none", "--shards", made / "shards")
    assert outcome.code == 2
    assert "no such repository on the hub: acme/none" in outcome.err


def test_tokenizers(hub, made, tmp_path):
    commit = hub.branches[MODEL]["main"]
    done("init-model", tmp_path / "new", "--tokenizer", MODEL, "--hidden", 32, "--layers", 1)
    assert (tmp_path / "new" / "tokenizer.json").read_bytes() == (
        made / "model" / "tokenizer.json"
    ).read_bytes()
    text = tmp_path / "text.txt"
    text.write_text("A short text. " * 200)
    outcome = done("prepare", "--source", text, "--tokenizer", MODEL, "--window", 64,
                   "--validation-fraction", 0, "--out", tmp_path / "shards")  # fmt: skip
    assert f"the tokenizer is that of {MODEL}@{commit}" in outcome.err
    done("prepare", "--source", text, "--tokenizer", made / "model", "--window", 64,
         "--validation-fraction", 0, "--out", tmp_path / "local")  # fmt: skip
    one, other = (
        json.loads((tmp_path / n / "manifest.json").read_text()) for n in ("shards", "local")
    )
    assert one["tokenizer"].pop("origin") == f"{MODEL}@{commit}"
    assert "origin" not in other["tokenizer"]
    assert one["shards"] == other["shards"]
    done("verify", tmp_path / "shards")
    assert fetched(hub) == {"tokenizer.json"}
