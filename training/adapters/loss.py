"""The weighted loss of a step in the loop of another trainer, and the D that it is divided by.

    loss = sum_j w_j ce_j / D        over all targets j of the step: every rank, every micro-batch

D is the number of targets of the whole step, counted before its first micro-batch. A micro-batch
contributes its part of the sum, divided by that D; `models.loss` says why a mean of means is
another loss.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy

from ...schemas.errors import UsageError
from ..models.labels import WeightedLabels
from ..models.loss import IGNORE, shift

__all__ = ["count_targets", "weighted_loss"]


def count_targets(
    batches: Iterable[Mapping[str, Any]], *, device: torch.device | str | None = None
) -> Tensor:
    """Counts the targets of a step over its micro-batches and all ranks: D.

    Args:
        batches: this rank's micro-batches of the step, as `flatten` or `collate` makes them.
        device: where the ranks add up, one that their process group can send from; by default
            where the labels are. Every rank has to call this.

    Returns:
        fp64 scalar.
    """
    own = torch.stack([(batch["labels"] != IGNORE).sum(dtype=torch.float64) for batch in batches])
    total = own.sum().to(device)
    if dist.is_initialized():
        dist.all_reduce(total)
    return total


def weighted_loss(
    logits: Tensor,
    labels: Tensor | WeightedLabels,
    vocab_size: int | None = None,
    *,
    loss_weights: Tensor | None = None,
    num_items_in_batch: Tensor | float | None = None,
    **_: Any,
) -> Tensor:
    """A micro-batch's share of the step's loss, from logits.

    It has the arguments of the loss functions of transformers: after
    `model.loss_function = weighted_loss`, `model(**batch, num_items_in_batch=D).loss` is this loss.
    Computed in fp32 (fp64 from fp64 logits).

    Args:
        logits: [B, L, V], unshifted: entry j predicts token j + 1.
        labels: int64 [B, L], unshifted; -100 where there is no target.
        vocab_size: not needed.
        loss_weights: [B, L], unshifted.
        num_items_in_batch: D of the whole step, as `count_targets` gives it.

    Raises:
        UsageError: the weights or D are missing.
    """
    if loss_weights is None:
        raise UsageError(
            "the loss was asked for without loss_weights",
            fix="pass on the whole batch, loss_weights too: model(**batch, ...)",
        )
    if num_items_in_batch is None:
        raise UsageError(
            "the loss was asked for without num_items_in_batch, the number of targets of the step",
            fix="model(**batch, num_items_in_batch=count_targets(batches of the step))",
        )
    exact = torch.promote_types(logits.dtype, torch.float32)
    targets, weights = shift(labels, loss_weights)
    targets, weights = targets.to(logits.device), weights.to(logits.device)
    ce = cross_entropy(
        logits.flatten(0, -2).to(exact), targets.flatten(), reduction="none", ignore_index=IGNORE
    )
    divided = weights.double() / torch.as_tensor(num_items_in_batch, device=weights.device)
    divided = divided.masked_fill(targets == IGNORE, 0)  # a step without targets divides 0 by 0
    return torch.dot(ce, divided.to(exact).flatten())
