"""Reads the parts of a token store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...schemas import store as store_format
from ..files.arrow import map_batches, read_column
from ..files.storage import Folder

__all__ = [
    "PartIndex",
    "PartTokens",
    "open_tokens",
    "read_ids",
    "read_index",
]


@dataclass(frozen=True)
class PartIndex:
    """What planning knows of a part's documents, in order; shapes [documents]."""

    lengths: NDArray[np.int32]
    hashes: NDArray[np.void]


@dataclass(frozen=True)
class PartTokens:
    """The tokens of a part's documents, memory-mapped, in runs: its record batches.

    Attributes:
        first: row of each run's first document, rising; shape [runs].
        starts: where each document begins in the values of its run; shape [documents].
        values: the tokens of each run.
    """

    first: NDArray[np.int64]
    starts: NDArray[np.int64]
    values: list[NDArray[np.int32]]


def read_index(path: Path) -> PartIndex:
    """Reads the index of a part from a local file."""
    (batch,) = map_batches(path)
    hashes = batch["content_hash"]
    return PartIndex(
        batch["length"].to_numpy(), np.frombuffer(hashes.buffers()[1], np.dtype("V16"), len(hashes))
    )


def read_ids(store: Folder, part: str) -> Any:
    """The ids of a part's documents: a StringArray."""
    return read_column(store, store_format.part_name(part), "id")


def open_tokens(path: Path) -> PartTokens:
    """Maps a part's tokens into memory."""
    lists = [batch["tokens"] for batch in map_batches(path)]
    rows = np.array([len(each) for each in lists], np.int64)
    return PartTokens(
        first=np.cumsum(rows) - rows,
        starts=np.concatenate([np.asarray(each.offsets)[:-1] for each in lists]),
        values=[np.asarray(each.values) for each in lists],
    )
