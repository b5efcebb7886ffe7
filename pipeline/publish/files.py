"""One file of a shard set, on its way into a published folder."""

from functools import partial

from ...schemas.manifest import Manifest, ShardFile
from ..convert.checked import checked_batches
from ..convert.parquet import parquet_name, write_parquet
from ..files.storage import Folder
from ..pack.copying import copy_file
from ..shard_set.unchanged import Unchanged
from ..shard_set.windows import check_windows

__all__ = ["copy_documents", "copy_windows", "windows_as_parquet"]


def windows_as_parquet(
    shards: Folder,
    manifest: Manifest,
    split: str,
    entry: ShardFile,
    first: int,
    unchanged: Unchanged,
    out: Folder,
) -> ShardFile:
    """Writes the windows of a shard as a Parquet file.

    Args:
        shards: the shard set.
        manifest: its manifest.
        split: "train" or "validation".
        entry: the shard, as in the manifest.
        first: the number of its first window in the split.
        unchanged: of the set and its manifest.
        out: the published folder.

    Returns:
        The description of the new file.

    Raises:
        FormatError: the shard is damaged, or is no longer that of the set.
    """
    name = parquet_name(entry)
    with out.create(name) as scratch:
        batches = checked_batches(shards, manifest, split, entry, unchanged, first)
        write_parquet(batches, manifest, split, scratch)
        return {**entry, **out.describe(name, scratch)}


def copy_windows(
    shards: Folder, manifest: Manifest, split: str, entry: ShardFile, out: Folder
) -> ShardFile:
    """Copies a shard, every window checked; returns its description.

    Raises:
        FormatError: the shard is damaged.
    """

    check = partial(check_windows, manifest=manifest, split=split)
    return copy_file(entry, shards, out, (), (), check)


def copy_documents(shards: Folder, entry: ShardFile, out: Folder) -> ShardFile:
    """Copies a file of the documents table; returns its description.

    Raises:
        FormatError: the file is damaged.
    """
    return copy_file(entry, shards, out, (), ())
