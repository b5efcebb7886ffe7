"""Supervised spans: which tokens of a document are targets, where not all of them are.

A document with a question and its answer is read whole, and only the answer is to be learnt. Its
spans are runs of its tokens, start included and stop not. A segment of the document has what is in
it of the spans, counted from its own first token:

    document    q q q q q a a a      span 5..8
    segments    q q q q | q a a a    none; 1..4

A target at position j of a segment has effective context j, and position 0 is no target, in a span
or not (`buckets.py`). So a span start..stop has one target at each context max(start, 1)..stop - 1,
and a histogram follows from lengths and spans, without a token. Example, spans 0..3 and 1..2:

    l                            0  1  2
    spans with a target there    -  2  1
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spans"]


@dataclass(frozen=True)
class Spans:
    """Spans of documents or of segments, those of each in rising order.

    Attributes:
        bounds: document i has the spans bounds[i]:bounds[i + 1]; int64, shape [documents + 1].
        start, stop: in tokens from the first one of the document; int32, shape [spans].
    """

    bounds: NDArray[np.int64]
    start: NDArray[np.int32]
    stop: NDArray[np.int32]

    @classmethod
    def whole(cls, lengths: NDArray[np.integer]) -> "Spans":
        """Those of documents of which all tokens are supervised, each at least one token long."""
        stop = np.asarray(lengths, np.int32)
        return cls(np.arange(len(stop) + 1), np.zeros_like(stop), stop)

    @classmethod
    def joined(cls, several: Sequence["Spans"]) -> "Spans":
        """Those of one or more lists of documents, one after the other."""
        counts = np.concatenate([np.diff(each.bounds) for each in several])
        return cls(
            np.concatenate(([0], np.cumsum(counts))),
            np.concatenate([each.start for each in several]),
            np.concatenate([each.stop for each in several]),
        )

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> "Spans":
        """Those of some documents, by numbers or by a mask, in that order."""
        first, counts = self.bounds[:-1][chosen], np.diff(self.bounds)[chosen]
        bounds = np.concatenate(([0], np.cumsum(counts)))
        at = np.repeat(first - bounds[:-1], counts) + np.arange(int(bounds[-1]))
        return Spans(bounds, self.start[at], self.stop[at])

    def within(
        self,
        document: NDArray[np.integer],
        offset: NDArray[np.integer],
        length: NDArray[np.integer],
    ) -> "Spans":
        """Those of segments.

        Args:
            document: of each segment, shape [segments].
            offset: of its first token in the document, shape [segments].
            length: of the segment in tokens, shape [segments].
        """
        mine = self[document]
        segment = np.repeat(np.arange(len(mine)), np.diff(mine.bounds))
        start = np.maximum(mine.start - offset[segment], 0)
        stop = np.minimum(mine.stop - offset[segment], length[segment])
        some = start < stop
        counts = np.bincount(segment[some], minlength=len(mine))
        return Spans(
            np.concatenate(([0], np.cumsum(counts))),
            start[some].astype(np.int32),
            stop[some].astype(np.int32),
        )

    def targets_by_context(self, window: int) -> NDArray[np.int64]:
        """Targets of segments by effective context, shape [window]."""
        start, stop = np.maximum(self.start, 1), np.maximum(self.stop, 1)
        change = np.bincount(start, minlength=window + 1) - np.bincount(stop, minlength=window + 1)
        return np.cumsum(change)[:window]

    def largest_contexts(self) -> NDArray[np.int64]:
        """The largest effective context of a target in each segment, 0 for none; [segments]."""
        largest = np.zeros(len(self), np.int64)
        some = np.diff(self.bounds) > 0
        largest[some] = self.stop[self.bounds[1:][some] - 1] - 1
        return largest
