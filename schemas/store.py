"""The token store's files: parts of tokenized documents, each with an index. See README.md."""

import pyarrow as pa

__all__ = [
    "index_name",
    "index_schema",
    "part_name",
    "part_schema",
    "rejected_name",
    "summary_name",
]


def part_schema(source: str | None = None) -> pa.Schema:
    """A part's documents: id and tokens. The source's name is in the schema's metadata."""
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


def index_schema() -> pa.Schema:
    """A part's index: what planning needs of each document, in the part's order."""
    return pa.schema(
        [
            pa.field("length", pa.int32(), nullable=False),
            pa.field("content_hash", pa.binary(16), nullable=False),
            pa.field("row", pa.int32(), nullable=False),
        ]
    )


def part_name(ordinal: str) -> str:
    """A part's documents."""
    return f"parts/{ordinal}.arrow"


def index_name(ordinal: str) -> str:
    """A part's index."""
    return f"parts/{ordinal}.index.arrow"


def summary_name(ordinal: str) -> str:
    """A part's summary."""
    return f"parts/{ordinal}.json"


def rejected_name(ordinal: str) -> str:
    """The records of a part that could not be used."""
    return f"rejected/{ordinal}.jsonl"
