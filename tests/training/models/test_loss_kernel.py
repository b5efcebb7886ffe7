"""The kernel of the loss against PyTorch's operations, in Triton's interpreter: on any CPU."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
]

# Triton decides when it is imported whether it interprets: in a process of its own.
MEASURE = """
import json, torch
from exactcpt.training.models import loss, loss_kernel

def relative(found, expected):
    found, expected = found.double(), expected.double()
    return ((found - expected).norm() / expected.norm().clamp_min(1e-30)).item()

def problem(rows, ids, dtype):
    torch.manual_seed(0)
    logits = (3 * torch.randn(rows, ids)).to(dtype)
    targets = torch.randint(0, ids, (rows,)).index_fill(0, torch.arange(0, rows, 3), loss.IGNORE)
    targets[-1] = ids - 1
    return logits, targets, torch.rand(rows).masked_fill(targets == loss.IGNORE, 0)

found = {}
loss_kernel.BLOCK = 64  # the interpreter takes its time
for rows, ids in ((7, 300), (5, 64), (1, 1), (3, 65), (4, 5)):
    for kept, dtype in ((torch.float32, torch.float32), (torch.float32, torch.bfloat16),
                        (torch.bfloat16, torch.bfloat16)):
        logits, targets, weights = problem(rows, ids, kept)
        expected = loss._cross_entropy(logits.float().clone(), targets, weights, torch.float32)
        own = logits.clone()
        ce, gradient = loss_kernel.cross_entropy(own, targets, weights, dtype)
        assert gradient.dtype == dtype and (gradient is own) == (kept == dtype)
        found[f"{rows} {ids} {kept} {dtype}"] = [
            relative(ce, expected[0]), relative(gradient, expected[1])]
        ce, untouched = loss_kernel.cross_entropy(logits.clone(), targets, weights, None)
        assert torch.equal(untouched, logits)
        found[f"{rows} {ids} {kept} alone"] = [relative(ce, expected[0]), 0.0]

for bad in (float("nan"), float("inf")):
    logits, targets, weights = problem(5, 130, torch.float32)
    logits[1, 7] = bad
    ce, _ = loss_kernel.cross_entropy(logits, targets, weights, torch.float32)
    assert ce.isfinite().tolist() == [True, False, True, True, True]
    assert logits.isfinite().all(dim=1).tolist() == [True, False, True, True, True]

# The whole loss with the kernel, as on a device that has it.
tensors = torch.randn(50, 8, requires_grad=True), torch.randn(130, 8, requires_grad=True)
_, targets, weights = problem(50, 130, torch.float32)
results = []
for kernel in (None, loss_kernel.cross_entropy):
    loss._kernel_for = lambda hidden, kernel=kernel: kernel
    total, ce = loss.weighted_cross_entropy(*tensors, targets, weights, chunk=16)
    results.append([total.detach(), ce, *torch.autograd.grad(total, tensors)])
found["whole"] = [relative(one, other) for other, one in zip(*results)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def measured():
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        env=os.environ | {"TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_kernel_is_the_plain_operations(measured):
    """In fp32 to 1e-6; a gradient in bf16 is rounded once."""
    assert len(measured) == 26
    for name, (ce, gradient) in ((n, e) for n, e in measured.items() if n != "whole"):
        assert ce < 1e-6, name
        assert gradient < (2**-8 if "bfloat16" in name else 1e-6), name


def test_the_loss_with_the_kernel_is_the_loss(measured):
    assert len(measured["whole"]) == 4
    assert max(measured["whole"]) < 1e-6
