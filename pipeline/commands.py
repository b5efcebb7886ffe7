"""What the commands do: a configuration out of flags and file, then the jobs, then a summary."""

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
import xxhash

from ..schemas.errors import UsageError
from ..schemas.manifest import MANIFEST, SHARD_SET, Manifest, parse
from .config import (
    RUN_SETTINGS,
    SETTINGS,
    PackConfig,
    SourceConfig,
    TokenizeConfig,
    parse_mixing,
    parse_source,
    read_settings,
)
from .job import locked
from .pack_job import pack
from .places import refuse_inside_sources, refuse_one_inside_another
from .prepare_job import PrepareJob
from .probe import Estimate, require_space
from .progress import Console
from .runner import RunSettings
from .storage import Folder
from .summary import estimate_table, shard_tables, store_tables, summary_of
from .tokenize_job import TokenizePlan, estimate_job, plan_tokenize, tokenize

__all__ = ["run_pack", "run_prepare", "run_tokenize", "run_verify"]


class _Invocation:
    """The settings of one call: the file's, overridden by flags."""

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self.flags = flags
        file = read_settings(flags["config"]) if flags["config"] else {}
        given = {name: value for name, value in flags.items() if value not in (None, ())}
        self.values: dict[str, Any] = {**file, **given}
        self.sources = [parse_source(text) for text in flags.get("sources") or ()] or [
            SourceConfig(**table) for table in file.get("source", [])
        ]
        self.console = Console(quiet=flags["quiet"])
        self.began = time.monotonic()

    def folder(self, name: str) -> Folder:
        """A folder that must have been named."""
        if not self.values.get(name):
            raise UsageError(f"--{name} is missing", expected=f"--{name} DIR")
        return Folder(str(self.values[name]).rstrip("/"))

    def tokenize_config(self) -> TokenizeConfig:
        """The configuration of tokenization."""
        if not self.values.get("tokenizer"):
            raise UsageError(
                "--tokenizer is missing", expected="--tokenizer PATH of a tokenizer.json"
            )
        return TokenizeConfig(sources=tuple(self.sources), **self._chosen(TokenizeConfig))

    def pack_config(self) -> PackConfig:
        """The configuration of packing."""
        mixing = {s.name: s.mixing for s in self.sources if s.is_mixed}
        mixing |= parse_mixing(self.values.get("epochs", ()), self.values.get("share", ()))
        return PackConfig(mixing=mixing, **self._chosen(PackConfig))

    def run_settings(self) -> RunSettings:
        """Where graphs run."""
        beam_args = tuple(self.values.get("beam_args", ()))
        if beam_args and not beam_args[0].startswith("-"):
            raise UsageError(
                f"unexpected argument {beam_args[0]!r}", fix="Beam's own options come after --"
            )
        return RunSettings(
            runner=self.values.get("runner", "embedded"),
            workers=self.values.get("workers") or len(os.sched_getaffinity(0)),
            worker_type=self.values.get("worker_type", "threads"),
            beam_args=beam_args,
        )

    def _chosen(self, config: type) -> dict[str, Any]:
        fields = config.__dataclass_fields__
        return {n: v for n, v in self.values.items() if n in SETTINGS and n in fields}

    def print_config(self, *configs: Any) -> bool:
        """Prints the effective configuration, if that is what was asked for."""
        if not self.flags["print_config"]:
            return False
        import tomli_w

        settings: dict[str, Any] = {
            name: self.values[name] for name in RUN_SETTINGS if self.values.get(name) is not None
        }
        for config in configs:
            settings |= {n: v for n, v in asdict(config).items() if n in SETTINGS and v is not None}
        tables = [{k: v for k, v in asdict(s).items() if v is not None} for s in self.sources]
        click.echo(tomli_w.dumps({**settings, **({"source": tables} if tables else {})}), nl=False)
        return True

    def report(self, manifest: Manifest, out: Folder, *, already: bool) -> None:
        """The summary, on stderr for a person or on stdout for a program."""
        if already:
            self.console.say(f"{out.url} was finished before, with the same settings and inputs")
        tables = (
            shard_tables(manifest) if manifest["format"] == SHARD_SET else store_tables(manifest)
        )
        self.console.show(tables)
        for warning in manifest.get("warnings", []):
            self.console.warn(warning)
        seconds = time.monotonic() - self.began
        if not already:
            self.console.say(f"{out.url} is complete, after {seconds:.1f} s")
        if self.flags["as_json"]:
            found = summary_of(manifest, out=out.url, already=already, seconds=seconds)
            click.echo(json.dumps(found, ensure_ascii=False))


