"""What packing would give, from the lengths of the documents alone.

    lengths in packed order ── window, packing ──> Exposure

An `Exposure` has the number of supervised targets in each bucket of effective context, by source,
and how full the windows are. It is exactly what packing the same documents in the same order would
give, but no document is placed: segments are only counted by length.

`concat`: a document inside one window is one segment. A document that is cut has one segment in its
first window, whole windows, and one segment in its last. L = 4, documents of 3, 2 and 5 tokens:

    a a a b | b c c c | c c . .       segments of 3 + (1 + 1) + (3 + 2) tokens

`best_fit`: the pieces follow from the lengths, and the windows from the number of pieces of each
length. Best-fit decreasing opens a window for the longest piece that the window will have, so the
windows opened for pieces of each length are the windows by their longest segment.

    pieces of   4  3  2  1 tokens     documents of 3, 2 and 5 tokens: pieces of 3, 2, 4 and 1
    opened      1  1  1  0            the piece of 1 goes into the window of the 3

Where only spans of the documents are supervised, the targets of a window depend on which segments
it has. Then the documents are placed as packing places them, and their spans are cut.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .buckets import bucket_count, histogram_by_length, lower_edges, sum_by_bucket
from .choices import PackingName
from .packing import best_fit_steps, pack
from .spans import Spans

__all__ = [
    "Counter",
    "Exposure",
    "OrderedLengths",
    "SourceExposure",
    "windows_by_largest_context",
    "windows_opened",
]


@dataclass(frozen=True, kw_only=True)
class SourceExposure:
    """The documents (each as often as it is seen), tokens and c_b of one source in the windows."""

    documents: int
    tokens: int
    histogram: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """The windows of a split in figures, before any weighting.

    Attributes:
        window: L, in tokens.
        windows: how many there are.
        segments: how many there are, padding left out.
        cut_documents: occurrences of documents that are split across windows.
        largest_context: the largest effective context of any target; 0 where there are no targets.
        windows_by_largest: windows per bucket of their largest effective context, shape
            [buckets]; windows without a supervised target are not counted.
        sources: by name.
    """

    window: int
    windows: int
    segments: int
    cut_documents: int
    largest_context: int
    windows_by_largest: NDArray[np.int64]
    sources: Mapping[str, SourceExposure]

    @property
    def documents(self) -> int:
        """Occurrences: a document counts as often as it is seen."""
        return sum(source.documents for source in self.sources.values())

    @property
    def tokens(self) -> int:
        """Tokens of documents, padding left out."""
        return sum(source.tokens for source in self.sources.values())

    @property
    def padding(self) -> int:
        """Tokens of padding."""
        return self.windows * self.window - self.tokens

    @property
    def histogram(self) -> NDArray[np.int64]:
        """c_b, shape [buckets]."""
        total = np.zeros(bucket_count(self.window), np.int64)
        for source in self.sources.values():
            total += source.histogram
        return total

    @property
    def targets(self) -> int:
        """Supervised targets."""
        return int(self.histogram.sum())

    def tail_windows(self, tau: int) -> int:
        """Windows with at least one target in a bucket whose smallest context is at least tau."""
        edges = lower_edges(len(self.windows_by_largest))
        return int(self.windows_by_largest[edges >= tau].sum())


class OrderedLengths:
    """Documents in the order in which they are packed together, each as often as it is seen.

    Attributes:
        lengths: in tokens, int32, shape [n].
        source: number of each document's source, shape [n].
        ends: where each ends in the joined documents, in tokens; shape [n].
        class_source, class_length, class_count: every pair of a source and a length that occurs,
            and how often; shape [pairs].
        supervised: the supervised spans of each; None if all tokens are supervised.
    """

    def __init__(
        self,
        lengths: NDArray[np.int32],
        source: NDArray[np.integer],
        supervised: Spans | None = None,
    ) -> None:
        self.lengths, self.source, self.supervised = lengths, source, supervised
        self.ends = np.cumsum(lengths, dtype=np.int64)
        keys = source.astype(np.int64) << 32 | lengths
        keys, self.class_count = np.unique(keys, return_counts=True)
        self.class_source, self.class_length = keys >> 32, keys & ((1 << 32) - 1)

    def __len__(self) -> int:
        return len(self.lengths)


class Counter:
    """Counts the segments and windows of groups of documents, for one window length and packing.

    Args:
        window: L, in tokens.
        packing: how documents are packed.
        sources: names of the sources, in the order of their numbers.
        longest: tokens of the longest document.
    """

    def __init__(
        self, window: int, packing: PackingName, sources: Sequence[str], longest: int
    ) -> None:
        self._window, self._names = window, sources
        self._packing: PackingName = packing
        size = min(window, longest) + 1
        self._segments = np.zeros((len(sources), size), np.int64)  # by source and length
        # Windows by the length of their longest segment; with spans, by their largest context + 1.
        self._longest = np.zeros(size, np.int64)
        self._targets = np.zeros((len(sources), window), np.int64)  # of spans, by context
        self._has_spans = False
        self._documents = np.zeros(len(sources), np.int64)
        self._cut = 0

    def add(self, group: OrderedLengths) -> None:
        """Counts a group: documents that are packed together, apart from all others."""
        if not len(group):
            return
        if group.supervised is not None:
            self._add_supervised(group, group.supervised)
        elif self._packing == "concat":
            self._add_concat(group)
        else:
            self._add_best_fit(group)
        np.add.at(self._documents, group.class_source, group.class_count)

    def _add_concat(self, group: OrderedLengths) -> None:
        window, lengths = self._window, group.lengths
        first, last = (group.ends - lengths) // window, (group.ends - 1) // window
        is_cut = first != last
        self._count(group.class_source, group.class_length, group.class_count)
        cut = np.flatnonzero(is_cut)
        source, length = group.source[cut], lengths[cut]
        self._count(source, length, np.full(len(cut), -1))
        head = window - (group.ends[cut] - length) % window
        tail = (group.ends[cut] - 1) % window + 1
        once = np.ones(len(cut), np.int64)
        self._count(source, head, once)
        self._count(source, tail, once)
        self._count_whole(source, last[cut] - first[cut] - 1)
        self._cut += len(cut)
        longest = np.zeros(int(last[-1]) + 1, np.int64)
        np.maximum.at(longest, first, np.where(is_cut, 0, lengths))
        # A window has at most one first piece and one last piece.
        longest[first[cut]] = np.maximum(longest[first[cut]], head)
        longest[last[cut]] = np.maximum(longest[last[cut]], tail)
        longest[longest == 0] = window  # one segment of a document fills the window
        self._longest += np.bincount(longest, minlength=len(self._longest))

    def _add_best_fit(self, group: OrderedLengths) -> None:
        whole, rest = np.divmod(group.class_length, self._window)
        before = self._segments.sum(axis=0)
        some = rest > 0
        self._count(group.class_source[some], rest[some], group.class_count[some])
        self._count_whole(group.class_source, whole * group.class_count)
        self._cut += int(group.class_count[group.class_length > self._window].sum())
        self._longest += windows_opened(self._segments.sum(axis=0) - before, self._window)

    def _add_supervised(self, group: OrderedLengths, supervised: Spans) -> None:
        self._has_spans = True
        packing = pack(group.lengths, self._window, self._packing)
        source = group.source[packing.document]
        self._count(source, packing.length, np.ones(len(source), np.int64))
        spans = supervised.within(packing.document, packing.offset, packing.length)
        for i in np.unique(source):
            self._targets[i] += spans[source == i].targets_by_context(self._window)
        self._cut += int((np.bincount(packing.document) > 1).sum())
        largest = np.maximum.reduceat(spans.largest_contexts(), packing.first[:-1])
        self._longest += np.bincount(largest + 1, minlength=len(self._longest))

    def _count(
        self,
        source: NDArray[np.integer],
        length: NDArray[np.integer],
        count: NDArray[np.integer],
    ) -> None:
        """Counts segments; lengths above the window length are skipped."""
        fits = length <= self._window
        np.add.at(self._segments, (source[fits], length[fits]), count[fits])

    def _count_whole(self, source: NDArray[np.integer], count: NDArray[np.integer]) -> None:
        """Counts segments that fill a window; a source may have none of them."""
        some = count > 0
        self._count(source[some], np.full(int(some.sum()), self._window), count[some])

    def exposure(self) -> Exposure:
        """The figures of all groups so far."""
        lengths = np.arange(self._segments.shape[1])
        used = np.flatnonzero(self._longest)
        return Exposure(
            window=self._window,
            windows=int(self._longest.sum()),
            segments=int(self._segments.sum()),
            cut_documents=self._cut,
            largest_context=int(used[-1]) - 1 if len(used) else 0,
            windows_by_largest=windows_by_largest_context(self._longest, self._window),
            sources={
                name: SourceExposure(
                    documents=int(self._documents[i]),
                    tokens=int(self._segments[i] @ lengths),
                    histogram=self._histogram(i),
                )
                for i, name in enumerate(self._names)
            },
        )

    def _histogram(self, source: int) -> NDArray[np.int64]:
        """c_b of a source."""
        if self._has_spans:
            return sum_by_bucket(self._targets[source], self._window)
        return histogram_by_length(self._segments[source], self._window)


def windows_by_largest_context(windows: NDArray[np.integer], window: int) -> NDArray[np.int64]:
    """Windows per bucket of their largest effective context, shape [buckets].

    Windows whose longest segment is a single token have no supervised target and are not counted.

    Args:
        windows: how many have a longest segment of 0, 1, 2, ... tokens, shape [n].
        window: the window length L in tokens.
    """
    by_context = windows[1:].copy()
    by_context[:1] = 0
    return sum_by_bucket(by_context, window)


def windows_opened(pieces: NDArray[np.integer], window: int) -> NDArray[np.int64]:
    """How many windows best-fit decreasing opens for pieces of each length.

    Args:
        pieces: how many have 0, 1, 2, ... tokens, shape [n], n <= window + 1.
        window: the window length L in tokens.

    Returns:
        int64, shape [n]. These are also the windows by the length of their longest segment.
    """
    opened = np.zeros(len(pieces), np.int64)
    for length, room, full, _, rest in best_fit_steps(pieces, window):
        if room == window:
            opened[length] += full + bool(rest)
    return opened
