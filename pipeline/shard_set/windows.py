"""The windows of a finished shard set: some with their tokens, or the segments of all without.

Segments are read by byte ranges and windows from memory maps, so only tokens that are asked for
are read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.manifest import Manifest
from ...schemas.shard import UNSUPERVISED, shard_schema
from ...schemas.sizes import plural
from ..files.arrow import map_batches
from ..files.storage import Folder
from .manifest import reading

__all__ = ["Segment", "Segments", "read_segments", "read_windows"]

COLUMNS = ("seq_lengths", "doc_index", "doc_offset")


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
    """

    window: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int32]
    document: NDArray[np.int64]
    offset: NDArray[np.int64]


def read_segments(shards: Folder, manifest: Manifest, split: str) -> Iterator[Segments]:
    """Reads the segments of all windows of a split, in order, without their tokens.

    Raises:
        FormatError: a shard is missing or cannot be read, its number of windows is not that in
            the manifest, or its segments do not make up windows.
    """
    window, first = manifest["settings"]["window"], 0
    names = shard_schema(window).names
    wanted = pa.ipc.IpcReadOptions(included_fields=[names.index(name) for name in COLUMNS])
    for entry in manifest["shards"][split]:
        with reading(shards, entry), shards.open_ranges(entry["path"]) as source:
            begin = first
            reader = pa.ipc.open_file(source, options=wanted)
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
    lists = [_whole(batch, name, window) for name in COLUMNS]
    counts, *others = (np.diff(column.offsets.to_numpy()) for column in lists)
    length, document, offset = (column.flatten().to_numpy() for column in lists)
    row = np.repeat(np.arange(batch.num_rows), counts)
    stop = np.cumsum(length, dtype=np.int64)

    def refuse(wrong: NDArray[np.bool_], of: NDArray[np.int64], what: str) -> None:
        if wrong.any():
            raise ValueError(f"window {first + int(of[np.argmax(wrong)]):,} {what}")

    every = np.arange(batch.num_rows)
    for other in others:
        refuse(other != counts, every, f"has different numbers of entries in {', '.join(COLUMNS)}")
    wrong_length = (length < 1) | (length > window)
    refuse(wrong_length, row, f"has a segment that is not 1 to {window:,} tokens long")
    ends = np.concatenate([[0], stop])[np.cumsum(counts)]
    wrong_sum = ends != window * (every + 1)
    refuse(wrong_sum, every, f"has segments that do not add up to {window:,} tokens")
    return Segments(
        window=first + row,
        start=stop - length - window * row,
        length=length,
        document=document,
        offset=offset,
    )


def _whole(batch: pa.RecordBatch, name: str, window: int) -> Any:
    """A column that is safe to read: Arrow itself trusts what a file says about its buffers.

    Raises:
        ValueError: it is of another type, has nulls, or its buffers are too short.
    """
    column: Any = batch.column(name)
    wanted = shard_schema(window).field(name).type
    if column.type != wanted:
        raise ValueError(f"{name} is {column.type}, not {wanted}")
    column.validate()
    if pa.types.is_list(wanted):
        column.validate(full=True)  # its offsets
    if column.null_count or column.flatten().null_count:
        raise ValueError(f"{name} has nulls")
    return column


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
    for entry in manifest["shards"][split]:
        mine = [n - first for n in left if n < first + entry["windows"]]
        if mine:
            path = entry["path"]
            with reading(shards, entry), shards.local_copies([path]) as local:
                batches = map_batches(local[path])
                _check_count(sum(batch.num_rows for batch in batches), entry["windows"])
                yield from _pick(batches, mine, first, window)
        left = left[len(mine) :]
        first += entry["windows"]


def _pick(
    batches: list[pa.RecordBatch], wanted: list[int], first: int, size: int
) -> Iterator[list[Segment]]:
    begin = 0
    for batch in batches:
        while wanted and wanted[0] < begin + batch.num_rows:
            row = wanted[0] - begin
            yield _window(batch.slice(row, 1), first + wanted[0], size)
            wanted = wanted[1:]
        begin += batch.num_rows


def _window(row: pa.RecordBatch, number: int, size: int) -> list[Segment]:
    tokens = _whole(row, "input_ids", size).flatten().to_numpy()
    encoded = _whole(row, "loss_weight", size).flatten()
    encoded.validate(full=True)  # its codes
    codes = encoded.indices.to_numpy()
    weights = encoded.dictionary.to_numpy()[codes]
    found = _segments(row, size, number)
    return [
        Segment(
            window=number,
            start=start,
            document=document,
            offset=offset,
            tokens=tokens[start : start + length],
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
