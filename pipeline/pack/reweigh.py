"""The job `reweigh`: a shard set in, the same windows with other weights out.

The weights of a shard are its dictionary, a few bytes. So files are copied without decoding a
token, and every file of the result, the manifest included, is the one that `pack` would write with
those settings.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import cast

from ...schemas.manifest import MANIFEST, SHARD_SET, TOKENIZER, Manifest, ShardFile, dump
from ...schemas.shard import SPLITS, TRAIN
from ..beam.each import Job, do_each
from ..beam.runner import RunSettings
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
    change: Change,
    shards: Folder,
    out: Folder,
    settings: RunSettings,
    console: Console,
    *,
    overwrite: bool,
) -> Finished:
    """Runs the job.

    Args:
        change: how the weights change.
        shards: a finished shard set.
        out: where the new one is written.
        settings: where files are copied.
        console: for messages and progress.
        overwrite: whether a shard set of other settings is replaced.

    Returns:
        The new shard set.

    Raises:
        UsageError: one folder is in the other; a parameter is out of its range; `out` holds
            something else; `shards` is not a shard set.
        IncompleteError: `shards` is not finished.
        FormatError: a file of `shards` is damaged, or its manifest has false counts.
        ExactcptError: a work unit failed.
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
        _copy_all(_copy_task(old, new, shards, out), settings, console)
        manifest = {
            **new,
            "shards": {split: _copied(out, old["shards"][split]) for split in SPLITS},
            "documents": _copied(out, old["documents"]),
        }
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


@dataclass(frozen=True, kw_only=True)
class CopyTask:
    """What all copies of a job have in common.

    Attributes:
        shards, out: paths or URLs of the shard set and the new one.
        manifest: of the shard set.
        before, after: the weights of both, one per bucket.
    """

    shards: str
    out: str
    manifest: Manifest
    before: tuple[float, ...]
    after: tuple[float, ...]


def _copy_task(old: Manifest, new: Manifest, shards: Folder, out: Folder) -> CopyTask:
    before, after = (tuple(row["weight"] for row in m["weights"]["table"]) for m in (old, new))
    return CopyTask(shards=shards.url, out=out.url, manifest=old, before=before, after=after)


def _copy_all(task: CopyTask, settings: RunSettings, console: Console) -> None:
    """Copies the files that are not there yet."""
    out = Folder(task.out)
    job = Job(
        title="Copy files",
        unit=copy_once,
        values=_files(task.manifest),
        shared=task,
        work=lambda entry: entry["bytes"],
    )
    with Progress(console, "reweigh", _BytesDone(out, job.values)) as progress:
        do_each(job, settings, out, progress.poll)


class _BytesDone:
    """Counts the bytes of the files that have been copied."""

    def __init__(self, out: Folder, files: Sequence[ShardFile]) -> None:
        self._out = out
        self._bytes = {_summary_name(entry): entry["bytes"] for entry in files}

    def __call__(self) -> Count:
        """Looks at the folder."""
        kinds = (*SPLITS, "documents")
        done = {name for kind in kinds for name in self._out.names(f"{JOB}/{kind}")}
        copied = sum(self._bytes.get(name, 0) for name in done)
        return Count(copied, sum(self._bytes.values()), "byte")


def copy_once(entry: ShardFile, task: CopyTask) -> dict[str, int]:
    """Copies a file, unless a killed job, a `reweigh` or a `pack`, has already written it.

    Raises:
        FormatError: the file is damaged.
    """
    shards, out = Folder(task.shards), Folder(task.out)
    if out.exists(_summary_name(entry)):
        return {}
    split = entry["path"].partition("/")[0]
    check = partial(check_windows, manifest=task.manifest, split=split) if split in SPLITS else None
    weights = (task.before, task.after) if split == TRAIN else ((), ())
    written = copy_file(entry, shards, out, *weights, check)
    write_json(out, _summary_name(entry), written)
    return {"bytes": entry["bytes"]}


def _summary_name(entry: ShardFile) -> str:
    return f"{JOB}/{entry['path']}.json"


def _copied(out: Folder, entries: Sequence[ShardFile]) -> list[ShardFile]:
    """The descriptions of copies, from their summaries."""
    entry_of = {_summary_name(entry): entry for entry in entries}
    found = out.for_all(entry_of, lambda name: read_json(out, name, entry_of[name]))
    return cast("list[ShardFile]", found)
