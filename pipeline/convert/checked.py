"""The windows of a shard set, read whole and checked: by record batches, or one by one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.errors import FormatError
from ...schemas.manifest import Manifest, ShardFile, has_spans
from ...schemas.windows import (
    WindowSegments,
    check_batch,
    open_shard,
    segments_of,
    tokens_of,
    weights_of_codes,
)
from ..files.storage import Folder, checksum
from ..shard_set.manifest import SEE_VERIFY, reading
from ..shard_set.unchanged import Unchanged

__all__ = ["Window", "WindowBatch", "checked_batches", "checked_windows"]


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """Some consecutive windows of L tokens.

    Attributes:
        ids: int32 [windows, L].
        codes: 0 where a token is no target, else 1 more than the bucket of its effective context,
            uint8 [windows, L].
        weights: of each code, float32 [1 + buckets].
        segments: of the windows, padding at their ends included.
    """

    ids: NDArray[np.int32]
    codes: NDArray[np.uint8]
    weights: NDArray[np.float32]
    segments: WindowSegments


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
    unchanged = Unchanged(shards, manifest)
    first = 0
    for entry in manifest["shards"][split]:
        for batch in checked_batches(shards, manifest, split, entry, unchanged, first):
            yield from _windows(batch)
            first += len(batch.ids)
        file_done(entry)


def checked_batches(
    shards: Folder,
    manifest: Manifest,
    split: str,
    entry: ShardFile,
    unchanged: Unchanged,
    first: int,
) -> Iterator[WindowBatch]:
    """The windows of one file, in order, as its record batches have them.

    Args:
        shards: the shard set.
        manifest: its manifest.
        split: "train" or "validation".
        entry: the file, as in the manifest.
        unchanged: of the set and its manifest.
        first: the number of its first window in the split, for errors.

    Raises:
        FormatError: as `checked_windows`.
    """
    weights = weights_of_codes(manifest, split)
    window, largest_id = manifest["settings"]["window"], manifest["tokenizer"]["largest_id"]
    with reading(shards, entry), shards.local_copies([entry["path"]]) as local:
        path = local[entry["path"]]
        with pa.memory_map(str(path)) as source:
            unchanged.check()
            _check_bytes(checksum(path), entry, shards)
            reader = open_shard(source, window, spans=has_spans(manifest))
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i)
                check_batch(batch, window, weights, largest_id, first)
                ids, codes = tokens_of(batch, window, weights)
                segments = segments_of(batch, window, first)
                yield WindowBatch(ids=ids, codes=codes, weights=weights, segments=segments)
                first += batch.num_rows


def _check_bytes(found: str, entry: ShardFile, shards: Folder) -> None:
    if found != entry["xxh3_128"]:
        raise FormatError(
            "a file of the shard set is damaged",
            where=shards.url_of(entry["path"]),
            expected=f"xxh3-128 {entry['xxh3_128']}, not {found}",
            fix=SEE_VERIFY,
        )


def _windows(batch: WindowBatch) -> Iterator[Window]:
    bounds, length = batch.segments.bounds, batch.segments.length
    for row, (ids, codes) in enumerate(zip(batch.ids, batch.codes, strict=True)):
        lengths = length[bounds[row] : bounds[row + 1]]
        yield Window(ids=ids, weights=batch.weights[codes], lengths=lengths)
