"""The windows of a finished shard set: some with their tokens, or the segments of all without.

Segments are read by byte ranges and windows from memory maps, so only tokens that are asked for
are read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.manifest import Manifest, has_spans
from ...schemas.shard import PADDING, UNSUPERVISED
from ...schemas.sizes import plural
from ...schemas.windows import (
    WindowSpans,
    check_batch,
    check_tokens,
    open_shard,
    segment_columns,
    segments_of,
    tokens_of,
    weights_of_codes,
)
from ..core.spans import Spans
from ..files.storage import Folder
from .manifest import explained, reading
from .unchanged import Unchanged

__all__ = ["Segment", "Segments", "check_windows", "read_segments", "read_windows"]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment of a window, with its tokens.

    Attributes:
        window: number of the window in its split.
        start: position of its first token in the window.
        document: the document's `doc_index`, or -1 for padding.
        offset: position of its first token in the document.
        tokens: int32, shape [n].
        weights: float32, shape [n].
        supervised: whether a position is a target, shape [n].
    """

    window: int
    start: int
    document: int
    offset: int
    tokens: NDArray[np.int32]
    weights: NDArray[np.float32]
    supervised: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The segments of some consecutive windows, without tokens; arrays of shape [segments].

    Attributes:
        window: number of the window in its split.
        start: position of its first token in the window.
        length: in tokens.
        document: the document's `doc_index`, or -1 for padding.
        offset: position of its first token in the document.
        spans: the supervised spans of each, from its first token on; None if all are supervised.
    """

    window: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int32]
    document: NDArray[np.int64]
    offset: NDArray[np.int64]
    spans: Spans | None = None


def read_segments(shards: Folder, manifest: Manifest, split: str) -> Iterator[Segments]:
    """Reads the segments of all windows of a split, in order, without their tokens.

    Raises:
        FormatError: a shard is missing or cannot be read, its number of windows is not that in
            the manifest, its segments do not make up windows, or another set took the place of
            this one.
    """
    window, spans, first = manifest["settings"]["window"], has_spans(manifest), 0
    unchanged = Unchanged(shards, manifest)
    for entry in manifest["shards"][split]:
        with reading(shards, entry), shards.open_ranges(entry["path"]) as source:
            unchanged.check()
            begin = first
            reader = open_shard(source, window, segment_columns(spans), spans=spans)
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i)
                yield _segments(batch, window, first)
                first += batch.num_rows
            _check_count(first - begin, entry["windows"])


def _check_count(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"it has {plural(found, 'window')}, but the manifest says {expected:,}")


def _segments(batch: pa.RecordBatch, window: int, first: int) -> Segments:
    """The segments of a batch of windows, numbered from `first`.

    Raises:
        ValueError: they do not make up windows of `window` tokens.
    """
    found = segments_of(batch, window, first)
    row = np.repeat(np.arange(batch.num_rows), np.diff(found.bounds))
    stop = np.cumsum(found.length, dtype=np.int64)
    start = stop - found.length - window * row
    return Segments(
        window=first + row,
        start=start,
        length=found.length,
        document=found.document,
        offset=found.offset,
        spans=None if found.spans is None else _spans(found.spans, start),
    )


def _spans(found: WindowSpans, start: NDArray[np.int64]) -> Spans:
    """The spans of segments, which begin at these positions of their windows."""
    counts = np.bincount(found.segment, minlength=len(start))
    ends = (found.ends - start[found.segment, None]).astype(np.int32)
    return Spans(np.concatenate(([0], np.cumsum(counts))), ends[:, 0], ends[:, 1])


def read_windows(
    shards: Folder, manifest: Manifest, split: str, wanted: list[int]
) -> Iterator[list[Segment]]:
    """Reads some windows of a split: for each, its segments with their tokens.

    Args:
        shards: the shard set.
        manifest: its manifest.
        split: "train" or "validation".
        wanted: numbers of windows in the split, ascending.

    Raises:
        FormatError: as in `read_segments`, or a window's tokens or weights cannot be read.
    """
    window, first, left = manifest["settings"]["window"], 0, list(wanted)
    tokens = _Tokens(
        window=window,
        weights=weights_of_codes(manifest, split),
        largest_id=manifest["tokenizer"]["largest_id"],
        spans=has_spans(manifest),
    )
    unchanged = Unchanged(shards, manifest)
    for entry in manifest["shards"][split]:
        mine = [n - first for n in left if n < first + entry["windows"]]
        if mine:
            path = entry["path"]
            with reading(shards, entry), shards.local_copies([path]) as local:
                with pa.memory_map(str(local[path])) as source:
                    reader = open_shard(source, window, spans=tokens.spans)
                    batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
                unchanged.check()
                _check_count(sum(batch.num_rows for batch in batches), entry["windows"])
                yield from _pick(batches, mine, first, tokens)
        left = left[len(mine) :]
        first += entry["windows"]


def check_windows(path: Path, where: str, manifest: Manifest, split: str) -> None:
    """Checks all windows of a shard that lies on the disk, token by token.

    Args:
        path: of the shard.
        where: its name in errors.
        manifest: of the set.
        split: "train" or "validation".

    Raises:
        FormatError: it cannot be read, or a window is not what it has to be.
    """
    window, first = manifest["settings"]["window"], 0
    weights = weights_of_codes(manifest, split)
    largest_id = manifest["tokenizer"]["largest_id"]
    with explained(where), pa.memory_map(str(path)) as source:
        reader = open_shard(source, window, spans=has_spans(manifest))
        for i in range(reader.num_record_batches):
            batch = reader.get_batch(i)
            check_batch(batch, window, weights, largest_id, first)
            first += batch.num_rows


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """What the tokens of all windows of a split have to be.

    Attributes:
        window: window length in tokens.
        weights: of each code, float32 [codes].
        largest_id: of the vocabulary.
        spans: whether windows have supervised spans.
    """

    window: int
    weights: NDArray[np.float32]
    largest_id: int
    spans: bool


def _pick(
    batches: list[pa.RecordBatch], wanted: list[int], first: int, tokens: _Tokens
) -> Iterator[list[Segment]]:
    begin = 0
    for batch in batches:
        while wanted and wanted[0] < begin + batch.num_rows:
            row = wanted[0] - begin
            yield _window(batch.slice(row, 1), first + wanted[0], tokens)
            wanted = wanted[1:]
        begin += batch.num_rows


def _window(row: pa.RecordBatch, number: int, expected: _Tokens) -> list[Segment]:
    found = _segments(row, expected.window, number)
    spans = segments_of(row, expected.window, number).spans_of(0)
    (ids,), (codes,) = tokens_of(row, expected.window, expected.weights)
    is_padded = bool(found.document[-1] == PADDING)
    try:
        check_tokens(ids, codes, found.length, is_padded, expected.largest_id, spans)
    except ValueError as error:
        raise ValueError(f"window {number:,} {error}") from None
    weights = expected.weights[codes]
    return [
        Segment(
            window=number,
            start=start,
            document=document,
            offset=offset,
            tokens=ids[start : start + length],
            weights=weights[start : start + length],
            supervised=codes[start : start + length] != UNSUPERVISED,
        )
        for start, length, document, offset in zip(
            found.start.tolist(),
            found.length.tolist(),
            found.document.tolist(),
            found.offset.tolist(),
            strict=True,
        )
    ]
