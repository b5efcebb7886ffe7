"""The programs of schemas/README.md that read shards: each runs, and reads what is there."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import harness
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from harness import TOKENIZER
from tiny import model_folder
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from exactcpt.training.windows.batches import ShardDataset
from exactcpt.training.windows.expansion import Expander, ModelInputs

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
FORMATS = (REPOSITORY / "schemas" / "README.md").read_text("utf-8")
PAGE = FORMATS.split("\n## Reading shards\n")[1]
WINDOW = 256


def programs() -> dict[str, list[str]]:
    """The fenced blocks under each heading."""
    sections = re.split(r"^### (.*)\n", PAGE, flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data) -> Path:
    """Shards of several files, padding and unequal weights, and a model of their tokenizer."""
    at = tmp_path_factory.mktemp("reading")
    made = harness.run(
        "prepare", "--source", f"poems={data / 'poems.jsonl'}",
        "--source", f"jargon={data / 'jargon.jsonl.gz'},epochs=0.5",
        "--tokenizer", TOKENIZER, "--window", WINDOW, "--packing", "best_fit", "--alpha", "0.5",
        "--gamma", "1", "--validation-fraction", "0.02", "--shard-bytes", "100KB",
        "--out", at / "shards",
    )  # fmt: skip
    assert made.code == 0, made.err
    assert len(list((at / "shards" / "train").iterdir())) > 2
    model_folder(at / "model")
    return at


@pytest.fixture
def read(folder, monkeypatch):
    """Runs a program of the page in the folder; the names that it leaves."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))

    def run(title: str, number: int = 0) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": "page"}
        exec(compile(programs()[title][number], f"{title} {number}", "exec"), names)
        return names

    return run


def fresh_model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)


@torch.no_grad()
def alone(model: Any, batch: ModelInputs) -> float:
    """The weighted loss over the batch's targets, every segment by itself and without a mask."""
    flat = {n: getattr(batch, n).flatten() for n in ("input_ids", "labels", "loss_weights")}
    lengths = batch.cu_seqlens.diff().tolist()
    total = torch.zeros((), dtype=torch.float64)
    for ids, labels, weights in zip(*(v.split(lengths) for v in flat.values()), strict=True):
        if len(ids) > 1:
            logits = model(input_ids=ids[None].long()).logits[0, :-1]
            ce = cross_entropy(logits, labels[1:], reduction="none")
            total += (ce * weights[1:]).double().sum()
    return total.item() / int((batch.labels != -100).sum())


def inputs_of(windows: ShardDataset, numbers: Sequence[int]) -> ModelInputs:
    return Expander(windows.weighting, torch.device("cpu"))(windows.batch(numbers))


def test_no_program_is_left_out():
    assert {title: len(blocks) for title, blocks in programs().items()} == {
        "PyTorch, with exactcpt": 1,
        "PyTorch alone": 1,
        "Hugging Face Trainer": 1,
        "datasets": 1,
        "DuckDB": 2,
        "Polars": 1,
    }


def test_versions_are_those_of_the_lock():
    lock = (REPOSITORY / "constraints.txt").read_text("utf-8")
    said = re.findall(r"(\w+) (\d+(?:\.\d+)?)", PAGE.strip().splitlines()[-1])
    assert {name.lower() for name, _ in said} == {
        "duckdb", "polars", "datasets", "pyarrow", "transformers"
    }  # fmt: skip
    for name, version in said:
        assert f"\n{name.lower()}=={version}." in lock, f"{name} {version}"


def test_pytorch_with_exactcpt(read, folder):
    found = read("PyTorch, with exactcpt")
    windows = found["windows"]
    number = {tuple(windows[i]["input_ids"].tolist()): i for i in range(len(windows))}
    numbers = [number[tuple(ids)] for ids in found["batch"]["input_ids"].tolist()]
    batch = inputs_of(windows, numbers)
    assert found["loss"].item() == pytest.approx(alone(fresh_model(folder), batch), rel=1e-5)


