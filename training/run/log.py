"""What a run reports: JSON lines for programs, a line of text now and then for a person.

`log.jsonl` has one object per line, each with a `kind` and a `step`:

    start        the run starts or continues after the step, with these settings from there on
    step         the figures of the step
    skipped      the step was skipped: a loss or the gradient is not finite
    eval         the losses on an eval set after the step
    checkpoint   the checkpoint of the step is complete, after so many seconds; written when that is
                 noticed
    failure      the checkpoint before that of the step could not be written
    end          the run ended after the step: finished or stopped
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...schemas.disk import written_whole
from ...schemas.errors import FormatError, UsageError
from ...schemas.json_text import parse_json
from ...schemas.pace import Pace
from ...schemas.regular import read_regular
from ...schemas.sealed import AlteredError, read_sealed, sealed
from ...schemas.sizes import plural
from ...schemas.status_line import amount, clock, fitted
from ...schemas.terminal import terminal_width
from .boards import Board

__all__ = [
    "LOG",
    "RUN",
    "Fields",
    "Progress",
    "RunLog",
    "read_log",
    "read_run",
    "require",
    "stretches",
    "write_run",
    "write_whole",
]

LOG = "log.jsonl"
RUN = "run.json"
RUN_FORMAT = "exactcpt run"
RUN_VERSION = 1
LINE_SECONDS = 1.0

Record = dict[str, Any]
Fields = dict[str, type | tuple[type, ...]]

RECORD_FIELDS: Fields = {"kind": str, "step": int}
RUN_FIELDS: Fields = {
    "settings": dict,
    "identity": dict,
    "earlier": (dict, type(None)),
    "model_folder": str,
    "longest_window": int,
    "buckets": list,
}


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file completely or not at all."""
    with written_whole(path) as scratch:
        scratch.write_bytes(data)


def write_run(folder: Path, recorded: Record) -> None:
    """Writes `run.json`, the record of a run, beside its log."""
    run = {"format": RUN_FORMAT, "format_version": RUN_VERSION, **recorded}
    write_whole(folder / RUN, sealed(run))


def read_run(folder: Path) -> Record:
    """Reads the record that `write_run` wrote.

    Raises:
        UsageError: there is no such folder.
        FormatError: the folder is not a run, its format is newer, or the file is damaged.
        OSError: the disk failed.
    """
    if not folder.is_dir():
        raise UsageError(
            "there is no such folder", where=str(folder), expected="the folder of a run"
        )
    try:
        recorded = read_sealed(read_regular(folder / RUN))
    except AlteredError as error:
        raise _damaged(folder / RUN, error) from None
    except (FileNotFoundError, ValueError, FormatError):
        recorded = None
    if not isinstance(recorded, dict) or recorded.get("format") != RUN_FORMAT:
        raise FormatError(
            "this folder is not a run",
            where=str(folder),
            expected=f"a folder with {RUN}, as exactcpt train writes it",
        )
    found = recorded.get("format_version")
    if isinstance(found, int) and found > RUN_VERSION:
        raise FormatError(
            f"the run has format version {found}",
            expected=f"at most {RUN_VERSION}",
            where=str(folder / RUN),
            fix="update exactcpt",
        )
    try:
        require(recorded, RUN_FIELDS)
    except ValueError as error:
        raise _damaged(folder / RUN, error) from None
    return recorded


def _damaged(path: Path, error: ValueError) -> FormatError:
    return FormatError(
        f"{RUN} is damaged: {error}",
        where=str(path),
        fix="restore it; continuing the run writes it again",
    )


def require(recorded: Any, fields: Fields) -> None:
    """Checks that a record has all fields, each of its type.

    Raises:
        ValueError: a field is missing or of another type; the message names it.
    """
    if not isinstance(recorded, dict):
        raise ValueError("it is not an object")
    for name, kind in fields.items():
        if name not in recorded:
            raise ValueError(f"it has no {name}")
        if not isinstance(recorded[name], kind):
            raise ValueError(f"{name} is {json.dumps(recorded[name])[:100]}")


def read_log(run: Path, *, until: int | None = None) -> list[Record]:
    """Reads the records of a run, without a last line that a killed run left unfinished.

    Args:
        run: its folder.
        until: the step of a checkpoint that the run continues from. Lines up to there are on the
            disk before the checkpoint is complete; those after it may be damaged by a power cut,
            and reading ends with the first that is.

    Raises:
        FormatError: another line is not a record.
    """
    try:
        lines = read_regular(run / LOG).split(b"\n")
    except FileNotFoundError:
        return []
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        try:
            record = parse_json(line)
            require(record, RECORD_FIELDS)
        except ValueError as error:
            if number == len(lines) or (until is not None and _reach(records, until)):
                break
            raise FormatError(
                f"a line of the log is damaged: {error}",
                expected="an object with kind and step",
                where=f"{run / LOG}, line {number:,}",
                fix="restore the file, or remove the line",
            ) from None
        records.append(record)
    return records


