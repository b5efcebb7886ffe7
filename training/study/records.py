"""How the steps of a study ended, each in a file of its own.

A step is done if its record says so, for the same commands, and what it makes is there. Without a
record its commands are run again; each of them knows itself what is left to do.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...schemas.disk import written_whole
from ...schemas.errors import FormatError
from ...schemas.json_text import parse_json
from ...schemas.regular import read_regular
from .graph import Step
from .places import STEPS

__all__ = ["Record", "Records", "read_record", "write_record"]

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "status": str,
    "reason": (str, type(None)),
    "seconds": (int, float),
    "gain": (int, float, type(None)),
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """How a step ended.

    Attributes:
        status: "done" or "failed".
        reason: the last error of a step that failed.
        seconds: that it took.
        gain: of a base: what its gate looks at, in nats; None for other steps.
        evaluations: names of the folders of the evaluations that it made, of those that gates and
            verdicts look at; None if that was not recorded.
    """

    status: str
    reason: str | None = None
    seconds: float = 0.0
    gain: float | None = None
    evaluations: tuple[str, ...] | None = None

    @property
    def is_done(self) -> bool:
        """Whether the step is done."""
        return self.status == "done"


Records = Mapping[str, Record]
"""Name of a step that has ended -> its record."""


def write_record(folder: Path, step: Step, record: Record) -> None:
    """Writes the record of a step that has ended."""
    text = json.dumps({"step": step.name, "commands": step.commands, **asdict(record)}, indent=2)
    with written_whole(_path(folder, step)) as scratch:
        scratch.write_text(text + "\n")


def read_record(folder: Path, step: Step) -> Record | None:
    """The record of a step, or None if it has not ended, or only with other commands.

    Raises:
        FormatError: the file is damaged.
    """
    path = _path(folder, step)
    try:
        found = parse_json(read_regular(path))
        if [*map(tuple, found["commands"])] != [*step.commands]:
            return None
        evaluations = found.get("evaluations")
        record = Record(
            **{name: _field(found, name) for name in FIELDS},
            evaluations=None if evaluations is None else tuple(map(str, evaluations)),
        )
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(
            f"the record of a step cannot be read: {error}",
            where=str(path),
            fix="remove the file: the commands of the step find out what is left to do",
        ) from None
    return record if not record.is_done or (folder / step.makes).exists() else None


def _field(found: Any, name: str) -> Any:
    if not isinstance(found[name], FIELDS[name]):
        raise ValueError(f"{name} is {found[name]!r}")
    return found[name]


def _path(folder: Path, step: Step) -> Path:
    return folder / STEPS / f"{step.place}.json"
