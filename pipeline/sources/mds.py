"""Shards of MosaicML Streaming (MDS): rows with named columns, listed by an index.json.

    shard       uint32 n                how many rows
                uint32 [n + 1]          where each row begins in the shard, in bytes, and the end
                JSON                    the columns, as in the index
                rows
    row         uint32 for each column without a fixed size: the bytes of its value
                values, column after column

All numbers are little-endian. Of the encodings of a value, these can be read:

    ndarray[:DTYPE[:SHAPE]]     token ids, with one axis; a type or shape that the encoding does not
                                name precedes the numbers
    bytes                       token ids, if the source names their type: tokens=COLUMN:DTYPE
    str                         text, or an id
    int, int8 ... uint64        an id

The format is that of streaming/base/format/mds/. No value is a pickle here, and nothing runs.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.errors import ExactcptError, FormatError
from ...schemas.json_text import parse_json
from ...schemas.regular import MOST_BYTES
from ..files.storage import open_input
from .compression import open_decompressed
from .listing import InputFile
from .mds_index import Shard, new_hash, parse_index
from .records import BLOCK_BYTES, Fields
from .rows import bad_file, read_array, rows_of

__all__ = ["column_names", "read_rows", "sample_count"]

COUNT = np.dtype("<u4")
SHAPES = [np.dtype(f"<u{size}") for size in (1, 2, 4, 8)]
"""Types of the lengths of axes, by the two low bits of the byte that precedes them."""
TYPES = {
    8: "uint8", 9: "int8",
    16: "uint16", 17: "int16", 18: "float16",
    32: "uint32", 33: "int32", 34: "float32",
    64: "uint64", 65: "int64", 66: "float64",
}  # fmt: skip
"""Types of the numbers of an array, by the byte that precedes them."""
INTEGERS = {name: np.dtype(name).newbyteorder("<") for name in TYPES.values() if "int" in name}
SCALARS = {"int": INTEGERS["int64"], **INTEGERS}


def sample_count(file: InputFile) -> int:
    """How many rows a shard has, as the index says."""
    return _shard(file).samples


def column_names(file: InputFile) -> list[str]:
    """The columns of a shard, as the index says."""
    return list(_shard(file).columns)


def read_rows(file: InputFile, fields: Fields) -> Iterator[pa.RecordBatch]:
    """The columns of a shard with the documents and, if it is there, with their ids.

    Args:
        file: the shard.
        fields: which columns.

    Raises:
        BadFileError: the shard is damaged, or is not what the index says.
        FormatError: the index cannot be used.
        ExactcptError: a column is missing, or cannot be a document or an id.
    """
    shard = _shard(file)
    columns = _columns(shard, file, fields)
    with open_decompressed(file) as raw:
        stream = _Hashed(raw, shard)
        starts = _read_head(stream, shard, file)
        at = 0
        while at < shard.samples:
            stop = max(at + 1, int(np.searchsorted(starts, starts[at] + BLOCK_BYTES, "right")) - 1)
            size = int(starts[stop] - starts[at])
            data = read_array(stream, np.dtype("u1"), size, file).tobytes()
            bounds = (starts[at : stop + 1] - starts[at]).tolist()
            rows = [_Row(file, at + i + 1, data[a:b]) for i, (a, b) in enumerate(pairwise(bounds))]
            yield _batch([(row, _values(row, shard)) for row in rows], columns)
            at = stop
        if stream.read(1):
            raise bad_file(file, "there are bytes after the last row", expected="none")
        stream.check(file)


class _Row(NamedTuple):
    """A row's bytes; `number` counts from 1."""

    file: InputFile
    number: int
    data: bytes

    def damaged(self, what: str) -> ExactcptError:
        return bad_file(self.file, f"row {self.number:,} is damaged: {what}")


class _Column(NamedTuple):
    """A column that is read.

    Attributes:
        name: how the rows call it.
        place: among the columns of the shard.
        decode: a value, from the bytes that stand for it.
        join: an array, from all values.
    """

    name: str
    place: int
    decode: Callable[[_Row, bytes], Any]
    join: Callable[[list[Any]], pa.Array]


@lru_cache(maxsize=8)
def _shards(index: InputFile) -> dict[str, Shard]:
    """The shards that an index lists, by the names that their files may have."""
    with open_input(index.url) as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise FormatError("the index of an MDS data set is too large", where=index.url)
    shards = parse_index(data, index.url)
    names = {shard.zip_name: shard for shard in shards} | {shard.name: shard for shard in shards}
    return {name: shard for name, shard in names.items() if name is not None}


