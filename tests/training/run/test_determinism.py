"""Deterministic algorithms: switched on before CUDA is used, and off again."""

import os
from pathlib import Path

import pytest
import torch
from tiny import config, shards_and_model, steps_of, weights_of
from torch._inductor import config as inductor
from torch.utils import deterministic as memory

from exactcpt.schemas.errors import UsageError
from exactcpt.training import train as module
from exactcpt.training.run.determinism import CUBLAS, determinism
from exactcpt.training.train import train

Switches = tuple[bool, bool, bool]


def switches() -> Switches:
    return (
        torch.are_deterministic_algorithms_enabled(),
        inductor.deterministic,
        memory.fill_uninitialized_memory,
    )


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setenv(CUBLAS, "")  # so that it is put back, whatever a test does to it
    monkeypatch.delenv(CUBLAS)


def test_on_and_off_again():
    before = switches()
    with pytest.raises(ZeroDivisionError), determinism(True):
        assert switches() == (True, True, False)
        assert os.environ[CUBLAS] == ":4096:8"
        assert torch.get_deterministic_debug_mode() == 2  # an operation that cannot: an error
        raise ZeroDivisionError
    assert switches() == before
    assert not before[0]


def test_off():
    with determinism(False):
        assert not torch.are_deterministic_algorithms_enabled()
        assert CUBLAS not in os.environ


@pytest.mark.parametrize("workspace", [":4096:8", ":16:8"])
def test_a_workspace_that_will_do_is_kept(monkeypatch, workspace):
    monkeypatch.setenv(CUBLAS, workspace)
    with determinism(True):
        assert os.environ[CUBLAS] == workspace


def test_a_workspace_that_will_not_do(monkeypatch):
    monkeypatch.setenv(CUBLAS, ":0:0")
    with (
        pytest.raises(UsageError, match="CUBLAS_WORKSPACE_CONFIG is ':0:0'"),
        determinism(True),
    ):
        pass
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_switches_it_on_before_it_takes_a_device(monkeypatch, tmp_path):
    def joined(_: str) -> None:
        assert switches() == (True, True, False)
        assert CUBLAS in os.environ
        raise ZeroDivisionError

    monkeypatch.setattr(module, "joined", joined)
    with pytest.raises(ZeroDivisionError):
        train(config(tmp_path, tmp_path / "run", deterministic=True), lambda _: None)


@pytest.mark.slow
def test_a_run_on_a_cpu(tmp_path):
    """It has every operation that a run needs, and changes no bit."""
    made = shards_and_model(tmp_path)
    for deterministic in (False, True):
        settings = {"steps": 2, "deterministic": deterministic, "precision": "bf16"}
        train(config(made, tmp_path / str(deterministic), **settings), lambda _: None)
    assert steps_of(tmp_path / "True") == steps_of(tmp_path / "False")


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("attention", ["varlen", "flex", "exact"])
def test_two_runs_on_a_gpu_are_equal_in_every_bit(tmp_path: Path, attention: str):
    made = shards_and_model(tmp_path)
    settings = {"deterministic": True, "precision": "bf16", "device": "cuda"}
    for name in ("one", "two"):
        chosen = settings | {"attention": attention}
        train(config(made, tmp_path / name, **chosen), lambda _: None)
    assert steps_of(tmp_path / "one") == steps_of(tmp_path / "two")
    expected = weights_of(tmp_path / "two")
    for name, tensor in weights_of(tmp_path / "one").items():
        if torch.is_tensor(tensor):
            assert torch.equal(tensor, expected[name]), name
