"""The windows of a shard set, read whole and checked, with weights as numbers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.errors import FormatError
from ...schemas.manifest import Manifest, ShardFile
from ...schemas.windows import (
    check_batch,
    open_shard,
    segments_of,
    tokens_of,
    weights_of_codes,
)
from ..files.storage import Folder, checksum
from ..shard_set.manifest import SEE_VERIFY, reading
from ..shard_set.unchanged import Unchanged

__all__ = ["Window", "checked_windows"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window of L tokens.

    Attributes:
        ids: int32 [L].
        weights: of each token as a target, 0 where it is none, float32 [L].
        lengths: of its segments, padding at the end included, int32 [segments]; they add up to L.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    lengths: NDArray[np.int32]


def checked_windows(
    shards: Folder, manifest: Manifest, split: str, file_done: Callable[[ShardFile], None]
) -> Iterator[Window]:
    """The windows of a split, in order.

    Args:
        shards: the shard set.
        manifest: its manifest.
        split: "train" or "validation".
        file_done: called after each file.

    Raises:
        FormatError: a file is not the one that the manifest describes, a window in it is not what
            it has to be, or another set took the place of this one.
    """
    weights = weights_of_codes(manifest, split)
    unchanged = Unchanged(shards, manifest)
    first = 0
    for entry in manifest["shards"][split]:
        with reading(shards, entry), shards.local_copies([entry["path"]]) as local:
            path = local[entry["path"]]
            with pa.memory_map(str(path)) as source:
                unchanged.check()
                _check_bytes(checksum(path), entry, shards)
                reader = open_shard(source, manifest["settings"]["window"])
                for i in range(reader.num_record_batches):
                    batch = reader.get_batch(i)
                    yield from _windows(batch, manifest, weights, first)
                    first += batch.num_rows
        file_done(entry)


def _check_bytes(found: str, entry: ShardFile, shards: Folder) -> None:
    if found != entry["xxh3_128"]:
        raise FormatError(
            "a file of the shard set is damaged",
            where=shards.url_of(entry["path"]),
            expected=f"xxh3-128 {entry['xxh3_128']}, not {found}",
            fix=SEE_VERIFY,
        )


def _windows(
    batch: pa.RecordBatch, manifest: Manifest, weights: NDArray[np.float32], first: int
) -> Iterator[Window]:
    window, largest_id = manifest["settings"]["window"], manifest["tokenizer"]["largest_id"]
    check_batch(batch, window, weights, largest_id, first)
    segments = segments_of(batch, window, first)
    ids, codes = tokens_of(batch, window, weights)
    for row in range(batch.num_rows):
        begin, end = segments.bounds[row], segments.bounds[row + 1]
        yield Window(ids=ids[row], weights=weights[codes[row]], lengths=segments.length[begin:end])