def _shard(file: InputFile) -> Shard:
    """What the index says of a shard.

    Raises:
        BadFileError: it does not list it, or says that it has another size.
    """
    [index] = file.beside
    name = PurePosixPath(file.path).name
    shard = _shards(index).get(name)
    if shard is None:
        raise bad_file(
            file,
            f"{index.path} does not list this shard",
            expected="a shard that is in the index",
            fix="remove the shard if it is left from another data set, or restore the index",
        )
    size = shard.zip_bytes if name == shard.zip_name else shard.bytes
    if file.bytes not in (None, size):
        raise bad_file(
            file, f"the shard has {file.bytes:,} bytes", expected=f"{size:,}, as {index.path} says"
        )
    return shard


class _Hashed:
    """A stream of which every byte that is read is hashed."""

    def __init__(self, stream: Any, shard: Shard) -> None:
        self._stream, self._expected = stream, shard.hashes
        self._hashes = {name: new_hash(name) for name in shard.hashes}

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        for each in self._hashes.values():
            each.update(data)
        return data

    def check(self, file: InputFile) -> None:
        """Compares the digests of all that was read with those in the index."""
        for name, each in self._hashes.items():
            found, expected = each.hexdigest(), self._expected[name]
            if found != expected:
                raise bad_file(
                    file,
                    f"the shard has another {name} than the index says: {found}",
                    expected=expected,
                )


def _read_head(stream: Any, shard: Shard, file: InputFile) -> NDArray[np.int64]:
    """Where each row begins in the shard, and where the last one ends, in bytes."""
    [count] = read_array(stream, COUNT, 1, file)
    if count != shard.samples:
        raise bad_file(
            file, f"the shard has {count:,} rows", expected=f"{shard.samples:,}, as its index says"
        )
    starts = read_array(stream, COUNT, shard.samples + 1, file).astype(np.int64)
    columns = int(starts[0]) - COUNT.itemsize * (len(starts) + 1)
    if columns < 0 or (np.diff(starts) < 0).any() or starts[-1] != shard.bytes:
        raise bad_file(
            file,
            "the places of the rows in the shard are damaged",
            expected=f"rows that follow each other up to byte {shard.bytes:,}",
        )
    told = read_array(stream, np.dtype("u1"), columns, file).tobytes()
    try:
        own = parse_json(told)
        is_same = dict(zip(own["column_names"], own["column_encodings"], strict=True)) == (
            shard.columns
        )
    except (ValueError, KeyError, TypeError):
        is_same = False
    if not is_same:
        raise bad_file(
            file,
            "the shard has other columns than its index says, or does not tell them",
            expected=", ".join(f"{name} ({kind})" for name, kind in shard.columns.items()),
        )
    return starts


def _values(row: _Row, shard: Shard) -> list[bytes]:
    """The bytes of each column's value."""
    head = struct.Struct(f"<{shard.sizes.count(None)}I")
    if len(row.data) < head.size:
        raise row.damaged("it ends before its values")
    told = iter(head.unpack_from(row.data))
    sizes = [next(told) if size is None else size for size in shard.sizes]
    bounds = [*accumulate(sizes, initial=head.size)]
    if bounds[-1] != len(row.data):
        raise row.damaged(f"its values have {bounds[-1]:,} bytes, and it has {len(row.data):,}")
    return [row.data[a:b] for a, b in pairwise(bounds)]