def _import_beam_meanwhile() -> None:
    """Importing Beam takes longer than looking at the inputs: both at once."""
    threading.Thread(
        name="exactcpt-import", target=importlib.import_module, args=("apache_beam",), daemon=True
    ).start()


def run_prepare(flags: Mapping[str, Any]) -> None:
    """Tokenizes and packs."""
    call = _Invocation(flags)
    config, packing, settings = call.tokenize_config(), call.pack_config(), call.run_settings()
    if call.print_config(config, packing):
        return
    out = call.folder("out")
    store = Folder(call.values.get("store") or f"{out.url}.store")
    settings.refuse_unreachable([*(s.pattern for s in config.sources), store.url, out.url])
    refuse_one_inside_another(store=store, out=out)
    refuse_inside_sources(config.sources, [store, out])
    _import_beam_meanwhile()
    job = PrepareJob(plan=plan_tokenize(config), packing=packing, store=store, out=out)
    manifest = None if flags["overwrite"] else job.finished()
    already = manifest is not None
    if manifest is None:
        found, probes = _estimate(call, job.plan, packing)
        if flags["dry_run"]:
            return
        require_space({store: found.store_bytes, out: found.shard_bytes})
        manifest, already = job.run(
            settings, call.console, overwrite=flags["overwrite"], probes=probes
        )
    if flags["discard_store"]:
        job.discard_store()
    call.report(manifest, out, already=already)


def _estimate(
    call: _Invocation, plan: TokenizePlan, packing: PackConfig | None
) -> tuple[Estimate, Any]:
    found, probes = estimate_job(plan, packing)
    say = call.console.say
    say(
        f"documents end with {plan.eos_token!r} (id {plan.eos_id})"
        + ("" if plan.bos_id is None else f" and begin with id {plan.bos_id}")
    )
    for warning in plan.warnings:
        call.console.warn(warning)
    call.console.show([estimate_table(found)])
    if call.flags["dry_run"] and call.flags["as_json"]:
        click.echo(json.dumps({"status": "estimated", **asdict(found)}))
    return found, probes


def run_tokenize(flags: Mapping[str, Any]) -> None:
    """Tokenizes."""
    call = _Invocation(flags)
    config, settings = call.tokenize_config(), call.run_settings()
    if call.print_config(config):
        return
    store = call.folder("out")
    settings.refuse_unreachable([*(s.pattern for s in config.sources), store.url])
    refuse_inside_sources(config.sources, [store])
    if any(s.is_mixed for s in config.sources):
        call.console.say("epochs and shares count when packing: exactcpt pack --epochs NAME=X")
    _import_beam_meanwhile()
    plan = plan_tokenize(config)
    found, probes = _estimate(call, plan, None)
    if flags["dry_run"]:
        return
    require_space({store: found.store_bytes})
    manifest, already = tokenize(
        plan, store, settings, call.console, overwrite=flags["overwrite"], probes=probes
    )
    call.report(manifest, store, already=already)


def run_pack(flags: Mapping[str, Any]) -> None:
    """Packs."""
    call = _Invocation(flags)
    config, settings = call.pack_config(), call.run_settings()
    if call.print_config(config):
        return
    store, out = Folder(flags["store"].rstrip("/")), call.folder("out")
    settings.refuse_unreachable([store.url, out.url])
    refuse_one_inside_another(store=store, out=out)
    with locked(out):
        manifest, already = pack(
            config, store, out, settings, call.console, overwrite=flags["overwrite"]
        )
    call.report(manifest, out, already=already)


def run_verify(shards: str, store: str | None, *, as_json: bool, quiet: bool) -> None:
    """Verifies a shard set."""
    from .verify import verify

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
