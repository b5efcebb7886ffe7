"""What a job can be told: the names to choose from, and ranges that several modules check.

Without a library, so that the command line has them at once.
"""

from collections.abc import Mapping
from typing import Literal, get_args

__all__ = [
    "EXACT_RANGES",
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
EXACT_RANGES: Mapping[str, tuple[float, float]] = {
    "alpha": (0, 1000),
    "gamma": (0, 10),
    "epsilon": (0, 1),
    "max_weight": (1, 1001),
}
"""Inside them no int64 counts make a power overflow, and every weight is finite in float32."""
Format = Literal["jsonl", "parquet", "arrow", "text", "hub"]
FORMATS: tuple[Format, ...] = get_args(Format)
