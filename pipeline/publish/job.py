"""The job `publish`: a shard set in, a folder out that explains itself.

    README.md, charts.svg              the card, and its picture
    train/, validation/                the windows: the shards, or Parquet files with the same names
    documents/*.parquet, tokenizer.json
    manifest.json                      of the shard set; for Parquet, with the files that are here

The manifest is written last. A job that was stopped goes on with the first file that is missing.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import cast

import xxhash

from ...schemas.errors import FormatError, UsageError
from ...schemas.manifest import (
    MANIFEST,
    PARQUET_SET,
    SHARD_SET,
    TOKENIZER,
    Manifest,
    ShardFile,
    dump,
)
from ...schemas.shard import SPLITS
from ..convert.parquet import BYTES_PER_TOKEN
from ..files.json_files import read_json, write_json
from ..files.storage import Folder
from ..inspection import report
from ..inspection.as_json import to_json
from ..inspection.counted import inspect_shards
from ..job.folder import JOB, STATE, State, begin, forget_progress, locked
from ..job.places import refuse_one_inside_another, require_space
from ..job.progress import Count, Progress
from ..pack.copying import can_clone
from ..pack.tokenizer_copy import read_tokenizer
from ..shard_set.manifest import check_size
from ..shard_set.recognize import open_shard_set
from ..shard_set.unchanged import Unchanged
from ..terminal import Console
from .card import CARD, PICTURE, card, sources_of
from .files import copy_documents, copy_windows, windows_as_parquet
from .settings import PublishConfig

__all__ = ["DOCUMENTS", "OWNED", "publish"]

DOCUMENTS = "documents"
OWNED = (CARD, PICTURE, TOKENIZER, *SPLITS, DOCUMENTS)
"""What the job writes into its folder besides the manifest."""
PUBLISH = "publish"


def publish(
    config: PublishConfig, shards: Folder, out: Folder, console: Console, *, overwrite: bool
) -> bool:
    """Runs the job.

    Args:
        config: what the publisher says.
        shards: a finished shard set.
        out: the folder to write.
        console: for messages and progress.
        overwrite: whether what `publish` wrote before, with other settings, is replaced.

    Returns:
        Whether an equal job had already finished.

    Raises:
        UsageError: one folder is in the other; `out` holds something else, or what was published
            with other settings; `shards` is not a shard set.
        IncompleteError: `shards` is not finished.
        FormatError: a file of `shards` is damaged, or its manifest has false counts.
    """
    refuse_one_inside_another(shards=shards, out=out)
    manifest = open_shard_set(shards)
    for entry in _files(manifest):
        check_size(shards, entry)
    inputs = {"shard set": xxhash.xxh3_128_hexdigest(dump(manifest))}
    state = State(settings={PUBLISH: asdict(config)}, inputs=inputs)
    with locked(out):
        _refuse_other_folders(out)
        if begin(out, state, OWNED, overwrite=overwrite):
            return True
        if config.format == "parquet" or not can_clone(shards, out):
            require_space({out: _size(manifest, config)})
        out.write(PICTURE, _picture(shards, manifest))
        out.write(TOKENIZER, read_tokenizer(shards, manifest, "shard set"))
        written = _write_all(shards, manifest, config, out, console)
        out.write(CARD, card(manifest, config).encode())
        out.write(MANIFEST, dump(written))
        forget_progress(out)
    return False


def _files(manifest: Manifest) -> list[ShardFile]:
    return [f for split in SPLITS for f in manifest["shards"][split]] + manifest["documents"]


def _size(manifest: Manifest, config: PublishConfig) -> int:
    """Bytes of the files of windows and documents, about."""
    if config.format == "arrow":
        return sum(entry["bytes"] for entry in _files(manifest))
    windows = sum(manifest["splits"][split]["windows"] for split in SPLITS)
    tokens = windows * manifest["settings"]["window"]
    return int(tokens * BYTES_PER_TOKEN) + sum(entry["bytes"] for entry in manifest["documents"])


def _refuse_other_folders(out: Folder) -> None:
    """Refuses what another job has written, even if it may be overwritten: it may be the only one.

    Raises:
        UsageError: it is a token store, a shard set, or a published folder without its record.
        FormatError: its record is damaged.
    """
    if out.exists(STATE):
        try:
            is_other = PUBLISH not in State.read(out, STATE).settings
        except FormatError as error:  # whose folder it is, nobody knows
            error.fix = "restore the file, or write to another folder"
            raise
    else:
        is_other = out.exists(MANIFEST)
    if is_other:
        raise UsageError(
            "this folder holds something that `exactcpt publish` has not written here",
            where=out.url,
            expected="a new or empty folder, or one that it has written",
            fix="write to another folder",
        )


def _picture(shards: Folder, manifest: Manifest) -> bytes:
    """The charts of the set, whose counts are checked on the way."""
    subject = inspect_shards(shards, sources_of(manifest), manifest, [{}], None)
    return report.svg(to_json([subject])).encode()


def _write_all(
    shards: Folder, manifest: Manifest, config: PublishConfig, out: Folder, console: Console
) -> Manifest:
    """Writes the files that are not there yet; returns the manifest of what is there then."""
    window = manifest["settings"]["window"]
    windows = sum(manifest["splits"][split]["windows"] for split in SPLITS)
    done = 0

    def look() -> Count:
        return Count(done * window, windows * window)

    written: dict[str, list[ShardFile]] = {split: [] for split in (*SPLITS, DOCUMENTS)}
    with Progress(console, "publish", look) as progress:
        for kind, entry, make in _works(shards, manifest, config, out):
            written[kind].append(_once(entry, out, make))
            done += entry.get("windows", 0)
            progress.poll()
    documents = written.pop(DOCUMENTS)
    kind = SHARD_SET if config.format == "arrow" else PARQUET_SET
    return {**manifest, "format": kind, "shards": written, "documents": documents}


def _works(
    shards: Folder, manifest: Manifest, config: PublishConfig, out: Folder
) -> Iterator[tuple[str, ShardFile, Callable[[], ShardFile]]]:
    """For each file of the set: of what it is, its description, and what writes it."""
    unchanged = Unchanged(shards, manifest)
    for split in SPLITS:
        first = 0
        for entry in manifest["shards"][split]:
            if config.format == "arrow":
                yield split, entry, partial(copy_windows, shards, manifest, split, entry, out)
            else:
                place = (shards, manifest, split, entry, first, unchanged, out)
                yield split, entry, partial(windows_as_parquet, *place)
            first += entry.get("windows", 0)
    for entry in manifest["documents"]:
        yield DOCUMENTS, entry, partial(copy_documents, shards, entry, out)


def _once(entry: ShardFile, out: Folder, make: Callable[[], ShardFile]) -> ShardFile:
    """Makes a file, unless a job that was stopped has already made it."""
    summary = f"{JOB}/{entry['path']}.json"
    if out.exists(summary):
        return cast(ShardFile, read_json(out, summary, entry))
    written = make()
    write_json(out, summary, written)
    return written
