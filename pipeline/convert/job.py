"""The job `convert`: a shard set in, a folder in the format of another trainer out.

The folder gets its name when all of it is on the disk. One that was interrupted stays behind as
NAME.partial, and the next run begins anew.
"""

from pathlib import Path

from ...schemas.disk import folder_written_whole
from ...schemas.errors import UsageError
from ...schemas.manifest import ShardFile
from ...schemas.shard import SPLITS
from ..core.choices import ConvertedFormat
from ..files.storage import Folder, resolve
from ..job.places import refuse_one_inside_another, require_space
from ..job.progress import Count, Progress
from ..shard_set.manifest import check_size
from ..shard_set.recognize import open_shard_set
from ..terminal import Console
from .checked import checked_windows
from .mds import write_mds
from .megatron import write_megatron

__all__ = ["convert"]

BYTES_PER_TOKEN = 8.1
"""Of the output at most: an id, a weight, and a little for each segment."""


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
    require_space({out: int(windows * window * BYTES_PER_TOKEN)})
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
            else:
                write_megatron(found, folder / split, largest_id)
