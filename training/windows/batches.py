"""Windows of memory-mapped shards, as tensors for training.

    dataset = ShardDataset("shards")
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, collate_fn=collate)

Labels and weights are unshifted: `labels[j]` and `loss_weights[j]` belong to token j as a target,
which is predicted from position j - 1. The computation of the loss has to shift both by one. The
first token of a window is the first of a segment, so position 0 is never a target.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ...schemas import shard
from ...schemas.mapped import WindowColumns
from ...schemas.shard_set import ShardSet, open_set
from ...schemas.shard_windows import ShardWindows
from ..models.labels import WeightedLabels, plain
from ..models.loss import IGNORE
from .weighting import ByBucket, Weighting

__all__ = ["Batch", "ShardDataset", "collate"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A micro-batch of B windows of L tokens.

    Attributes:
        input_ids: int32 [B, L].
        labels: int64 [B, L]; `IGNORE` where there is no target.
        loss_weights: float32 [B, L]; 0 where there is no target.
        position_ids: int32 [B, L], from 0 in every segment, runs of padding included.
        cu_seqlens: int32 [segments + 1]: where each segment begins in the flattened B * L
            positions, and B * L.
        windows: number of each window in its split of the shard set, [B].
        digests: xxh3-64 of each window's number and input_ids, [B].
        tokens: number of tokens, without padding.
        targets: number of supervised targets.
        sum_w: sum of their weights, in float64.
        visible: how many tokens each token attends to, itself included, summed over all tokens.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    loss_weights: torch.Tensor
    position_ids: torch.Tensor
    cu_seqlens: torch.Tensor
    windows: tuple[int, ...]
    digests: tuple[int, ...]
    tokens: int
    targets: int
    sum_w: float
    visible: int

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on another device."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; called by a DataLoader."""
        return self._with_tensors(torch.Tensor.pin_memory)

    def ignored(self) -> "Batch":
        """The same windows without targets: they are computed like others, but count nothing."""
        return replace(
            self,
            labels=torch.full_like(self.labels, IGNORE),
            loss_weights=torch.zeros_like(self.loss_weights),
            targets=0,
            sum_w=0.0,
        )

    def _with_tensors(self, change: Any) -> "Batch":
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.type is torch.Tensor}
        return replace(self, **{name: change(tensor) for name, tensor in tensors.items()})


class ShardDataset(Dataset[dict[str, Any]]):
    """The windows of one split of a shard set, by their numbers.

    A shard is mapped when it is first read, and again in every process that gets a copy of the data
    set. A window is a function of its number alone.

    Args:
        shards: the shard set, or its folder.
        split: "train" or "validation".
        weighting: gives the weights of the targets; None for the weights in the shards.

    Raises:
        UsageError: the split has no windows.
        IncompleteError, FormatError: as `open_set`; when reading, also if a shard or a window
            differs from its manifest and format, or the set was replaced meanwhile.
    """

    def __init__(
        self,
        shards: ShardSet | str | Path,
        *,
        split: str = shard.TRAIN,
        weighting: Weighting | None = None,
    ) -> None:
        self.shards = shards if isinstance(shards, ShardSet) else open_set(shards)
        self.split = split
        self.window = self.shards.window
        self._weighting = weighting or ByBucket(self.shards.dictionary(split))
        self._windows = ShardWindows(self.shards, split)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One window.

        Returns:
            input_ids int32 [L], labels int64 [L], loss_weights float32 [L], position_ids int32
            [L], seq_lengths int32 [segments]; all are tensors but the labels, which are
            `WeightedLabels`.
        """
        batch = self.batch([index])
        return {
            "input_ids": batch.input_ids[0],
            "labels": WeightedLabels(batch.labels[0]),
            "loss_weights": batch.loss_weights[0],
            "position_ids": batch.position_ids[0],
            "seq_lengths": batch.cu_seqlens.diff(),
        }

    def where(self, index: int) -> str:
        """The shard of a window and its place there, for errors."""
        return self._windows.where(index)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows of some numbers, as a micro-batch."""
        shape = (len(indices), self.window)
        input_ids = np.empty(shape, np.int32)
        labels = np.empty(shape, np.int64)
        weights = np.empty(shape, np.float32)
        position_ids = np.empty(shape, np.int32)
        places = np.arange(self.window, dtype=np.int32)
        lengths: list[NDArray[np.int32]] = []
        digests: list[int] = []
        tokens = targets = visible = 0
        for row, index in enumerate(indices):
            window = self._windows[index]
            unsupervised = np.flatnonzero(window.codes == shard.UNSUPERVISED)
            input_ids[row] = window.ids
            labels[row] = window.ids
            labels[row, unsupervised] = IGNORE
            self._weighting.fill(weights[row], window.codes, window.lengths, index)
            _fill_positions(position_ids[row], places, window.lengths)
            lengths.append(window.lengths)
            digests.append(xxhash.xxh3_64_intdigest(window.ids.data, seed=index))
            own_tokens, own_visible = _count_tokens(window)
            tokens += own_tokens
            visible += own_visible
            targets += self.window - len(unsupervised)
        ends = np.cumsum(np.concatenate([[0], *lengths]), dtype=np.int32)
        return Batch(
            input_ids=torch.from_numpy(input_ids),
            labels=torch.from_numpy(labels),
            loss_weights=torch.from_numpy(weights),
            position_ids=torch.from_numpy(position_ids),
            cu_seqlens=torch.from_numpy(ends),
            windows=tuple(map(int, indices)),
            digests=tuple(digests),
            tokens=tokens,
            targets=targets,
            sum_w=float(weights.sum(dtype=np.float64)),
            visible=visible,
        )


def _fill_positions(
    out: NDArray[np.int32], places: NDArray[np.int32], lengths: NDArray[np.int32]
) -> None:
    """Writes 0, 1, 2, ... for each segment; `places` are those in the window."""
    starts = np.cumsum(lengths, dtype=np.int32) - lengths
    np.subtract(places, np.repeat(starts, lengths), out=out)


def _count_tokens(window: WindowColumns) -> tuple[int, int]:
    """The tokens without padding, and how many tokens each attends to, summed."""
    lengths = window.lengths[: len(window.lengths) - window.padded].astype(np.int64)
    return int(lengths.sum()), int((lengths * (lengths + 1) // 2).sum())


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Makes a batch of windows of a `ShardDataset`, for a training loop of your own.

    Returns:
        input_ids, labels (`WeightedLabels`), loss_weights and position_ids, each [B, L]; cu_seqlens
        int32 [segments + 1] over all B * L positions; max_seqlen, which is always L, so that
        nothing is compiled again for other segments.
    """
    names = ("input_ids", "labels", "loss_weights", "position_ids")
    lengths = torch.cat([sample["seq_lengths"] for sample in samples])
    ends = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    stacked = {name: torch.stack([plain(sample[name]) for sample in samples]) for name in names}
    labels = WeightedLabels(stacked["labels"])
    return {**stacked, "labels": labels, "cu_seqlens": ends, "max_seqlen": labels.shape[1]}
