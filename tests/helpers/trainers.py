"""A trainer that does everything right, and the same with one mistake in it.

A tiny transformer of our own, so that every mistake can be made: no library repairs it or makes
another one. `Trainer().step` is what `check-trainer` takes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

Batch = dict[str, Any]
IGNORE = -100
IDS = 128
WIDTH = 16


class Model(nn.Module):
    """One layer of attention with absolute positions: it must be told where documents begin."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        shapes = {
            "tokens": (IDS, WIDTH), "positions": (512, WIDTH), "query": (WIDTH, WIDTH),
            "key": (WIDTH, WIDTH), "value": (WIDTH, WIDTH), "head": (WIDTH, IDS),
        }  # fmt: skip
        for name, shape in shapes.items():
            values = torch.randn(shape, generator=draw) * 0.5
            self.register_parameter(name, nn.Parameter(values))
        self.dropout = dropout

    def forward(self, ids: Tensor, positions: Tensor, sees: Tensor) -> Tensor:
        """Logits [B, L, V] from ids and positions [B, L] and what sees what [B, L, L]."""
        x = dropout(self.tokens[ids] + self.positions[positions], self.dropout)
        scores = (x @ self.query) @ (x @ self.key).mT / WIDTH**0.5
        attended = scores.masked_fill(~sees, -torch.inf).softmax(-1) @ (x @ self.value)
        return (x + attended) @ self.head


def segments(batch: Batch) -> Tensor:
    """The segment of every position [B, L], numbered through the micro-batch."""
    ids = batch["input_ids"]
    numbers = torch.repeat_interleave(batch["cu_seqlens"].diff().long())
    return numbers.view_as(ids)


def own_past(batch: Batch) -> Tensor:
    """What every position sees, [B, L, L]."""
    segment = segments(batch)
    return (segment[:, :, None] == segment[:, None, :]).tril()


def restarting(batch: Batch) -> Tensor:
    return batch["position_ids"].long()


def shifted(values: Tensor, last: float, by: int = 1) -> Tensor:
    return torch.cat([values[:, by:], values.new_full((len(values), by), last)], dim=1)


