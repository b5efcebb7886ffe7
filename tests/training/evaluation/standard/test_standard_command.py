"""`exactcpt evaluate --suite standard` with lm-eval, which the environment leaves out for its size.

In an environment with `lm-eval`: the six tasks with local items, and no network.
"""

import json
import socket
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from harness import done, run
from six_tasks import ITEMS, SHOTS, write_six
from tiny import config, model_folder, shard_set

from exactcpt.schemas.manifest import EVALUATION, parse
from exactcpt.training.evaluation.standard.tasks import SIX
from exactcpt.training.run.exported import export_run
from exactcpt.training.train import train

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A model, a run of it with learning rate 0, and data."""
    folder = tmp_path_factory.mktemp("standard")
    shard_set(folder / "shards")
    model_folder(folder / "model")
    end = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(end))
    write_six(folder / "data")
    settings = config(folder, folder / "run", steps=1, learning_rate=0, weight_decay=0)
    assert train(settings, lambda _: None).finished
    export_run(folder / "run", folder / "exported", None)
    return folder


def flags(made: Path) -> list:
    return ["--suite", "standard", "--data", made / "data", "--shots", SHOTS, "--device", "cpu"]


def test_an_export_of_unchanged_weights_scores_as_the_model(made, tmp_path):
    out = done("evaluate", made / "model", made / "exported", *flags(made), "--out", tmp_path).out
    assert out.count("macro") >= 2
    for task in SIX:
        (one,) = (tmp_path / "model").glob(f"standard-{task}-*")
        (other,) = (tmp_path / "exported").glob(f"standard-{task}-*")
        for name in ("items.parquet", "scores.parquet"):
            assert (one / name).read_bytes() == (other / name).read_bytes()
        path = one / "manifest.json"
        manifest = parse(path.read_bytes(), str(path), EVALUATION)
        assert (manifest["tasks"], manifest["shots"], manifest["length"]) == ([task], SHOTS, None)
        assert pq.read_table(one / "items.parquet").num_rows == len(ITEMS[task])


def test_a_run_knows_what_ends_a_text(made, tmp_path):
    bare = model_folder(tmp_path / "bare")
    outcome = run("evaluate", bare, *flags(made), "--tasks", "piqa", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "the model's tokenizer does not say which token ends a text" in outcome.err
    found = done("evaluate", made / "run", *flags(made), "--tasks", "piqa", "--json").json
    assert found["evaluations"][0]["rows"][0]["items"] == len(ITEMS["piqa"])


def test_what_cannot_be_had_is_told_before_a_model_is_read(made, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = ["evaluate", made / "model", "--suite", "standard", "--out", tmp_path]
    outcome = run(*command, "--tasks", "piqa")
    assert outcome.code == 1
    assert "the data of piqa cannot be loaded" in outcome.err
    assert "--data DIR" in outcome.err
    outcome = run(*command, "--tasks", "no_such_task")
    assert outcome.code == 2
    assert "there is no task 'no_such_task', neither here nor in lm-eval" in outcome.err
    assert not list(tmp_path.iterdir())
