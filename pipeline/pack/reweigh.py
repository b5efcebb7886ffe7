"""The job `reweigh`: a shard set in, the same windows with other weights out.

The weights of a shard are its dictionary, a few bytes. So files are copied without decoding a
token, and every file of the result, the manifest included, is the one that `pack` would write with
those settings.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import cast

from ...schemas.manifest import MANIFEST, SHARD_SET, TOKENIZER, Manifest, ShardFile, dump
from ...schemas.shard import SPLITS, TRAIN
from ..files.json_files import read_json, write_json
from ..files.storage import Folder
from ..job.folder import JOB, Finished, State, begin, forget_progress, locked
from ..job.places import refuse_one_inside_another, require_space
from ..job.progress import Count, Progress
from ..shard_set.counts import check_counts
from ..shard_set.manifest import check_size
from ..shard_set.recognize import open_shard_set
from ..shard_set.windows import check_windows
from ..terminal import Console
from .copying import can_clone, copy_file
from .manifest import OWNED, warnings_of
from .settings import Change, settings_with, table_for
from .tokenizer_copy import read_tokenizer

__all__ = ["reweigh", "reweighed"]

Check = Callable[[Path, str], None]


def reweighed(manifest: Manifest, change: Change) -> Manifest:
    """The manifest with other weights, but still with the old checksums of training shards.

    Raises:
        UsageError: a parameter is out of its range.
    """
    settings = settings_with(manifest["settings"], change)
    counts: list[int] = manifest["splits"][TRAIN]["histogram"]
    table = table_for(counts, settings)
    ours = set(warnings_of(manifest))
    new: Manifest = {
        **manifest,
        "versions": {**manifest["versions"], "exactcpt": version("exactcpt")},
        "settings": settings,
        "weights": {
            "alpha": settings["alpha"],
            "budget": table.budget,
            "table": [asdict(row) for row in table.rows],
        },
    }
    kept = [warning for warning in manifest["warnings"] if warning not in ours]
    return {**new, "warnings": [*kept, *warnings_of(new)]}


def reweigh(
    change: Change, shards: Folder, out: Folder, console: Console, *, overwrite: bool
) -> Finished:
    """Runs the job.

    Args:
        change: how the weights change.
        shards: a finished shard set.
        out: where the new one is written.
        console: for messages and progress.
        overwrite: whether a shard set of other settings is replaced.

    Returns:
        The new shard set.

    Raises:
        UsageError: one folder is in the other; a parameter is out of its range; `out` holds
            something else; `shards` is not a shard set.
        IncompleteError: `shards` is not finished.
        FormatError: a file of `shards` is damaged, or its manifest has false counts.
    """
    refuse_one_inside_another(shards=shards, out=out)
    old = open_shard_set(shards)
    new = reweighed(old, change)
    _check_files(old, shards)
    check_counts(shards, old)
    state = State(settings=new["settings"], inputs=_inputs(old))
    with locked(out):
        if begin(out, state, OWNED, overwrite=overwrite):
            return Finished.found_in(out, SHARD_SET)
        if not can_clone(shards, out):
            require_space({out: sum(entry["bytes"] for entry in _files(old))})
        out.write(TOKENIZER, read_tokenizer(shards, old, "shard set"))
        shards_of, documents = _copy_all(old, new, shards, out, console)
        manifest = {**new, "shards": shards_of, "documents": documents}
        out.write(MANIFEST, dump(manifest))
        forget_progress(out)
    return Finished(manifest=manifest, before=False)


def _inputs(manifest: Manifest) -> dict[str, str | None]:
    """What the windows of a shard set were made of: the token store, or the files of windows."""
    if manifest["store"] is not None:
        return {"token store": manifest["store"]["manifest_xxh3_128"]}
    return {f"{each['source']}: {each['path']}": each["xxh3_128"] for each in manifest["inputs"]}


def _files(manifest: Manifest) -> list[ShardFile]:
    return [f for split in SPLITS for f in manifest["shards"][split]] + manifest["documents"]


def _check_files(manifest: Manifest, shards: Folder) -> None:
    """Checks that every file is there with its size; copying checks what is in it."""
    for entry in _files(manifest):
        check_size(shards, entry)


def _copy_all(
    old: Manifest, new: Manifest, shards: Folder, out: Folder, console: Console
) -> tuple[dict[str, list[ShardFile]], list[ShardFile]]:
    """Copies the files that are not there yet; returns `shards` and `documents` of the manifest."""
    weights = [[row["weight"] for row in m["weights"]["table"]] for m in (old, new)]
    files = _files(old)
    done, total = 0, sum(entry["bytes"] for entry in files)

    def look() -> Count:
        return Count(done, total, "byte")

    with Progress(console, "reweigh", look) as progress:

        def copy(
            entry: ShardFile,
            before: Sequence[float],
            after: Sequence[float],
            check: Check | None = None,
        ) -> ShardFile:
            nonlocal done
            written = _copy_once(entry, shards, out, before, after, check)
            done += entry["bytes"]
            progress.poll()
            return written

        copied = {
            split: [
                copy(
                    entry,
                    *(weights if split == TRAIN else ((), ())),
                    check=partial(check_windows, manifest=old, split=split),
                )
                for entry in old["shards"][split]
            ]
            for split in SPLITS
        }
        return copied, [copy(entry, (), ()) for entry in old["documents"]]


def _copy_once(
    entry: ShardFile,
    shards: Folder,
    out: Folder,
    before: Sequence[float],
    after: Sequence[float],
    check: Check | None,
) -> ShardFile:
    """Copies a file, unless a killed job, a `reweigh` or a `pack`, has already written it."""
    summary = f"{JOB}/{entry['path']}.json"
    if out.exists(summary):
        return cast(ShardFile, read_json(out, summary, entry))
    written = copy_file(entry, shards, out, before, after, check)
    write_json(out, summary, written)
    return written