def _reach(records: Iterable[Record], step: int) -> bool:
    """Whether the records have all steps up to this one."""
    return any(record["kind"] == "step" and record["step"] >= step for record in records)


def stretches(records: Iterable[Record]) -> list[Record]:
    """The settings of a run, and the step after which each of them held.

    Args:
        records: of the run's log; those of the kind `start` count.

    Returns:
        One entry for each start, without those that a later start went back behind: its `settings`,
        and the step `after` which they held.
    """
    found: list[Record] = []
    for record in records:
        if record["kind"] == "start":
            found = [stretch for stretch in found if stretch["after"] < record["step"]]
            found.append({"after": record["step"], "settings": record["settings"]})
    return found


class RunLog:
    """Writes the log, and shows its figures on boards.

    A run that continues from a checkpoint repeats the steps after it: their old lines are removed.

    Args:
        run: the run's folder.
        step: the step of the checkpoint; later records are removed.
        boards: what else takes the figures.

    Attributes:
        others: all records except those of steps, old and new.

    Raises:
        FormatError: a line of the log is damaged.
    """

    def __init__(self, run: Path, *, step: int, boards: Sequence[Board] = ()) -> None:
        found = read_log(run, until=step) if step else []
        kept = [record for record in found if record["step"] <= step]
        self._boards = boards
        self.others = [record for record in kept if record["kind"] != "step"]
        write_whole(run / LOG, "".join(_line(record) for record in kept).encode())
        self._file = (run / LOG).open("a", encoding="utf-8")

    def write(self, kind: str, record: Record) -> None:
        """Appends a record."""
        record = {"kind": kind, **record}
        self._file.write(_line(record))
        self._file.flush()
        if kind != "step":
            self.others.append(record)
        if not self._boards:
            return
        prefix = f"{kind}/{record['name']}" if "name" in record else kind
        figures = {f"{prefix}/{name}": value for name, value in _scalars(record)}
        for board in self._boards if figures else ():
            board.add(figures, record["step"])

    def sync(self) -> None:
        """Waits until all records are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the files; all records are on the disk."""
        self.sync()
        self._file.close()
        for board in self._boards:
            board.close()


def _scalars(record: Record) -> Iterator[tuple[str, float]]:
    """Yields the numbers of a record by name; those by bucket are named NAME/BUCKET."""
    for name, value in record.items():
        values = enumerate(value) if isinstance(value, list) else [(None, value)]
        for bucket, number in values:
            if isinstance(number, int | float) and name != "step":
                yield name if bucket is None else f"{name}/{bucket}", number


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


class Progress:
    """Tells a person how training goes, at most once per second.

    Args:
        say: takes a line.
        steps: of the whole run.
        tokens: of a step, padding included.
    """

    def __init__(self, say: Callable[[str], None], steps: int, tokens: int) -> None:
        self._say, self._steps, self._tokens = say, steps, tokens
        self._said = 0.0
        self._pace = Pace()

    def step(self, record: Record) -> None:
        """Reports a step: as much of it as a line of the terminal holds."""
        now, step = time.monotonic(), record["step"]
        self._pace.note(now, step)
        if now - self._said < LINE_SECONDS and step != self._steps:
            return
        self._said = now
        left = self._pace.left(now, self._steps) if step < self._steps else None
        clipped = " clipped" if record["clipped"] else ""
        done, total = step * self._tokens, self._steps * self._tokens
        self._say(
            fitted(
                [
                    (0, f"step {step:,} of {self._steps:,}"),
                    (1, f"loss {record['loss']:.4f}"),
                    (5, f"unweighted {record['unweighted_loss'] or 0:.4f}"),
                    (4, f"gradient {record['gradient_norm']:.3g}{clipped}"),
                    (6, f"lr {record['learning_rate']:.3g}"),
                    (8, amount(done, total, "token")),
                    (3, f"{record['tokens_per_second']:,.0f} tokens/s"),
                    (9, "" if record["memory"] is None else amount(record["memory"], None, "byte")),
                    (7, "" if record["mfu"] is None else f"MFU {record['mfu']:.1%}"),
                    (2, "" if left is None else f"{clock(left)} left"),
                ],
                terminal_width(),
            )
        )

    def note(self, text: str) -> None:
        """Reports something that is done."""
        self._say(text)

    def warning(self, text: str) -> None:
        """Reports a failure that the run can recover from."""
        self._say(f"warning: {text}")

    def evaluation(self, record: Record) -> None:
        """Reports an evaluation."""
        self._say(
            f"step {record['step']:,}  {record['name']}: loss {record['loss']:.4f}"
            f" over {plural(record['targets'], 'target')}"
        )
