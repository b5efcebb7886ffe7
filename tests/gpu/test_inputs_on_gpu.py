"""What the device makes of a batch is what a CPU makes of it, and nobody waits for it."""

from itertools import accumulate

import pytest
import torch
from tiny import shard_set

import exactcpt
from exactcpt.schemas.shard_set import open_set
from exactcpt.training.windows.batches import ShardDataset
from exactcpt.training.windows.expansion import Expander
from exactcpt.training.windows.weighting import WEIGHTINGS, make_weighting


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return open_set(shard_set(tmp_path_factory.mktemp("inputs") / "shards", alpha=0.4, gamma=0.9))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_device_makes_the_same(shards, device, name):
    table = [0.5, 2.0, 3.0, 0.25] if name == "table" else None
    weighting = make_weighting(name, shards, seed=7, table=table)
    windows = ShardDataset(shards, weighting=weighting)
    expander = Expander(weighting, torch.device(device))
    for numbers in ([0], [1, 2], [3, 4, 5]):
        batch = windows.batch(numbers)
        moved = (batch.pin_memory() if device == "cuda" else batch).to(torch.device(device))
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")  # nothing waits for the device
        try:
            found = expander(moved)
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        expected = Expander(weighting, torch.device("cpu"))(batch)
        for ours, theirs in zip(expected, found, strict=True):
            assert theirs.device.type == device
            assert torch.equal(ours, theirs.cpu())


def test_weights_stay_on_the_device(device):
    counts = exactcpt.histogram([[40, 20], [64], [9, 9, 9]], window=64)
    table = exactcpt.weight_table(counts, window=64, tau=16, alpha=0.5)
    boundaries = torch.tensor([0, *accumulate([40, 20])], device=device)
    found = exactcpt.weights(table=table, cu_seqlens=boundaries, tokens=64)
    assert found.device.type == device