def shift_both(labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return shifted(labels, IGNORE), shifted(weights, 0)


def as_given(batch: Batch) -> Tensor:
    return batch["labels"]


def weights_given(batch: Batch) -> Tensor:
    return batch["loss_weights"]


def targets_of_step(batches: list[Batch]) -> list[Any]:
    total = sum((batch["labels"] != IGNORE).sum() for batch in batches)
    return [total] * len(batches)


@dataclass(kw_only=True)
class Trainer:
    """The loss of a step is sum w ce / D; each part can be replaced.

    Attributes:
        sees: what every position attends to, [B, L, L].
        positions: of the tokens, [B, L].
        labels, weights: of the targets, [B, L], from the batch.
        shift: moves both to the positions that predict them.
        denominators: what the loss of each micro-batch is divided by.
        losses: the loss from ce and weights, both [B, L]; 0 where there is no target.
        resets: whether a step begins with gradients of zero.
        learns: whether it changes the weights.
        flat: whether all windows of a micro-batch are one row for the attention.
    """

    sees: Callable[[Batch], Tensor] = own_past
    positions: Callable[[Batch], Tensor] = restarting
    labels: Callable[[Batch], Tensor] = as_given
    weights: Callable[[Batch], Tensor] = weights_given
    shift: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = shift_both
    denominators: Callable[[list[Batch]], list[Any]] = targets_of_step
    losses: Callable[[Tensor, Tensor], Tensor] = lambda ce, w: (ce * w).sum()
    resets: bool = True
    learns: bool = False
    flat: bool = False
    model: Model = field(default_factory=Model)

    def step(self, batches: list[Batch]) -> nn.Module:
        if self.resets:
            self.model.zero_grad()
        for batch, denominator in zip(batches, self.denominators(batches), strict=True):
            ids = batch["input_ids"].long()
            positions, sees = self.positions(batch), self.sees(batch)
            if self.flat:
                logits = self.model(ids.view(1, -1), positions.view(1, -1), sees)
            else:
                logits = self.model(ids, positions, sees)
            labels, weights = self.shift(self.labels(batch), self.weights(batch))
            ce = cross_entropy(logits.view(-1, IDS), labels.flatten(), reduction="none")
            (self.losses(ce.view_as(labels), weights) / denominator).backward()
        if self.learns:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter -= 0.1 * parameter.grad
        return self.model


# Mistakes


def whole_past(batch: Batch) -> Tensor:
    return torch.ones_like(own_past(batch)).tril()


def whole_document(batch: Batch) -> Tensor:
    segment = segments(batch)
    return segment[:, :, None] == segment[:, None, :]


def near_past(batch: Batch) -> Tensor:
    """A sliding window of 8 tokens."""
    own = own_past(batch)
    return own & ~torch.ones_like(own).tril(-8)


def late_boundaries(batch: Batch) -> Tensor:
    """Boundaries come one token too soon: a document begins with the last token of another."""
    segment = shifted(segments(batch), -1)
    return (segment[:, :, None] == segment[:, None, :]).tril() | torch.eye(
        segment.shape[1], dtype=torch.bool
    )


def flat_past(batch: Batch) -> Tensor:
    """Windows are one row, and the boundaries between them are lost."""
    inner = segments(batch)
    ends = batch["cu_seqlens"].tolist()
    joined, length = {}, inner.shape[1]
    for number, (start, _) in enumerate(pairwise(ends)):
        at_join = start and start % length == 0
        joined[number] = joined[number - 1] if at_join else number
    segment = torch.tensor([joined[n] for n in inner.flatten().tolist()])[None]
    return (segment[:, :, None] == segment[:, None, :]).tril()


def through_window(batch: Batch) -> Tensor:
    ids = batch["input_ids"]
    return torch.arange(ids.shape[1]).expand_as(ids)


def labels_of_ids(batch: Batch) -> Tensor:
    return batch["input_ids"].long()


def is_padding(batch: Batch) -> Tensor:
    """The last segment of a window, if none of it has a label and it is no single token."""
    last = segments(batch)
    unlabelled = batch["labels"] == IGNORE
    found = torch.zeros_like(unlabelled)
    for row in range(len(last)):
        own = last[row] == last[row, -1]
        found[row] = own & unlabelled[row, own].all()
    return found


def padding_too(batch: Batch) -> Tensor:
    return torch.where(is_padding(batch), batch["input_ids"].long(), batch["labels"])


def first_too(batch: Batch) -> Tensor:
    first = (batch["position_ids"] == 0) & ~is_padding(batch)
    return torch.where(first, batch["input_ids"].long(), batch["labels"])


def ones(batch: Batch) -> Tensor:
    return torch.ones_like(batch["loss_weights"])


def ones_where_none(batch: Batch) -> Tensor:
    return torch.where(batch["loss_weights"] == 0, 1.0, batch["loss_weights"])


def squared(batch: Batch) -> Tensor:
    return batch["loss_weights"] ** 2


def not_shifted(labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return labels, weights


def shifted_twice(labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return shift_both(*shift_both(labels, weights))


def shifted_backwards(labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return torch.roll(labels, 1, 1), torch.roll(weights, 1, 1)


def weights_not_shifted(labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return shifted(labels, IGNORE), weights


def weights_shifted_twice(labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return shifted(labels, IGNORE), shifted(weights, 0, 2)


def mean_of_means(batches: list[Batch]) -> list[Any]:
    return [(batch["labels"] != IGNORE).sum() * len(batches) for batch in batches]


def own_targets(batches: list[Batch]) -> list[Any]:
    return [(batch["labels"] != IGNORE).sum() for batch in batches]


def own_weights(batches: list[Batch]) -> list[Any]:
    return [batch["loss_weights"].sum() for batch in batches]


def weights_of_step(batches: list[Batch]) -> list[Any]:
    total = sum(batch["loss_weights"].sum() for batch in batches)
    return [total] * len(batches)


def windows_of_step(batches: list[Batch]) -> list[Any]:
    return [sum(len(batch["labels"]) for batch in batches)] * len(batches)


def nothing(batches: list[Batch]) -> list[Any]:
    return [1] * len(batches)


def per_window(ce: Tensor, weights: Tensor) -> Tensor:
    """The sum of the means of the windows."""
    return ((ce * weights).sum(1) / (weights > 0).sum(1)).sum()


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "dropout": ({"model": Model(0.2)}, ["repeat"]),
    "gradients are not reset": ({"resets": False}, ["repeat"]),
    "the optimizer steps": ({"learns": True}, ["repeat"]),
    "padding is trained on": (
        {"labels": padding_too, "weights": ones_where_none},
        ["padding", "targets"],
    ),
    "first tokens are trained on": ({"labels": first_too, "weights": ones_where_none}, ["targets"]),
    "labels and weights are ignored": (
        {"labels": labels_of_ids, "weights": ones},
        ["padding", "targets"],
    ),
    "labels are made from tokens": ({"labels": labels_of_ids}, ["labels"]),
    "weights are ignored": ({"weights": ones}, ["weights"]),
    "weights count twice": ({"weights": squared}, ["weights"]),
    "weights are not shifted": ({"shift": weights_not_shifted}, ["alignment"]),
    "weights are shifted twice": ({"shift": weights_shifted_twice}, ["alignment"]),
    "attention is not causal": ({"sees": whole_document}, ["causality"]),
    "labels are shifted backwards": (
        {"shift": shifted_backwards},
        ["padding", "causality", "documents"],
    ),
    "labels are not shifted": ({"shift": not_shifted}, ["shift"]),
    "labels are shifted twice": ({"shift": shifted_twice}, ["shift"]),
    "one text": ({"sees": whole_past}, ["documents"]),
    "boundaries are off by one": ({"sees": late_boundaries}, ["documents"]),
    "windows are joined": ({"sees": flat_past, "flat": True}, ["windows"]),
    "a sliding window": ({"sees": near_past}, ["reach"]),
    "positions go on": ({"positions": through_window}, ["place"]),
    "mean of means": ({"denominators": mean_of_means}, ["denominator"]),
    "sum of means": ({"denominators": own_targets}, ["denominator"]),
    "weights per micro-batch": ({"denominators": own_weights}, ["denominator"]),
    "a mean per window": ({"denominators": windows_of_step, "losses": per_window}, ["denominator"]),
}
"""What is wrong with a trainer: what replaces the right parts, and the checks that must fail,
no others."""
