"""The loss of a step: a weighted cross-entropy from hidden states that keeps no logits.

The sum is over all supervised targets j of the *global* batch: every rank, every micro-batch.

    loss = sum_j w_j ce_j / D

    ce_j    -log softmax(W h)_j, h the hidden state of the position before the target
    w_j     the target's weight, fp32
    D       the number of supervised targets (`targets`), or sum_j w_j (`sum_w`)

D is one number for the whole step, known before its first micro-batch. Micro-batch m of a rank
contributes sum_{j in m} w_j ce_j / D, and gradients are linear, so the sum over micro-batches and
ranks is the gradient of the step's loss, however the batch is divided. The mean of the means of M
micro-batches is another loss: it multiplies the targets of micro-batch m by D / (M D_m), so that a
target counts more if it happens to sit among few others. With document masks, padding and weights,
D_m differs between micro-batches.

Memory: the logits of one chunk of positions at a time are computed, turned into probabilities and
then into the gradient of the loss with respect to the logits, all in one buffer of [chunk,
vocabulary], and multiplied into the gradients of the hidden states and of the head. The head's
gradient is added up in fp32, so that of a bf16 head exists in both types for a moment. The logits'
gradient is known in the forward pass, since it needs nothing but the weight,

    d loss / d logits_j = (softmax(logits_j) - onehot(target_j)) w_j / D

so nothing is computed twice. w_j / D is computed in fp32 before that: dividing afterwards would
round the gradients of the trunk and of the head differently in bf16.

On CUDA devices, where Triton is installed, a kernel of our own goes over the logits
(`loss_kernel.py`); elsewhere operations of PyTorch do, and they are what the kernel is tested
against.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .autocast import operands
from .kernels import can_compile
from .labels import WeightedLabels, plain

__all__ = ["IGNORE", "has_kernel", "next_position", "shift", "weighted_cross_entropy"]

IGNORE = -100
"""The label of a position that is not a supervised target."""

CHUNK = 512
"""Number of positions whose logits exist at the same time: 0.4 GB in fp32 for 200,000 ids."""

KERNEL_CHUNK = 2048
"""The same with the kernel: 1.6 GB, and half of that for a gradient in bf16. Every chunk reads and
writes the gradient of the whole head, which beside a fast kernel is what counts."""

VOCABULARY_BLOCK = 4096
"""Number of rows of the head cast at a time if a device cannot multiply bf16 into fp32."""


def shift(labels: Tensor | WeightedLabels, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Moves labels and weights together to the positions that predict them.

    Args:
        labels: int64 [B, L]; entry j is token j itself, or -100 if it is not a target.
        weights: [B, L], aligned with the labels.

    Returns:
        Both, [B, L]: entry t belongs to target t + 1. The last position of a window predicts
        nothing and has -100 and 0.
    """
    return next_position(plain(labels), IGNORE), next_position(weights, 0)


def next_position(values: Tensor, last: float) -> Tensor:
    """Shifts [B, L] to the left: entry t becomes entry t + 1, the last entry becomes `last`."""
    return torch.cat([values[:, 1:], values.new_full((len(values), 1), last)], dim=1)


