"""Gradients of a step, and resuming, on 1, 2 and 4 ranks: FSDP2 over gloo."""

import pytest
import torch
from worlds import (
    ACCUMULATIONS,
    DENOMINATORS,
    GRADIENT_TYPES,
    RESUMED_TYPES,
    SAVED_AFTER,
    STEPS,
    batch,
    denominator,
    expected_gradients,
    run_worlds,
)

from exactcpt.training.loss import IGNORE

# Relative L2 of every parameter's gradient, and the least cosine.
TOLERANCE = {
    torch.float32: (1e-5, 1 - 1e-8),
    torch.bfloat16: (2e-2, 0.999),
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    return run_worlds(tmp_path_factory.mktemp("worlds"))


@pytest.fixture(scope="module")
def expected():
    return {
        (tied, name): expected_gradients(tied, denominator(name))
        for tied in (False, True)
        for name in DENOMINATORS
    }


def compare(found, expected, dtype):
    error, cosine = TOLERANCE[dtype]
    assert found.keys() == expected.keys()
    for name, exact in expected.items():
        gradient = found[name].double()
        assert (gradient - exact).norm() <= error * exact.norm(), name
        assert torch.cosine_similarity(gradient.flatten(), exact.flatten(), dim=0) > cosine, name


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("accumulation", ACCUMULATIONS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("dtype", GRADIENT_TYPES)
@pytest.mark.parametrize("world", [1, 2, 4])
def test_weights_arrive(worlds, expected, world, dtype, tied, accumulation, denominator):
    loss, found = worlds[world]["gradients"][dtype, tied, accumulation, denominator]
    exact_loss, exact = expected[tied, denominator]
    assert loss == pytest.approx(exact_loss, rel=TOLERANCE[dtype][0])
    compare(found, exact, dtype)
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "recomputed"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_blocks_compiled_and_recomputed_are_exact(worlds, expected, compiled, checkpointing):
    loss, found = worlds[1]["blocks"][compiled, checkpointing]
    exact_loss, exact = expected[False, "targets"]
    assert loss == pytest.approx(exact_loss, rel=1e-5)
    compare(found, exact, torch.float32)


def test_micro_batches_differ():
    """Otherwise the tests above could not tell a mean of means from the step's mean."""
    supervised = (batch()["labels"] != IGNORE).view(4, -1).sum(dim=1)
    assert supervised.tolist() == [4 * 47, 0, 4 * 39, 4 * 30]
    assert denominator("sum_w") != pytest.approx(denominator("targets").item(), rel=1e-3)


@pytest.mark.parametrize("dtype", RESUMED_TYPES)
def test_resuming_on_as_many_ranks_is_bit_equal(worlds, dtype):
    losses, weights = worlds[2]["never stopped", dtype]
    resumed_losses, resumed = worlds[2]["resumed", dtype]
    assert len(losses) == STEPS
    assert resumed_losses == losses[SAVED_AFTER:]
    assert weights.keys() == resumed.keys()
    for name in weights:
        assert torch.equal(weights[name], resumed[name]), name


@pytest.mark.parametrize("world", [1, 4])
def test_resuming_on_other_ranks_is_equal_in_fp64(worlds, world):
    losses, weights = worlds[2]["never stopped", torch.float64]
    resumed_losses, resumed = worlds[world]["resumed", torch.float64]
    assert resumed_losses == pytest.approx(losses[SAVED_AFTER:], rel=1e-10)
    for name in weights:
        assert (weights[name] - resumed[name]).norm() <= 1e-10 * weights[name].norm(), name
