"""Whole runs on one device: the loss of a CPU in fp64, compiled, recomputed, continued."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import STEPS, config, shards_and_model, steps_of, stop_after, weights_of

from exactcpt.training import train as module
from exactcpt.training.run import log
from exactcpt.training.train import train

LIMITS = {"fp64": 1e-9, "fp32": 1e-4, "bf16": 2e-2}
"""Relative error of the losses of a run, by its precision."""


@pytest.fixture(autouse=True)
def every_line(monkeypatch):
    monkeypatch.setattr(log, "LINE_SECONDS", 0.0)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return shards_and_model(tmp_path_factory.mktemp("gpu"))


def losses(made: Path, out: Path, **settings: Any) -> list[float]:
    assert train(config(made, out, **settings), lambda _: None).finished
    return [step["loss"] for step in steps_of(out)]


@pytest.fixture(scope="module")
def exact(made, tmp_path_factory) -> list[float]:
    return losses(made, tmp_path_factory.mktemp("exact") / "run", precision="fp64")


@pytest.mark.parametrize("precision", LIMITS)
def test_losses_are_those_of_a_cpu(made, device, exact, tmp_path, precision):
    found = losses(made, tmp_path / "run", device=device, precision=precision)
    assert found == pytest.approx(exact, rel=LIMITS[precision])


@pytest.mark.parametrize(
    "options",
    [
        {"compile": False},
        {"compile": False, "checkpoint_activations": True},
        {"checkpoint_activations": True},
        {"checkpoint_activations": True, "keep_products": True},
        {"reduce_once": True},
    ],
)
def test_options_change_nothing(made, device, exact, tmp_path, options):
    """Blocks are compiled on a GPU unless they are told not to be."""
    found = losses(made, tmp_path / "run", device=device, precision="bf16", **options)
    assert found == pytest.approx(exact, rel=LIMITS["bf16"])


def test_what_a_gpu_gets(made, gpu, tmp_path):
    told: list[str] = []
    train(config(made, tmp_path / "run", device=gpu, precision="bf16", steps=1), told.append)
    assert told[0].startswith("attention varlen (FA")
    assert ", blocks compiled, loss in a kernel" in told[0]


def test_a_step_waits_for_nothing(made, gpu, tmp_path, monkeypatch):
    """The host goes ahead of the device until it looks at the figures of a step."""
    take = module._Loop._step

    def step(loop, number, batches):
        if number == 1:  # compiles, and makes the optimizer's state
            return take(loop, number, batches)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            return take(loop, number, batches)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(module._Loop, "_step", step)
    losses(made, tmp_path / "run", device=gpu, precision="bf16", compile=False)


def test_a_run_that_was_stopped_is_bit_equal(made, device, tmp_path, deterministic):
    settings = {"device": device, "precision": "bf16"}
    whole = losses(made, tmp_path / "whole", **settings)
    stopped = train(config(made, tmp_path / "run", **settings), stop_after(2))
    assert not stopped.finished and stopped.step < STEPS
    assert losses(made, tmp_path / "run", **settings) == whole
    weights = weights_of(tmp_path / "whole")
    for name, found in weights_of(tmp_path / "run").items():
        same = torch.equal(found, weights[name]) if torch.is_tensor(found) else True
        assert same, name


def test_a_run_again_is_bit_equal(made, device, tmp_path, deterministic):
    settings = {"device": device, "precision": "bf16"}
    one, other = (losses(made, tmp_path / name, **settings) for name in ("one", "other"))
    assert one == other
