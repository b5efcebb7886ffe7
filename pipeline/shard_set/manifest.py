"""Checks of a finished shard set's manifest and files, for every reader except verify."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from ...schemas.consistency import SEE_VERIFY, check_consistency
from ...schemas.errors import FormatError, UsageError
from ...schemas.manifest import Manifest, ShardFile
from ..config import PackConfig
from ..core.parameters import PARAMETERS
from ..files.storage import Folder

__all__ = ["SEE_VERIFY", "check_manifest", "check_size", "explained", "reading"]


def check_manifest(manifest: Manifest, where: str) -> None:
    """Checks what a JSON schema cannot say: the settings' ranges, and that numbers agree.

    Raises:
        FormatError: a setting is out of range, or as `check_consistency`.
    """
    settings = manifest["settings"]
    try:
        PackConfig(window=settings["window"], **_of_weights(settings))
    except UsageError as error:
        raise FormatError(
            f"the manifest has an impossible setting: {error.found}",
            where=where,
            expected=error.expected,
            fix=SEE_VERIFY,
        ) from None
    check_consistency(manifest, where)


def _of_weights(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the weighting formula; for given weights there is only tau."""
    if "table" in settings:
        return {"tau": settings["tau"]}
    for name in PARAMETERS:
        if settings[name] is None and name != "max_weight":
            raise UsageError(f"{name} is null", expected="a number, or given weights")
    return {name: settings[name] for name in PARAMETERS}


def check_size(shards: Folder, entry: ShardFile) -> None:
    """Checks that a file listed in the manifest is there, is its own, and has its size.

    Raises:
        FormatError: it is missing, is not a file of the set, or has another size.
    """
    found, expected = shards.size(entry["path"]), f"{entry['bytes']:,} bytes"
    if found != entry["bytes"]:
        raise FormatError(
            "a file of the shard set is " + ("missing" if found is None else "damaged"),
            where=shards.url_of(entry["path"]),
            expected=expected if found is None else f"{expected}, not {found:,}",
            fix=SEE_VERIFY,
        )
    shards.check_own(entry["path"])


@contextmanager
def reading(shards: Folder, entry: ShardFile) -> Iterator[None]:
    """Wraps the reading of a file listed in the manifest: errors about its content name the file.

    Raises:
        FormatError: it is missing, has another size, or cannot be read; also for a ValueError
            that the block raises.
    """
    check_size(shards, entry)
    with explained(shards.url_of(entry["path"])):
        yield


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns the errors of a file's content into one that names the file.

    Raises:
        FormatError: the block raises an error of Arrow, a KeyError or a ValueError.
    """
    try:
        yield
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk; Arrow's own, for missing bytes, has no number
        raise FormatError(
            f"a file of the shard set cannot be read: {error}", where=where, fix=SEE_VERIFY
        ) from None
