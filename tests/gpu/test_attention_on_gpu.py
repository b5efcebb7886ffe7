"""The backends that run on a GPU alone, against plain attention and documents that run alone."""

import pytest
import torch
from models import causal_lm, documents, hidden, packed

from exactcpt.training.models.attention import flex_mask

WINDOWS = {"cuda": [[700, 1, 250, 73], [1024]], "cpu": [[20, 1, 29, 14], [64]]}
BACKENDS = {"cuda": ("varlen", "flex"), "cpu": ("cpu",)}


@pytest.fixture(params=["varlen", "flex", "cpu"])
def backend(request, device) -> str:
    if request.param not in BACKENDS[device]:
        pytest.skip(f"not on {device}")
    return request.param


def run(model, backend, of):
    more = {}
    if backend == "flex":
        more["block_mask"] = flex_mask(of["cu_seqlens"], *of["input_ids"].shape)
    return hidden(model, of, **more)


def results(model, backend, batches):
    model.zero_grad()
    outputs = [run(model, backend, of).flatten(0, 1) for of in batches]
    sum(output.float().square().sum() for output in outputs).backward()
    gradients = [weight.grad for weight in model.base_model.parameters()]
    return [tensor.double() for tensor in (torch.cat(outputs), *gradients)]


@pytest.mark.parametrize("heads", [64, 128])
def test_a_batch_errs_no_more_than_its_documents_alone(device, backend, heads):
    """Forward and gradients in bf16: at most twice the error of each document alone."""
    batch = {name: values.to(device) for name, values in packed(WINDOWS[device]).items()}
    shape = {"hidden_size": 256, "head_dim": heads}
    exact = causal_lm("exact", dtype=torch.float64, **shape).to(device)
    model = causal_lm(backend, **shape).to(device, torch.bfloat16)
    truth = results(exact, "exact", [batch])
    together = results(model, backend, [batch])
    alone = results(model, backend, documents(batch))
    for right, one, other in zip(truth, together, alone, strict=True):
        assert one.isfinite().all()
        assert (one - right).norm() <= 2 * (other - right).norm() + 1e-6 * right.norm()


def test_another_document_changes_no_bit_of_the_output(device, backend):
    """Where the first document of a window is another one, the second is as it was."""
    lengths = WINDOWS[device][0]
    batch = {name: values.to(device) for name, values in packed([lengths]).items()}
    changed = batch["input_ids"].clone()
    changed[0, : lengths[0]] = (changed[0, : lengths[0]] + 100) % 307
    model = causal_lm(backend, hidden_size=256, head_dim=64).to(device, torch.bfloat16)
    with torch.no_grad():
        before = run(model, backend, batch)[0]
        after = run(model, backend, batch | {"input_ids": changed})[0]
    assert not torch.equal(before[: lengths[0]], after[: lengths[0]])
    assert torch.equal(before[lengths[0] :], after[lengths[0] :])
