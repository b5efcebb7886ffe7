"""The cross-entropies of a chunk of logits and their gradient, in one kernel, written in Triton.

Every element of the logits is read twice: first for the largest of its row and the sum of the
exponentials beside it (an online softmax: Milakov and Gimelshein, 2018), then for the gradient,
which is written once.
PyTorch's own operations, which `loss.py` uses elsewhere, read and write them eleven times. All
arithmetic is in fp32.

Importing this module needs Triton.
"""

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

__all__ = ["cross_entropy"]

BLOCK = 4096
"""Number of logits of a row that a program holds at a time."""


def cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """The cross-entropy of each row, and the gradient of the weighted sum.

    Args:
        logits: [T, V] fp32 or bf16, each row without gaps.
        targets: int64 [T]; a negative one is no target.
        weights: fp32 [T], 0 where there is no target.
        dtype: the type of the gradient; None if it is not asked for.

    Returns:
        fp32 [T], 0 where there is no target; and the gradient [T, V], (softmax - onehot) w, which
        in the logits' type takes their memory. If it is not asked for, the logits as they were.
    """
    rows, ids = logits.shape
    gradient = logits if dtype in (None, logits.dtype) else torch.empty_like(logits, dtype=dtype)
    ce = torch.empty(rows, dtype=torch.float32, device=logits.device)
    with torch.cuda.device_of(logits):
        _rows[(rows,)](  # pyright: ignore[reportIndexIssue]  # without Triton it looks like a function
            logits,
            gradient,
            targets,
            weights,
            ce,
            ids,
            logits.stride(0),
            gradient.stride(0),
            FILLS=dtype is not None,
            BLOCK=min(BLOCK, triton.next_power_of_2(ids)),
            num_warps=8,
        )
    return ce, gradient


@triton.jit
def _rows(
    logits, gradient, targets, weights, ce, ids, stride, gradient_stride,
    FILLS: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    gradient += row * gradient_stride
    target = tl.load(targets + row)
    columns = tl.arange(0, BLOCK)

    largest = float("-inf")
    total = 0.0
    at_target = 0.0
    for first in range(0, ids, BLOCK):
        places = first + columns
        values = tl.load(logits + places, mask=places < ids, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(largest, tl.max(values, axis=0))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(values - higher), axis=0)
        # Taken from what is read here: later, the gradient may stand in its place.
        at_target += tl.sum(tl.where(places == target, values, 0.0), axis=0)
        largest = higher
    found = tl.log(total) - (at_target - largest)
    tl.store(ce + row, tl.where(target < 0, 0.0, found))

    if FILLS:
        weight = tl.load(weights + row)
        scale = weight / total
        for first in range(0, ids, BLOCK):
            places = first + columns
            inside = places < ids
            values = tl.load(logits + places, mask=inside, other=float("-inf")).to(tl.float32)
            value = tl.exp(values - largest) * scale
            value = tl.where(places == target, value - weight, value)
            tl.store(gradient + places, value.to(gradient.dtype.element_ty), mask=inside)
