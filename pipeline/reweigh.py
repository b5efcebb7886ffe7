"""The job `reweigh`: a shard set in, the same windows with other weights out.

Weights are a few bytes of each shard, its dictionary. So files are copied, no token is decoded, and
every file of the result, the manifest included, is what `pack` would write with those settings.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

import click

from ..schemas.errors import FormatError, UsageError
from ..schemas.manifest import MANIFEST, SHARD_SET, Manifest, ShardFile, dump, parse
from ..schemas.shard import SPLITS, TRAIN
from ..schemas.weights import dump_table, parse_table
from .config import PackConfig
from .exact import Exact, WeightTable, given_table, weight_table
from .job import JOB, State, begin, locked
from .pack_job import OWNED, warnings_of
from .places import file_to_write, refuse_one_inside_another
from .probe import require_space
from .progress import Console, Count, Progress
from .recognize import open_shard_set
from .reweigh_units import can_clone, copy_file
from .shard_set import check_size
from .storage import Folder, open_input
from .summary import summary_of
from .summary import weight_table as table_of

__all__ = ["Change", "reweigh", "reweighed", "run_reweigh", "settings_with", "table_for"]

PARAMETERS = ("alpha", "gamma", "epsilon", "max_weight")
TOKENIZER = "tokenizer.json"
Change = Mapping[str, Any]
"""New values for some of tau, alpha, gamma, epsilon and max_weight; or for tau and `table`, a
weight a bucket. What is not named stays as it is in the set."""


def reweighed(manifest: Manifest, change: Change) -> Manifest:
    """The manifest with other weights; the checksums of training shards are still the old ones.

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


