"""The command `reweigh`."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import click

from ...schemas.errors import UsageError
from ...schemas.manifest import Manifest
from ...schemas.weights import dump_table, parse_table
from ..core.parameters import FORMULA, PARAMETERS
from ..files.storage import Folder, open_input
from ..job.places import file_to_write
from ..pack.reweigh import reweigh, reweighed
from ..pack.settings import Change
from ..shard_set.recognize import open_shard_set
from ..terminal import Console
from .summary import summary_of
from .summary import weight_table as table_of

__all__ = ["run_reweigh"]


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
    finished = reweigh(change, shards, out, console, overwrite=flags["overwrite"])
    manifest, seconds = finished.manifest, time.monotonic() - began
    console.rich.print(table_of(manifest["weights"]))
    for warning in manifest["warnings"]:
        console.warn(warning)
    console.say(
        f"{out.url} was finished before, with the same settings and inputs"
        if finished.before
        else f"{out.url} is complete, after {seconds:.1f} s"
    )
    if flags["as_json"]:
        found = summary_of(finished, out=out.url, seconds=seconds)
        click.echo(json.dumps(found, ensure_ascii=False))


def _change(flags: Mapping[str, Any], shards: Folder) -> Change:
    asked = {name: flags[name] for name in PARAMETERS if flags[name] is not None}
    if asked.get("max_weight") == math.inf:
        asked["max_weight"] = None
    if flags["table"] is None:
        return asked
    formula = [name for name in FORMULA if name in asked]
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
