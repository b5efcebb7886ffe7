"""The columns of memory-mapped shards, window by window.

Where the windows are, and which segments they have, is checked when a shard is mapped: that takes a
few bytes per segment. Its tokens are checked window by window, when they are read anyway.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from . import shard
from .consistency import SEE_VERIFY
from .errors import FormatError
from .windows import WindowSegments, open_shard, segments_of, tokens_of

__all__ = ["UNREADABLE", "MappedShard", "WindowColumns", "damaged", "read_segments"]

UNREADABLE = (pa.ArrowException, ValueError, OSError)
"""What reading a damaged file raises; errors of the disk are among them."""


class WindowColumns(NamedTuple):
    """The columns of a window, as views of the mapped file; a run of padding is a segment."""

    ids: NDArray[np.int32]
    codes: NDArray[np.uint8]
    lengths: NDArray[np.int32]
    document: NDArray[np.int64]
    offset: NDArray[np.int64]
    spans: NDArray[np.int32] | None
    """Start and stop of the supervised spans, [spans, 2]; None if all targets are supervised."""

    @property
    def padded(self) -> bool:
        """Whether the last segment is padding."""
        return bool(self.document[-1] == shard.PADDING)


class MappedShard:
    """The columns of one shard, as NumPy views of its mapped file; holds no file descriptor.

    Raises:
        FormatError: it is not the shard that its manifest describes.
    """

    def __init__(
        self,
        path: Path,
        windows: int,
        dictionary: NDArray[np.float32],
        window: int,
        spans: bool = False,
    ) -> None:
        self._rows = shard.rows_per_batch(window)
        try:
            batches = _batches(path, window, spans)
            _check_rows([batch.num_rows for batch in batches], windows, self._rows)
            self._columns = [_Columns(batch, window, dictionary) for batch in batches]
        except UNREADABLE as error:
            raise damaged(path, error) from None

    def window(self, row: int) -> WindowColumns:
        """The window in a row of the shard."""
        batch, within = divmod(row, self._rows)
        return self._columns[batch].window(within)


class _Columns:
    """The columns of one record batch."""

    def __init__(self, batch: pa.RecordBatch, window: int, dictionary: NDArray[np.float32]) -> None:
        self._segments = segments_of(batch, window)
        self._ids, self._codes = tokens_of(batch, window, dictionary)

    def window(self, row: int) -> WindowColumns:
        segments = self._segments
        first, end = segments.bounds[row], segments.bounds[row + 1]
        return WindowColumns(
            ids=self._ids[row],
            codes=self._codes[row],
            lengths=segments.length[first:end],
            document=segments.document[first:end],
            offset=segments.offset[first:end],
            spans=segments.spans_of(row),
        )


def read_segments(path: Path, window: int, spans: bool = False) -> list[WindowSegments]:
    """The segments of a shard, by record batch.

    Raises:
        FormatError: it cannot be read, or its segments do not make up windows.
    """
    try:
        return [segments_of(batch, window) for batch in _batches(path, window, spans)]
    except UNREADABLE as error:
        raise damaged(path, error) from None


def damaged(where: object, error: Exception) -> Exception:
    """The error of a shard that was read and is wrong; an error of the disk stays what it is."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return FormatError(f"the shard cannot be read: {error}", where=str(where), fix=FIX)


FIX = f"{SEE_VERIFY}, then write the shards again"


def _batches(path: Path, window: int, spans: bool) -> list[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        reader = open_shard(source, window, spans=spans)
        return [reader.get_batch(i) for i in range(reader.num_record_batches)]


def _check_rows(found: list[int], windows: int, rows: int) -> None:
    whole, rest = divmod(windows, rows)
    if found != [rows] * whole + [rest] * (rest > 0):
        raise ValueError(
            f"its record batches have {found[:8]} windows, not {rows:,} each of the "
            f"{windows:,} in the manifest"
        )
