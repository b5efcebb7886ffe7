"""A full device: what a person is told to change."""

import re

import pytest
import torch
from tiny import config, shards_and_model

from exactcpt.schemas.errors import ExactcptError
from exactcpt.training.models.model import TrainModel
from exactcpt.training.run.memory import memory_advice
from exactcpt.training.train import train

TOLD = (
    "CUDA out of memory. Tried to allocate 2.32 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 1.10 GiB is free. Of the allocated memory 76.02 GiB is allocated by PyTorch. If "
    "reserved but unallocated memory is large try setting "
    "PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)


@pytest.mark.parametrize(
    ("settings", "world", "flags"),
    [
        ({}, 1, {"--micro-batch", "--precision", "--checkpoint-activations"}),
        ({"micro_batch": 1, "precision": "bf16"}, 1, {"--checkpoint-activations"}),
        ({"compile": False, "precision": "bf16", "micro_batch": 1, "checkpoint_activations": True},
         8, {"--compile"}),
        ({"precision": "bf16", "micro_batch": 1, "checkpoint_activations": True,
          "keep_products": True, "reduce_once": True}, 8, {"--keep-products", "--reduce-once"}),
    ],
)  # fmt: skip
def test_only_what_is_not_done_yet(tmp_path, settings, world, flags):
    advice = memory_advice(config(tmp_path, tmp_path, **settings), world)
    assert {flag for line in advice for flag in re.findall(r"--[a-z-]+", line)} == flags
    other = "another GPU" if world == 1 else "more than 8 GPUs"
    assert any(line.startswith(f"train on {other}: ") for line in advice)


@pytest.mark.slow
def test_a_run(tmp_path, monkeypatch):
    made = shards_and_model(tmp_path)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError(TOLD)

    monkeypatch.setattr(TrainModel, "forward", full)
    with pytest.raises(ExactcptError) as caught:
        train(config(made, tmp_path / "run"), lambda _: None)
    assert caught.value.found.startswith("rank 0 has no memory left: CUDA out of memory. Tried ")
    assert caught.value.found.endswith("76.02 GiB is allocated by PyTorch.")
    assert caught.value.exit_code == 1
    assert (caught.value.fix or "").startswith("give a smaller --micro-batch than 2, which ")
