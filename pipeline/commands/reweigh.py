"""The command `reweigh`."""

import math
from collections.abc import Mapping
from typing import Any

from ...schemas.errors import FormatError, UsageError
from ...schemas.manifest import Manifest
from ...schemas.settings import flag_of
from ...schemas.sizes import plural
from ...schemas.terminal import echo_json
from ...schemas.weights import dump_table, parse_table
from ..core.parameters import FORMULA, PARAMETERS
from ..files.storage import Folder, open_input
from ..job.places import file_to_write
from ..pack.reweigh import reweigh, reweighed
from ..pack.settings import Change
from ..shard_set.counts import check_counts
from ..shard_set.recognize import open_shard_set
from .invocation import Invocation, folder_at
from .summary import histogram_table

__all__ = ["run_reweigh"]


def run_reweigh(flags: Mapping[str, Any]) -> None:
    """Writes a shard set with other weights, or with --table-only its weight table."""
    call = Invocation(flags)
    settings, shards = call.run_settings(), folder_at(flags["shards"])
    change = _change(flags, shards)
    if flags["table_only"]:
        manifest = open_shard_set(shards)
        check_counts(shards, manifest)
        _write_table(reweighed(manifest, change), call)
        return
    out = call.out
    settings.refuse_unreachable([shards.url, out.url])
    finished = reweigh(change, shards, out, settings, call.console, overwrite=flags["overwrite"])
    call.report(finished, out, [histogram_table(finished.manifest["weights"])])


def _change(flags: Mapping[str, Any], shards: Folder) -> Change:
    """The new values that the flags ask for."""
    asked = {name: flags[name] for name in PARAMETERS if flags[name] is not None}
    if asked.get("max_weight") == math.inf:
        asked["max_weight"] = None
    if flags["table"] is None:
        return asked
    formula = [name for name in FORMULA if name in asked]
    if formula:
        raise UsageError(
            f"both --table and {flag_of(formula[0])} are given",
            expected="weights from a table, or from the formula",
        )
    if flags["table_only"]:
        raise UsageError(
            "both --table and --table-only are given", fix="leave one out: the table already exists"
        )
    window = open_shard_set(shards)["settings"]["window"]
    return {**asked, "table": _read_table(flags["table"], window)}


def _read_table(path: str, window: int) -> list[float]:
    """The weights in a table for windows of this length, one per bucket."""
    try:
        with open_input(path) as file:
            data = file.read()
    except (FileNotFoundError, FormatError) as error:
        what = error.found if isinstance(error, FormatError) else error.strerror or error
        raise UsageError(
            f"--table cannot be read: {what}",
            where=path,
            expected="a file that `exactcpt reweigh --table-only` has written",
        ) from None
    return parse_table(data, path, window)


def _write_table(manifest: Manifest, call: Invocation) -> None:
    """Writes the weight table to the file --out, or to stdout."""
    settings = manifest["settings"]
    weights = [row["weight"] for row in manifest["weights"]["table"]]
    data = dump_table(settings["window"], weights, None if "table" in settings else settings)
    for warning in manifest["warnings"]:
        call.console.warn(warning)
    path = call.flags["out"]
    if not path:
        echo_json(data.decode(), nl=False)
        return
    folder, name = file_to_write("--out", path)
    if folder.exists(name) and not call.flags["overwrite"] and folder.read(name) != data:
        raise UsageError(
            "this file holds something else", where=path, fix="replace it with --overwrite"
        )
    folder.write(name, data)
    call.console.say(f"{path} has the weights of {plural(len(weights), 'bucket')}")
