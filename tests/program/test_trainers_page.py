"""The recipes of docs/trainers.md: each runs if the trainer that it is for is installed."""

import re
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import model_folder, shard_set
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from exactcpt.training.adapters import WindowStream, flatten
from exactcpt.training.models.labels import plain
from exactcpt.training.windows.batches import ShardDataset, collate

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "trainers.md").read_text("utf-8")


def programs() -> dict[str, list[str]]:
    """The fenced blocks of Python under each heading."""
    sections = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:]
    found = {
        title: re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    }
    return {title: blocks for title, blocks in found.items() if blocks}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp("trainers")
    shard_set(at / "shards")
    model_folder(at / "model")
    return at


@pytest.fixture
def read(folder, monkeypatch):
    """Runs a recipe in the folder; the names that it leaves."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def run(title: str) -> dict[str, Any]:
        (program,) = programs()[title]
        names: dict[str, Any] = {"__name__": "page"}
        exec(compile(program, title, "exec"), names)
        return names

    return run


def order(folder: Path, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """The first windows of a run."""
    return list(islice(WindowStream(ShardDataset(folder / "shards"), seed=seed), count))


@torch.no_grad()
def alone(folder: Path, samples: list[dict[str, Any]]) -> float:
    """The loss of a step of these windows, every segment by itself and without a mask."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float64)
    total, targets = 0.0, 0
    for sample in samples:
        columns = (plain(sample[name]) for name in ("input_ids", "labels", "loss_weights"))
        cut = (column.split(sample["seq_lengths"].tolist()) for column in columns)
        for ids, labels, weights in zip(*cut, strict=True):
            if len(ids) > 1:
                logits = model(input_ids=ids[None].long()).logits[0, :-1]
                ce = cross_entropy(logits, labels[1:], reduction="none")
                total += (ce * weights[1:]).sum().item()
                targets += int((labels != -100).sum())
    return total / targets


def test_no_recipe_is_left_out():
    assert list(programs()) == [
        "Accelerate", "Lightning Fabric", "TRL", "Stop and go on", "torchtitan"
    ]  # fmt: skip


def test_the_table_says_how_long_they_are():
    said = dict(re.findall(r"^\| \[.*?\]\(#(.*?)\) \| [\d.]+ \| (\d+) \|", PAGE, re.MULTILINE))
    for title, (program,) in programs().items():
        assert int(said[title.lower().replace(" ", "-")]) == len(program.splitlines()), title


@pytest.mark.parametrize(
    ("title", "library"), [("Accelerate", "accelerate"), ("Lightning Fabric", "lightning")]
)
def test_a_loop_has_the_loss_of_the_step(read, folder, title, library):
    pytest.importorskip(library)
    found = read(title)
    assert sum(found["losses"]).item() == pytest.approx(alone(folder, order(folder, 4)), rel=1e-5)
    moved = AutoModelForCausalLM.from_pretrained(folder / "model").state_dict()
    trained = found["model"].state_dict()
    assert not torch.equal(trained["lm_head.weight"], moved["lm_head.weight"])


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_trl(read, folder, monkeypatch):
    pytest.importorskip("trl")
    samples: list[dict[str, Any]] = []

    def recording(given: list[dict[str, Any]]) -> dict[str, Any]:
        samples.extend(given)
        return collate(given)

    monkeypatch.setattr("exactcpt.training.hf_trainer.collate", recording)
    trainer = read("TRL")["trainer"]
    assert trainer.state.global_step == 1
    (found,) = (
        record["train_loss"] for record in trainer.state.log_history if "train_loss" in record
    )
    assert found == pytest.approx(alone(folder, samples[:4]), rel=1e-5)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_stop_and_go_on(folder, monkeypatch, tmp_path):
    pytest.importorskip("torchdata.stateful_dataloader")
    monkeypatch.chdir(folder)
    (program,) = programs()["Stop and go on"]
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(program, "stop", "exec"), names)
    windows = order(folder, 8, seed=1)
    expected = [flatten(windows[first : first + 2]) for first in range(0, 8, 2)]
    for found, row in zip([*names["read"], names["following"]], expected, strict=True):
        assert torch.equal(found["input_ids"], row["input_ids"])


def test_torchtitan(read, folder):
    pytest.importorskip("spmd_types")
    pytest.importorskip("torchtitan")
    found = read("torchtitan")
    samples = order(folder, 3)
    inputs, labels = found["for_torchtitan"](samples)
    weights = inputs.pop("loss_weights")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float64)
    logits = model(
        input_ids=inputs["input"], position_ids=inputs["positions"], use_cache=False
    ).logits
    loss = found["WeightedCrossEntropyLoss"](SimpleNamespace(global_vocab_size=None))
    loss.weights = weights
    value, _ = loss(logits, labels, (labels != -100).sum())
    assert value.item() == pytest.approx(alone(folder, samples), rel=1e-5)
