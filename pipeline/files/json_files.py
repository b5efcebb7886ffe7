"""JSON files that jobs write for themselves, read back: a damaged one is a plain error."""

import json
from collections.abc import Iterable
from typing import Any

from ...schemas.errors import FormatError
from .storage import Folder

__all__ = ["damaged_json", "read_json"]


def read_json(folder: Folder, name: str, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        folder: the folder.
        name: the file.
        keys: what the object must have.

    Raises:
        FormatError: the file is not a JSON object, a key is missing, or an object has one twice.
    """
    data, where = folder.read(name), folder.url_of(name)
    try:
        value = json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise damaged_json(f"it is not JSON ({error})", where) from None
    if not isinstance(value, dict):
        raise damaged_json("it is not a JSON object", where)
    for key in keys:
        if key not in value:
            raise damaged_json(f"it has no {key!r}", where)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def damaged_json(what: str, where: str) -> FormatError:
    """The error for such a file; `what` says what is wrong with it."""
    return FormatError(
        f"a file that a job keeps is damaged: {what}",
        where=where,
        fix="restore the file, or write its folder again with --overwrite",
    )
