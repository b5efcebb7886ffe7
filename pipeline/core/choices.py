"""The names that settings choose from.

This module needs no library, so the command line has it at once.
"""

from typing import Literal, get_args

__all__ = [
    "FORMATS",
    "PACKINGS",
    "Backend",
    "BackendChoice",
    "Format",
    "PackingName",
    "WorkerType",
]

PackingName = Literal["concat", "best_fit"]
PACKINGS: tuple[PackingName, ...] = get_args(PackingName)
Backend = Literal["gigatoken", "tokenizers"]
BackendChoice = Literal["auto", "gigatoken", "tokenizers"]
WorkerType = Literal["threads", "processes"]
Format = Literal["jsonl", "parquet", "arrow", "text", "hub"]
FORMATS: tuple[Format, ...] = get_args(Format)
