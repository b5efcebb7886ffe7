"""What the commands have in common: settings, folders, console, summary.

flags ──┐
        ├── Invocation ── configurations, folders ── the command's job ── report
file ───┘
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ...schemas.cores import usable_cores
from ...schemas.errors import UsageError
from ...schemas.hub import origin_of
from ...schemas.terminal import echo_json, echo_toml
from ..beam.runner import RunSettings
from ..config import (
    SETTINGS,
    PackConfig,
    RunOptions,
    TokenizeConfig,
    parse_mixing,
    parse_source,
    read_settings,
    source_of_table,
)
from ..files.storage import Folder
from ..job.folder import Finished
from ..sources.records import skippable
from ..terminal import Console
from ..tokens.estimate import Estimate, estimate_job
from ..tokens.plan import TokenizePlan, plan_tokenize
from .summary import estimate_table, summary_of

__all__ = ["Invocation", "folder_at", "no_tokenizer", "planned", "show_estimate"]


def folder_at(path: str) -> Folder:
    """The folder at a path or URL from the command line."""
    return Folder(path.rstrip("/") or path[:1])


def no_tokenizer() -> UsageError:
    """The error if no tokenizer is given."""
    return UsageError(
        "--tokenizer is missing",
        expected="a tokenizer.json, its folder, or OWNER/NAME of the Hugging Face hub",
    )


class Invocation:
    """One call of a command.

    Attributes:
        flags: as click parsed them; None or empty where a flag was not given.
        values: the settings of the file, overridden by flags.
        sources: those of the flags, else those of the file.
        console: for messages to a person.
    """

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self.flags = flags
        file = read_settings(flags["config"]) if flags.get("config") else {}
        given = {name: value for name, value in flags.items() if value not in (None, ())}
        self.values: dict[str, Any] = {**file, **given}
        self.sources = [parse_source(text) for text in flags.get("sources") or ()] or [
            source_of_table(table) for table in file.get("source", [])
        ]
        self.console = Console(quiet=flags["quiet"])
        self._began = time.monotonic()

    @property
    def out(self) -> Folder:
        """The folder that the command writes.

        Raises:
            UsageError: none is given.
        """
        if not self.values.get("out"):
            raise UsageError("--out is missing", expected="--out DIR")
        return folder_at(self.values["out"])

    def tokenize_config(self) -> TokenizeConfig:
        """The configuration of tokenization.

        Raises:
            UsageError: there is no tokenizer or no source, or a value is out of its range.
        """
        if not self.values.get("tokenizer"):
            raise no_tokenizer()
        return TokenizeConfig(sources=tuple(self.sources), **self._chosen(TokenizeConfig))

    def pack_config(self) -> PackConfig:
        """The configuration of packing.

        Raises:
            UsageError: a value is out of its range.
        """
        mixing = {s.name: s.mixing for s in self.sources if s.is_mixed}
        mixing |= parse_mixing(self.values.get("epochs", ()), self.values.get("share", ()))
        return PackConfig(mixing=mixing, **self._chosen(PackConfig))

    def run_settings(self) -> RunSettings:
        """Where graphs run.

        Raises:
            UsageError: an argument is left over that is not an option of Beam.
        """
        beam_args = tuple(self.values.get("beam_args", ()))
        if beam_args and not beam_args[0].startswith("-"):
            raise UsageError(
                f"unexpected argument {beam_args[0]!r}", fix="Beam's own options come after --"
            )
        return RunSettings(
            runner=self.values.get("runner", "embedded"),
            workers=self.values.get("workers") or usable_cores(),
            worker_type=self.values.get("worker_type", "threads"),
            beam_args=beam_args,
        )

    def _chosen(self, config: type) -> dict[str, Any]:
        fields = config.__dataclass_fields__
        return {n: v for n, v in self.values.items() if n in SETTINGS and n in fields}

    def print_config(self, *configs: Any) -> bool:
        """Prints the effective configuration if --print-config is given; returns whether it is."""
        if not self.flags["print_config"]:
            return False
        import tomli_w

        settings: dict[str, Any] = {
            name: self.values[name]
            for name in RunOptions.__annotations__
            if self.values.get(name) is not None
        }
        for config in configs:
            settings |= {n: v for n, v in asdict(config).items() if n in SETTINGS and v is not None}
        tables = [{k: v for k, v in asdict(s).items() if v is not None} for s in self.sources]
        echo_toml(tomli_w.dumps({**settings, **({"source": tables} if tables else {})}))
        return True

    def report(self, finished: Finished, out: Folder, tables: Iterable[Any]) -> None:
        """Prints the summary of a job: for a person on stderr, and with --json on stdout.

        Args:
            finished: what the job wrote.
            out: where it wrote it.
            tables: what a person is shown of it.
        """
        if finished.before:
            self.console.say(f"{out.url} was finished before, with the same settings and inputs")
        self.console.show(tables)
        for warning in finished.manifest["warnings"]:
            self.console.warn(warning)
        seconds = time.monotonic() - self._began
        if not finished.before:
            self.console.say(f"{out.url} is complete after {seconds:.1f} s")
        if self.flags["as_json"]:
            found = summary_of(finished, out=out.url, seconds=seconds)
            echo_json(json.dumps(found, ensure_ascii=False))


def planned(call: Invocation, config: TokenizeConfig) -> TokenizePlan:
    """The plan of tokenization; a large tokenizer takes a second to read."""
    with call.console.doing("reading the tokenizer"):
        return plan_tokenize(config)


def show_estimate(
    call: Invocation, plan: TokenizePlan, packing: PackConfig | None
) -> tuple[Estimate, Any]:
    """Prints what a job will write, estimated from the beginning of every source.

    Args:
        call: the command.
        plan: of tokenization.
        packing: None if the token store is not packed.

    Returns:
        The estimate, and what was read of each source.
    """
    with skippable(), call.console.doing("reading the beginning of each source"):
        found, probes = estimate_job(plan, packing)
    say = call.console.say
    if (origin := origin_of(plan.tokenizer.where)) is not None:
        say(f"the tokenizer is that of {origin}")
    say(
        f"documents end with {plan.eos_token!r} (id {plan.eos_id})"
        + ("" if plan.bos_id is None else f" and begin with id {plan.bos_id}")
    )
    for warning in plan.warnings:
        call.console.warn(warning)
    call.console.show([estimate_table(found)])
    if call.flags["dry_run"] and call.flags["as_json"]:
        echo_json(json.dumps({"status": "estimated", **asdict(found)}))
    return found, probes
