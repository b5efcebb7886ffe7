"""The files of a token store: parts with tokenized documents, each with an index. See README.md."""

import pyarrow as pa

from .shard import SUPERVISED, spans_type

__all__ = [
    "index_name",
    "index_schema",
    "part_name",
    "part_schema",
    "rejected_name",
    "summary_name",
]


def part_schema(source: str | None = None) -> pa.Schema:
    """The columns of a part, one row per document; the metadata has the source's name."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field(
                "tokens",
                pa.large_list(pa.field("item", pa.int32(), nullable=False)),
                nullable=False,
            ),
        ],
        metadata={"source": source} if source is not None else None,
    )


def index_schema(spans: bool = False) -> pa.Schema:
    """The columns of a part's index: what packing needs to plan, one row per document.

    Args:
        spans: whether it has supervised spans, as format version 2 has.
    """
    return pa.schema(
        [
            pa.field("length", pa.int32(), nullable=False),
            pa.field("content_hash", pa.binary(16), nullable=False),
            pa.field("row", pa.int32(), nullable=False),
            *([pa.field(SUPERVISED, spans_type(), nullable=False)] if spans else []),
        ]
    )


def part_name(ordinal: str) -> str:
    """The file with a part's documents."""
    return f"parts/{ordinal}.arrow"


def index_name(ordinal: str) -> str:
    """The file with a part's index."""
    return f"parts/{ordinal}.index.arrow"


def summary_name(ordinal: str) -> str:
    """The file with a part's summary, written last."""
    return f"parts/{ordinal}.json"


def rejected_name(ordinal: str) -> str:
    """The file with the records of a part that could not be used."""
    return f"rejected/{ordinal}.jsonl"
