"""The windows of a shard as NumPy arrays, checked before anything relies on them.

Arrow trusts what a file says about its buffers: an offset that is wrong makes a reader read beside
them, and a code without a weight is looked up anyway. A checksum does not help, since whoever made
the file made the checksum too. So every reader takes its arrays from here:

    open_shard      an Arrow file with the columns of a shard, not compressed
    segments_of     the segments of a record batch, and its supervised spans if it has some; the
                    segments make up its windows, and the spans are inside of them
    tokens_of       its ids and codes, and the weights of the codes
    check_tokens    the ids are in the vocabulary, and each code is that of its effective context,
                    or 0 outside of the supervised spans
    check_batch     all of that, for all windows of a record batch

Errors are ValueErrors whose message is about "it", the shard. Only `check_tokens` touches tokens,
so a reader of few windows can call it for those alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .ipc import is_compressed
from .manifest import Manifest
from .shard import PADDING, SUPERVISED, TRAIN, UNSUPERVISED, shard_schema
from .weights import bucket_ranges

__all__ = [
    "SEGMENT_COLUMNS",
    "WindowSegments",
    "WindowSpans",
    "check_batch",
    "check_tokens",
    "expected_codes",
    "histogram_of",
    "open_shard",
    "segment_columns",
    "segments_of",
    "targets_by_bucket",
    "tokens_of",
    "weights_of_codes",
]

SEGMENT_COLUMNS = ("seq_lengths", "doc_index", "doc_offset")


def segment_columns(spans: bool) -> tuple[str, ...]:
    """The columns that tell the targets of windows, without their tokens.

    Args:
        spans: whether the set has supervised spans.
    """
    return (*SEGMENT_COLUMNS, *([SUPERVISED] if spans else []))


@dataclass(frozen=True, kw_only=True)
class WindowSpans:
    """The supervised spans of the windows of a record batch.

    Attributes:
        bounds: window i has the spans bounds[i]..bounds[i+1]-1, int64[windows + 1].
        ends: start and stop of each as positions in its window, int32[spans, 2].
        segment: the segment that each is in, int64[spans].
    """

    bounds: NDArray[np.int64]
    ends: NDArray[np.int32]
    segment: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class WindowSegments:
    """The segments of the windows of a record batch, laid end to end.

    Attributes:
        bounds: window i has the segments bounds[i]..bounds[i+1]-1, int64[windows + 1].
        length: in tokens, int32[segments].
        document: the document's `doc_index`, or -1 for padding, int64[segments].
        offset: position of its first token in the document, int64[segments].
        spans: the supervised spans; None if all targets are supervised.
    """

    bounds: NDArray[np.int64]
    length: NDArray[np.int32]
    document: NDArray[np.int64]
    offset: NDArray[np.int64]
    spans: WindowSpans | None = None

    def spans_of(self, row: int) -> NDArray[np.int32] | None:
        """The spans of a window, int32 [spans, 2]; None if all targets are supervised."""
        if self.spans is None:
            return None
        return self.spans.ends[self.spans.bounds[row] : self.spans.bounds[row + 1]]


def open_shard(
    source: Any, window: int, columns: tuple[str, ...] | None = None, *, spans: bool = False
) -> Any:
    """Opens a shard of windows of `window` tokens.

    Args:
        source: a seekable file, or a memory map of Arrow.
        window: window length in tokens.
        columns: those to read; None for all.
        spans: whether it has supervised spans.

    Returns:
        Arrow's reader of record batches.

    Raises:
        ValueError, pa.ArrowException, OSError: it is no Arrow file, it is compressed, or it has
            other columns.
    """
    if is_compressed(source):
        raise ValueError("it is compressed, and shards are not")
    schema: Any = shard_schema(window, spans)
    names = list(columns or schema.names)
    fields = [schema.names.index(name) for name in names]
    if spans and SUPERVISED not in pa.ipc.open_file(source).schema.names:
        raise ValueError(
            f"it has no column {SUPERVISED}, and the manifest says that it has supervised spans "
            "(format version 2)"
        )
    reader: Any = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
    found = [(field.name, field.type) for field in reader.schema]
    wanted = [(name, schema.field(name).type) for name in names]
    if found != wanted:
        other = next((f for f, w in zip(found, wanted, strict=False) if f != w), None)
        what = "other columns" if other is None else "the column {} of {}".format(*other)
        raise ValueError(f"it has {what[:200]} where a shard has {', '.join(names)}")
    return reader


def segments_of(batch: pa.RecordBatch, window: int, first: int = 0) -> WindowSegments:
    """The segments of the windows of a record batch.

    Args:
        batch: with the columns of a shard, or those of segments alone.
        window: window length in tokens.
        first: the number of its first window, for errors.

    Raises:
        ValueError: the columns are damaged, the segments do not make up windows, or a supervised
            span is not inside of a segment or not after the one before it.
    """
    lists = [_whole(batch, name, window) for name in SEGMENT_COLUMNS]
    counts, *others = (np.diff(column.offsets.to_numpy()) for column in lists)
    length, document, offset = (column.flatten().to_numpy() for column in lists)
    row = np.repeat(np.arange(batch.num_rows), counts)
    every = np.arange(batch.num_rows)

    def refuse(wrong: NDArray[np.bool_], of: NDArray[np.int64], what: str) -> None:
        if wrong.any():
            raise ValueError(f"window {first + int(of[np.argmax(wrong)]):,} {what}")

    for other in others:
        names = ", ".join(SEGMENT_COLUMNS)
        refuse(other != counts, every, f"has different numbers of entries in {names}")
    wrong_length = (length < 1) | (length > window)
    refuse(wrong_length, row, f"has a segment that is not 1 to {window:,} tokens long")
    bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    stop = np.concatenate([[0], np.cumsum(length, dtype=np.int64)])
    wrong_sum = stop[bounds[1:]] != window * (every + 1)
    refuse(wrong_sum, every, f"has segments that do not add up to {window:,} tokens")
    is_padding, is_last = document == PADDING, np.diff(row, append=-1) != 0
    refuse(is_padding & ~is_last, row, "has padding before its end")
    refuse(document < PADDING, row, "has a negative doc_index that is not padding")
    wrong_offset = (offset < 0) | (is_padding & (offset != 0))
    refuse(wrong_offset, row, "has a doc_offset below 0, or one of padding that is not 0")
    found = WindowSegments(bounds=bounds, length=length, document=document, offset=offset)
    if SUPERVISED not in batch.schema.names:
        return found
    return replace(found, spans=_spans_of(batch, window, found, first))


def _spans_of(
    batch: pa.RecordBatch, window: int, segments: WindowSegments, first: int
) -> WindowSpans:
    """The supervised spans of a record batch with these segments."""
    column = _whole(batch, SUPERVISED, window)
    counts = np.diff(column.offsets.to_numpy())
    row = np.repeat(np.arange(batch.num_rows), counts)
    fields = [each.to_numpy() for each in column.flatten().flatten()]
    ends = np.stack(fields, axis=1).reshape(-1, 2)
    start, stop = (ends[:, i] + window * row for i in (0, 1))

    def refuse(wrong: NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            at = int(np.argmax(wrong))
            found = f"a supervised span {ends[at].tolist()}"
            raise ValueError(f"window {first + int(row[at]):,} has {found} {what}")

    wrong = (ends[:, 0] < 0) | (ends[:, 1] > window) | (ends[:, 0] >= ends[:, 1])
    refuse(wrong, f"that is no run of its {window:,} positions")
    after = np.cumsum(segments.length, dtype=np.int64)
    segment = np.searchsorted(after, start, side="right")
    refuse(stop > after[segment], "that goes beyond a segment")
    refuse(segments.document[segment] == PADDING, "in padding")
    same = np.diff(segment, prepend=-1) == 0
    before = np.concatenate([[0], stop[:-1]])
    refuse((start < before) | (same & (start == before)), "that is not apart from the one before")
    bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return WindowSpans(bounds=bounds, ends=ends, segment=segment)


def tokens_of(
    batch: pa.RecordBatch, window: int, weights: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The ids and the codes of a record batch as views of its buffers, both [windows, L].

    Args:
        batch: with the columns of a shard.
        window: window length in tokens.
        weights: what its dictionary has to be.

    Raises:
        ValueError: a column is damaged, or has another dictionary.
    """
    ids = _whole(batch, "input_ids", window).flatten().to_numpy()
    encoded = _whole(batch, "loss_weight", window).flatten()
    encoded.dictionary.validate()
    found = encoded.dictionary.to_numpy(zero_copy_only=False)
    if not np.array_equal(found, weights):
        raise ValueError(
            f"it has the weights {found.tolist()[:32]}, but the manifest says {weights.tolist()}"
        )
    return ids.reshape(-1, window), encoded.indices.to_numpy().reshape(-1, window)


