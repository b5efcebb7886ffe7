"""Indexed data sets of Megatron-LM: NAME.bin has token ids, NAME.idx says where they begin and end.

    NAME.idx    "MMIDIDX" and two zero bytes, uint64 version 1, uint8 code of the ids' type
                uint64 s, uint64 d      how many sequences, and entries of the last list
                int32 [s]               the length of each sequence, in ids
                int64 [s]               where it begins in NAME.bin, in bytes
                int64 [d]               0, and after each document the number of sequences so far

All numbers are little-endian. A document is the sequences between two entries of the last list.
The format is that of megatron/core/datasets/indexed_dataset.py. A multimodal data set has an int8
per sequence at the end, which says what the numbers stand for; it is refused.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..files.storage import open_input
from .listing import InputFile
from .records import BadFileError, Fields
from .rows import ROWS_AT_ONCE, bad_file, read_array, read_blocks, size_of

__all__ = ["HEADER", "MAGIC", "TYPES", "VERSION", "bytes_per_id", "read_rows", "row_count"]

MAGIC = b"MMIDIDX\0\0"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}
LENGTH, POINTER = np.dtype("<i4"), np.dtype("<i8")


def row_count(file: InputFile) -> int:
    """How many documents there are.

    Raises:
        BadFileError: the index is not one of this format, or does not fit the file.
    """
    with open_input(_index(file).url) as stream:
        return _read_header(stream, file).documents


def bytes_per_id(file: InputFile) -> float:
    """How many bytes a token id has."""
    with open_input(_index(file).url) as stream:
        return _read_header(stream, file).dtype.itemsize


def read_rows(
    file: InputFile, start: int, stop: int | None, fields: Fields
) -> Iterator[pa.RecordBatch]:
    """The token ids of documents, one per row.

    Args:
        file: the .bin file.
        start, stop: the numbers of the documents, counted from 0; None for all that follow.
        fields: how long a document may be.

    Raises:
        BadFileError: one of the two files is damaged, or they do not fit each other.
        ExactcptError: a document is too long.
    """
    with open_input(_index(file).url) as index, open_input(file.url) as ids:
        header = _read_header(index, file)
        size = size_of(ids)
        last = header.documents if stop is None else stop
        if not header.documents:
            _lengths(index, header, 0, 0, size, file)
        for first in range(start, last, ROWS_AT_ONCE):
            end = min(first + ROWS_AT_ONCE, last)
            at, lengths = _lengths(index, header, first, end, size, file)
            ids.seek(at)
            yield from read_blocks(ids, lengths, header.dtype, first, fields, file)


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype[Any]
    sequences: int
    documents: int

    @property
    def pointers(self) -> int:
        """Where the list of pointers begins."""
        return HEADER.size + self.sequences * LENGTH.itemsize

    @property
    def bounds(self) -> int:
        """Where the list of documents begins."""
        return self.pointers + self.sequences * POINTER.itemsize

    @property
    def size(self) -> int:
        return self.bounds + (self.documents + 1) * POINTER.itemsize


def _index(file: InputFile) -> InputFile:
    return file.beside[0]


def _name(file: InputFile) -> str:
    return PurePosixPath(_index(file).path).name


def _read_header(stream: Any, file: InputFile) -> _Header:
    data = stream.read(HEADER.size)
    if not data.startswith(MAGIC):
        raise _bad(
            file,
            f"begins with {data[: len(MAGIC)]!r}",
            f"{MAGIC!r}, with which the index of an indexed data set begins",
        )
    if len(data) < HEADER.size:
        raise _bad(file, "ends inside its header", f"{HEADER.size} bytes of header")
    _, version, code, sequences, bounds = HEADER.unpack(data)
    if version != VERSION:
        raise _bad(file, f"is of version {version}", f"version {VERSION}")
    dtype = np.dtype(TYPES[code]) if code in TYPES else None
    if dtype is None or dtype.kind == "f":
        held = dtype.name if dtype is not None else f"numbers of an unknown type, {code}"
        raise _bad(
            file,
            f"says that the .bin file holds {held}",
            "token ids: integers of 1, 2, 4 or 8 bytes",
        )
    if not bounds:
        raise _bad(file, "has no list of documents", "at least the entry 0 in that list")
    header = _Header(dtype, sequences, bounds - 1)
    size = size_of(stream)
    if sequences and size == header.size + sequences:
        raise bad_file(
            file,
            f"{_name(file)} is of a multimodal data set: its sequences have modes",
            expected="sequences of token ids alone",
            fix="write the texts alone to a data set, without --multimodal",
        )
    if size != header.size:
        raise _bad(
            file,
            f"has {size:,} bytes",
            f"{header.size:,} bytes for {sequences:,} sequences and {bounds - 1:,} documents",
        )
    return header


def _lengths(
    index: Any, header: _Header, first: int, last: int, size: int, file: InputFile
) -> tuple[int, NDArray[np.int64]]:
    """Where documents begin in the .bin file, in bytes, and their lengths in ids."""
    bounds = _read_list(index, header.bounds, POINTER, first, last + 1, file)
    if (np.diff(bounds) < 0).any() or not 0 <= bounds[0] <= bounds[-1] <= header.sequences:
        raise _bad(file, "has documents that end before they begin", "entries in rising order")
    if (first == 0 and bounds[0]) or (last == header.documents and bounds[-1] != header.sequences):
        raise _bad(
            file,
            f"has documents of the sequences {bounds[0]:,} to {bounds[-1]:,}",
            f"documents that have all {header.sequences:,} sequences",
        )
    begin, end = int(bounds[0]), int(bounds[-1])
    lengths = _read_list(index, HEADER.size, LENGTH, begin, end, file)
    if (lengths < 0).any():
        at = begin + int((lengths < 0).argmax())
        raise _bad(file, f"says that sequence {at:,} has {lengths.min()} ids", "at least 0")
    more = min(end + 1, header.sequences)
    starts = _read_list(index, header.pointers, POINTER, begin, more, file)
    if end == header.sequences:
        starts = np.append(starts, size)
    follow = starts[:-1] + lengths * header.dtype.itemsize == starts[1:]
    if not follow.all() or (begin == 0 and starts[0]) or not 0 <= starts[0] <= starts[-1] <= size:
        at = begin + int(np.append(~follow, True).argmax())
        raise _bad(
            file,
            f"does not fit the .bin file, which has {size:,} bytes: sequence {at:,} does not end "
            "where the next one begins, or the file ends",
            "sequences that follow each other and fill the .bin file",
        )
    places = np.concatenate(([0], np.cumsum(lengths)))[bounds - begin]
    return int(starts[0]), np.diff(places)


def _read_list(
    index: Any, at: int, dtype: np.dtype[Any], first: int, last: int, file: InputFile
) -> NDArray[np.int64]:
    index.seek(at + first * dtype.itemsize)
    return read_array(index, dtype, last - first, file, _name(file)).astype(np.int64)


def _bad(file: InputFile, found: str, expected: str) -> BadFileError:
    return bad_file(file, f"{_name(file)} {found}", expected=expected)
