"""Windows of memory-mapped shards, as tensors for training.

    dataset = ShardDataset("shards")
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, collate_fn=collate)

Labels and weights are unshifted: `labels[j]` and `loss_weights[j]` belong to token j as a target,
which is predicted from position j - 1. The computation of the loss has to shift both by one. The
first token of a window is the first of a segment, so position 0 is never a target.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ...schemas import shard
from ...schemas.shard_set import ShardSet, open_set
from ...schemas.shard_windows import ShardWindows
from ..models.labels import WeightedLabels, plain
from .expansion import Expander
from .micro_batch import Batch
from .mixing import MixedWindows
from .weighting import Weighting

__all__ = ["ShardDataset", "collate"]

Lengths = NDArray[np.int32]


class ShardDataset(Dataset[dict[str, Any]]):
    """The windows of one split of a shard set, by their numbers.

    A shard is mapped when it is first read, and again in every process that gets a copy of the data
    set. A window is a function of its number alone.

    Args:
        shards: the shard set, or its folder.
        split: "train" or "validation".
        weighting: gives the weights of the targets; None for the weights in the shards.
        windows: the windows of a mix of sets, of which `shards` tells the rest; None for its own.

    Attributes:
        shards, split, weighting: as above.
        window: window length L in tokens.

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
        windows: MixedWindows | None = None,
    ) -> None:
        self.shards = shards if isinstance(shards, ShardSet) else open_set(shards)
        self.split = split
        self.window = self.shards.window
        self.weighting = weighting or Weighting(
            window=self.window,
            by_code=self.shards.dictionary(split),
            has_spans=self.shards.has_spans,
        )
        self._windows = windows or ShardWindows(self.shards, split)

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
        found = Expander(self.weighting, torch.device("cpu"))(batch)
        return {
            "input_ids": found.input_ids[0],
            "labels": WeightedLabels(found.labels[0]),
            "loss_weights": found.loss_weights[0],
            "position_ids": found.position_ids[0],
            "seq_lengths": found.cu_seqlens.diff(),
        }

    def where(self, index: int) -> str:
        """The shard of a window and its place there, for errors."""
        return self._windows.where(index)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows of some numbers, as a micro-batch."""
        shape = (len(indices), self.window)
        input_ids, codes = np.empty(shape, np.int32), np.empty(shape, np.uint8)
        lengths: list[Lengths] = []
        of_text: list[Lengths] = []
        digests: list[int] = []
        for row, index in enumerate(indices):
            window = self._windows[index]
            input_ids[row] = window.ids
            codes[row] = self.weighting.codes(window.codes, index)
            lengths.append(window.lengths)
            of_text.append(window.lengths[: len(window.lengths) - window.padded])
            digests.append(xxhash.xxh3_64_intdigest(window.ids.data, seed=index))
        real = np.concatenate(of_text, dtype=np.int64)
        tokens = int(real.sum())
        return Batch(
            input_ids=torch.from_numpy(input_ids),
            codes=torch.from_numpy(codes),
            cu_seqlens=torch.from_numpy(np.cumsum(np.concatenate([[0], *lengths]), dtype=np.int32)),
            longest=max(int(each.max()) for each in lengths),
            windows=tuple(map(int, indices)),
            digests=tuple(digests),
            tokens=tokens,
            targets=int(np.count_nonzero(codes)),
            sum_w=self.weighting.total(codes, real),
            visible=int((real * (real + 1) // 2).sum()),
        )


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
