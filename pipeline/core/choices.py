"""The names that settings choose from.

This module needs no library, so the command line has it at once.
"""

from typing import Literal, get_args

__all__ = [
    "BOUNDARIES",
    "CONVERTED",
    "FORMATS",
    "IDS_ALONE",
    "PACKINGS",
    "PUBLISHED",
    "Backend",
    "BackendChoice",
    "Boundaries",
    "ConvertedFormat",
    "Format",
    "PackingName",
    "PublishedFormat",
    "WorkerType",
]

ConvertedFormat = Literal["mds", "megatron", "parquet"]
CONVERTED: tuple[ConvertedFormat, ...] = get_args(ConvertedFormat)
PublishedFormat = Literal["parquet", "arrow"]
PUBLISHED: tuple[PublishedFormat, ...] = get_args(PublishedFormat)
PackingName = Literal["concat", "best_fit"]
PACKINGS: tuple[PackingName, ...] = get_args(PackingName)
Backend = Literal["gigatoken", "tokenizers"]
BackendChoice = Literal["auto", "gigatoken", "tokenizers"]
WorkerType = Literal["threads", "processes"]
Format = Literal[
    "jsonl",
    "parquet",
    "arrow",
    "text",
    "csv",
    "tsv",
    "webdataset",
    "wet",
    "hub",
    "megatron",
    "datatrove",
    "mds",
    "npy",
]
FORMATS: tuple[Format, ...] = get_args(Format)
Boundaries = Literal["seq_lengths", "cu_seqlens", "position_ids", "end_token"]
"""How windows that somebody else has packed say where their segments are, see `boundaries`."""
BOUNDARIES: tuple[Boundaries, ...] = get_args(Boundaries)
IDS_ALONE: tuple[Format, ...] = ("megatron", "datatrove", "npy")
"""Formats whose files hold token ids and nothing else: no text, no ids of documents, no fields."""
