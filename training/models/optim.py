"""The optimizer, the learning rate of a step, and the length of a gradient."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..config import TrainConfig

__all__ = ["clip", "learning_rate", "make_optimizer", "schedule_cautions"]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, fused, over the weights as they are now; matrices alone decay."""
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


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The learning rate of one step.

    A straight line up over `warmup_steps`; then half a cosine down, or a constant and a straight
    line down over the last `decay_steps`, of which those inside the warm-up are left out. The last
    step has final_learning_rate x learning_rate, unless it is one of the warm-up.

    Args:
        step: from 1.
        steps: of the whole run.
        config: what the schedule is.
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
    """Where a run is too short for its schedule, a line for a person each."""
    warmup, decay = config.warmup_steps, config.decay_steps
    if warmup >= steps:
        highest = learning_rate(steps, steps, config)
        yield (
            f"the warm-up takes {warmup:,} steps and the run {steps:,}: the learning rate rises to "
            f"{highest:g} and does not come down"
        )
    elif config.schedule == "wsd" and decay is not None and decay > steps - warmup:
        yield (
            f"the learning rate should come down over {decay:,} steps, and after the warm-up the "
            f"run has {steps - warmup:,}"
        )


def clip(weights: Iterable[Tensor], longest: float) -> Tensor:
    """Shortens the gradient of all weights together to a length; 0 leaves it as it is.

    Returns:
        Its Euclidean length before that, a scalar, the same on all ranks.
    """
    weights = [w for w in weights if w.grad is not None]
    gradients: list[Any] = [w.grad for w in weights]
    length = torch.nn.utils.get_total_norm(gradients)
    if isinstance(length, DTensor):
        length = length.full_tensor()
    if longest:
        torch.nn.utils.clip_grads_with_norm_(weights, longest, length)
    return length
