"""The command `verify`."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...schemas.manifest import MANIFEST
from ...schemas.sizes import plural
from ...schemas.terminal import echo_json
from ..beam.runner import RunSettings
from ..files.storage import Folder
from ..job.progress import Count, Progress
from ..job.threads import in_order
from ..shard_set.beside import store_beside, store_place
from ..terminal import Console
from .invocation import Invocation, folder_at

if TYPE_CHECKING:
    from ..verify.report import Report
    from ..verify.units import Found, Inputs, Unit

__all__ = ["run_verify"]


def run_verify(flags: Mapping[str, Any]) -> None:
    """Verifies a shard set; ends the program with code 1 if it is wrong anywhere."""
    call = Invocation(flags)
    shards = folder_at(flags["shards"])
    store = flags["store"]
    if store is None:
        store = _store_to_compare_with(shards, call.console)
    report = _verified(shards, store, call.run_settings(), call.console)
    if flags["as_json"]:
        echo_json(json.dumps(asdict(report) | {"ok": report.ok}))
    _print_report(call.console, report)
    if not report.ok:
        sys.exit(1)


def _verified(
    shards: Folder, store: str | None, settings: RunSettings, console: Console
) -> "Report":
    """Verifies, and shows how far it is, in bytes: a store and a set are read in full."""
    if not (settings.is_embedded and settings.worker_type == "threads"):
        from .verify_elsewhere import verify_elsewhere

        settings.refuse_unreachable([shards.url, *([] if store is None else [store])])
        return verify_elsewhere(shards, store, settings, console)
    from ..verify import verify

    at = Count(0, None, "byte")

    def note(done: int, total: int) -> None:
        nonlocal at
        at = Count(done, total, "byte")
        progress.poll()

    def do(inputs: "Inputs", units: Sequence["Unit"]) -> "Iterator[Found]":
        return in_order(inputs.do, units, settings.workers, progress.poll)

    with Progress(console, "verify", lambda: at) as progress:
        return verify(shards.url, store, progress=note, do=do)


def _store_to_compare_with(shards: Folder, console: Console) -> str | None:
    """The token store beside the shards; says so if a store is there that is not theirs."""
    if (store := store_beside(shards)) is not None:
        return store.url
    other = store_place(shards)
    if shards.exists(MANIFEST) and other.exists(MANIFEST):
        console.say(f"not compared with {other.url}: it is the store of other shards")
    return None


def _print_report(console: Console, report: "Report") -> None:
    for check in report.checks:
        mark = f"{check.problems:,} wrong" if check.problems else "ok"
        console.say(f"  {check.name:<12} {mark:<10} {check.checked}")
    for finding in report.findings:
        expected = f" (expected {finding.expected})" if finding.expected else ""
        console.say(f"{finding.check}: {finding.where}: {finding.found}{expected}")
    total = sum(check.problems for check in report.checks)
    console.say("everything agrees" if report.ok else plural(total, "problem"))