def _batch(rows: Sequence[tuple[_Row, list[bytes]]], columns: Sequence[_Column]) -> pa.RecordBatch:
    arrays = [
        column.join([column.decode(row, values[column.place]) for row, values in rows])
        for column in columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def _columns(shard: Shard, file: InputFile, fields: Fields) -> list[_Column]:
    """The columns that are read: the documents, and their ids if there is such a column."""
    return [
        _content(shard, file, fields),
        *([_id(shard, file, fields)] if fields.id in shard.columns else []),
    ]


def _content(shard: Shard, file: InputFile, fields: Fields) -> _Column:
    name, dtype = fields.content, None
    if fields.tokens is not None and name not in shard.columns:
        before, _, kind = name.rpartition(":")
        if kind in INTEGERS:
            name, dtype = before, INTEGERS[kind]
    if name not in shard.columns:
        raise ExactcptError(
            f"source {file.source!r}: no column {name!r}",
            where=file.url,
            expected=f"one of its columns: {', '.join(shard.columns)}",
            fix="name the column with ,text=FIELD (or ,tokens=FIELD) in the source",
        )
    kind, place = shard.columns[name], [*shard.columns].index(name)
    if fields.tokens is None and kind == "str":
        return _Column(fields.content, place, _as_it_is, _texts)
    if fields.tokens is not None and kind == "bytes":
        if dtype is None:
            raise _unusable(
                file,
                f"column {name!r} holds bytes, which do not say how long a number is",
                "the type of its numbers too",
                f"name it: ,tokens={name}:int64 is what LLM Foundry writes by default; others are "
                f"{', '.join(INTEGERS)}",
            )
        return _Column(fields.content, place, partial(_numbers, dtype), _lists)
    array = _array(kind) if fields.tokens is not None and dtype is None else None
    if array is None:
        raise _unusable(
            file,
            f"column {name!r} holds {kind}",
            "str" if fields.tokens is None else "ndarray of integers with one axis, or bytes",
            "name another column with ,text=FIELD (or ,tokens=FIELD) in the source",
        )
    return _Column(fields.content, place, array, _lists)


def _id(shard: Shard, file: InputFile, fields: Fields) -> _Column:
    kind, place = shard.columns[fields.id], [*shard.columns].index(fields.id)
    if kind == "str":
        return _Column(fields.id, place, _as_it_is, _texts)
    if kind in SCALARS:
        return _Column(fields.id, place, partial(_number, SCALARS[kind]), pa.array)
    raise _unusable(
        file,
        f"column {fields.id!r} holds {kind}",
        "str, or integers",
        "name another column with ,id=FIELD in the source",
    )


def _unusable(file: InputFile, found: str, expected: str, fix: str) -> ExactcptError:
    return ExactcptError(
        f"source {file.source!r}: {found}", where=file.url, expected=expected, fix=fix
    )


def _array(kind: str) -> Callable[[_Row, bytes], NDArray[Any]] | None:
    """Decodes arrays of token ids; None for another encoding."""
    name, *details = kind.split(":")
    if name != "ndarray" or len(details) > 2 or (details and details[0] not in INTEGERS):
        return None
    dtype = INTEGERS[details[0]] if details else None
    if len(details) < 2:
        return partial(_any_array, dtype)
    return partial(_numbers, dtype) if dtype is not None and details[1].isdecimal() else None


def _any_array(dtype: np.dtype[Any] | None, row: _Row, data: bytes) -> NDArray[Any]:
    """An array that says its own shape, and its type if that is not known."""
    at = 0
    if dtype is None:
        code = data[0] if data else None
        found = TYPES.get(code) if code is not None else None
        if found not in INTEGERS:
            raise row.damaged(f"its array holds {found or 'numbers of an unknown type'}, not ids")
        dtype, at = INTEGERS[found], 1
    if len(data) <= at:
        raise row.damaged("its array ends before its shape")
    axes, lengths = data[at] >> 2, SHAPES[data[at] & 3]
    body = at + 1 + axes * lengths.itemsize
    if axes != 1 or len(data) < body:
        raise row.damaged(f"its array has {axes} axes, not one")
    [length] = np.frombuffer(data[at + 1 : body], lengths)
    ids = _numbers(dtype, row, data[body:])
    if len(ids) != length:
        raise row.damaged(f"its array has {len(ids):,} numbers, and says {length:,}")
    return ids


def _numbers(dtype: np.dtype[Any], row: _Row, data: bytes) -> NDArray[Any]:
    if len(data) % dtype.itemsize:
        raise row.damaged(f"{len(data):,} bytes are no whole count of {dtype.name}")
    return np.frombuffer(data, dtype)


def _number(dtype: np.dtype[Any], row: _Row, data: bytes) -> int:
    if len(data) != dtype.itemsize:
        raise row.damaged(f"its id has {len(data):,} bytes, not {dtype.itemsize}")
    return int(np.frombuffer(data, dtype)[0])


def _as_it_is(row: _Row, data: bytes) -> bytes:
    return data


def _texts(values: list[bytes]) -> pa.Array:
    """Strings that are not yet known to be UTF-8: whoever takes the rows looks."""
    return pa.array(values, pa.large_binary()).view(pa.large_string())


def _lists(values: list[NDArray[Any]]) -> pa.Array:
    lengths = np.array([len(value) for value in values], np.int64)
    # Each row may have its own type, and uint64 and int64 together would become floats.
    ids = np.concatenate([value.astype(np.int64, copy=False) for value in values])
    return rows_of(lengths, ids).column(0)
