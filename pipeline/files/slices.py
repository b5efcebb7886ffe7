"""Slices of arrays, joined by Arrow: thousands in one call, in which other threads go on.

Arrow knows strings that lie anywhere in several buffers, and can copy them into one buffer. Of each
string it has a view of 16 bytes: the length, then the string itself if it is short, and otherwise
the number of its buffer and where it begins there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Slices"]

VIEW = np.dtype([("bytes", "<i4"), ("prefix", "<i4"), ("buffer", "<i4"), ("at", "<i4")])
"""The prefix is for comparisons, and stays zero."""
SHORT = 12
"""Most bytes of a string that stands in its view."""
REACH = 1 << 30
"""Bytes that a view can reach and count; its numbers have 32 bits. A larger array is several
buffers, and a longer slice several views."""


class Slices:
    """Joins slices of some arrays.

    Args:
        arrays: of one type of numbers, each one-dimensional and without gaps; they are not copied.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None:
        self._type = arrays[0].dtype
        if any(array.dtype != self._type for array in arrays):
            raise TypeError("the arrays are of several types")
        self._bytes: list[Any] = [array.view(np.uint8) for array in arrays]
        buffers = [
            [pa.py_buffer(array[at:]) for at in range(0, max(1, len(array)), REACH)]
            for array in self._bytes
        ]
        self._sizes = np.array([len(array) for array in arrays], np.int64)
        counts = np.array([len(some) for some in buffers], np.int64)
        self._first_buffer = np.cumsum(counts) - counts
        self._buffers = [buffer for some in buffers for buffer in some]

    def join(
        self, which: NDArray[np.integer], start: NDArray[np.int64], length: NDArray[np.integer]
    ) -> NDArray[Any]:
        """The slices end to end, shape [sum of the lengths]; not writable.

        Args:
            which: number of the array that each slice is of; shape [slices].
            start: index of its first number; shape [slices].
            length: how many numbers it has; shape [slices].

        Raises:
            IndexError: a slice reaches beyond its array.
        """
        which, length = which.astype(np.int64), length.astype(np.int64)
        if ((start < 0) | (length < 0) | (start > self._sizes[which] - length)).any():
            raise IndexError("a slice reaches beyond its array")
        total = int(length.sum())
        if not total:
            return np.empty(0, self._type)
        size = self._type.itemsize
        views: Any = self._views(*_within_reach(which, size * start, size * length))
        strings: Any = pa.Array.from_buffers(
            pa.binary_view(), len(views), [None, pa.py_buffer(views), *self._buffers]
        )
        _, _, joined = strings.cast(pa.large_binary()).buffers()
        return np.frombuffer(joined, self._type, total)

    def _views(
        self, which: NDArray[np.int64], at: NDArray[np.int64], size: NDArray[np.int64]
    ) -> NDArray[np.void]:
        """Arrow's views of slices, from the first byte and the size of each."""
        views = np.zeros(len(size), VIEW)
        views["bytes"] = size
        views["buffer"] = self._first_buffer[which] + at // REACH
        views["at"] = at % REACH
        short = np.flatnonzero(size <= SHORT)
        short = short[np.argsort(which[short], kind="stable")]
        place = np.arange(SHORT)
        for mine in np.split(short, np.flatnonzero(np.diff(which[short])) + 1):
            inside = place < size[mine, None]
            found = np.zeros(inside.shape, np.uint8)
            if inside.any():
                found[inside] = self._bytes[which[mine[0]]][(at[mine, None] + place)[inside]]
            views.view(np.uint8).reshape(-1, VIEW.itemsize)[mine, -SHORT:] = found
        return views


def _within_reach(
    which: NDArray[np.int64], at: NDArray[np.int64], size: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The same slices, in bytes, with those longer than REACH cut."""
    if int(size.max()) <= REACH:
        return which, at, size
    pieces = np.maximum(1, -(-size // REACH))
    before = REACH * (np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    left = np.repeat(size, pieces) - before
    return np.repeat(which, pieces), np.repeat(at, pieces) + before, np.minimum(left, REACH)
