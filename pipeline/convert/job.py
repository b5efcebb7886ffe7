"""The job `convert`: a shard set in, a folder in another format out.

The folder gets its name when all of it is on the disk. One that was interrupted stays behind as
NAME.partial, and the next run begins anew.
"""

from collections.abc import Callable
from pathlib import Path

from ...schemas.disk import folder_written_whole
from ...schemas.errors import UsageError
from ...schemas.manifest import Manifest, ShardFile
from ...schemas.shard import SPLITS
from ..core.choices import ConvertedFormat
from ..files.storage import Folder, resolve
from ..job.places import refuse_one_inside_another, require_space
from ..job.progress import Count, Progress
from ..shard_set.manifest import check_size
from ..shard_set.recognize import open_shard_set
from ..shard_set.unchanged import Unchanged
from ..terminal import Console
from .checked import checked_batches, checked_windows
from .mds import write_mds
from .megatron import write_megatron
from .parquet import BYTES_PER_TOKEN, parquet_name, write_parquet

__all__ = ["convert"]

PLAIN_BYTES_PER_TOKEN = 8.1
"""Of what is not compressed: an id, a weight, and a little for each segment."""


def convert(shards: Folder, out: Folder, to: ConvertedFormat, console: Console) -> None:
    """Runs the job.

    Args:
        shards: a finished shard set.
        out: the folder to write, on a local disk; one that has the same files already stays.
        to: the format.
        console: for messages and progress.

    Raises:
        UsageError: `out` is remote, holds something else, or one of the folders is in the other.
        IncompleteError: `shards` is not finished.
        FormatError: a file of `shards` is damaged.
    """
    if not out.is_local:
        raise UsageError(
            "the folder to write is not on a local disk",
            where=out.url,
            expected="a local folder",
            fix="write it to the disk, and upload it from there",
        )
    refuse_one_inside_another(shards=shards, out=out)
    manifest = open_shard_set(shards)
    files = [entry for split in SPLITS for entry in manifest["shards"][split]]
    for entry in files:
        check_size(shards, entry)
    window, largest_id = manifest["settings"]["window"], manifest["tokenizer"]["largest_id"]
    windows = sum(manifest["splits"][split]["windows"] for split in SPLITS)
    per_token = BYTES_PER_TOKEN if to == "parquet" else PLAIN_BYTES_PER_TOKEN
    require_space({out: int(windows * window * per_token)})
    done = 0

    def look() -> Count:
        return Count(done * window, windows * window)

    with (
        folder_written_whole(Path(resolve(out.url)[1]), same=True) as folder,
        Progress(console, "convert", look) as progress,
    ):

        def count(entry: ShardFile) -> None:
            nonlocal done
            done += entry.get("windows", 0)
            progress.poll()

        for split in SPLITS:
            if not manifest["shards"][split]:
                continue
            found = checked_windows(shards, manifest, split, count)
            if to == "mds":
                write_mds(found, folder / split)
            elif to == "megatron":
                write_megatron(found, folder / split, largest_id)
            else:
                _write_parquet(shards, manifest, split, folder, count)


def _write_parquet(
    shards: Folder,
    manifest: Manifest,
    split: str,
    folder: Path,
    file_done: Callable[[ShardFile], None],
) -> None:
    unchanged = Unchanged(shards, manifest)
    (folder / split).mkdir()
    first = 0
    for entry in manifest["shards"][split]:
        batches = checked_batches(shards, manifest, split, entry, unchanged, first)
        write_parquet(batches, manifest, split, folder / parquet_name(entry))
        first += entry.get("windows", 0)
        file_done(entry)
