"""JSON files that jobs write for themselves, read back: a damaged one is a plain error."""

from collections.abc import Iterable, Mapping
from typing import Any

from ...schemas.errors import FormatError
from ...schemas.sealed import AlteredError, read_sealed, sealed
from .storage import Folder

__all__ = ["REPLACE", "damaged_json", "read_json", "require_keys", "write_json"]

REMAKE = "remove that file and run the same command again: it makes the file anew"
REPLACE = "restore the file, or write its folder again with --overwrite"
"""What helps if the file says what a whole folder is. `--overwrite` of `prepare` keeps a token
store of the same inputs, and with it the damaged file of a part, so it would not help there."""


def read_json(
    folder: Folder, name: str, keys: Iterable[str] = (), fix: str = REMAKE
) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        folder: the folder.
        name: the file.
        keys: what the object must have.
        fix: what helps if the file is damaged.

    Raises:
        FormatError: the file is not a JSON object, has another content than its checksum, or lacks
            a key.
    """
    data, where = folder.read(name), folder.url_of(name)
    try:
        value = read_sealed(data)
    except AlteredError as error:
        raise damaged_json(str(error), where, fix) from None
    except ValueError as error:
        raise damaged_json(f"it is not JSON ({error})", where, fix) from None
    if not isinstance(value, dict):
        raise damaged_json("it is not a JSON object", where, fix)
    require_keys(value, keys, where, fix)
    return value


def require_keys(
    value: Mapping[str, Any], keys: Iterable[str], where: str, fix: str = REMAKE
) -> None:
    """Checks that an object of a file has some keys; see `read_json`."""
    for key in keys:
        if key not in value:
            raise damaged_json(f"it has no {key!r}", where, fix)


def write_json(folder: Folder, name: str, record: Mapping[str, Any]) -> None:
    """Writes a JSON object for `read_json`, with a checksum of its own content."""
    folder.write(name, sealed(record))


def damaged_json(what: str, where: str, fix: str = REMAKE) -> FormatError:
    """The error for such a file; `what` says what is wrong with it."""
    return FormatError(f"a file that a job keeps is damaged: {what}", where=where, fix=fix)
