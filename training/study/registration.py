"""What is registered before the first step, so that nobody can change it after seeing results."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from ...schemas.disk import written_whole
from ...schemas.errors import FormatError, UsageError
from ...schemas.json_text import parse_json
from ...schemas.regular import read_regular
from .config import Study
from .places import REGISTERED

__all__ = ["changed_since", "check_registered", "register"]

FORMAT = "exactcpt study registration"
FORMAT_VERSION = 1
NAMES = ("name", "makes", "endpoint")
"""What a table of a list is called by, in words for a person."""

Record = dict[str, Any]


def register(study: Study, file: Path, folder: Path) -> Record:
    """Registers a study in its folder, or checks that it is the one that is registered there.

    Args:
        study: what is registered.
        file: that it was read from.
        folder: of the study.

    Returns:
        What is registered; the date is that of the first time.

    Raises:
        UsageError: another study is registered there; the error says what has changed.
        FormatError: the record is damaged.
    """
    found = check_registered(study, folder)
    if found is not None:
        return found
    record: Record = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "sha256": hashlib.sha256(read_regular(file)).hexdigest(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {"exactcpt": version("exactcpt")},
        "registered": _as_json(study.registered),
        "free": _as_json(study.free),
    }
    with written_whole(folder / REGISTERED) as scratch:
        scratch.write_text(json.dumps(record, indent=2) + "\n")
    return record


def check_registered(study: Study, folder: Path) -> Record | None:
    """What is registered in a folder, if it is this study; None if nothing is.

    Raises:
        UsageError, FormatError: as `register`.
    """
    path = folder / REGISTERED
    try:
        record = parse_json(read_regular(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(record, dict):
        raise _damaged(path, "it is not an object")
    held = cast(Record, record)
    if held.get("format") != FORMAT or not isinstance(held.get("registered"), dict):
        raise _damaged(path, f"its format is {held.get('format')!r}")
    before, now = (dict(_flat(each)) for each in (held["registered"], _as_json(study.registered)))
    changed = [
        f"{name}: {_shown(before, name)} before, {_shown(now, name)} now"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise UsageError(
            "the study differs from what was registered before its first step:\n    "
            + "\n    ".join(changed),
            where=str(path),
            expected="the same arms, seeds, base, stages, commands and primary endpoints, measured "
            "with the same items",
            fix="restore them in the file, or begin another study with another --out",
        )
    return held


def changed_since(study: Study, record: Mapping[str, Any]) -> list[str]:
    """The sections that have changed since the registration, among those that may."""
    now = _as_json(study.free)
    return [name for name in now if record.get("free", {}).get(name) != now[name]]


def _as_json(values: Any) -> Any:
    """Values of TOML as JSON has them."""
    return json.loads(json.dumps(values, default=str))


def _damaged(path: Path, what: str) -> FormatError:
    return FormatError(
        f"the registration of the study cannot be read: {what}",
        where=str(path),
        fix="restore the file: without it nobody can tell what was planned before",
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of nested tables, by dotted names."""
    if isinstance(value, Mapping) and value:
        for key, each in cast(Record, value).items():
            yield from _flat(each, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, each in enumerate(cast("list[Record]", value), 1):
            called = next((str(each[key]) for key in NAMES if key in each), "")
            yield from _flat(each, f"{name}[{number}{' ' + called if called else ''}]")
    else:
        yield name, value


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "nothing"
