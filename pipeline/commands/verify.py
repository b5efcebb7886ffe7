"""The command `verify`."""

import json
import sys
from dataclasses import asdict
from typing import Any

import click
import xxhash

from ...schemas.manifest import MANIFEST, SHARD_SET, parse
from ..files.storage import Folder
from ..terminal import Console

__all__ = ["run_verify"]


def run_verify(shards: str, store: str | None, *, as_json: bool, quiet: bool) -> None:
    """Verifies a shard set."""
    from ..verify import verify

    url = shards.rstrip("/")
    beside = f"{url}.store"
    console = Console(quiet=quiet)
    if store is None and Folder(beside).exists(MANIFEST):
        if _is_store_of(Folder(beside), Folder(url)):
            store = beside
        else:
            console.say(f"not compared with {beside}: it is the store of other shards")
    report = verify(url, store)
    if as_json:
        click.echo(json.dumps(asdict(report) | {"ok": report.ok}))
    _print_report(console, report)
    if not report.ok:
        sys.exit(1)


def _is_store_of(store: Folder, shards: Folder) -> bool:
    if not shards.exists(MANIFEST):
        return True
    manifest = parse(shards.read(MANIFEST), shards.url_of(MANIFEST), SHARD_SET)
    digest = xxhash.xxh3_128_hexdigest(store.read(MANIFEST))
    return manifest["store"]["manifest_xxh3_128"] == digest


def _print_report(console: Console, report: Any) -> None:
    for check in report.checks:
        problems = check.problems
        mark = "ok" if not problems else f"{problems:,} wrong"
        console.say(f"  {check.name:<12} {mark:<10} {check.checked}")
    for finding in report.findings:
        expected = f" (expected {finding.expected})" if finding.expected else ""
        console.say(f"{finding.check}: {finding.where}: {finding.found}{expected}")
    total = sum(check.problems for check in report.checks)
    console.say("everything agrees" if report.ok else f"{total:,} problems")
