"""What packing and weighting would do to a corpus, from the lengths of its documents alone.

    lengths in packed order ── a window, a packing ──> Exposure ── EXACT's parameters ──> Weighting

An `Exposure` says how many supervised targets each bucket of effective context has, by source, and
how the windows are filled. It is what packing the same documents in the same order comes to, to the
integer, but nothing is placed: segments are counted by length.

`concat`: a document that lies in one window is one segment. One that does not is cut into what is
left of its first window, whole windows, and the rest. L = 4, documents of 3, 2 and 5 tokens:

    a a a b | b c c c | c c . .       segments of 3 + (1 + 1) + (3 + 2) tokens

`best_fit`: the pieces follow from the lengths, and the windows from how many pieces have each
length. Best-fit decreasing opens a window for the longest piece that the window will have. So the
windows opened for pieces of each length are the windows by their longest segment, and it is enough
to know how many windows have each room.

    pieces      4  3  2  1            documents of 3, 2 and 5 tokens: pieces of 3, 2, 4 and 1
    opened      1  1  1  0            the piece of 1 goes into the window of the 3
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .buckets import bucket_count, histogram_by_length, lower_edges, sum_by_bucket
from .choices import PackingName
from .exact import WeightTable, weight_table
from .packing import best_fit_steps
from .parameters import Exact

__all__ = [
    "Counter",
    "Exposure",
    "OrderedLengths",
    "SourceExposure",
    "SourceWeighting",
    "Weighting",
    "weigh",
    "windows_by_largest_context",
    "windows_opened",
]


@dataclass(frozen=True, kw_only=True)
class SourceExposure:
    """What the windows have of one source: documents (copies counted), tokens, and c_b."""

    documents: int
    tokens: int
    histogram: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What the windows of a split add up to, whatever their targets weigh.

    Attributes:
        window: L, in tokens.
        windows: how many there are.
        segments: without padding.
        cut_documents: occurrences that have more than one segment.
        largest_context: the largest effective context of any target; 0 where there are no targets.
        windows_by_largest: windows whose largest effective context is in each bucket, shape
            [buckets]; a window without a supervised target is in none.
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
        """OrderedLengths: copies are counted."""
        return sum(source.documents for source in self.sources.values())

    @property
    def tokens(self) -> int:
        """Without padding."""
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
        """Windows that have a target in a bucket whose smallest context is at least tau."""
        edges = lower_edges(len(self.windows_by_largest))
        return int(self.windows_by_largest[edges >= tau].sum())


class OrderedLengths:
    """Documents in the order in which they are packed together, copies one by one.

    Attributes:
        lengths: in tokens, int32, shape [n].
        source: which source each is of, shape [n].
    """

    def __init__(self, lengths: NDArray[np.int32], source: NDArray[np.integer]) -> None:
        self.lengths, self.source = lengths, source
        self.ends = np.cumsum(lengths, dtype=np.int64)
        keys = source.astype(np.int64) << 32 | lengths
        keys, self.class_count = np.unique(keys, return_counts=True)
        self.class_source, self.class_length = keys >> 32, keys & ((1 << 32) - 1)

    def __len__(self) -> int:
        return len(self.lengths)


class Counter:
    """Counts what a window length and a packing make of groups of documents, one after the other.

    Args:
        window: L, in tokens.
        packing: how documents are packed.
        sources: names, in the order of `OrderedLengths.source`.
        longest: tokens of the longest document.
    """

    def __init__(
        self, window: int, packing: PackingName, sources: Sequence[str], longest: int
    ) -> None:
        self._window, self._packing, self._names = window, packing, sources
        size = min(window, longest) + 1
        self._segments = np.zeros((len(sources), size), np.int64)  # by source and length
        self._longest = np.zeros(size, np.int64)  # windows by the length of their longest segment
        self._documents = np.zeros(len(sources), np.int64)
        self._cut = 0

    def add(self, group: OrderedLengths) -> None:
        """Counts documents that are packed together, and apart from all others."""
        if not len(group):
            return
        if self._packing == "concat":
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
        longest[longest == 0] = window  # it is inside a document
        self._longest += np.bincount(longest, minlength=len(self._longest))

    def _add_best_fit(self, group: OrderedLengths) -> None:
        whole, rest = np.divmod(group.class_length, self._window)
        before = self._segments.sum(axis=0)
        some = rest > 0
        self._count(group.class_source[some], rest[some], group.class_count[some])
        self._count_whole(group.class_source, whole * group.class_count)
        self._cut += int(group.class_count[group.class_length > self._window].sum())
        self._longest += windows_opened(self._segments.sum(axis=0) - before, self._window)

    def _count(
        self,
        source: NDArray[np.integer],
        length: NDArray[np.integer],
        count: NDArray[np.integer],
    ) -> None:
        """Counts segments; lengths that are longer than a window are none."""
        fits = length <= self._window
        np.add.at(self._segments, (source[fits], length[fits]), count[fits])

    def _count_whole(self, source: NDArray[np.integer], count: NDArray[np.integer]) -> None:
        """Counts segments of a window's length; there may be none that are so long."""
        some = count > 0
        self._count(source[some], np.full(int(some.sum()), self._window), count[some])

    def exposure(self) -> Exposure:
        """What was counted."""
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
                    histogram=histogram_by_length(self._segments[i], self._window),
                )
                for i, name in enumerate(self._names)
            },
        )


