"""The windows of a record batch: whether their segments, padding, ids and codes are consistent.

Codes are computed from the segments' lengths and the supervised spans alone: contexts are counted
from positions, and buckets follow from bit lengths, which is not how the shards are made. Segments
are compared with their documents in segments.py.
"""

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas import shard
from ...schemas.manifest import Manifest
from ...schemas.sizes import plural
from .arrays import Array, column, ranges
from .report import Problems, Words

__all__ = ["Windows", "check_windows", "codes_of_contexts", "contexts"]

SEGMENT_COLUMNS = ("seq_lengths", "doc_index", "doc_offset")


def contexts(lengths: Array) -> NDArray[np.int32]:
    """Effective context of each position of segments laid end to end, shape [sum(lengths)]."""
    starts = np.cumsum(lengths, dtype=np.int32) - lengths
    positions = np.arange(int(lengths.sum()), dtype=np.int32)
    return positions - np.repeat(starts.astype(np.int32), lengths)


@cache
def codes_of_contexts(window: int) -> NDArray[np.uint8]:
    """The dictionary code of each context 0..window-1.

    frexp gives a context its bit length, exactly; bucket b >= 1 has the contexts of b + 3 bits.
    """
    bits = np.frexp(np.arange(window, dtype=np.float64))[1]
    codes = np.maximum(bits - 3, 0) + 1
    codes[0] = shard.UNSUPERVISED
    return codes.astype(np.uint8)


class WindowSpans:
    """The supervised spans of the windows of one record batch.

    Attributes:
        row: int64[spans], the row of the span's window among these.
        start, stop: int64[spans], positions in the window.
    """

    def __init__(self, spans: Any) -> None:
        self.row = np.repeat(np.arange(len(spans)), np.diff(spans.offsets.to_numpy()))
        values = spans.flatten()
        self.start = values.field("start").to_numpy().astype(np.int64)
        self.stop = values.field("stop").to_numpy().astype(np.int64)


class Windows:
    """Windows of one record batch, their segments laid end to end.

    Attributes:
        path: the shard's.
        number: int64[windows], their numbers in the shard.
        tokens: int32[windows, L].
        codes: uint8[windows, L].
        counts: int[3, windows], entries in each of the three segment columns.
        length: int32[segments].
        doc: int64[segments].
        offset: int64[segments].
        row: int64[segments], the row of the segment's window among these.
        end: int64[segments], one past its last position, in windows laid end to end.
        spans: the supervised spans, or None if all tokens are supervised.
    """

    def __init__(self, batch: pa.RecordBatch, number: Array, path: str) -> None:
        self._batch, self.number, self.path = batch, number, path
        weight = column(batch, "loss_weight").flatten()
        ids = column(batch, "input_ids")
        self.tokens = ids.flatten().to_numpy().reshape(len(ids), ids.type.list_size)
        self.codes = weight.indices.to_numpy().reshape(self.tokens.shape)
        columns = [column(batch, name) for name in SEGMENT_COLUMNS]
        self.counts = np.array([np.diff(c.offsets.to_numpy()) for c in columns])
        self.length, self.doc, self.offset = (c.flatten().to_numpy() for c in columns)
        self.row: Array = np.repeat(np.arange(len(number)), self.counts[0])
        self.end = np.cumsum(self.length, dtype=np.int64)
        has_spans = shard.SUPERVISED in batch.schema.names
        self.spans = WindowSpans(column(batch, shard.SUPERVISED)) if has_spans else None

    def inside(self) -> Array | None:
        """Whether each position is in a supervised span, windows laid end to end; or None."""
        if self.spans is None:
            return None
        window = self.tokens.shape[1]
        change = np.zeros(self.tokens.size + 1, np.int32)
        np.add.at(change, self.spans.row * window + self.spans.start, 1)
        np.add.at(change, self.spans.row * window + self.spans.stop, -1)
        return np.cumsum(change)[:-1] > 0

    def only(self, good: Array) -> "Windows":
        """The windows where `good` is true."""
        if good.all():
            return self
        return Windows(self._batch.filter(pa.array(good)), self.number[good], self.path)

    def where(self, i: int) -> str:
        """Window i, in words."""
        return f"{self.path}, window {self.number[i]}"

    def where_segment(self, s: int) -> str:
        """Segment s, in words."""
        return f"{self.where(self.row[s])}, document {self.doc[s]}"


def check_windows(
    w: Windows, tokenizer: Manifest, documents: int | None, problems: Problems
) -> tuple[Windows, Array]:
    """Checks windows of a set that has `documents` documents, if that is known.

    Returns:
        The windows whose segments are consistent, and the codes they should have, end to end.
    """
    _check_ids(w, tokenizer["largest_id"], problems)
    w = w.only(_consistent(w, problems))
    w = w.only(_sound(w, documents, problems))
    w = w.only(_spans_are_sound(w, problems))
    _check_padding(w, tokenizer["pad_id"], problems)
    return w, _check_codes(w, problems)


