"""The weighted loss, plainly, and problems for it."""

import torch
import torch.nn.functional as F  # noqa: N812

from exactcpt.training.models.loss import IGNORE

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-3}
"""Relative error of the gradients, by the type of the states."""


def plain(hidden, head, targets, weights):
    """Every logit at once, and autograd: the loss, ce, and the gradients, in fp64."""
    hidden, head = (tensor.detach().double().requires_grad_() for tensor in (hidden, head))
    ce = F.cross_entropy(hidden @ head.T, targets, ignore_index=IGNORE, reduction="none")
    loss = (weights.double() * ce).sum()
    loss.backward()
    return loss.detach(), ce.detach(), hidden.grad, head.grad


def problem(rows, ids, width, dtype, seed=0):
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=draw).to(dtype).requires_grad_()
    head = torch.randn(ids, width, generator=draw).to(dtype).requires_grad_()
    targets = torch.randint(0, ids, (rows,), generator=draw)
    weights = torch.rand(rows, generator=draw) + 0.5
    unsupervised = torch.rand(rows, generator=draw) < 0.25
    return (
        hidden,
        head,
        targets.masked_fill(unsupervised, IGNORE),
        weights.masked_fill(unsupervised, 0),
    )


def relative(found, expected):
    found, expected = found.double(), expected.double()
    return ((found - expected).norm() / expected.norm().clamp_min(1e-300)).item()