def windows_by_largest_context(windows: NDArray[np.integer], window: int) -> NDArray[np.int64]:
    """Windows by the bucket of their largest effective context, shape [buckets].

    Args:
        windows: how many have a longest segment of 0, 1, 2, ... tokens, shape [n]; those without
            a supervised target, whose longest segment is a single token, are in no bucket.
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
        int64, shape [n]: also the windows by the length of their longest segment.
    """
    opened = np.zeros(len(pieces), np.int64)
    for length, room, full, _, rest in best_fit_steps(pieces, window):
        if room == window:
            opened[length] += full + bool(rest)
    return opened


@dataclass(frozen=True, kw_only=True)
class SourceWeighting:
    """What the weights do to one source.

    Attributes:
        tail_targets: its supervised targets in the tail.
        mass_before, mass_after: its part of the loss mass with all weights 1, and weighted; 0 to 1.
        mean_weight: over its supervised targets; None where it has none.
    """

    tail_targets: int
    mass_before: float
    mass_after: float
    mean_weight: float | None


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """What the weights do to an exposure.

    The loss mass of some targets is the sum of their weights.

    Attributes:
        table: the weight of every bucket.
        tail_windows: windows with at least one target in the tail.
        largest_weight: of any bucket that has targets; 1 where none has.
        mean_weight: over the supervised targets; None where there are none.
        effective_sample_size: (sum w)^2 / sum w^2 over the number of targets: the part of them that
            would carry as much information with equal weights (Kish); None where there are none.
        mass_before, mass_after: each bucket's part of the loss mass, 0 to 1; shape [buckets].
        sources: by name.
    """

    table: WeightTable
    tail_windows: int
    largest_weight: float
    mean_weight: float | None
    effective_sample_size: float | None
    mass_before: list[float]
    mass_after: list[float]
    sources: Mapping[str, SourceWeighting]


def weigh(exposure: Exposure, exact: Exact) -> Weighting:
    """Weighs an exposure; costs nothing, whatever the size of the corpus."""
    table = weight_table(exposure.histogram.tolist(), exposure.window, exact)
    return weigh_by(table, exposure, exact.tau)


def weigh_by(table: WeightTable, exposure: Exposure, tau: int) -> Weighting:
    """Weighs an exposure with a weight table of its own histogram, whose tail begins at tau."""
    counts = exposure.histogram
    targets = int(counts.sum())
    weights = np.array(table.weights)
    tail = np.array([row.in_tail for row in table.rows])
    mass = counts * weights
    total = float(mass.sum())

    def of_source(histogram: NDArray[np.int64]) -> SourceWeighting:
        mine, mass = int(histogram.sum()), float(histogram @ weights)
        return SourceWeighting(
            tail_targets=int(histogram[tail].sum()),
            mass_before=mine / targets if targets else 0.0,
            mass_after=mass / total if targets else 0.0,
            mean_weight=mass / mine if mine else None,
        )

    return Weighting(
        table=table,
        tail_windows=exposure.tail_windows(tau),
        largest_weight=float(max(weights[counts > 0], default=1.0)),
        mean_weight=total / targets if targets else None,
        effective_sample_size=(
            total * total / float(mass @ weights) / targets if targets else None
        ),
        mass_before=(counts / max(1, targets)).tolist(),
        mass_after=(mass / total if targets else mass).tolist(),
        sources={name: of_source(s.histogram) for name, s in exposure.sources.items()},
    )