def _check_ids(w: Windows, largest: int, problems: Problems) -> None:
    length = w.tokens.shape[1]
    problems.each(
        "tokens",
        (w.tokens < 0) | (w.tokens > largest),
        lambda i: f"{w.where(i // length)}, position {i % length}",
        lambda i: f"id {w.tokens.flat[i]}",
        f"0..{largest}",
    )


def _consistent(w: Windows, problems: Problems) -> Array:
    """Whether each window has equally many entries in all segment columns."""
    good = (w.counts == w.counts[0]).all(axis=0)
    problems.each(
        "segments",
        ~good,
        w.where,
        lambda i: f"{' and '.join(map(str, w.counts[:, i]))} entries in the segment columns",
        "equally many in each",
    )
    return good


def _sound(w: Windows, documents: int | None, problems: Problems) -> Array:
    """Whether each window is filled by segments of known documents, and padding at its end."""
    good = np.ones(len(w.number), np.bool_)

    def rule(broken: Array, found: Words, expected: str) -> None:
        good[w.row[broken]] = False
        problems.each("segments", broken, lambda s: w.where(w.row[s]), found, expected)

    is_padding = w.doc == shard.PADDING
    is_last = np.diff(w.row, append=-1) != 0
    rule(w.length < 1, lambda s: f"a segment of {plural(w.length[s], 'token')}", "at least 1")
    rule(is_padding & ~is_last, "padding before the end", "one run, at the end")
    unknown = w.doc < shard.PADDING
    if documents is not None:
        unknown |= w.doc >= documents
    rule(
        unknown,
        lambda s: f"doc_index {w.doc[s]}",
        "at least -1" if documents is None else f"-1 for padding, else 0..{documents - 1}",
    )
    rule(
        (w.offset < 0) | (is_padding & (w.offset != 0)),
        lambda s: f"doc_offset {w.offset[s]}",
        "at least 0, and 0 for padding",
    )
    window = w.tokens.shape[1]
    filled = np.bincount(w.row, w.length, len(w.number)).astype(np.int64)
    problems.each(
        "segments",
        filled != window,
        w.where,
        lambda i: f"segments of {plural(filled[i], 'token')}",
        str(window),
    )
    return good & (filled == window)


def _spans_are_sound(w: Windows, problems: Problems) -> Array:
    """Whether the supervised spans of each window are in order, and each is inside of a segment."""
    good = np.ones(len(w.number), np.bool_)
    if w.spans is None:
        return good
    row, start, stop = w.spans.row, w.spans.start, w.spans.stop
    window = w.tokens.shape[1]

    def rule(broken: Array, expected: str) -> None:
        good[row[broken]] = False
        problems.each(
            "segments",
            broken,
            lambda i: w.where(row[i]),
            lambda i: f"a supervised span {start[i]} to {stop[i]}",
            expected,
        )

    inside = (start >= 0) & (stop <= window) & (start < stop)
    rule(~inside, f"a run of the positions 0 to {window}")
    at = np.where(inside, row * window + start, 0)
    segment = np.searchsorted(w.end, at, "right")
    rule(inside & (row * window + stop > w.end[segment]), "inside of one segment")
    rule(inside & (w.doc[segment] == shard.PADDING), "none in padding")
    same = (np.diff(row, prepend=-1) == 0) & inside
    before = np.concatenate(([0], stop))[:-1]
    joins = (start == before) & (np.diff(segment, prepend=-1) == 0)
    rule(same & ((start < before) | joins), "in rising order, apart from the one before")
    return good


def _check_padding(w: Windows, pad_id: int, problems: Problems) -> None:
    run = np.flatnonzero(w.doc == shard.PADDING)
    rows: Array = w.row[run]
    tokens = w.tokens[rows]
    inside = np.arange(tokens.shape[1]) >= tokens.shape[1] - w.length[run, None]
    problems.each(
        "segments",
        (inside & (tokens != pad_id)).any(axis=1),
        lambda i: w.where(rows[i]),
        "padding with other ids",
        f"only {pad_id}",
    )


def _check_codes(w: Windows, problems: Problems) -> Array:
    codes = codes_of_contexts(w.tokens.shape[1])[contexts(w.length)]
    run = np.flatnonzero(w.doc == shard.PADDING)
    codes[ranges(w.end[run] - w.length[run], w.length[run])] = shard.UNSUPERVISED
    inside = w.inside()
    if inside is not None:
        codes[~inside] = shard.UNSUPERVISED
    expected = codes.reshape(w.codes.shape)
    wrong = w.codes != expected

    def found(i: int) -> str:
        others = np.count_nonzero(wrong[i]) - 1
        code = f"code {w.codes[i, wrong[i].argmax()]}"
        return f"{code}, and {plural(int(others), 'other code')} wrong" if others else code

    problems.each(
        "codes",
        wrong.any(axis=1),
        lambda i: f"{w.where(i)}, position {wrong[i].argmax()}",
        found,
        lambda i: f"code {expected[i, wrong[i].argmax()]}",
    )
    return codes
