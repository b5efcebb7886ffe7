"""Segments with extra weight: all in order, or the heaviest of each document.

The extra weight of a target is what its weight has above 1. It follows from its effective context
alone, so the lengths of the segments and their supervised spans tell it, and no token is read.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...schemas.manifest import Manifest
from ...schemas.shard import PADDING, TRAIN
from ..core.buckets import context_codes
from ..files.storage import Folder
from ..shard_set.windows import Segments, read_segments

__all__ = ["Heaviest", "Span", "extra_of_context", "heaviest", "spans_with"]


def extra_of_context(manifest: Manifest, split: str) -> NDArray[np.float64]:
    """The weight of a target above 1, for each effective context."""
    table = [row["weight"] for row in manifest["weights"]["table"]]
    weights = np.array([0.0, *(table if split == TRAIN else [1.0] * len(table))])
    return np.maximum(weights[context_codes(manifest["settings"]["window"])] - 1, 0)


class Span(NamedTuple):
    """A segment, with the extra weight of its targets."""

    extra: float
    window: int
    start: int
    length: int
    document: int


class Heaviest:
    """The heaviest segments of those that were added, one of a document, and figures of them all.

    Attributes:
        spans: at most `count`, the heaviest first.
        total: extra weight of all segments.
        number: segments that have any.
        ties: segments that have as much as the heaviest.
    """

    def __init__(self, count: int) -> None:
        self.spans: list[Span] = []
        self.total, self.number, self.ties = 0.0, 0, 0
        self._count, self._largest = count, 0.0

    def add(self, segments: Segments, extra: NDArray[np.float64]) -> None:
        """Adds segments, given the extra weight of each."""
        self.total += float(extra.sum())
        self.number += int(np.count_nonzero(extra))
        most = float(extra.max(initial=0.0))
        if most >= self._largest:
            before = self.ties if most == self._largest else 0
            self.ties = int(np.count_nonzero(extra == most)) + before
            self._largest = most
        order = np.argsort(-extra, kind="stable")
        order = order[: np.count_nonzero(extra)]
        _, first = np.unique(segments.document[order], return_index=True)
        best = order[np.sort(first)[: self._count]]
        columns = (extra, segments.window, segments.start, segments.length, segments.document)
        self.spans += map(Span, *(column[best].tolist() for column in columns))
        self.spans.sort(key=lambda span: -span.extra)
        by_document: dict[int, Span] = {}
        for span in self.spans:
            by_document.setdefault(span.document, span)
        self.spans = [*by_document.values()][: self._count]


def spans_with(
    shards: Folder, manifest: Manifest, split: str, extra: NDArray[np.float64]
) -> Iterator[Span]:
    """The segments that have extra weight, in the order of the windows."""
    for segments, sums in _weighed(shards, manifest, split, extra):
        for i in np.flatnonzero(sums).tolist():
            yield Span(
                float(sums[i]),
                int(segments.window[i]),
                int(segments.start[i]),
                int(segments.length[i]),
                int(segments.document[i]),
            )


def heaviest(
    shards: Folder, manifest: Manifest, split: str, extra: NDArray[np.float64], count: int
) -> Heaviest:
    """The heaviest segments of `count` documents."""
    found = Heaviest(count)
    for segments, sums in _weighed(shards, manifest, split, extra):
        found.add(segments, sums)
    return found


def _weighed(
    shards: Folder, manifest: Manifest, split: str, extra: NDArray[np.float64]
) -> Iterator[tuple[Segments, NDArray[np.float64]]]:
    """Segments, and the extra weight of each."""
    up_to = np.concatenate([[0.0], np.cumsum(extra)])
    for segments in read_segments(shards, manifest, split):
        if segments.spans is None:
            yield segments, np.where(segments.document == PADDING, 0.0, up_to[segments.length])
            continue
        spans = segments.spans
        of_span = np.repeat(np.arange(len(spans)), np.diff(spans.bounds))
        sums = np.zeros(len(spans))
        np.add.at(sums, of_span, up_to[spans.stop] - up_to[spans.start])
        yield segments, sums