def check_tokens(
    ids: NDArray[np.int32],
    codes: NDArray[np.uint8],
    lengths: NDArray[np.int32],
    is_padded: bool,
    largest_id: int,
    spans: NDArray[np.int32] | None = None,
) -> None:
    """Checks the tokens of one window.

    Args:
        ids: its ids, [L].
        codes: the codes of its positions, [L].
        lengths: those of its segments, a run of padding included.
        is_padded: whether the last of them is padding.
        largest_id: of the vocabulary.
        spans: its supervised spans, [spans, 2]; None if all targets are supervised.

    Raises:
        ValueError: an id is not in the vocabulary, or a code is not that of its effective context.
    """
    length = len(ids)
    if ids.view(np.uint32).max() > largest_id:  # an id below 0 is a large one
        at = int(np.argmax(ids.view(np.uint32) > largest_id))
        raise ValueError(f"has the id {ids[at]} at position {at:,}, not one of 0 to {largest_id:,}")
    expected = expected_codes(lengths, is_padded, length, spans)
    if codes.tobytes() != expected:
        at = int(np.argmax(codes != np.frombuffer(expected, np.uint8)))
        reason = "that of its effective context is"
        if spans is not None and not ((spans[:, 0] <= at) & (at < spans[:, 1])).any():
            reason = "outside of the supervised spans it is"
        raise ValueError(
            f"has the code {codes[at]} at position {at:,}, but {reason} {expected[at]}"
        )


