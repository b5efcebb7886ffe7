"""The loss on the device, against the plain one in fp64."""

import pytest
import torch
from losses import TOLERANCE, plain, problem, relative

from exactcpt.training.models.loss import weighted_cross_entropy

SIZES = {"cuda": (3000, 50257, 256), "cpu": (60, 500, 16)}


def moved(tensors, device):
    return [each.detach().to(device).requires_grad_(each.requires_grad) for each in tensors]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("chunk", [None, 700])
def test_loss_and_gradients_are_the_plain_ones(device, dtype, chunk):
    hidden, head, targets, weights = moved(problem(*SIZES[device], dtype), device)
    expected = plain(hidden, head, targets, weights)
    loss, ce = weighted_cross_entropy(
        hidden, head, targets, weights, **({} if chunk is None else {"chunk": chunk})
    )
    (3 * loss).backward()
    for found, exact in zip((loss, ce), expected[:2], strict=True):
        assert relative(found, exact) < max(TOLERANCE[dtype] / 4, 1e-12)
    for found, exact in zip((hidden.grad, head.grad), expected[2:], strict=True):
        assert relative(found, 3 * exact) < TOLERANCE[dtype]


def test_nothing_waits_for_the_device(gpu):
    hidden, head, targets, weights = moved(problem(*SIZES[gpu], torch.bfloat16), gpu)
    weighted_cross_entropy(hidden, head, targets, weights)[0].backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        weighted_cross_entropy(hidden, head, targets, weights)[0].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
