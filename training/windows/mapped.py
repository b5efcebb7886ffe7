"""The columns of memory-mapped shards, window by window."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas import shard
from ...schemas.errors import FormatError

__all__ = ["MappedShard", "WindowColumns"]


class WindowColumns(NamedTuple):
    """Views of a window's columns in the mapped file."""

    ids: NDArray[np.int32]
    codes: NDArray[np.uint8]
    lengths: NDArray[np.int32]
    padded: bool  # whether the last segment is padding


class MappedShard:
    """The columns of one shard as NumPy views of its mapped file; holds no file descriptor."""

    def __init__(
        self, path: Path, windows: int, dictionary: NDArray[np.float32], window: int
    ) -> None:
        self._rows = shard.rows_per_batch(window)
        try:
            with pa.memory_map(str(path)) as source:
                reader = pa.ipc.open_file(source)
                _check("columns", path, reader.schema, shard.shard_schema(window))
                batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except pa.ArrowInvalid as error:
            raise FormatError(
                f"the shard cannot be read: {error}",
                where=str(path),
                fix="see `exactcpt verify`, then write the shards again",
            ) from None
        rows = [batch.num_rows for batch in batches]
        whole, rest = divmod(windows, self._rows)
        _check(
            "windows of the record batches", path, rows, [self._rows] * whole + [rest] * (rest > 0)
        )
        self._columns = [_Columns(batch, window) for batch in batches]
        for columns in self._columns:
            _check("weights", path, columns.dictionary.tolist(), dictionary.tolist())

    def window(self, row: int) -> WindowColumns:
        """The columns of the window in a row of the shard."""
        batch, within = divmod(row, self._rows)
        return self._columns[batch].window(within)


class _Columns:
    """The columns of one record batch."""

    def __init__(self, batch: pa.RecordBatch, window: int) -> None:
        columns: dict[str, Any] = dict(zip(batch.schema.names, batch.columns, strict=True))
        weights = columns["loss_weight"].flatten()
        segments = columns["seq_lengths"]
        self.dictionary: NDArray[np.float32] = weights.dictionary.to_numpy()
        self._ids = columns["input_ids"].flatten().to_numpy().reshape(-1, window)
        self._codes = weights.indices.to_numpy().reshape(-1, window)
        self._bounds = segments.offsets.to_numpy()
        self._lengths = segments.values.to_numpy()
        self._documents = columns["doc_index"].values.to_numpy()

    def window(self, row: int) -> WindowColumns:
        first, end = self._bounds[row], self._bounds[row + 1]
        return WindowColumns(
            ids=self._ids[row],
            codes=self._codes[row],
            lengths=self._lengths[first:end],
            padded=bool(self._documents[end - 1] == shard.PADDING),
        )


def _check(what: str, path: Path, found: Any, expected: Any) -> None:
    if found != expected:
        raise FormatError(
            f"the shard has other {what} than the format and its manifest say: {found}",
            expected=str(expected),
            where=str(path),
            fix="see `exactcpt verify`, then write the shards again",
        )
