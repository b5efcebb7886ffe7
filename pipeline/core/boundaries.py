"""Where the segments of windows begin and end that somebody else has packed.

A packed window is a row of token ids, and says in one of four ways how it is cut. For segments of
3, 2 and 4 tokens:

    seq_lengths     3 2 4
    cu_seqlens      0 3 5 9
    position_ids    0 1 2 0 1 0 1 2 3
    end_token       after each end token; what follows the last one is a segment too

The end of a row may be padding: the longest run of padding and end tokens there. A first end token
of the run still ends the document before it, if that one's segment goes on so far. What the
boundaries say of padding does not count: packers make it a segment, count positions in it, or leave
it out.

    ids             a a E b E E E     end token E, also used as padding
    segments        3 + 2, and 2 tokens of padding
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .choices import Boundaries

__all__ = ["Cut", "CutError", "Rows", "cut_rows"]


class CutError(ValueError):
    """A row whose boundaries do not fit its tokens.

    Attributes:
        row: its number among the rows.
        found, expected: for the person who has packed it.
        fix: what to do, where more can be said than that it is wrong.
    """

    def __init__(self, row: int, found: str, expected: str, fix: str | None = None) -> None:
        super().__init__(found, expected)
        self.row, self.found, self.expected, self.fix = row, found, expected, fix


@dataclass(frozen=True)
class Rows:
    """Lists of integers of any lengths, one per row, end to end.

    Attributes:
        ends: where each row begins in the values, and the end of the last one; int64 [rows + 1],
            from 0.
        values: integers, [ends[-1]].
    """

    ends: NDArray[np.int64]
    values: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.ends) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many values each row has, [rows]."""
        return np.diff(self.ends)


@dataclass(frozen=True)
class Cut:
    """The segments of rows, padding left out.

    Attributes:
        lengths: of all segments in tokens, row after row, each at least 1; int64 [segments].
        counts: segments of each row; int64 [rows].
        texts: tokens of each row without padding; int64 [rows].
    """

    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]
    texts: NDArray[np.int64]


def cut_rows(ids: Rows, kind: Boundaries, values: Rows | None, *, end_id: int, pad_id: int) -> Cut:
    """The segments of packed rows.

    Args:
        ids: token ids.
        kind: how the rows say where their segments are.
        values: what they say, row by row; None for end_token.
        end_id: the token that ends documents.
        pad_id: the token of padding, possibly the same.

    Raises:
        CutError: a row has no text, or its boundaries do not fit its tokens.
    """
    words, texts = _texts(ids, end_id, pad_id)
    empty = np.flatnonzero(words == 0)
    if len(empty):
        found = "padding alone" if ids.lengths[empty[0]] else "no tokens"
        raise CutError(int(empty[0]), f"the row has {found}", "rows with text")
    if kind == "end_token":
        return _clipped(_stops_at(np.flatnonzero(ids.values == end_id) + 1, ids), ids, texts)
    if values is None:
        raise TypeError(f"{kind} of no values")
    stops = STOPS[kind](values, ids, words)
    starts = ids.ends[:-1]
    last = stops[np.searchsorted(stops, starts + words)] - starts
    return _clipped(stops, ids, np.minimum(texts, last))


