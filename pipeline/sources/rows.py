"""Rows of token ids from files of plain numbers, as Arrow record batches with one column.

What a row means is up to the reader: a document, or a window that somebody has packed.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .listing import InputFile
from .records import BLOCK_BYTES, BadFileError, DamagedFileError, Fields, too_long

__all__ = [
    "ROWS_AT_ONCE",
    "TOKENS",
    "bad_file",
    "read_array",
    "read_blocks",
    "rows_of",
    "size_of",
]

TOKENS = "tokens"
"""The column, where the format has no name for it."""
ROWS_AT_ONCE = 1 << 16
"""Rows of an index that are looked at together."""


def rows_of(lengths: NDArray[np.int64], ids: NDArray[Any], name: str = TOKENS) -> pa.RecordBatch:
    """One list of ids per row.

    Args:
        lengths: of the rows; they add up to the number of ids.
        ids: integers of any type, row after row.
        name: of the column.
    """
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    arrays: Any = pa.LargeListArray
    lists = arrays.from_arrays(pa.array(offsets), pa.array(ids))
    return pa.RecordBatch.from_arrays([lists], names=[name])


def read_blocks(
    stream: Any,
    lengths: NDArray[np.int64],
    dtype: np.dtype[Any],
    first: int,
    fields: Fields,
    file: InputFile,
) -> Iterator[pa.RecordBatch]:
    """Reads rows that follow each other in a file, about BLOCK_BYTES at a time.

    Args:
        stream: the file, at the first row.
        lengths: of the rows, in ids.
        dtype: of an id.
        first: the number of the first row, counted from 0.
        fields: how many bytes a row may have, at four per id.
        file: which file it is.

    Raises:
        BadFileError: the file ends too early.
        ExactcptError: a row is too long.
    """
    is_long = lengths > fields.max_bytes // 4
    if is_long.any():
        raise too_long(file.url, f"row {first + int(is_long.argmax()) + 1:,}", fields)
    ends = np.cumsum(lengths) * dtype.itemsize
    at = 0
    while at < len(lengths):
        begin = int(ends[at - 1]) if at else 0
        stop = max(at + 1, int(np.searchsorted(ends, begin + BLOCK_BYTES, "right")))
        ids = read_array(stream, dtype, int(lengths[at:stop].sum()), file)
        yield rows_of(lengths[at:stop], ids)
        at = stop


def read_array(
    stream: Any, dtype: np.dtype[Any], count: int, file: InputFile, what: str = "it"
) -> NDArray[Any]:
    """Reads numbers from where a stream is.

    Args:
        stream: bytes.
        dtype: of a number.
        count: how many.
        file: the file with the tokens, for errors.
        what: what the stream is, in an error.

    Raises:
        BadFileError: there are fewer.
    """
    wanted = count * dtype.itemsize
    pieces: list[bytes] = []
    while wanted:
        piece = stream.read(min(wanted, BLOCK_BYTES))
        if not piece:
            raise bad_file(file, f"{what} ends {wanted:,} bytes too early")
        pieces.append(piece)
        wanted -= len(piece)
    return np.frombuffer(b"".join(pieces), dtype)


def size_of(stream: Any) -> int:
    """The size of a file in bytes; the stream is at its beginning afterwards."""
    size = stream.seek(0, 2)
    stream.seek(0)
    return int(size)


def bad_file(
    file: InputFile, found: str, *, expected: str | None = None, fix: str | None = None
) -> BadFileError:
    """The error about a file of token ids, or about one that belongs to it."""
    if fix is not None:
        return BadFileError(found, where=file.url, expected=expected, fix=fix)
    advice = "restore the file, and those that belong to it"
    return DamagedFileError(found, where=file.url, expected=expected, fix=advice)