def check_batch(
    batch: pa.RecordBatch,
    window: int,
    weights: NDArray[np.float32],
    largest_id: int,
    first: int = 0,
) -> None:
    """Checks all windows of a record batch.

    Args:
        batch: with the columns of a shard.
        window: window length in tokens.
        weights: what its dictionary has to be.
        largest_id: of the vocabulary.
        first: the number of its first window, for errors.

    Raises:
        ValueError: as `segments_of`, `tokens_of` and `check_tokens`.
    """
    segments = segments_of(batch, window, first)
    ids, codes = tokens_of(batch, window, weights)
    for row in range(batch.num_rows):
        begin, end = segments.bounds[row], segments.bounds[row + 1]
        lengths = segments.length[begin:end]
        is_padded = bool(segments.document[end - 1] == PADDING)
        spans = segments.spans_of(row)
        try:
            check_tokens(ids[row], codes[row], lengths, is_padded, largest_id, spans)
        except ValueError as error:
            raise ValueError(f"window {first + row:,} {error}") from None


def expected_codes(
    lengths: NDArray[np.int32],
    is_padded: bool,
    window: int,
    spans: NDArray[np.int32] | None = None,
) -> bytes:
    """The codes of the tokens of segments laid end to end, one byte each.

    A segment of n tokens has the codes of the contexts 0 .. n - 1. To join slices of bytes is
    several times as fast as any way to repeat or look up codes in NumPy.

    Args:
        lengths: of the segments, in tokens.
        is_padded: whether the last of them is padding.
        window: window length in tokens, at least the length of the longest segment.
        spans: runs of positions outside of which codes are 0, [spans, 2]; None for everywhere.
    """
    by_context = _codes_by_context(window)
    parts = [by_context[:length] for length in lengths.tolist()]
    if is_padded:
        parts[-1] = bytes([UNSUPERVISED]) * len(parts[-1])
    codes = b"".join(parts)
    if spans is None:
        return codes
    inside = bytearray([UNSUPERVISED]) * len(codes)
    for start, stop in spans.tolist():
        inside[start:stop] = codes[start:stop]
    return bytes(inside)


