"""Arrays of token ids that NumPy saved.

    two axes    each row is a document
    one axis    a stream of documents, cut after each token that ends documents

The header is read by NumPy. An array of objects would be a pickle, which can run anything: it is
never loaded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ...schemas.errors import ExactcptError
from ..files.storage import open_input
from .listing import InputFile
from .records import BLOCK_BYTES, Fields
from .rows import bad_file, read_array, read_blocks, rows_of, size_of

__all__ = ["bytes_per_id", "read_rows", "row_count"]

HEADERS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}
AS_ROWS = "save them anew: numpy.save(NEW, numpy.ascontiguousarray(array, dtype='<i4'))"


def row_count(file: InputFile) -> int:
    """How many rows can be read apart from each other: 1 for a stream.

    Raises:
        BadFileError: it is not an array of token ids.
    """
    with open_input(file.url) as stream:
        shape = _read_header(stream, file).shape
        return shape[0] if len(shape) == 2 else 1


def bytes_per_id(file: InputFile) -> float:
    """How many bytes a token id has."""
    with open_input(file.url) as stream:
        return _read_header(stream, file).dtype.itemsize


def read_rows(
    file: InputFile, start: int, stop: int | None, fields: Fields
) -> Iterator[pa.RecordBatch]:
    """The token ids of documents, one per row.

    Args:
        file: the array.
        start, stop: rows of an array of two axes, counted from 0; None for all that follow.
        fields: how long a document may be, and the token that ends one.

    Raises:
        BadFileError: it is not an array of token ids, or is damaged.
        ExactcptError: a document is too long.
    """
    with open_input(file.url) as stream:
        header = _read_header(stream, file)
        if len(header.shape) == 1:
            yield from _documents(stream, header, file, fields)
            return
        rows, width = header.shape
        last = rows if stop is None else stop
        step = max(1, BLOCK_BYTES // (width * header.dtype.itemsize)) if width else 1
        stream.seek(header.data + start * width * header.dtype.itemsize)
        for first in range(start, last, step):
            lengths = np.full(min(step, last - first), width, np.int64)
            yield from read_blocks(stream, lengths, header.dtype, first, fields, file)


@dataclass(frozen=True)
class _Header:
    """What the beginning of a file says; `data` is where the numbers begin, in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: int


def _read_header(stream: Any, file: InputFile) -> _Header:
    try:
        version = npy_format.read_magic(stream)
        if version not in HEADERS:
            raise ValueError(f"its version is {version[0]}.{version[1]}")
        shape, is_fortran, dtype = HEADERS[version](stream)
    except OSError:
        raise
    except Exception as error:  # of many kinds, those of Python's own parser among them
        raise bad_file(
            file,
            f"the header of an array cannot be read: {' '.join(str(error).split())[:200]}",
            expected="a .npy file of version 1.0 or 2.0, as numpy.save writes",
        ) from None
    _refuse_other_types(dtype, file)
    if len(shape) not in (1, 2) or min(shape, default=0) < 0 or (len(shape) == 2 and not shape[1]):
        raise bad_file(
            file,
            f"the array's shape is {shape}",
            expected="two axes, one row per document, or one axis, a stream of documents",
            fix="save it in one of these shapes",
        )
    if is_fortran and len(shape) == 2:
        raise bad_file(
            file,
            "the array is in Fortran order: column after column",
            expected="row after row",
            fix=AS_ROWS,
        )
    header = _Header(shape, dtype, stream.tell())
    size = size_of(stream)
    whole = header.data + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size != whole:
        raise bad_file(
            file,
            f"the file has {size:,} bytes",
            expected=f"{whole:,} bytes, for an array of shape {shape} and {dtype.name}",
        )
    stream.seek(header.data)
    return header


def _refuse_other_types(dtype: np.dtype[Any], file: InputFile) -> None:
    expected = "token ids: integers of 1, 2, 4 or 8 bytes, little-endian"
    if dtype.hasobject:
        raise bad_file(
            file,
            "the array holds Python objects, as a pickle: loading it could run any program",
            expected=expected,
            fix="save each document's ids as JSON Lines or Parquet, in whatever program made it",
        )
    if dtype.kind not in "iu":
        raise bad_file(file, f"the array holds {dtype}", expected=expected, fix=AS_ROWS)
    if dtype.newbyteorder("<") != dtype:
        raise bad_file(
            file, f"the array is big-endian ({dtype.str})", expected=expected, fix=AS_ROWS
        )


def _documents(
    stream: Any, header: _Header, file: InputFile, fields: Fields
) -> Iterator[pa.RecordBatch]:
    """A stream of ids, cut after each token that ends documents."""
    [left] = header.shape
    step = max(1, BLOCK_BYTES // header.dtype.itemsize)
    begun: list[NDArray[Any]] = []
    number = held = 0
    while left:
        ids = read_array(stream, header.dtype, min(left, step), file)
        left -= len(ids)
        ends = np.flatnonzero(ids == fields.end_id) + 1
        cut = int(ends[-1]) if len(ends) else 0
        if cut:
            lengths = np.diff(ends, prepend=0)
            lengths[0] += held
            _refuse_long(lengths, number, file, fields)
            yield rows_of(lengths, np.concatenate([*begun, ids[:cut]]))
            number += len(lengths)
            begun, held = [], 0
        begun.append(ids[cut:])
        held += len(ids) - cut
        _refuse_long(np.array([held]), number, file, fields)
    if held:
        yield rows_of(np.array([held]), np.concatenate(begun))


def _refuse_long(lengths: NDArray[np.int64], number: int, file: InputFile, fields: Fields) -> None:
    is_long = lengths > fields.max_bytes // 4
    if is_long.any():
        raise ExactcptError(
            f"document {number + int(is_long.argmax()) + 1:,} of a stream has more than "
            f"{fields.max_bytes // 4:,} tokens",
            where=file.url,
            expected=f"token {fields.end_id} after each document; a document may have "
            "--max-record-bytes, at four per token",
            fix="see whether the ids are of this tokenizer, name the token that ends documents "
            "with --eos-token, or set a larger --max-record-bytes",
        )
