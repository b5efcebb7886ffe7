"""The optimizer, the learning rate of each step, and gradient clipping."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ...schemas.sizes import plural
from ..config import TrainConfig

__all__ = [
    "clip",
    "gradient_of_loss",
    "learning_rate",
    "make_optimizer",
    "schedule_cautions",
    "update",
]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Makes a fused AdamW for the weights as they are now; only matrices decay."""
    weights = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def gradient_of_loss(loss: Tensor, per_window: Tensor) -> Tensor:
    """What a backward pass begins with: 1, or NaN if a window's cross-entropy is not finite.

    NaN makes the gradients of all weights NaN, also those of the other ranks, since gradients are
    summed over all ranks. So the norm of the gradient is finite only if each cross-entropy is, and
    it alone tells all ranks whether a step is skipped. The host does not wait for it.

    Args:
        loss: scalar, of a micro-batch.
        per_window: sum of cross-entropies of each of its windows.

    Returns:
        A scalar of the loss's type.
    """
    return torch.ones_like(loss).masked_fill_(~torch.isfinite(per_window).all(), math.nan)


def update(optimizer: torch.optim.Optimizer, *, skip: Tensor) -> None:
    """Takes a step of a fused optimizer, or none; which of them is decided on the device.

    A step that is skipped leaves the weights and all of the optimizer's state as they were, also
    the number of steps by which Adam corrects its means. The gradients may be anything.

    Args:
        optimizer: with `fused=True`.
        skip: bool scalar, whether to skip the step. The host does not wait for it.
    """
    optimizer.found_inf = skip.float()  # type: ignore[attr-defined]  # as GradScaler does it
    optimizer.step()


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The learning rate of one step.

    It rises linearly over `warmup_steps`. Then it falls in half a cosine, or it stays constant and
    falls linearly over the last `decay_steps`, without those inside the warm-up. The last step has
    final_learning_rate x learning_rate, unless it is in the warm-up.

    Args:
        step: number of the step, from 1.
        steps: number of steps of the whole run.
        config: gives the schedule.
    """
    warmup = config.warmup_steps
    if step <= warmup:
        return config.learning_rate * step / warmup
    if config.schedule == "cosine":
        begin = warmup
    else:
        decay = steps // 10 if config.decay_steps is None else config.decay_steps
        begin = max(warmup, steps - decay)
        if step <= begin:
            return config.learning_rate
    done = min(1.0, (step - begin) / (steps - begin))
    left = (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else 1 - done
    final = config.final_learning_rate
    return config.learning_rate * (final + (1 - final) * left)


def schedule_cautions(steps: int, config: TrainConfig) -> Iterator[str]:
    """Yields a line for a person if the run is too short for its schedule."""
    warmup, decay = config.warmup_steps, config.decay_steps
    if warmup >= steps:
        highest = learning_rate(steps, steps, config)
        yield (
            f"the warm-up takes {plural(warmup, 'step')} and the run has {steps:,}: "
            f"the learning rate rises to {highest:g} and does not fall"
        )
    elif config.schedule == "wsd" and decay is not None and decay > steps - warmup:
        yield (
            f"the learning rate should fall over {plural(decay, 'step')}, "
            f"but after the warm-up the run has only {steps - warmup:,}"
        )


def clip(weights: Iterable[Tensor], longest: float, to: float | None = None) -> Tensor:
    """Scales the gradient of all weights together: first to a given norm, then down to the longest.

    Args:
        weights: those that have a gradient count.
        longest: norm that a longer gradient is scaled down to; 0 for no clipping.
        to: norm that any gradient other than 0 is scaled to before that; None for no scaling.

    Returns:
        Its norm before both, a scalar, the same on all ranks.
    """
    weights = [w for w in weights if w.grad is not None]
    gradients: list[Any] = [w.grad for w in weights]
    found = torch.nn.utils.get_total_norm(gradients)
    if isinstance(found, DTensor):
        found = found.full_tensor()
    length = found
    if to is not None:
        length = torch.where(found == 0, found, to)
        factor = torch.where(found == 0, found, length / found)  # exactly 1 for the same norm
        for gradient in gradients:
            gradient.mul_(factor)
    if longest:
        torch.nn.utils.clip_grads_with_norm_(weights, longest, length)
    return found