def _texts(ids: Rows, end_id: int, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens of each row up to the last that is neither padding nor an end, and up to an end
    right behind it."""
    texts = ids.lengths
    words = texts.copy()
    filled = np.flatnonzero(texts > 0)
    last = ids.values[ids.ends[filled + 1] - 1]
    before = ids.values[np.maximum(ids.ends[filled + 1] - 2, ids.ends[filled])]
    ends_document = (last == end_id) & (before != end_id) & (before != pad_id)
    may_be_padded = ((last == pad_id) | (last == end_id)) & ~ends_document
    for row in filled[may_be_padded].tolist():
        tokens = ids.values[ids.ends[row] : ids.ends[row + 1]]
        is_text = (tokens != pad_id) & (tokens != end_id)
        kept = len(tokens) - int(is_text[::-1].argmax()) if is_text.any() else 0
        words[row] = kept
        texts[row] = kept + (0 < kept < len(tokens) and tokens[kept] == end_id)
    words[filled[ends_document]] -= 1
    return words, texts


def _row_of(places: NDArray[np.integer], rows: Rows) -> NDArray[np.int64]:
    """The row of each place in the values of rows."""
    return np.searchsorted(rows.ends, places, "right") - 1


def _stops_at(stops: NDArray[np.int64], ids: Rows) -> NDArray[np.int64]:
    """The ends of segments, and those of all rows, in order and each once."""
    both = np.sort(np.concatenate((stops, ids.ends[1:])), kind="stable")  # merges what is sorted
    return both[np.diff(both, prepend=-1) > 0]


def _of_lengths(
    values: Rows, ids: Rows, words: NDArray[np.int64], said: str = "seq_lengths add up to"
) -> NDArray[np.int64]:
    """The ends of segments of given lengths; `said` is what the row says of its last one."""
    lengths = values.values.astype(np.int64)
    bad = np.flatnonzero(lengths < 1)
    if len(bad):
        row = int(_row_of(bad[:1], values)[0])
        raise CutError(
            row,
            f"a segment of {lengths[bad[0]]:,} tokens",
            "at least 1 in each",
            "leave out entries that only fill the list up to some size",
        )
    before = np.concatenate(([0], np.cumsum(lengths)))
    sums = np.diff(before[values.ends])
    wrong = np.flatnonzero((sums > ids.lengths) | (sums < words))
    if len(wrong):
        row = int(wrong[0])
        raise CutError(
            row,
            f"{said} {sums[row]:,}, and the row has {ids.lengths[row]:,} tokens",
            "all tokens of the row, padding included or left out",
            "correct them where the rows are packed; padding has to be of the tokenizer's padding "
            "or end token, or else it is text",
        )
    return _in_rows(before[1:] - np.repeat(before[values.ends[:-1]], values.lengths), values, ids)


def _of_sums(values: Rows, ids: Rows, words: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ends of segments from cumulative lengths, which begin with 0."""
    counts = values.lengths
    begins = values.ends[:-1]
    sums = values.values.astype(np.int64)
    for row in np.flatnonzero(counts == 0)[:1].tolist():
        raise CutError(row, "cu_seqlens is empty", "0 and the end of each segment")
    for row in np.flatnonzero(sums[begins] != 0)[:1].tolist():
        raise CutError(row, f"cu_seqlens begins with {sums[begins[row]]:,}", "0")
    inner = np.ones(len(sums), np.bool_)
    inner[begins] = False
    return _of_lengths(
        Rows(values.ends - np.arange(len(values) + 1), np.diff(sums, prepend=0)[inner]),
        ids,
        words,
        "cu_seqlens end with",
    )


def _of_positions(values: Rows, ids: Rows, words: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ends of segments in which positions count from 0."""
    for row in np.flatnonzero(values.lengths != ids.lengths)[:1].tolist():
        raise CutError(
            row,
            f"{values.lengths[row]:,} position_ids for {ids.lengths[row]:,} tokens",
            "one for each token",
        )
    positions = values.values
    begins = positions == 0
    expected = np.empty_like(positions)
    expected[1:] = positions[:-1] + 1
    expected[ids.ends[:-1]] = 0
    wrong = np.flatnonzero((positions != expected) & ~begins)
    row = _row_of(wrong, ids)
    of_text = np.flatnonzero(wrong - ids.ends[row] < words[row])
    if len(of_text):
        at, row = int(wrong[of_text[0]]), int(row[of_text[0]])
        place = at - int(ids.ends[row])
        raise CutError(
            row,
            f"position_ids has {positions[at]:,} at place {place:,}",
            f"{expected[at]:,}, or 0 where a segment begins" if place else "0",
        )
    starts = np.flatnonzero(begins)
    return _stops_at(starts[starts > 0], ids)


def _in_rows(stops: NDArray[np.int64], values: Rows, ids: Rows) -> NDArray[np.int64]:
    """The ends of segments in the tokens of all rows, from those in the tokens of their own."""
    return _stops_at(np.repeat(ids.ends[:-1], values.lengths) + stops, ids)


STOPS: dict[str, Any] = {
    "seq_lengths": _of_lengths,
    "cu_seqlens": _of_sums,
    "position_ids": _of_positions,
}


def _clipped(stops: NDArray[np.int64], ids: Rows, texts: NDArray[np.int64]) -> Cut:
    """The segments that end at these places, each clipped to the text of its row."""
    row = _row_of(stops - 1, ids)
    stops = np.minimum(stops, (ids.ends[:-1] + texts)[row])
    starts = np.empty_like(stops)
    starts[:1] = 0
    starts[1:] = stops[:-1]
    starts = np.maximum(starts, ids.ends[row])
    lengths = stops - starts
    kept = lengths > 0
    return Cut(lengths[kept], np.bincount(row[kept], minlength=len(ids)), texts)
