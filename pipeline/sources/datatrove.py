"""Tokenized files of datatrove: NAME.ds has token ids, NAME.ds.index says where documents end.

    NAME.ds             uint16 or uint32 each, document after document
    NAME.ds.index       uint64 for each document: its end, in ids
    NAME.ds.metadata    text, if it is there: the tokenizer's name, "|" and the bytes of an id

All numbers are little-endian. The bytes of an id follow from the two sizes: the last end times 2 or
4 is the size of NAME.ds. Where the metadata say it too, they must agree.
The format is that of datatrove/pipeline/tokens/tokenizer.py.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from ..files.storage import open_input
from .listing import InputFile
from .records import BadFileError, Fields
from .rows import ROWS_AT_ONCE, bad_file, read_array, read_blocks, size_of

__all__ = ["bytes_per_id", "read_rows", "row_count"]

END = np.dtype("<u8")
TYPES = {2: np.dtype("<u2"), 4: np.dtype("<u4")}
MOST_METADATA = 1 << 16
"""Bytes of metadata that are looked at; there are three short lines."""


def row_count(file: InputFile) -> int:
    """How many documents there are.

    Raises:
        BadFileError: the index is damaged.
    """
    with open_input(_index(file).url) as index:
        return _count(index, file)


def bytes_per_id(file: InputFile) -> float:
    """How many bytes a token id has."""
    with open_input(_index(file).url) as index, open_input(file.url) as ids:
        return _type(index, ids, file).itemsize


def read_rows(
    file: InputFile, start: int, stop: int | None, fields: Fields
) -> Iterator[pa.RecordBatch]:
    """The token ids of documents, one per row.

    Args:
        file: the .ds file.
        start, stop: the numbers of the documents, counted from 0; None for all that follow.
        fields: how long a document may be.

    Raises:
        BadFileError: one of the files is damaged, or they do not fit each other.
        ExactcptError: a document is too long.
    """
    with open_input(_index(file).url) as index, open_input(file.url) as ids:
        dtype = _type(index, ids, file)
        count = _count(index, file)
        size = size_of(ids)
        last = count if stop is None else stop
        for first in range(start, last, ROWS_AT_ONCE):
            end = min(first + ROWS_AT_ONCE, last)
            before = max(0, first - 1)
            index.seek(before * END.itemsize)
            ends = read_array(index, END, end - before, file, _index_name(file))
            bounds = ends if first else np.concatenate((np.zeros(1, END), ends))
            if (bounds[1:] < bounds[:-1]).any() or int(bounds[-1]) * dtype.itemsize > size:
                raise _bad(
                    file,
                    "has documents that end before they begin, or after the end of the tokens",
                    "ends in rising order",
                )
            ids.seek(int(bounds[0]) * dtype.itemsize)
            lengths = np.diff(bounds.astype(np.int64))
            yield from read_blocks(ids, lengths, dtype, first, fields, file)


def _index(file: InputFile) -> InputFile:
    return file.beside[0]


def _index_name(file: InputFile) -> str:
    return PurePosixPath(_index(file).path).name


def _count(index: Any, file: InputFile) -> int:
    size = size_of(index)
    if size % END.itemsize:
        raise _bad(file, f"has {size:,} bytes", "8 bytes for each document")
    return size // END.itemsize


def _type(index: Any, ids: Any, file: InputFile) -> np.dtype[Any]:
    """The type of a token id."""
    count, size = _count(index, file), size_of(ids)
    last = 0
    if count:
        index.seek((count - 1) * END.itemsize)
        last = int(read_array(index, END, 1, file, _index_name(file))[0])
    if not size == last == 0 and size not in (2 * last, 4 * last):
        raise _bad(
            file,
            f"says that there are {last:,} tokens, and the .ds file has {size:,} bytes",
            f"{2 * last:,} or {4 * last:,} bytes: 2 or 4 for each token",
        )
    found = size // last if last else 2
    told = _told(file)
    if told is not None and last and told != found:
        raise bad_file(
            file,
            f"a token has {found} bytes by the sizes of the file and its index, and {told} by the "
            "metadata beside them",
            expected="files that were written together",
        )
    return TYPES[found]


def _told(file: InputFile) -> int | None:
    """The bytes of an id that the metadata tell; None if there are none, or they do not tell."""
    for beside in file.beside[1:]:
        with open_input(beside.url) as stream:
            first_line = stream.read(MOST_METADATA).partition(b"\n")[0]
        _, bar, size = first_line.strip().rpartition(b"|")
        return int(size) if bar and size in (b"2", b"4") else None
    return None


def _bad(file: InputFile, found: str, expected: str) -> BadFileError:
    return bad_file(file, f"{_index_name(file)} {found}", expected=expected)
