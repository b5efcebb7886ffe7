"""NumPy arrays from Arrow columns, and what every check does with them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = [
    "UNREADABLE",
    "Array",
    "cause",
    "column",
    "differing_fields",
    "groups",
    "hashes",
    "nulls",
    "numbered",
    "ranges",
]

Array = NDArray[Any]

UNREADABLE = (pa.ArrowException, OSError, UnicodeError)
"""What reading a damaged or foreign file raises."""


def cause(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def column(batch: pa.RecordBatch, name: str) -> Any:
    """A column, whose type is the schema's and unknown to type checkers."""
    return batch.column(name)


def differing_fields(found: pa.Schema, expected: pa.Schema) -> tuple[str, str]:
    """The fields in which two schemas differ, in words."""
    texts = [[str(f) for f in schema] for schema in (found, expected)]
    differ = [[t for t in texts[i] if t not in texts[1 - i]] for i in (0, 1)]
    if not any(differ):
        return f"columns {texts[0]}, metadata {found.metadata}", f"columns {texts[1]}, no metadata"
    return f"columns {differ[0]}", f"columns {differ[1]}"


def nulls(array: Any) -> int:
    """Null values in an array and in the arrays inside it."""
    if isinstance(array, pa.DictionaryArray):
        return array.indices.null_count + array.dictionary.null_count
    if isinstance(array, pa.StructArray):
        return array.null_count + sum(nulls(field) for field in array.flatten())
    inside = array.values if isinstance(array, pa.ListArray | pa.FixedSizeListArray) else None
    return array.null_count + (0 if inside is None else nulls(inside))


def numbered(column: Any, numbers: dict[str, int]) -> Array:
    """A dictionary column's values as numbers: new ones get the next number, null is -1."""
    of_code = [numbers.setdefault(value, len(numbers)) for value in column.dictionary.to_pylist()]
    codes = column.indices.fill_null(len(of_code)).to_numpy()
    return np.array([*of_code, -1], np.int32)[codes]


def hashes(column: Any) -> Array:
    """A column of 16-byte values, shape [n, 2]; only their equality has a meaning."""
    size, start = 2 * len(column), 16 * column.offset
    return np.frombuffer(column.buffers()[1], np.uint64, size, start).reshape(-1, 2)


def groups(keys: Array, values: Array) -> Iterator[tuple[int, Array]]:
    """Each key with its values, both in order."""
    if len(keys):
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order])) + 1
        for group in np.split(order, starts):
            yield int(keys[group[0]]), values[group]


def ranges(starts: Array, lengths: Array) -> Array:
    """start, start + 1, ... of each range, end to end: ([5, 0], [2, 3]) gives [5, 6, 0, 1, 2]."""
    before = np.cumsum(lengths, dtype=np.int64) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
