"""Reads the parts of a token store: the index, the tokens and the ids of their documents.

A file is compared with its description in the manifest when it is read, see `refuse_damaged`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas import store as store_format
from ...schemas.errors import FormatError
from ...schemas.shard import SUPERVISED
from ..core.spans import Spans
from ..files.arrow import map_batches, read_column
from ..files.storage import Folder, checksum

__all__ = [
    "PartIndex",
    "PartTokens",
    "StoredFile",
    "damaged",
    "open_tokens",
    "read_ids",
    "read_index",
    "refuse_damaged",
]


@dataclass(frozen=True)
class StoredFile:
    """A file of a token store as the manifest describes it.

    Attributes:
        path: relative to the store.
        bytes: its size.
        xxh3_128: its checksum, 32 hexadecimal digits.
    """

    path: str
    bytes: int
    xxh3_128: str


def damaged(where: str, expected: str) -> FormatError:
    """The error for a file of a store that is not the one that was written."""
    return FormatError(
        "a file of the token store is damaged",
        where=where,
        expected=expected,
        fix="restore the file, or write the store again with `exactcpt tokenize --overwrite`",
    )


def refuse_damaged(path: Path, file: StoredFile, store: Folder) -> None:
    """Compares the checksum of a file with the manifest's.

    Args:
        path: the local file, or a local copy of it.
        file: what the manifest says of it.
        store: the token store, for the error.

    Raises:
        FormatError: they differ.
    """
    found = checksum(path)
    if found != file.xxh3_128:
        raise damaged(store.url_of(file.path), f"xxh3-128 {file.xxh3_128}, not {found}")


@dataclass(frozen=True)
class PartIndex:
    """The index of a part: one entry per document, in the part's order.

    Attributes:
        lengths: tokens of each document, BOS and EOS included; shape [documents].
        hashes: content hashes, 16 bytes each; shape [documents].
        supervised: the supervised spans; None if all tokens are supervised.
    """

    lengths: NDArray[np.int32]
    hashes: NDArray[np.void]
    supervised: Spans | None = None


@dataclass(frozen=True)
class PartTokens:
    """The tokens of a part's documents, memory-mapped; one run of documents per record batch.

    Attributes:
        run: which run each document is in; shape [documents].
        starts: where each document begins in the values of its run; shape [documents].
        values: the tokens of each run, one array per run.
    """

    run: NDArray[np.int32]
    starts: NDArray[np.int64]
    values: list[NDArray[np.int32]]


def read_index(path: Path) -> PartIndex:
    """Reads the index of a part from its local file."""
    (batch,) = map_batches(path)
    lengths = batch["length"].to_numpy()
    hashes: Any = batch["content_hash"]
    return PartIndex(
        lengths,
        np.frombuffer(hashes.buffers()[1], np.dtype("V16"), len(hashes)),
        _spans(batch[SUPERVISED], lengths, path) if SUPERVISED in batch.schema.names else None,
    )


def _spans(column: Any, lengths: NDArray[np.int32], path: Path) -> Spans:
    column.validate(full=True)
    start, stop = (each.to_numpy() for each in column.flatten().flatten())
    offsets = column.offsets.to_numpy().astype(np.int64)
    bounds = offsets - offsets[0]
    counts = np.diff(bounds)
    end = np.repeat(lengths, counts)
    before = np.concatenate(([0], stop[:-1]))
    before[bounds[:-1][counts > 0]] = 0
    if not (
        counts.all() and (before <= start).all() and (start < stop).all() and (stop <= end).all()
    ):
        raise FormatError(
            "the supervised spans of a document are none of its runs of tokens",
            where=str(path),
            fix="restore the token store, or tokenize again",
        )
    return Spans(bounds, start, stop)


def read_ids(store: Folder, part: str) -> pa.Array:
    """Reads the ids of a part's documents, and none of their tokens."""
    return read_column(store, store_format.part_name(part), "id")


def open_tokens(path: Path) -> PartTokens:
    """Maps the tokens of a part into memory from its local file."""
    lists: list[Any] = [batch["tokens"] for batch in map_batches(path)]
    return PartTokens(
        run=np.repeat(np.arange(len(lists), dtype=np.int32), [len(each) for each in lists]),
        starts=np.concatenate([np.asarray(each.offsets)[:-1] for each in lists]),
        values=[np.asarray(each.values) for each in lists],
    )
