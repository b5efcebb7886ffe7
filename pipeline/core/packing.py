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
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .choices import PackingName

__all__ = ["Packing", "Step", "best_fit", "best_fit_steps", "concat", "pack", "reorder_windows"]

Step = tuple[int, int, int, int, int]
"""(length, room, full, each, rest): pieces of `length` tokens go into windows with `room` tokens
free. `full` windows take `each` pieces, as many as fit; if `rest` is not 0, one more window takes
the `rest` pieces that are left. The windows are new where `room` is the whole window."""


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


def best_fit_steps(pieces: NDArray[np.integer], window: int) -> Iterator[Step]:
    """The steps of best-fit decreasing.

    Pieces of one length are placed together: they fill the fullest windows that take one until
    those take no more, then the next fullest, and what no window takes goes into new ones. Windows
    with equal room are filled in one step, so there are few steps: at most one for each length and
    room that meet.

    Args:
        pieces: how many have 0, 1, 2, ... tokens, shape [n], n <= window + 1.
        window: the window length L in tokens.
    """
    windows: dict[int, int] = {}  # how many windows have a room; full windows are left out
    rooms: list[int] = []  # the keys of `windows`, rising

    def leave(room: int, count: int) -> None:
        if room in windows:
            windows[room] += count
        elif room:
            insort(rooms, room)
            windows[room] = count

    for length in np.flatnonzero(pieces)[::-1].tolist():
        left = int(pieces[length])
        while left:
            at = bisect_left(rooms, length)
            if at < len(rooms):
                room = rooms.pop(at)
                found = windows.pop(room)
            else:
                room = window
                found = -(-left // (window // length))
            each = room // length
            full, rest = divmod(left, each)
            if full >= found:
                full, rest = found, 0
            yield length, room, full, each, rest
            left -= full * each + rest
            if full:
                leave(room - each * length, full)
            if rest:
                leave(room - rest * length, 1)
            if untouched := found - full - bool(rest):
                leave(room, untouched)


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


def _place(pieces: NDArray[np.integer], window: int) -> NDArray[np.int64]:
    """The window of every piece, pieces in order of falling length.

    Windows are numbered as they are opened. Of several with equal room, the last to get that room
    is filled first.

    Args:
        pieces: as in `best_fit_steps`.
        window: the window length L in tokens.
    """
    runs: dict[int, list[range]] = defaultdict(list)  # room -> runs of windows that have it
    filled: list[range] = []
    taken: list[int] = []  # pieces by each window of filled[i]
    windows = 0

    def fill(run: range, room: int, pieces: int) -> None:
        filled.append(run)
        taken.append(pieces)
        if room:
            runs[room].append(run)

    for length, room, full, each, rest in best_fit_steps(pieces, window):
        if room == window:
            new = full + bool(rest)
            runs[room].append(range(windows, windows + new))
            windows += new
        while full or rest:
            run = runs[room].pop()
            if full >= len(run):
                fill(run, room - each * length, each)
                full -= len(run)
            else:
                if full:
                    fill(run[:full], room - each * length, each)
                if rest:
                    fill(run[full : full + 1], room - rest * length, rest)
                if untouched := run[full + bool(rest) :]:
                    runs[room].append(untouched)
                break
    step, nth = _pieces(np.array([len(run) for run in filled], dtype=np.int64))
    window_of = np.array([run.start for run in filled], dtype=np.int64)[step] + nth
    return np.repeat(window_of, np.array(taken, dtype=np.int64)[step])