def settings_with(old: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """A shard set's settings with other weights; what a given table lacks has its default.

    Raises:
        UsageError: a parameter is out of its range.
    """
    tau = old["tau"] if change.get("tau") is None else change["tau"]
    if "table" in change or ("table" in old and not any(name in change for name in PARAMETERS)):
        PackConfig(window=old["window"], tau=tau)
        given = {"table": list(change.get("table", old.get("table")))}
        return {**old, "tau": tau, **dict.fromkeys(PARAMETERS), **given}
    kept = {} if "table" in old else {name: old[name] for name in PARAMETERS}
    asked = {name: change[name] for name in PARAMETERS if name in change}
    config = PackConfig(window=old["window"], tau=tau, **{**kept, **asked})
    plain = {name: value for name, value in old.items() if name != "table"}
    return {**plain, "tau": tau, **{name: getattr(config, name) for name in PARAMETERS}}


def table_for(counts: Sequence[int], settings: Mapping[str, Any]) -> WeightTable:
    """The weight table of a histogram under a shard set's settings."""
    window, tau = settings["window"], settings["tau"]
    if "table" in settings:
        return given_table(counts, window, tau, settings["table"])
    exact = Exact(tau=tau, **{name: settings[name] for name in PARAMETERS})
    return weight_table(counts, window, exact)


def reweigh(
    change: Change, shards: Folder, out: Folder, console: Console, *, overwrite: bool
) -> tuple[Manifest, bool]:
    """Runs the job.

    Args:
        change: what the weights are to be.
        shards: a finished shard set.
        out: where the other one is written.
        console: for messages and progress.
        overwrite: whether a shard set of other settings is replaced.

    Returns:
        The new set's manifest, and whether an equal job had finished before.

    Raises:
        UsageError: one folder is in the other; a parameter is out of its range; `out` holds
            something else; `shards` is no shard set.
        IncompleteError: `shards` is not finished.
        FormatError: a file of `shards` is damaged.
    """
    refuse_one_inside_another(shards=shards, out=out)
    old = open_shard_set(shards)
    new = reweighed(old, change)
    _check_files(old, shards)
    state = State(
        settings=new["settings"], inputs={"token store": old["store"]["manifest_xxh3_128"]}
    )
    with locked(out):
        if begin(out, state, OWNED, overwrite=overwrite):
            return parse(out.read(MANIFEST), out.url_of(MANIFEST), SHARD_SET), True
        if not can_clone(shards, out):
            require_space({out: sum(entry["bytes"] for entry in _files(old))})
        _write_tokenizer(old, shards, out)
        shards_of, documents = _copy_all(old, new, shards, out, console)
        finished = {**new, "shards": shards_of, "documents": documents}
        out.write(MANIFEST, dump(finished))
        for name in out.names(JOB):
            if name not in (f"{JOB}/state.json", f"{JOB}/lock"):
                out.remove(name)
    return finished, False


def _files(manifest: Manifest) -> list[ShardFile]:
    return [f for split in SPLITS for f in manifest["shards"][split]] + manifest["documents"]


def _check_files(manifest: Manifest, shards: Folder) -> None:
    """That every file is inside the set and has its size; checksums are taken while copying."""
    for entry in _files(manifest):
        path = PurePosixPath(entry["path"])
        if path.parts[0] not in OWNED or ".." in path.parts:
            raise FormatError(
                f"the manifest names a file {entry['path']}",
                where=shards.url_of(MANIFEST),
                expected=f"a path below {', '.join(OWNED[1:])}",
            )
        check_size(shards, entry)


def _write_tokenizer(manifest: Manifest, shards: Folder, out: Folder) -> None:
    data = shards.read(TOKENIZER)
    found, expected = hashlib.sha256(data).hexdigest(), manifest["tokenizer"]["sha256"]
    if found != expected:
        raise FormatError(
            "the shard set's tokenizer is another one",
            where=shards.url_of(TOKENIZER),
            expected=f"sha256 {expected}, not {found}",
        )
    out.write(TOKENIZER, data)


def _copy_all(
    old: Manifest, new: Manifest, shards: Folder, out: Folder, console: Console
) -> tuple[dict[str, list[ShardFile]], list[ShardFile]]:
    """Copies what is not there yet; returns the new manifest's `shards` and `documents`."""
    weights = [[row["weight"] for row in m["weights"]["table"]] for m in (old, new)]
    files = _files(old)
    done = tokens = 0

    def look() -> Count:
        return Count("files", done, len(files), tokens)

    with Progress(console, "reweigh", look) as progress:

        def copy(entry: ShardFile, before: Sequence[float], after: Sequence[float]) -> ShardFile:
            nonlocal done, tokens
            written = _copy_once(entry, shards, out, before, after)
            done += 1
            tokens += entry.get("windows", 0) * old["settings"]["window"]
            progress.poll()
            return written

        copied = {
            split: [
                copy(entry, *(weights if split == TRAIN else ((), ())))
                for entry in old["shards"][split]
            ]
            for split in SPLITS
        }
        return copied, [copy(entry, (), ()) for entry in old["documents"]]


def _copy_once(
    entry: ShardFile, shards: Folder, out: Folder, before: Sequence[float], after: Sequence[float]
) -> ShardFile:
    """Copies a file unless a job that was killed has; what pack left to go on counts as well."""
    summary = f"{JOB}/{entry['path']}.json"
    if out.exists(summary):
        return json.loads(out.read(summary))
    written = copy_file(entry, shards, out, before, after)
    out.write(summary, json.dumps(written).encode())
    return written


def run_reweigh(flags: Mapping[str, Any]) -> None:
    """The command: writes a shard set, or with `--table-only` its weight table."""
    began = time.monotonic()
    console = Console(quiet=flags["quiet"])
    shards = Folder(flags["shards"].rstrip("/"))
    change = _change(flags, shards)
    if flags["table_only"]:
        _write_table(reweighed(open_shard_set(shards), change), flags, console)
        return
    if not flags["out"]:
        raise UsageError("--out is missing", expected="--out DIR")
    out = Folder(flags["out"].rstrip("/"))
    manifest, already = reweigh(change, shards, out, console, overwrite=flags["overwrite"])
    seconds = time.monotonic() - began
    console.rich.print(table_of(manifest["weights"]))
    for warning in manifest["warnings"]:
        console.warn(warning)
    console.say(
        f"{out.url} was finished before, with the same settings and inputs"
        if already
        else f"{out.url} is complete, after {seconds:.1f} s"
    )
    if flags["as_json"]:
        found = summary_of(manifest, out=out.url, already=already, seconds=seconds)
        click.echo(json.dumps(found, ensure_ascii=False))


def _change(flags: Mapping[str, Any], shards: Folder) -> Change:
    asked = {name: flags[name] for name in ("tau", *PARAMETERS) if flags[name] is not None}
    if asked.get("max_weight") == math.inf:
        asked["max_weight"] = None
    if flags["table"] is None:
        return asked
    formula = [name for name in PARAMETERS if name in asked]
    if formula:
        raise UsageError(
            f"--table and --{formula[0].replace('_', '-')}",
            expected="weights from a table, or from the formula",
        )
    if flags["table_only"]:
        raise UsageError("--table and --table-only", fix="the table is there already")
    window = open_shard_set(shards)["settings"]["window"]
    try:
        with open_input(flags["table"]) as file:
            data = file.read()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(
            f"--table cannot be read: {error.strerror or error}",
            where=flags["table"],
            expected="a file that `exactcpt reweigh --table-only` has written",
        ) from None
    return {**asked, "table": parse_table(data, flags["table"], window)}


def _write_table(manifest: Manifest, flags: Mapping[str, Any], console: Console) -> None:
    """Writes the weight table to the file asked for, or to stdout."""
    settings = manifest["settings"]
    weights = [row["weight"] for row in manifest["weights"]["table"]]
    data = dump_table(settings["window"], weights, None if "table" in settings else settings)
    for warning in manifest["warnings"]:
        console.warn(warning)
    if not flags["out"]:
        click.echo(data.decode(), nl=False)
        return
    folder, name = file_to_write("--out", flags["out"])
    if folder.exists(name) and not flags["overwrite"] and folder.read(name) != data:
        raise UsageError(
            "this file holds something else", where=flags["out"], fix="replace it with --overwrite"
        )
    folder.write(name, data)
    console.say(f"{flags['out']} has the weights of {len(weights)} buckets")