def weighted_cross_entropy(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, *, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """The sum of w_j ce_j, with weights that are already divided by D.

    Args:
        hidden: [T, H] fp32, bf16 or fp64: states of the positions that predict.
        head: [V, H] of the same type: the output embedding, tied or not.
        targets: int64 [T], -100 where nothing is predicted, whatever the weight there.
        weights: [T] fp32 (fp64 with fp64 states): w_j / D.
        chunk: number of positions whose logits exist at the same time; None for `CHUNK`, or
            `KERNEL_CHUNK` with the kernel.

    Returns:
        The loss, and ce_j [T] without gradient (0 where nothing is predicted). Both are fp32, or
        fp64 with fp64 states.

    Under `torch.autocast` in bf16, states and head are rounded to bf16, as those of a linear layer;
    logits stay fp32.

    Raises:
        TypeError: a tensor has another type. fp16 is refused: w / D would underflow.
    """
    hidden, head = operands(hidden, head)
    _check_types(hidden, head, weights)
    if chunk is None:
        chunk = CHUNK if _kernel_for(hidden) is None else KERNEL_CHUNK
    with torch.autocast(hidden.device.type, enabled=False):
        return _WeightedCrossEntropy.apply(  # type: ignore[no-any-return]
            hidden, head, targets, weights, chunk, torch.is_grad_enabled()
        )


def _check_types(hidden: Tensor, head: Tensor, weights: Tensor) -> None:
    if hidden.dtype not in (torch.float32, torch.bfloat16, torch.float64):
        raise TypeError(f"hidden states are {hidden.dtype}, expected float32, bfloat16 or float64")
    if head.dtype != hidden.dtype:
        raise TypeError(f"the head is {head.dtype}, expected {hidden.dtype} like the hidden states")
    if weights.dtype not in (torch.float32, _accumulator(hidden)):
        raise TypeError(f"weights are {weights.dtype}, expected {_accumulator(hidden)}")


def _accumulator(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


class _WeightedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, chunk: int, grad: bool
    ) -> tuple[Tensor, Tensor]:
        exact = _accumulator(hidden)
        weights = weights.to(exact).masked_fill(targets == IGNORE, 0)
        ce = torch.empty(len(hidden), dtype=exact, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if grad and ctx.needs_input_grad[0] else None
        head_gradient = (
            torch.zeros_like(head, dtype=exact) if grad and ctx.needs_input_grad[1] else None
        )
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            ce[part] = _add_chunk(
                hidden[part],
                head,
                targets[part],
                weights[part],
                None if hidden_gradient is None else hidden_gradient[part],
                head_gradient,
            )
        ctx.gradients = hidden_gradient, head_gradient
        ctx.head_type = head.dtype
        ctx.mark_non_differentiable(ce)
        return torch.dot(weights, ce), ce

    @staticmethod
    @once_differentiable
    def backward(ctx, loss_gradient: Tensor, _: Tensor):  # type: ignore[override]
        if ctx.gradients is None:
            raise RuntimeError("backward was called twice: the gradients have been freed")
        hidden, head = ctx.gradients
        ctx.gradients = None
        if hidden is not None:
            hidden.mul_(loss_gradient)
        if head is not None:
            head = head.mul_(loss_gradient).to(ctx.head_type)
        return hidden, head, None, None, None, None


def _add_chunk(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    hidden_gradient: Tensor | None,
    head_gradient: Tensor | None,
) -> Tensor:
    """The cross-entropies of a chunk; fills or adds to the gradients that are asked for."""
    logits = _logits(hidden, head)
    if hidden_gradient is None and head_gradient is None:
        dtype = None
    else:
        dtype = logits.dtype if _casts(head) else head.dtype
    ce, gradient = (_kernel_for(hidden) or _cross_entropy)(logits, targets, weights, dtype)
    if hidden_gradient is not None:
        hidden_gradient.copy_(_times_head(gradient, head))
    if head_gradient is not None:
        _add_outer_(head_gradient, gradient, hidden)
    return ce


def _cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """The cross-entropies, and (softmax - onehot) w in a type, if one is given; loses the logits.

    w is 0 where nothing is predicted.
    """
    columns = targets.clamp_min(0).unsqueeze(1)
    # Every pass over the logits costs memory traffic; there are five, all in place.
    logits.sub_(logits.amax(dim=1, keepdim=True))
    at_target = logits.gather(1, columns).squeeze(1)
    total = logits.exp_().sum(dim=1)
    ce = (total.log() - at_target).masked_fill(targets == IGNORE, 0)
    if dtype is None:
        return ce, logits
    gradient = logits.mul_((weights / total).unsqueeze(1))
    gradient.scatter_add_(1, columns, -weights.unsqueeze(1))
    return ce, gradient.to(dtype)


Kernel = Callable[[Tensor, Tensor, Tensor, torch.dtype | None], tuple[Tensor, Tensor]]


def has_kernel() -> bool:
    """Whether a CUDA device gets the kernel."""
    return _kernel() is not None


def _kernel_for(hidden: Tensor) -> Kernel | None:
    """What takes the place of `_cross_entropy`; None where nothing can."""
    return _kernel() if hidden.is_cuda and hidden.dtype != torch.float64 else None


@cache
def _kernel() -> Kernel | None:
    # Builds of PyTorch for CPUs, and for Windows, come without Triton.
    if not can_compile():
        return None
    from .loss_kernel import cross_entropy

    return cross_entropy


# Products of bf16 matrices with results in fp32. CUDA devices have them; elsewhere the operands are
# cast, the head one block of rows at a time, so that it is never copied whole.


def _casts(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bfloat16 and not tensor.is_cuda


def _blocks(head: Tensor) -> list[slice]:
    return [
        slice(start, start + VOCABULARY_BLOCK) for start in range(0, len(head), VOCABULARY_BLOCK)
    ]


def _logits(hidden: Tensor, head: Tensor) -> Tensor:
    if _casts(hidden):
        logits = torch.empty(len(hidden), len(head), device=hidden.device)
        for block in _blocks(head):
            torch.mm(hidden.float(), head[block].float().T, out=logits[:, block])
        return logits
    if hidden.dtype == torch.bfloat16:
        return torch.mm(hidden, head.T, out_dtype=torch.float32)
    return hidden @ head.T


def _times_head(gradient: Tensor, head: Tensor) -> Tensor:
    if _casts(head):
        product = torch.zeros(len(gradient), head.shape[1], device=head.device)
        for block in _blocks(head):
            product.addmm_(gradient[:, block], head[block].float())
        return product
    return gradient @ head


def _add_outer_(total: Tensor, gradient: Tensor, hidden: Tensor) -> None:
    if hidden.dtype == torch.bfloat16 and hidden.is_cuda:
        torch.addmm(total, gradient.T, hidden, out_dtype=torch.float32, out=total)
    else:
        total.addmm_(gradient.T, hidden.to(total.dtype))
