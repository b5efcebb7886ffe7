"""The windows of one split of a shard set, by their numbers, each checked when it is read."""

import bisect
from typing import Any

import numpy as np

from .errors import UsageError
from .mapped import MappedShard, WindowColumns, damaged
from .shard_set import ShardSet
from .windows import check_tokens

__all__ = ["ShardWindows"]


class ShardWindows:
    """The windows of one split of a shard set, as views of mapped files.

    A shard is mapped when it is first read, and again in every process that gets a copy.

    Args:
        shards: the shard set.
        split: "train" or "validation".

    Raises:
        UsageError: the split has no windows.
        FormatError: when reading, if a shard or a window differs from its manifest and format, or
            the set was replaced meanwhile.
    """

    def __init__(self, shards: ShardSet, split: str) -> None:
        self.shards = shards
        self._split = split
        self._entries = shards.shards(split)
        windows = [entry.get("windows", 0) for entry in self._entries]
        self._first = [0, *np.cumsum(windows, dtype=np.int64).tolist()]
        if not len(self):
            raise UsageError(f"the shard set has no {split} windows", where=str(shards.root))
        self._mapped: dict[int, MappedShard] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": {}}

    def __len__(self) -> int:
        return self._first[-1]

    def __getitem__(self, index: int) -> WindowColumns:
        """The window of a number, from 0 on."""
        number = self._shard_of(index)
        mapped = self._mapped.get(number)
        if mapped is None:
            mapped = self._mapped[number] = self._map(number)
        window = mapped.window(index - self._first[number])
        self._check(window, index)
        return window

    def where(self, index: int) -> str:
        """The shard of a window and its place there, for errors."""
        number = self._shard_of(index)
        return f"{self._entries[number]['path']}, window {index - self._first[number]:,}"

    def _check(self, window: WindowColumns, index: int) -> None:
        """Checks the ids and codes of a window that is read.

        Raises:
            FormatError: one is wrong.
        """
        largest = self.shards.largest_id
        try:
            check_tokens(
                window.ids, window.codes, window.lengths, window.padded, largest, window.spans
            )
        except ValueError as error:
            where = self.shards.root / self.where(index)
            raise damaged(where, ValueError(f"the window {error}")) from None

    def _shard_of(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        return bisect.bisect_right(self._first, index) - 1

    def _map(self, number: int) -> MappedShard:
        name = self._entries[number]["path"]
        try:
            return MappedShard(
                self.shards.root / name,
                self._first[number + 1] - self._first[number],
                self.shards.dictionary(self._split),
                self.shards.window,
                self.shards.has_spans,
            )
        finally:  # if the set was replaced, that is the reason for any other error
            self.shards.check_same(name)
