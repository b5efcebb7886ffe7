"""The windows of a finished shard set, read back: one window, or the segments of all.

Segments are read by ranges and windows from memory maps, so no more tokens are read than shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.manifest import Manifest
from ...schemas.shard import UNSUPERVISED, shard_schema
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
        document: the document, or -1 for padding.
        offset: where it begins inside the document, in tokens.
        tokens: int32[n].
        weights: float32[n].
        supervised: bool[n], whether a position counts as a target at all.
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
        start: position in the window.
        length: tokens.
        document: the document, or -1 for padding.
        offset: where it begins inside the document.
    """

    window: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int32]
    document: NDArray[np.int64]
    offset: NDArray[np.int64]


def read_segments(shards: Folder, manifest: Manifest, split: str) -> Iterator[Segments]:
    """The segments of all windows of a split, in order; no token is read.

    Raises:
        FormatError: a shard is missing or cannot be read, has another number of windows than the
            manifest says, or segments that are none of such a window.
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
            _check_count(first - begin, entry)


def _check_count(found: int, entry: Any) -> None:
    if found != entry["windows"]:
        raise ValueError(f"it has {found:,} windows, and the manifest says {entry['windows']:,}")


def _segments(batch: Any, window: int, first: int) -> Segments:
    """The segments of a batch's windows, of which the first is number `first`.

    Raises:
        ValueError: they are none of windows of `window` tokens.
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
        refuse(other != counts, every, f"has not as many entries in each of {', '.join(COLUMNS)}")
    refuse((length < 1) | (length > window), row, f"has a segment not of 1 to {window:,} tokens")
    ends = np.concatenate([[0], stop])[np.cumsum(counts)]
    refuse(ends != window * (every + 1), every, f"has segments of not {window:,} tokens in all")
    return Segments(
        window=first + row,
        start=stop - length - window * row,
        length=length,
        document=document,
        offset=offset,
    )


def _whole(batch: Any, name: str, window: int) -> Any:
    """A column that can be looked into: Arrow itself believes what a file says of its buffers.

    Raises:
        ValueError: it is of another type, has nulls, or its buffers are too short.
    """
    column, wanted = batch.column(name), shard_schema(window).field(name).type
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
    """The segments of the wanted windows; their numbers must be rising.

    Raises:
        FormatError: as of `read_segments`, and a window's tokens or weights cannot be read.
    """
    window, first, left = manifest["settings"]["window"], 0, list(wanted)
    for entry in manifest["shards"][split]:
        mine = [n - first for n in left if n < first + entry["windows"]]
        if mine:
            path = entry["path"]
            with reading(shards, entry), shards.local_copies([path]) as local:
                batches = map_batches(local[path])
                _check_count(sum(batch.num_rows for batch in batches), entry)
                yield from _pick(batches, mine, first, window)
        left = left[len(mine) :]
        first += entry["windows"]


def _pick(batches: list[Any], wanted: list[int], first: int, size: int) -> Iterator[list[Segment]]:
    begin = 0
    for batch in batches:
        while wanted and wanted[0] < begin + batch.num_rows:
            row = wanted[0] - begin
            yield _window(batch.slice(row, 1), first + wanted[0], size)
            wanted = wanted[1:]
        begin += batch.num_rows


def _window(row: Any, number: int, size: int) -> list[Segment]:
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
