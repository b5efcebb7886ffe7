"""The documents table of a shard set: one row per document of the token store."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...schemas.manifest import ShardFile
from ...schemas.shard import SPLITS, documents_schema
from ..files.growing import GrowingFile
from ..files.storage import Folder
from .documents import Documents

__all__ = ["documents_table", "write_documents"]

REPEATED: Any = ["source", "part", "n_tokens", "split", "copies", "drop_reason"]
"""Columns whose values come again and again. A dictionary of ids or hashes, which do not, would be
given up when it is full, and cost half of the time until then."""


def documents_table(
    source: str,
    part: str,
    ids: Any,
    hashes: NDArray[np.void],
    chosen: Documents,
) -> pa.Table:
    """The rows of documents of one part.

    Args:
        source: the source of the part.
        part: its name.
        ids: the documents' ids, a column of strings.
        hashes: their content hashes, shape [documents].
        chosen: what selection decided of them.
    """
    n = len(chosen.index)
    reasons = np.where(chosen.repeated, 0, 1).astype(np.int32)

    def constant(value: str) -> pa.Array:
        return _encoded(np.zeros(n, np.int32), [value])

    columns: Mapping[str, Any] = {
        "doc_index": pa.array(chosen.index),
        "id": ids,
        "source": constant(source),
        "part": constant(part),
        "row": pa.array(np.arange(n, dtype=np.int32)),
        "n_tokens": pa.array(chosen.lengths),
        "content_hash": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), n, [None, pa.py_buffer(hashes.tobytes())]
        ),
        "split": _encoded(chosen.validates.astype(np.int32), list(SPLITS)),
        "copies": pa.array(chosen.copies),
        "drop_reason": _encoded(reasons, ["duplicate", "mixing"], absent=chosen.copies > 0),
    }
    types = documents_schema()
    return pa.Table.from_arrays([columns[name] for name in types.names], schema=types)


def write_documents(out: Folder, name: str, tables: Iterable[pa.Table]) -> ShardFile:
    """Writes one file of the documents table, one row group per part; returns its description."""
    rows = 0
    with (
        out.create(name) as scratch,
        GrowingFile(scratch, keeps=out.is_local) as sink,
        pq.ParquetWriter(
            sink, documents_schema(), compression="zstd", use_dictionary=REPEATED
        ) as writer,
    ):
        for table in tables:
            writer.write_table(table)
            rows += len(table)
    return {**sink.describe(name), "rows": rows}


def _encoded(
    codes: NDArray[np.int32], values: list[str], absent: NDArray[np.bool_] | None = None
) -> pa.Array:
    """A dictionary array of values[codes], null where `absent` is true."""
    return pa.DictionaryArray.from_arrays(
        pa.array(codes, pa.int32(), mask=absent), pa.array(values)
    )