def test_pytorch_alone(read, folder):
    found = read("PyTorch alone")
    dataset = ShardDataset(folder / "shards")
    batch = inputs_of(dataset, [0, 1])
    assert torch.equal(found["ids"], batch.input_ids.long())
    assert torch.equal(found["is_target"], batch.labels != -100)
    assert torch.equal(found["weights"], batch.loss_weights)
    assert torch.equal(found["position"], batch.position_ids.long())
    assert found["loss"].item() == pytest.approx(alone(fresh_model(folder), batch), rel=1e-5)
    shards = sorted((folder / "shards" / "train").iterdir())
    read_so = [window for shard in shards for window in found["windows"](shard)]
    assert len(read_so) == len(dataset)
    for (ids, is_target, weights, _, position), window in zip(read_so, dataset, strict=False):
        assert np.array_equal(ids, window["input_ids"])
        assert np.array_equal(is_target, window["labels"] != -100)
        assert np.array_equal(weights, window["loss_weights"])
        assert np.array_equal(position, window["position_ids"])


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
def test_trainer(read, folder, capsys):
    found = read("Hugging Face Trainer")
    trainer = found["trainer"]
    assert trainer.state.global_step == 1
    model = fresh_model(folder)
    model.load_state_dict(trainer.model.state_dict())
    windows, at_once = trainer.eval_dataset, trainer.args.eval_batch_size
    batches = [
        inputs_of(windows, range(first, min(first + at_once, len(windows))))
        for first in range(0, len(windows), at_once)
    ]
    losses = [alone(model, batch) for batch in batches]
    expected = np.average(losses, weights=[len(batch.input_ids) for batch in batches])
    said = float(capsys.readouterr().out.split()[-1])
    assert said == pytest.approx(expected, rel=1e-5)


def test_datasets(read, folder):
    found = read("datasets")
    expected = ShardDataset(folder / "shards")
    rows = list(found["shards"].with_format("torch"))
    assert len(rows) == len(expected)
    for number, row in enumerate(rows):
        ours, theirs = found["tensors"](row), expected[number]
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert torch.equal(ours[name], theirs[name].to(ours[name].dtype)), name


def histogram(folder: Path) -> list[tuple[str, int, int, float, int]]:
    """The histogram of the manifest: source, bucket, weight, train targets, where there are any."""
    manifest = json.loads((folder / "shards" / "manifest.json").read_bytes())
    return [
        (source["name"], bucket["low"], bucket["high"], bucket["weight"], targets)
        for source in sorted(manifest["sources"], key=lambda source: source["name"])
        for bucket, targets in zip(
            manifest["weights"]["table"], source["splits"]["train"]["histogram"], strict=True
        )
        if targets
    ]


def decoded(folder: Path) -> np.ndarray:
    """All weights of the train shards, [windows, L]."""
    rows = []
    for shard in sorted((folder / "shards" / "train").iterdir()):
        with pa.memory_map(str(shard)) as file:
            for chunk in pa.ipc.open_file(file).read_all()["loss_weight"].chunks:
                flat = chunk.flatten()
                rows.append(flat.dictionary.to_numpy()[flat.indices.to_numpy()])
    return np.concatenate(rows).reshape(-1, WINDOW)


def test_duckdb(read, folder):
    found = read("DuckDB")
    assert found["histogram"].fetchall() == histogram(folder)


def test_duckdb_decodes_weights(read, folder):
    heaviest = read("DuckDB", 1)["heaviest"]
    assert heaviest == pytest.approx(decoded(folder).sum(axis=1, dtype=np.float64).max())


def test_duckdb_misreads_the_dictionary(read):
    """The page warns of this. Once this test fails, the warning can go."""
    first = read("DuckDB")["train"].head(1)
    assert first["loss_weight"][0].as_py()[1] == 1.0
    found = duckdb.sql("SELECT typeof(loss_weight), loss_weight[2] FROM first").fetchall()
    assert found == [(f"UTINYINT[{WINDOW}]", 0)]


def test_polars(read, folder):
    found = read("Polars")
    assert found["histogram"].rows() == histogram(folder)
    train = pl.scan_ipc(folder / "shards" / "train" / "*.arrow")
    weights = train.select("loss_weight").collect()["loss_weight"].to_numpy()
    assert np.array_equal(weights, decoded(folder))


ANY_LANGUAGE = (
    (REPOSITORY / "docs" / "formats.md").read_text("utf-8").split("\n## In any language\n")[1]
)


def test_sums_in_any_language_agree(folder, monkeypatch, capsys):
    """Those in Python: with pyarrow, of Parquet with DuckDB, with Polars."""
    harness.done(
        "convert", folder / "shards", "--to", "parquet", "--out", folder / "shards-parquet"
    )
    monkeypatch.chdir(folder)
    found = re.findall(r"^```python\n(.*?)^```", ANY_LANGUAGE, re.DOTALL | re.MULTILINE)
    assert len(found) == 3
    windows = harness.windows(folder / "shards")
    ids, weights = (
        sum(sum(row[column]) for row in windows) for column in ("input_ids", "loss_weight")
    )
    for program in found:
        names: dict[str, Any] = {}
        exec(compile(program, "formats.md", "exec"), names)
        printed = [float(n) for n in re.findall(r"\d+\.?\d*(?:e\d+)?", capsys.readouterr().out)]
        assert pytest.approx([ids, weights], rel=1e-6) == printed[-2:], program
