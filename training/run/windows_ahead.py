"""The windows of a run that has not begun: how long they are, how many, how far attention reaches.

Attention computes every token of a window, whether it is a target or not, and padding too. In a
segment of n tokens, the first sees itself and the last all n: n (n + 1) / 2 together. The segments
are read from the shards, and from no more than `READ` of a set, evenly spread: windows were
shuffled before they were written. Of windows that are not there yet only their length is known:
then each token sees at most what it would in one document as long as the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...schemas import shard
from ...schemas.errors import UsageError
from ...schemas.mapped import read_segments
from ...schemas.shard_set import ShardSet
from ..config import TrainConfig
from .start import Position, planned_steps

__all__ = ["WindowsAhead"]

READ = 64
"""Shards of a set."""


@dataclass(frozen=True, kw_only=True)
class WindowsAhead:
    """What is known of the windows that a run will train on.

    Attributes:
        length: of a window, in tokens.
        count: number of windows of an epoch; None if they are not there yet.
        context: tokens that a token attends to, itself included, on average over all tokens.
        is_bound: whether that is only the most that it can be.
    """

    length: int
    count: int | None
    context: float
    is_bound: bool = False

    @staticmethod
    def of(sets: Sequence[ShardSet], shares: Sequence[Fraction]) -> "WindowsAhead":
        """The windows of one set or of a mix.

        Args:
            sets: with windows of one length.
            shares: of the windows; their sum is 1.

        Raises:
            FormatError: a shard is damaged.
        """
        return WindowsAhead.together([_of_set(each) for each in sets], shares)

    @staticmethod
    def unwritten(length: int) -> "WindowsAhead":
        """Windows that are not there yet."""
        return WindowsAhead(length=length, count=None, context=(length + 1) / 2, is_bound=True)

    @staticmethod
    def together(parts: "Sequence[WindowsAhead]", shares: Sequence[Fraction]) -> "WindowsAhead":
        """A mix of windows, each kind with its share.

        Args:
            parts: of one length.
            shares: of each; their sum is 1.
        """
        return WindowsAhead(
            length=parts[0].length,
            count=parts[0].count,
            context=sum(
                float(share) * each.context for each, share in zip(parts, shares, strict=True)
            ),
            is_bound=any(each.is_bound for each in parts),
        )

    def steps(self, config: TrainConfig) -> int:
        """The number of steps of a run that trains on them.

        Raises:
            UsageError: they are too few for a step; or they are not there yet, and the run takes
                one epoch.
        """
        if self.count is None and config.steps is None and config.max_tokens is None:
            raise UsageError(
                "the training takes one epoch, and its windows are not there yet",
                where=config.shards,
                fix="make them first, or say max_tokens or steps",
            )
        return planned_steps(config, Position(), self.count or 0, self.length)


def _of_set(shards: ShardSet) -> WindowsAhead:
    entries = shards.shards(shard.TRAIN)
    read = entries[:: -(-len(entries) // READ)] if entries else []
    seen = tokens = 0
    for entry in read:
        for part in read_segments(shards.root / entry["path"], shards.window, shards.has_spans):
            length = part.length.astype(np.int64)
            seen += int((length * (length + 1) // 2).sum())
            tokens += int(length.sum())
    return WindowsAhead(
        length=shards.window,
        count=shards.manifest["splits"][shard.TRAIN]["windows"],
        context=seen / max(1, tokens),
    )
