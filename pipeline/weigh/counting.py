"""The first reading: what the windows of a split contain, without writing any."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.buckets import bucket_count
from ..core.whatif import windows_by_largest_context
from ..sources.records import Strings
from .rows import PackedRows
from .task import WeighTask

__all__ = ["Count", "count_rows", "inner_padding"]

REPEATED = 8
"""Text seldom ends with so many equal tokens; padding of an unknown token does."""


@dataclass(kw_only=True)
class Count:
    """Windows in figures.

    Attributes:
        histogram: supervised targets per bucket, int64 [buckets].
        windows_by_largest: windows per bucket of their largest effective context, int64 [buckets];
            windows without a supervised target are not counted.
        windows, tokens, segments: how many there are, padding left out.
        longest: tokens of the longest segment.
        inner_ends: end tokens that are not the last token of their segment.
        segments_with_inner_ends: segments that have some.
        unknown_tokens: tokens that stand for what the vocabulary lacks.
        inner_padding: tokens of padding before or between documents, which count as text.
        repeated_ends: rows whose text ends with REPEATED equal tokens.
    """

    histogram: NDArray[np.int64]
    windows_by_largest: NDArray[np.int64]
    windows: int = 0
    tokens: int = 0
    segments: int = 0
    longest: int = 0
    inner_ends: int = 0
    segments_with_inner_ends: int = 0
    unknown_tokens: int = 0
    inner_padding: int = 0
    repeated_ends: int = 0

    @classmethod
    def empty(cls, window: int) -> "Count":
        """The count of no windows."""
        zeros = np.zeros(bucket_count(window), np.int64)
        return cls(histogram=zeros, windows_by_largest=zeros.copy())

    def add(self, other: "Count") -> None:
        """Adds the windows of another count."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, max(mine, value) if name == "longest" else mine + value)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in vars(self).items()}

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> "Count":
        """What `to_json` gave."""
        histograms = ("histogram", "windows_by_largest")
        return cls(**{**found, **{name: np.array(found[name], np.int64) for name in histograms}})


def count_rows(rows: Iterable[PackedRows], task: WeighTask) -> Count:
    """Counts rows."""
    total = Count.empty(task.window)
    for some in rows:
        total.add(_count(some, task))
    return total


def _count(rows: PackedRows, task: WeighTask) -> Count:
    lengths, counts = rows.cut.lengths, rows.cut.counts
    first = np.cumsum(counts) - counts
    longest = np.maximum.reduceat(lengths, first)
    largest = lengths - 1 if rows.spans is None else rows.spans.largest_contexts()
    by_largest = np.bincount(np.maximum.reduceat(largest, first) + 1, minlength=2)
    texts = rows.texts()
    ends = np.flatnonzero(texts.data == task.end_id)
    inner, with_inner = _inner_ends(ends, texts)
    return Count(
        histogram=rows.histogram(task.window),
        windows_by_largest=windows_by_largest_context(by_largest, task.window),
        windows=len(rows),
        tokens=int(lengths.sum()),
        segments=len(lengths),
        longest=int(longest.max()),
        inner_ends=inner,
        segments_with_inner_ends=with_inner,
        unknown_tokens=(
            0 if task.unk_id is None else int(np.count_nonzero(texts.data == task.unk_id))
        ),
        inner_padding=inner_padding(ends, texts.data, rows.cut.texts, task),
        repeated_ends=_repeated_ends(texts.data, rows.cut.texts),
    )


def _inner_ends(ends: NDArray[np.int64], texts: Strings) -> tuple[int, int]:
    """End tokens inside segments, and the segments that have some."""
    segment = np.searchsorted(texts.offsets, ends, "right") - 1
    inner = ends + 1 != texts.offsets[segment + 1]
    return int(inner.sum()), len(np.unique(segment[inner]))


def inner_padding(
    ends: NDArray[np.int64], ids: NDArray[np.int32], texts: NDArray[np.int64], task: WeighTask
) -> int:
    """Padding in the text of rows. End tokens are padding where no word precedes them.

    Args:
        ends: the places of end tokens among the ids, shape [end tokens].
        ids: the tokens of all texts, end to end.
        texts: the tokens of each row's text, each at least 1; shape [rows].
        task: tells the tokens that end and fill.
    """
    fills = 0 if task.fill_id == task.end_id else int(np.count_nonzero(ids == task.fill_id))
    before = ids[ends - 1]
    alone = (before == task.end_id) | (before == task.fill_id)
    begins = np.cumsum(texts) - texts  # nothing of its row precedes a first token
    alone[np.searchsorted(ends, begins[ids[begins] == task.end_id])] = True
    return fills + int(np.count_nonzero(alone))


def _repeated_ends(ids: NDArray[np.int32], texts: NDArray[np.int64]) -> int:
    """Rows whose text ends with REPEATED equal tokens."""
    ends = np.cumsum(texts)[texts >= REPEATED]
    last = ids[ends[:, None] - np.arange(1, REPEATED + 1)]
    return int(np.count_nonzero((last == last[:, :1]).all(axis=1)))
