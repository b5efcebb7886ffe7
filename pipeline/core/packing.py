"""Packing: documents into windows of L tokens.

`concat` joins the documents and cuts every L tokens. L = 4, documents of 3, 2 and 5 tokens:

    window 0   a a a | b          segments (a, 0, 3) (b, 0, 1)
    window 1   b | c c c          segments (b, 1, 1) (c, 0, 3)
    window 2   c c | . .          segments (c, 3, 2)             . is padding

`best_fit` cuts only what cannot fit: documents longer than L are cut into pieces of L tokens, then
all pieces go, longest first, each into the window with the least room that still takes it
(best-fit decreasing), and what stays free is padding:

    window 0   c c c c            segments (c, 0, 4)
    window 1   a a a | c          segments (a, 0, 3) (c, 4, 1)
    window 2   b b | . .          segments (b, 0, 2)

Neither looks at a token: lengths in, segments out.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .choices import PackingName

__all__ = ["Packing", "best_fit", "concat", "pack", "reorder_windows"]


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Windows as rows of segments; padding is what a window's segments leave free.

    Attributes:
        window: L, in tokens.
        document: which document a segment is of: index into the lengths packed, shape [segments].
        offset: the segment's first token inside its document, shape [segments].
        length: tokens of the segment, 1..L, shape [segments].
        first: window w holds the segments first[w]:first[w + 1], shape [windows + 1].
    """

    window: int
    document: NDArray[np.int64]
    offset: NDArray[np.int64]
    length: NDArray[np.int32]
    first: NDArray[np.int64]

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self.first) - 1

    @property
    def padding(self) -> int:
        """Tokens of padding over all windows."""
        return self.windows * self.window - int(self.length.sum(dtype=np.int64))


def pack(lengths: NDArray[np.integer], window: int, packing: PackingName) -> Packing:
    """Packs documents of the given lengths (tokens, each >= 1), in that order, into windows."""
    return {"concat": concat, "best_fit": best_fit}[packing](lengths, window)


def concat(lengths: NDArray[np.integer], window: int) -> Packing:
    """Cuts the concatenated documents every `window` tokens; only the last window is padded."""
    lengths = np.asarray(lengths, dtype=np.int64)
    total = int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    cuts = np.arange(0, total, window)
    begin = np.concatenate((starts, cuts))  # of segments, in tokens of the whole stream
    begin.sort(kind="stable")  # merges the two sorted runs
    begin = begin[np.flatnonzero(np.diff(begin, prepend=-1))]
    document = np.searchsorted(starts, begin, side="right") - 1
    return Packing(
        window=window,
        document=document,
        offset=begin - starts[document],
        length=np.diff(begin, append=total).astype(np.int32),
        first=np.append(np.searchsorted(begin, cuts), len(begin)),
    )


def best_fit(lengths: NDArray[np.integer], window: int) -> Packing:
    """Best-fit decreasing; no document that fits into a window is cut.

    Pieces of equal length are taken in the order of their documents. Which of several windows with
    equal room takes a piece does not change how much room any window ends with.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    document, piece = _pieces((lengths - 1) // window + 1)
    offset = piece * window
    length = np.minimum(lengths[document] - offset, window).astype(np.int32)
    # Keys of up to 16 bits are sorted by radix, several times faster than wider ones.
    room = (window - length).astype(np.min_scalar_type(window))
    longest_first = np.argsort(room, kind="stable")
    placed_in = _place(np.bincount(length), window)
    order = longest_first[np.argsort(placed_in, kind="stable")]
    return Packing(
        window=window,
        document=document[order],
        offset=offset[order],
        length=length[order],
        first=np.concatenate(([0], np.cumsum(np.bincount(placed_in)))),
    )


def reorder_windows(packing: Packing, order: NDArray[np.integer]) -> Packing:
    """The same windows, the one at order[i] becoming window i."""
    counts = np.diff(packing.first)[order]
    first = np.concatenate(([0], np.cumsum(counts)))
    segment = np.repeat(packing.first[:-1][order] - first[:-1], counts) + np.arange(int(first[-1]))
    return Packing(
        window=packing.window,
        document=packing.document[segment],
        offset=packing.offset[segment],
        length=packing.length[segment],
        first=first,
    )


def _pieces(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """counts[i] pieces of document i: [2, 1] becomes documents [0, 0, 1], pieces [0, 1, 0]."""
    document = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    return document, np.arange(len(document)) - before[document]


def _place(count_of_length: NDArray[np.integer], window: int) -> NDArray[np.int64]:
    """The window of every piece, pieces in order of falling length.

    Pieces are placed a length at a time, not one by one: pieces of length n fill the fullest window
    that takes one until it takes no more, then the next, so a whole run of windows with equal room
    is filled in one step. Steps are few: at most one a length and room that meet.
    """
    stacks: dict[int, list[range]] = {}  # room -> runs of windows that have exactly that room
    rooms: list[int] = []  # the rooms that have windows, rising
    filled: list[range] = []
    taken: list[int] = []  # pieces by each window of filled[i]
    windows = 0

    def fill(run: range, room: int, pieces: int, length: int) -> None:
        if run and pieces:
            filled.append(run)
            taken.append(pieces)
        room -= pieces * length
        if run and room:
            if room not in stacks:
                insort(rooms, room)
                stacks[room] = []
            stacks[room].append(run)

    for length in np.flatnonzero(count_of_length)[::-1].tolist():
        left = int(count_of_length[length])
        while left:
            at = bisect_left(rooms, length)
            if at < len(rooms):
                room = rooms[at]
                run = stacks[room].pop()
                if not stacks[room]:
                    del stacks[room], rooms[at]
            else:
                room = window
                new = -(-left // (window // length))
                run = range(windows, windows + new)
                windows += new
            each = room // length
            full, rest = divmod(left, each)
            if full >= len(run):
                full, rest = len(run), 0
            touched = full + bool(rest)
            fill(run[:full], room, each, length)
            fill(run[full:touched], room, rest, length)
            fill(run[touched:], room, 0, length)
            left -= full * each + rest
    step, nth = _pieces(np.array([len(run) for run in filled], dtype=np.int64))
    window_of = np.array([run.start for run in filled], dtype=np.int64)[step] + nth
    return np.repeat(window_of, np.array(taken, dtype=np.int64)[step])
