"""Checks of a finished shard set's manifest and files, for every reader except verify."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from ...schemas.errors import FormatError, UsageError
from ...schemas.manifest import Manifest, ShardFile
from ...schemas.shard import SPLITS
from ...schemas.sizes import plural
from ..config import PackConfig
from ..core.buckets import bucket_count
from ..core.parameters import PARAMETERS
from ..files.storage import Folder

__all__ = ["SEE_VERIFY", "check_manifest", "check_size", "reading"]

SEE_VERIFY = "run `exactcpt verify` on the shard set to see all that is wrong"


def check_manifest(manifest: Manifest, where: str) -> None:
    """Checks what a JSON schema cannot say: the settings' ranges, and one entry per bucket.

    Raises:
        FormatError: a setting is out of range, or a table does not have the buckets of the window.
    """
    settings = manifest["settings"]
    window = settings["window"]
    try:
        PackConfig(window=window, **_of_weights(settings))
    except UsageError as error:
        raise FormatError(
            f"the manifest has an impossible setting: {error.found}",
            where=where,
            expected=error.expected,
            fix=SEE_VERIFY,
        ) from None
    buckets = bucket_count(window)
    for what, found in _by_bucket(manifest):
        if found != buckets:
            raise FormatError(
                f"the manifest has {what} of {plural(found, 'bucket')}",
                where=where,
                expected=f"{buckets}, for windows of {window:,} tokens",
                fix=SEE_VERIFY,
            )


def _of_weights(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the weighting formula; for given weights there is only tau."""
    if "table" in settings:
        return {"tau": settings["tau"]}
    for name in PARAMETERS:
        if settings[name] is None and name != "max_weight":
            raise UsageError(f"{name} is null", expected="a number, or given weights")
    return {name: settings[name] for name in PARAMETERS}


def _by_bucket(manifest: Manifest) -> Iterator[tuple[str, int]]:
    """Everything in the manifest that has one entry per bucket, and how many entries it has."""
    yield "a weight table", len(manifest["weights"]["table"])
    if "table" in manifest["settings"]:
        yield "given weights", len(manifest["settings"]["table"])
    for split in SPLITS:
        yield f"a histogram of {split}", len(manifest["splits"][split]["histogram"])
        for source in manifest["sources"]:
            counts = source["splits"][split]["histogram"]
            yield f"a histogram of {split} in source {source['name']!r}", len(counts)


def check_size(shards: Folder, entry: ShardFile) -> None:
    """Checks that a file listed in the manifest is there and has its size.

    Raises:
        FormatError: it is missing or has another size.
    """
    found, expected = shards.size(entry["path"]), f"{entry['bytes']:,} bytes"
    if found != entry["bytes"]:
        raise FormatError(
            "a file of the shard set is " + ("missing" if found is None else "damaged"),
            where=shards.url_of(entry["path"]),
            expected=expected if found is None else f"{expected}, not {found:,}",
            fix=SEE_VERIFY,
        )


@contextmanager
def reading(shards: Folder, entry: ShardFile) -> Iterator[None]:
    """Wraps the reading of a file listed in the manifest: errors about its content name the file.

    Raises:
        FormatError: it is missing, has another size, or cannot be read; also for a ValueError
            that the block raises.
    """
    check_size(shards, entry)
    try:
        yield
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk; Arrow's own, for missing bytes, has no number
        raise FormatError(
            f"a file of the shard set cannot be read: {error}",
            where=shards.url_of(entry["path"]),
            fix=SEE_VERIFY,
        ) from None
