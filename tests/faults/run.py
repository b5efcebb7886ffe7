"""The fault campaign: every fault of every command, or some of them, as tables and as JSON.

python tests/faults/run.py [--command NAME]... [--sample N] [--kills N] [--json FILE]
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "helpers"))

from campaign import shim
from campaign.commands import COMMANDS
from campaign.disk import Crash
from campaign.faults import FAULTS, Campaign, Outcome
from campaign.kills import Kills, kill_at_random
from campaign.server import Server
from rich.console import Console
from rich.table import Table

WIDTH = 110
"""Columns of the tables: no figure is cut."""
OFTEN = 100
"""Faults after which the campaign says how far it is."""
KILLED: dict[str, tuple[float, tuple[object, ...]]] = {
    "prepare": (0.4, ("--workers", 2)),
    "prepare, processes": (0.1, ("--workers", 2, "--worker-type", "processes")),
    "train": (0.3, ()),
    "reweigh": (0.2, ()),
}
"""The commands that are killed at random moments: their share of the kills, and more flags."""


def main() -> None:
    """Runs the campaign; exits with 1 if it found anything."""
    asked = _asked()
    console = Console(stderr=True, highlight=False)
    if reason := shim.why_not():
        sys.exit(f"the campaign cannot run here: {reason}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="exactcpt-faults-") as folder:
        library = shim.build(Path(folder))
        tasks = [(_faults_of, name, asked.sample) for name in asked.command]
        shares = [(name, round(share * asked.kills)) for name, (share, _) in KILLED.items()]
        tasks += [(_kills_of, name, count) for name, count in shares if count]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            futures = [
                pool.submit(task, name, how_many, library, Path(folder) / str(i), console)
                for i, (task, name, how_many) in enumerate(tasks)
            ]
            found = [future.result() for future in futures]
    outcomes = [each for part in found for each in part if isinstance(each, Outcome)]
    kills = [each for part in found for each in part if isinstance(each, Kills)]
    _print(outcomes, kills)
    seconds = round(time.monotonic() - began)
    print(f"{seconds:,} seconds")  # noqa: T201
    if asked.json:
        _write_json(Path(asked.json), outcomes, kills, seconds)
    sys.exit(1 if any(each.findings for each in (*outcomes, *kills)) else 0)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--command", action="append", choices=COMMANDS, help="default: all")
    parser.add_argument("--sample", type=int, help="faults of each kind; default: all")
    parser.add_argument("--kills", type=int, default=0, help="signals at random moments")
    parser.add_argument("--json", help="file for the results as JSON")
    asked = parser.parse_args()
    asked.command = list(COMMANDS) if asked.command is None else asked.command
    return asked


def _faults_of(
    name: str, sample: int | None, library: Path, work: Path, console: Console
) -> list[Outcome]:
    server = Server(library, COMMANDS[name].half)

    def tell(outcome: Outcome) -> None:
        if outcome.faults % OFTEN == 0 or len(outcome.findings) > told[outcome.fault]:
            _tell(outcome, told[outcome.fault], console)
        told[outcome.fault] = len(outcome.findings)

    told: Counter[str] = Counter()
    try:
        campaign = Campaign(name, COMMANDS[name], server, work, tell=tell)
        found = []
        for fault in FAULTS:
            do = campaign.crash if isinstance(fault, Crash) else campaign.fail
            found.append(do(fault, sample))
            console.print(f"{name}: {fault}: {found[-1].faults} faults")
        return found
    finally:
        server.close()


def _kills_of(name: str, count: int, library: Path, work: Path, console: Console) -> list[Kills]:
    command = COMMANDS[name.partition(",")[0]]
    server = Server(library, command.half)
    try:
        campaign = Campaign(name.partition(",")[0], command, server, work)
        flags = KILLED[name][1]
        found = kill_at_random(campaign, count, flags=flags, workers="processes" in flags)
        console.print(f"{found.name}: {found.count} kills")
        return [found]
    finally:
        server.close()


def _tell(outcome: Outcome, known: int, console: Console) -> None:
    """Says how far the faults are, and what they have found since."""
    name = f"{outcome.command}: {outcome.fault}"
    for finding in outcome.findings[known:]:
        where = f"{name}, at {finding.at} ({finding.operation})"
        console.print(f"{finding.kind}: {where}: {finding.found}", markup=False)
    console.print(f"{name}: {outcome.faults} faults so far, {outcome.reruns} runs again")


def _print(outcomes: Sequence[Outcome], kills: Sequence[Kills]) -> None:
    table = Table("command", "fault", title="Faults at every operation, and the same command again")
    for column in ("operations", "faults", "states", "reruns", "survived", "wrong", "litter"):
        table.add_column(column, justify="right")
    for each in outcomes:
        figures = (
            each.operations, each.faults, each.states, each.reruns, each.survived,
            each.count("wrong"), each.count("litter"),
        )  # fmt: skip
        table.add_row(each.command, each.fault, *(f"{figure:,}" for figure in figures))
    killed = Table("command", "signals", title="Signals at random moments")
    for column in ("jobs", "signals", "orphans", "findings", "seconds"):
        killed.add_column(column, justify="right")
    for each in kills:
        signals = ", ".join(f"{count} {name}" for name, count in sorted(each.signals.items()))
        figures = (each.jobs, each.count, each.orphans, len(each.findings), round(each.seconds))
        killed.add_row(each.name, signals, *(f"{figure:,}" for figure in figures))
    console = Console(highlight=False, width=WIDTH)
    for shown in (table, killed):
        if shown.row_count:
            console.print(shown)
    for each in outcomes:
        for finding in each.findings[:10]:
            where = f"{each.command}, {each.fault}, at {finding.at} ({finding.operation})"
            console.print(f"{finding.kind}: {where}: {finding.found}", markup=False)
    for each in kills:
        for finding in each.findings[:10]:
            console.print(f"{each.name}: {finding}", markup=False)


def _write_json(
    path: Path, outcomes: Sequence[Outcome], kills: Sequence[Kills], seconds: int
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    faults = [
        {
            **asdict(each), "survived": each.survived, "wrong": each.count("wrong"),
            "litter": each.count("litter"),
        }
        for each in outcomes
    ]  # fmt: skip
    found = {"seconds": seconds, "faults": faults, "kills": [asdict(each) for each in kills]}
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
