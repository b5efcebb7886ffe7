"""The windows of a finished shard set, read back: one window, or the segments of all.

Files are memory-mapped, so segments are read without touching a token.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..schemas.errors import FormatError
from ..schemas.manifest import Manifest
from ..schemas.shard import UNSUPERVISED
from .ipc import map_batches
from .storage import Folder

__all__ = ["Segment", "Segments", "read_segments", "read_windows"]


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
    """The segments of all windows of a split, in order."""
    first = 0
    for entry in manifest["shards"][split]:
        with _batches(shards, entry) as batches:
            for batch in batches:
                yield _segments(batch, first)
                first += batch.num_rows


def _segments(batch: Any, first: int) -> Segments:
    lengths, documents, offsets = (
        batch.column(name) for name in ("seq_lengths", "doc_index", "doc_offset")
    )
    counts = np.diff(lengths.offsets.to_numpy())
    length = lengths.flatten().to_numpy()
    ends = np.cumsum(length, dtype=np.int64)
    row = np.repeat(np.arange(batch.num_rows), counts)
    window = batch.schema.field("input_ids").type.list_size
    return Segments(
        window=first + row,
        start=ends - length - window * row,
        length=length,
        document=documents.flatten().to_numpy(),
        offset=offsets.flatten().to_numpy(),
    )


@contextmanager
def _batches(shards: Folder, entry: Any) -> Iterator[list[Any]]:
    """The record batches of a shard.

    Raises:
        FormatError: it is missing, or cannot be read.
    """
    where = shards.url_of(entry["path"])
    found = shards.size(entry["path"])
    if found != entry["bytes"]:
        raise FormatError(
            "the shard is " + ("missing" if found is None else "damaged"),
            where=where,
            expected=f"{entry['bytes']:,} bytes" + ("" if found is None else f", not {found:,}"),
            fix="see what `exactcpt verify` says of the set",
        )
    with shards.local_copies([entry["path"]]) as local:
        try:
            batches = map_batches(local[entry["path"]])
        except (pa.ArrowException, ValueError) as error:
            raise FormatError(f"the shard cannot be read: {error}", where=where) from None
        yield batches


def read_windows(
    shards: Folder, manifest: Manifest, split: str, wanted: list[int]
) -> Iterator[list[Segment]]:
    """The segments of the wanted windows; their numbers must be rising.

    Raises:
        FormatError: a shard has fewer windows than the manifest says, or cannot be read.
    """
    first, left = 0, list(wanted)
    for entry in manifest["shards"][split]:
        mine = [n - first for n in left if n < first + entry["windows"]]
        if mine:
            with _batches(shards, entry) as batches:
                yield from _pick(batches, mine, first, shards.url_of(entry["path"]))
        left = left[len(mine) :]
        first += entry["windows"]


def _pick(batches: list[Any], wanted: list[int], first: int, where: str) -> Iterator[list[Segment]]:
    begin = 0
    for batch in batches:
        while wanted and wanted[0] < begin + batch.num_rows:
            row = wanted[0] - begin
            yield _window(batch.slice(row, 1), first + wanted[0])
            wanted = wanted[1:]
        begin += batch.num_rows
    if wanted:
        raise FormatError(
            f"the shard has {begin:,} windows, fewer than the manifest says",
            where=where,
            fix="see what `exactcpt verify` says of the set",
        )


def _window(row: Any, number: int) -> list[Segment]:
    tokens = row.column("input_ids").flatten().to_numpy()
    encoded = row.column("loss_weight").flatten()
    codes = encoded.indices.to_numpy()
    weights = encoded.dictionary.to_numpy()[codes]
    found = _segments(row, number)
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
