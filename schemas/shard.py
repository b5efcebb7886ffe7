"""The shard file: uncompressed Arrow IPC, one window per row. See README.md beside this file."""

from typing import Any

import pyarrow as pa

__all__ = [
    "GIVEN",
    "PADDING",
    "SPLITS",
    "SUPERVISED",
    "TRAIN",
    "UNSUPERVISED",
    "VALIDATION",
    "documents_schema",
    "rows_per_batch",
    "shard_name",
    "shard_schema",
    "spans_type",
    "weight_dictionary",
]

TRAIN = "train"
VALIDATION = "validation"
SPLITS = (TRAIN, VALIDATION)

GIVEN = "given"
"""The packing of windows that somebody else has packed. Each segment is a document of its own:
which of them belong together is not known."""

UNSUPERVISED = 0
"""Dictionary code of a position that is not a target; code b + 1 stands for bucket b."""

SUPERVISED = "supervised"
"""The column of supervised spans, of indices and shards of format version 2."""

PADDING = -1
"""`doc_index` of a run of padding."""

TOKENS_PER_BATCH = 1 << 20
"""Tokens per record batch, about."""


def spans_type() -> Any:
    """The type of a column of supervised spans: runs of positions, `stop` not included."""
    ends = [pa.field(name, pa.int32(), nullable=False) for name in ("start", "stop")]
    return pa.list_(pa.field("item", pa.struct(ends), nullable=False))


def shard_schema(window: int, spans: bool = False) -> pa.Schema:
    """The columns of a shard. No value is ever null.

    Args:
        window: tokens of a window.
        spans: whether it has supervised spans, as format version 2 has.
    """
    weight = pa.dictionary(pa.uint8(), pa.float32())

    def tokens(value_type: pa.DataType) -> pa.DataType:
        return pa.list_(pa.field("item", value_type, nullable=False), window)

    def segments(value_type: pa.DataType) -> pa.DataType:
        return pa.list_(pa.field("item", value_type, nullable=False))

    return pa.schema(
        [
            pa.field("input_ids", tokens(pa.int32()), nullable=False),
            pa.field("loss_weight", tokens(weight), nullable=False),
            pa.field("seq_lengths", segments(pa.int32()), nullable=False),
            pa.field("doc_index", segments(pa.int64()), nullable=False),
            pa.field("doc_offset", segments(pa.int64()), nullable=False),
            *([pa.field(SUPERVISED, spans_type(), nullable=False)] if spans else []),
        ]
    )


def documents_schema() -> pa.Schema:
    """The columns of `documents/part-*.parquet`: one row per document of the token store."""
    required = [
        ("doc_index", pa.int64()),
        ("id", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("part", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int32()),
        ("n_tokens", pa.int32()),
        ("content_hash", pa.binary(16)),
        ("split", pa.dictionary(pa.int32(), pa.string())),
        ("copies", pa.int32()),
    ]
    return pa.schema(
        [
            *(pa.field(name, kind, nullable=False) for name, kind in required),
            pa.field("drop_reason", pa.dictionary(pa.int32(), pa.string())),
        ]
    )


def rows_per_batch(window: int) -> int:
    """Windows per record batch; the last batch of a shard may have fewer."""
    return max(1, TOKENS_PER_BATCH // window)


def shard_name(split: str, index: int, total: int) -> str:
    """The path of a shard, relative to the shard set."""
    return f"{split}/shard-{index:05d}-of-{total:05d}.arrow"


def weight_dictionary(bucket_weights: list[float]) -> pa.FloatArray:
    """The dictionary of `loss_weight`: 0.0 for what is not a target, then one weight per bucket."""
    return pa.array([0.0, *bucket_weights], pa.float32())
