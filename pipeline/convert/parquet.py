"""Windows as Parquet files, one for each shard, one window per row.

    input_ids         list<int32>   the tokens, L of them
    loss_weight       list<float>   of the token at each position as a target; 0.0: it is none
    context_bucket    list<int8>    bucket of its effective context; -1: it is no target
    seq_lengths       list<int32>   as in a shard, like the next two
    doc_index         list<int64>
    doc_offset        list<int64>
    supervised        list<struct>  the supervised spans, if the shards have some

Nothing is nullable. Whoever opens a file alone finds in its key-value metadata what the columns
mean and which weight a bucket has. Row groups, the page index, and pages that are cut where the
content says follow what the Hugging Face hub advises, so its viewer can page through the windows.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...schemas.manifest import Manifest, ShardFile, has_spans
from ...schemas.shard import SUPERVISED, TRAIN, spans_type
from ..files.arrow import span_lists
from .checked import WindowBatch

__all__ = ["BYTES_PER_TOKEN", "columns_of", "parquet_name", "write_parquet"]

COLUMNS = {
    "input_ids": "the token ids of the window",
    "loss_weight": "the weight of the token at each position as a target (a token to predict), "
    "not shifted; 0.0 where there is no target: the first token of a segment, padding, and what is "
    "outside of `supervised` where there is such a column",
    "context_bucket": "the bucket of the target's effective context (how many tokens of its own "
    "segment precede it); -1 where there is no target",
    "seq_lengths": "the lengths of the segments (parts of one document each), in order; they add "
    "up to the window, padding at its end included",
    "doc_index": "the document of each segment: a row of the documents table; -1 for padding",
    "doc_offset": "where each segment begins inside its document, in tokens",
}
"""What the columns mean, in their order."""
TYPES: dict[str, Any] = {
    "input_ids": pa.int32(),
    "loss_weight": pa.float32(),
    "context_bucket": pa.int8(),
    "seq_lengths": pa.int32(),
    "doc_index": pa.int64(),
    "doc_offset": pa.int64(),
    SUPERVISED: spans_type().value_type,
}
SPANS = (
    "the supervised spans as positions in the window, stop not included; tokens outside of them, "
    "such as those of questions, are read and not learnt: no targets"
)
"""What the column `supervised` means, of shards that have one."""
ROW_GROUP_TOKENS = 1 << 24
"""About 150 MB in memory: the hub's viewer wants 100 to 300."""

BYTES_PER_TOKEN = 2.6
"""Of a file at most: with ids drawn at random from 2^18. With text, it is little more than half."""


def columns_of(manifest: Manifest) -> dict[str, str]:
    """The columns of the files of a shard set, in their order, and what they mean."""
    return COLUMNS | ({SUPERVISED: SPANS} if has_spans(manifest) else {})


def parquet_name(entry: ShardFile) -> str:
    """The name of the file with the windows of a shard."""
    return str(PurePosixPath(entry["path"]).with_suffix(".parquet"))


def write_parquet(
    batches: Iterable[WindowBatch], manifest: Manifest, split: str, path: Path
) -> None:
    """Writes the windows of a shard as a Parquet file.

    Args:
        batches: the windows, in order.
        manifest: of the shard set.
        split: "train" or "validation".
        path: of the file.
    """
    schema = pa.schema(
        [pa.field(name, _list_of(TYPES[name]), nullable=False) for name in columns_of(manifest)]
    )
    rows = max(1, ROW_GROUP_TOKENS // manifest["settings"]["window"])
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        write_page_index=True,
        use_content_defined_chunking=True,
        store_schema=False,  # the plain types say all
    ) as writer:
        writer.add_key_value_metadata(_metadata(manifest, split))
        for group in _groups(batches, rows, schema):
            writer.write_table(group, row_group_size=rows)


def _list_of(kind: Any) -> Any:
    return pa.list_(pa.field("element", kind, nullable=False))


def _metadata(manifest: Manifest, split: str) -> dict[str, str]:
    kept = ("bucket", "low", "high", "weight")
    rows = [{key: row[key] for key in kept} for row in manifest["weights"]["table"]]
    if split != TRAIN:
        rows = [{**row, "weight": 1.0} for row in rows]
    return {
        "exactcpt.columns": json.dumps(columns_of(manifest)),
        "exactcpt.window": str(manifest["settings"]["window"]),
        "exactcpt.split": split,
        "exactcpt.tokenizer_sha256": manifest["tokenizer"]["sha256"],
        "exactcpt.weights": json.dumps(rows),
    }


def _groups(batches: Iterable[WindowBatch], rows: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """Joins batches, and cuts them again, into tables of the rows of a row group."""
    waiting = schema.empty_table()
    for batch in batches:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([_record_batch(batch, schema)])])
        while waiting.num_rows >= rows:
            yield waiting.slice(0, rows)
            waiting = waiting.slice(rows)
    if waiting.num_rows:
        yield waiting


def _record_batch(batch: WindowBatch, schema: pa.Schema) -> pa.RecordBatch:
    windows, length = batch.ids.shape
    bounds = np.arange(0, (windows + 1) * length, length, dtype=np.int32)
    of_segments = batch.segments.bounds.astype(np.int32)
    columns: list[tuple[NDArray[np.int32], NDArray[Any]]] = [
        (bounds, batch.ids),
        (bounds, batch.weights[batch.codes]),
        (bounds, batch.codes.view(np.int8) - np.int8(1)),
        (of_segments, batch.segments.length),
        (of_segments, batch.segments.document),
        (of_segments, batch.segments.offset),
    ]
    arrays = [
        _lists(offsets, values, field.type)
        for (offsets, values), field in zip(columns, schema, strict=False)
    ]
    if batch.segments.spans is not None:
        spans = batch.segments.spans
        found = span_lists(spans.bounds, spans.ends[:, 0], spans.ends[:, 1])
        arrays.append(found.cast(schema.field(SUPERVISED).type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _lists(offsets: NDArray[np.int32], values: NDArray[Any], of: Any) -> Any:
    """Lists without nulls, over the values as they lie in memory."""
    making: Any = pa.ListArray
    return making.from_arrays(offsets, pa.array(values.reshape(-1)), type=of)
