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
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["PACKINGS", "Packing", "PackingName", "best_fit", "concat", "pack", "reorder_windows"]

PackingName = Literal["concat", "best_fit"]
PACKINGS: tuple[PackingName, ...] = ("concat", "best_fit")


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
    ends = np.cumsum(lengths)
    starts = ends - lengths
    first_window = starts // window
    document, piece = _pieces((ends - 1) // window - first_window + 1)
    window_of = first_window[document] + piece
    start = starts[document]
    begin = np.maximum(start, window_of * window)
    return Packing(
        window=window,
        document=document,
        offset=begin - start,
        length=np.diff(begin, append=ends[-1:]).astype(np.int32),
        first=_first_segments(window_of),
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
    longest_first = np.argsort(window - length, kind="stable")
    placed_in = _place(np.bincount(length, minlength=window + 1), window)
    by_window = np.argsort(placed_in, kind="stable")
    order = longest_first[by_window]
    return Packing(
        window=window,
        document=document[order],
        offset=offset[order],
        length=length[order],
        first=_first_segments(placed_in[by_window]),
    )


def reorder_windows(packing: Packing, order: NDArray[np.integer]) -> Packing:
    """The same windows, the one at order[i] becoming window i."""
    counts = np.diff(packing.first)[order]
    first = np.concatenate(([0], np.cumsum(counts)))
    segment = np.repeat(packing.first[:-1][order] - first[:-1], counts) + np.arange(first[-1])
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


def _first_segments(window_of: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each window's segments begin, given the (sorted) window of every segment."""
    return np.concatenate(([0], np.cumsum(np.bincount(window_of))))


def _place(count_of_length: NDArray[np.integer], window: int) -> NDArray[np.int64]:
    """The window of every piece, pieces in order of falling length.

    Pieces are placed a length at a time, not one by one: pieces of length n fill the fullest window
    that takes one until it takes no more, then the next, so a whole run of windows with equal room
    is filled in one step. Steps are few: at most one a length and room that meet.
    """
    stacks: dict[int, list[NDArray[np.int64]]] = {}  # room -> windows that have exactly that room
    rooms: list[int] = []  # the rooms that have windows, rising
    placed: list[NDArray[np.int64]] = []
    windows = 0

    def put(ids: NDArray[np.int64], room: int) -> None:
        if len(ids) and room:
            if room not in stacks:
                insort(rooms, room)
                stacks[room] = []
            stacks[room].append(ids)

    for length in np.flatnonzero(count_of_length)[::-1].tolist():
        left = int(count_of_length[length])
        while left:
            at = bisect_left(rooms, length)
            if at < len(rooms):
                room = rooms[at]
                ids = stacks[room].pop()
                if not stacks[room]:
                    del stacks[room], rooms[at]
            else:
                room = window
                new = -(-left // (window // length))
                ids = np.arange(windows, windows + new)
                windows += new
            each = room // length
            full, rest = divmod(left, each)
            if full >= len(ids):
                full, rest = len(ids), 0
            placed.append(np.repeat(ids[:full], each))
            put(ids[:full], room - each * length)
            if rest:
                placed.append(np.repeat(ids[full], rest))
                put(ids[full : full + 1], room - rest * length)
            put(ids[full + bool(rest) :], room)
            left -= full * each + rest
    return np.concatenate(placed) if placed else np.empty(0, np.int64)