@lru_cache(maxsize=8)
def _codes_by_context(window: int) -> bytes:
    ranges = bucket_ranges(window)
    codes = b"".join(bytes([b + 1]) * (high - low + 1) for b, (low, high) in enumerate(ranges))
    return bytes([UNSUPERVISED]) + codes[1:]


def targets_by_bucket(segments: NDArray[np.int64], window: int) -> list[int]:
    """The histogram of targets by effective context.

    Args:
        segments: how many segments have 0, 1, ..., window tokens, padding left out, [window + 1].
        window: window length in tokens.
    """
    longer = np.cumsum(segments[::-1])[::-1][1:]  # at c: those with a token of context c
    longer[0] = 0
    return _by_bucket(longer, window)


def histogram_of(segments: Sequence[WindowSegments], window: int) -> list[int]:
    """The histogram of targets by effective context, of windows in record batches.

    Args:
        segments: of the windows of each record batch, with its spans if it has some.
        window: window length in tokens.
    """
    by_length = np.zeros(window + 1, np.int64)
    change = np.zeros(window + 1, np.int64)
    for each in segments:
        if each.spans is None:
            real = each.length[each.document != PADDING]
            by_length += np.bincount(real, minlength=window + 1)
            continue
        begin = np.cumsum(each.length, dtype=np.int64) - each.length
        before = begin[each.spans.segment] % window
        # A span has targets of the contexts from its start in the segment, 0 left out, to its stop.
        start, stop = (np.maximum(each.spans.ends[:, i] - before, 1) for i in (0, 1))
        change += np.bincount(start, minlength=window + 1)
        change -= np.bincount(stop, minlength=window + 1)
    whole = targets_by_bucket(by_length, window)
    return [
        a + b for a, b in zip(whole, _by_bucket(np.cumsum(change)[:window], window), strict=True)
    ]


def _by_bucket(by_context: NDArray[np.int64], window: int) -> list[int]:
    return np.add.reduceat(by_context, [low for low, _ in bucket_ranges(window)]).tolist()


def weights_of_codes(manifest: Manifest, split: str) -> NDArray[np.float32]:
    """The dictionary that the shards of a split have by a set's manifest, [1 + buckets]."""
    table = manifest["weights"]["table"]
    weights = [row["weight"] if split == TRAIN else 1.0 for row in table]
    return np.array([0.0, *weights], np.float32)


def _whole(batch: pa.RecordBatch, name: str, window: int) -> Any:
    """A column that is safe to read.

    Raises:
        ValueError: it is of another type, has nulls, or its buffers are too short.
    """
    columns: Any = batch
    column = columns.column(name)
    schema: Any = shard_schema(window, spans=True)
    wanted = schema.field(name).type
    if column.type != wanted:
        raise ValueError(f"{name} is {column.type}, not {wanted}")
    column.validate()
    if pa.types.is_list(wanted):
        column.validate(full=True)  # its offsets
    if column.null_count or column.flatten().null_count:
        raise ValueError(f"{name} has nulls")
    return column
