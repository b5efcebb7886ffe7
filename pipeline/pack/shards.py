"""Writing shards: a plan's windows, filled with tokens and weight codes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...schemas import shard as schema
from ...schemas.manifest import ShardFile
from ...schemas.store import part_name
from ..core.buckets import context_codes
from ..files.arrow import write_batches
from ..files.storage import Folder
from ..tokens.store import PartTokens, open_tokens
from .plan import Documents, PartRef

__all__ = ["ShardTask", "documents_table", "windows_per_shard", "write_documents", "write_shard"]


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """A shard to write.

    Attributes:
        name: its path below the shard set.
        split: of its windows.
        group: ordinal of the group whose windows it has.
        start, stop: the range of the group's windows.
    """

    name: str
    split: str
    group: int
    start: int
    stop: int


def windows_per_shard(shard_bytes: int, window: int) -> int:
    """How many windows make a shard of about that many bytes: 4 a token, and 1 for its weight."""
    return max(1, shard_bytes // (5 * window))


def write_shard(
    task: ShardTask,
    plan: Any,
    *,
    out: Folder,
    store: Folder,
    parts: Sequence[PartRef],
    weights: Sequence[float],
    window: int,
    pad_id: int,
) -> ShardFile:
    """Writes one shard.

    Args:
        task: which.
        plan: the plan table of its group and split.
        out: the shard set.
        store: the token store.
        parts: of the store, in its order.
        weights: one a bucket.
        window: window length in tokens.
        pad_id: the id of padding.
    """
    rows = plan.slice(task.start, task.stop - task.start)
    dictionary = schema.weight_dictionary(list(weights))
    with _Gather(store, parts, window, pad_id) as gather:
        batches = (
            gather.fill(batch, dictionary)
            for batch in _batches(rows, schema.rows_per_batch(window))
        )
        written = write_batches(out, task.name, schema.shard_schema(window), batches)
    return {**written, "windows": len(rows)}


def _batches(rows: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(rows), size):
        yield rows.slice(start, size).combine_chunks()


class _Gather:
    """Copies documents' tokens out of memory-mapped parts, each opened when it is first needed.

    Parts of a remote store are downloaded then and kept to the end of the shard: its windows are
    drawn from all over their group, so scratch must hold about the group, 4 bytes a token.
    """

    def __init__(self, store: Folder, parts: Sequence[PartRef], window: int, pad_id: int) -> None:
        self._store, self._parts, self._window, self._pad_id = store, parts, window, pad_id
        self._first = np.array([part.first_document for part in parts], np.int64)
        self._codes = context_codes(window)
        self._open: dict[int, PartTokens] = {}
        self._files = ExitStack()

    def __enter__(self) -> "_Gather":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.clear()
        self._files.close()

    def fill(self, rows: Any, dictionary: Any) -> Any:
        """A record batch of a shard from rows of a plan."""
        lengths, doc_index, doc_offset = (rows[i].chunk(0) for i in range(3))
        tokens = np.full(len(rows) * self._window, self._pad_id, np.int32)
        codes = np.zeros(len(tokens), np.uint8)
        self._copy(
            tokens, codes, *(np.asarray(c.flatten()) for c in (lengths, doc_index, doc_offset))
        )
        types = schema.shard_schema(self._window)
        weights = _encoded(codes, dictionary)
        return pa.RecordBatch.from_arrays(
            [
                pa.FixedSizeListArray.from_arrays(
                    pa.array(tokens), type=types.field("input_ids").type
                ),
                pa.FixedSizeListArray.from_arrays(weights, type=types.field("loss_weight").type),
                lengths,
                doc_index,
                doc_offset,
            ],
            schema=types,
        )

    def _copy(
        self,
        tokens: NDArray[np.int32],
        codes: NDArray[np.uint8],
        lengths: NDArray[np.int32],
        doc_index: NDArray[np.int64],
        doc_offset: NDArray[np.int64],
    ) -> None:
        begins = np.cumsum(lengths, dtype=np.int64) - lengths
        part = np.searchsorted(self._first, doc_index, side="right") - 1
        part[doc_index == schema.PADDING] = -1
        for p in np.unique(part[part >= 0]).tolist():
            mine = np.flatnonzero(part == p)
            stored = self._part(p)
            row = doc_index[mine] - self._first[p]
            run = np.searchsorted(stored.first, row, side="right") - 1
            source = stored.starts[row] + doc_offset[mine]
            where = (begins[mine], lengths[mine], run, source)
            for to, n, of, at in zip(*(each.tolist() for each in where), strict=True):
                tokens[to : to + n] = stored.values[of][at : at + n]
                codes[to : to + n] = self._codes[:n]

    def _part(self, number: int) -> PartTokens:
        if number not in self._open:
            name = part_name(self._parts[number].part)
            local = self._files.enter_context(self._store.local_copies([name]))
            self._open[number] = open_tokens(local[name])
        return self._open[number]


def documents_table(part: PartRef, ids: Any, hashes: NDArray[np.void], chosen: Documents) -> Any:
    """Rows of the documents table for one part."""
    n = part.documents
    reasons = np.where(chosen.repeated, 0, 1).astype(np.int32)

    def constant(value: str) -> Any:
        return _encoded(np.zeros(n, np.int32), [value])

    columns: Mapping[str, Any] = {
        "doc_index": pa.array(chosen.index),
        "id": ids,
        "source": constant(part.source),
        "part": constant(part.part),
        "row": pa.array(np.arange(n, dtype=np.int32)),
        "n_tokens": pa.array(chosen.lengths),
        "content_hash": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), n, [None, pa.py_buffer(hashes.tobytes())]
        ),
        "split": _encoded(chosen.validates.astype(np.int32), list(schema.SPLITS)),
        "copies": pa.array(chosen.copies),
        "drop_reason": _encoded(reasons, ["duplicate", "mixing"], absent=chosen.copies > 0),
    }
    types = schema.documents_schema()
    return pa.Table.from_arrays([columns[name] for name in types.names], schema=types)


def _encoded(codes: Any, values: Any, absent: NDArray[np.bool_] | None = None) -> Any:
    """A dictionary array of values[codes], null where `absent`."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=absent), values)


def write_documents(out: Folder, name: str, tables: Iterator[Any]) -> ShardFile:
    """Writes one file of the documents table, a row group a part."""
    rows = 0
    with out.create(name) as scratch:
        with pq.ParquetWriter(
            str(scratch), schema.documents_schema(), compression="zstd"
        ) as writer:
            for table in tables:
                writer.write_table(table)
                rows += len(table)
        described = out.describe(name, scratch)
    return {**described, "rows": rows}
