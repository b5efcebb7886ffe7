"""The windows of a shard set, one by one, with their weights and where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import UsageError
from ...schemas.manifest import Bucket
from ...schemas.mapped import WindowColumns
from ...schemas.shard import SPLITS, TRAIN
from ...schemas.shard_set import ShardSet, open_set
from ...schemas.shard_windows import ShardWindows

__all__ = ["Window", "Windows", "open_shards"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """A window of L tokens. The arrays are views of the shard's file and cannot be written to.

    Attributes:
        ids: token ids, int32 [L].
        codes: uint8 [L]: 0 where there is no target, else one more than the bucket of the target's
            effective context.
        seq_lengths: lengths of its segments in tokens, int32 [segments].
        documents: number of each segment's document, its `doc_index`, int64 [segments].
        offsets: position of each segment's first token in its document, int64 [segments].
        padding: tokens of padding at its end.
        supervised: where only answers are targets: start and stop of each run of supervised tokens
            as positions in the window, int32 [spans, 2]. None if all are targets.
    """

    ids: NDArray[np.int32]
    codes: NDArray[np.uint8]
    seq_lengths: NDArray[np.int32]
    documents: NDArray[np.int64]
    offsets: NDArray[np.int64]
    padding: int
    supervised: NDArray[np.int32] | None
    _weights: NDArray[np.float32]

    @property
    def weights(self) -> NDArray[np.float32]:
        """The loss weight of each token as a target, float32 [L]; 0 where it is none."""
        return self._weights[self.codes]


class Windows(Sequence[Window]):
    """The windows of one split of a shard set; made by `open_shards`.

    Attributes:
        window: the window length L in tokens.
        code_weights: the weight of each code, float32 [1 + buckets].
        buckets: the weight table, one row per bucket.
    """

    def __init__(self, shards: ShardSet, split: str) -> None:
        self._windows = ShardWindows(shards, split)
        self.window = shards.window
        self.buckets: Sequence[Bucket] = shards.buckets
        self.code_weights = shards.dictionary(split)
        self.code_weights.setflags(write=False)

    def __len__(self) -> int:
        return len(self._windows)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | list[Window]:
        """A window, or several; each is checked when it is read."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._window(self._windows[index + len(self) if index < 0 else index])

    def _window(self, columns: WindowColumns) -> Window:
        segments = len(columns.lengths) - columns.padded
        return Window(
            ids=columns.ids,
            codes=columns.codes,
            seq_lengths=columns.lengths[:segments],
            documents=columns.document[:segments],
            offsets=columns.offset[:segments],
            padding=int(columns.lengths[-1]) if columns.padded else 0,
            supervised=columns.spans,
            _weights=self.code_weights,
        )


def open_shards(folder: str | Path, split: str = TRAIN) -> Windows:
    """Opens the windows of a shard set; one on a server is first copied to this machine.

    Args:
        folder: that `exactcpt prepare`, `pack` or `reweigh` has written; or its URL.
        split: "train" or "validation", where all weights are 1.

    Raises:
        UsageError: there is no such folder, there is no such split, or it has no windows.
            This and the other errors are `exactcpt.ExactcptError`s.
        IncompleteError: the set is unfinished, or a file is missing.
        FormatError: it is damaged, or of a newer version; also when a window is read.
    """
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r}", expected=" or ".join(SPLITS))
    return Windows(open_set(folder), split)
