"""The loss on the device, against the plain one in fp64."""

import pytest
import torch
from losses import TOLERANCE, plain, problem, relative

from exactcpt.training.models import loss as module
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_is_the_plain_operations(gpu, monkeypatch, dtype):
    hidden, head, targets, weights = moved(problem(*SIZES[gpu], dtype), gpu)
    assert module._kernel_for(hidden) is not None, "Triton is not installed"

    def results():
        loss, ce = weighted_cross_entropy(hidden, head, targets, weights, chunk=700)
        return loss.detach(), ce, *torch.autograd.grad(loss, (hidden, head))

    found = results()
    monkeypatch.setattr(module, "_kernel_for", lambda _: None)
    for one, other in zip(found, results(), strict=True):
        assert relative(one, other) < (1e-6 if one.dtype == torch.float32 else 4e-3)


def test_nothing_waits_for_the_device(gpu):
    hidden, head, targets, weights = moved(problem(*SIZES[gpu], torch.bfloat16), gpu)
    weighted_cross_entropy(hidden, head, targets, weights)[0].backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        weighted_cross_entropy(hidden, head, targets, weights)[0].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
