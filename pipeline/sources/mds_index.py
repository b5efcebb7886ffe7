"""The index of an MDS data set: index.json, which lists the shards of its folder."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import xxhash

from ...schemas.errors import FormatError
from ...schemas.json_text import parse_json

__all__ = ["Shard", "first_missing", "new_hash", "parse_index"]

VERSION = 2
HASHES = {
    *(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake")),
    *("xxh32", "xxh64", "xxh128", "xxh3_64", "xxh3_128"),
}


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What the index says of a shard.

    Attributes:
        name: of its file, before compression.
        bytes: the size of that file.
        hashes: algorithm -> digest of that file, in hexadecimal digits.
        zip_name, zip_bytes: of the compressed file; None if there is none.
        samples: how many rows it has.
        columns: name -> encoding, in their order.
        sizes: bytes of each column's value; None where values say themselves.
    """

    name: str
    bytes: int
    hashes: dict[str, str]
    zip_name: str | None
    zip_bytes: int | None
    samples: int
    columns: dict[str, str]
    sizes: list[int | None]


def parse_index(data: bytes, where: str) -> list[Shard]:
    """Reads an index.

    Args:
        data: the bytes of index.json.
        where: its path or URL, for errors.

    Raises:
        FormatError: it is not an index of this format and version, or names a file outside its
            folder.
    """
    try:
        index = parse_json(data)
        if index["version"] != VERSION:
            raise ValueError(f"it is of version {str(index['version'])[:20]}")
        return [_shard(entry) for entry in index["shards"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise FormatError(
            f"the index of an MDS data set cannot be used: {what}",
            where=where,
            expected=f"version {VERSION}, with the shards of its own folder, as MDSWriter writes",
            fix="restore it, or write the data set again",
        ) from None


def first_missing(shards: list[Shard], names: Collection[str]) -> str | None:
    """The name of the first shard of which neither form is among the names of a folder's files."""
    return next(
        (
            shard.zip_name or shard.name
            for shard in shards
            if shard.name not in names and shard.zip_name not in names
        ),
        None,
    )


def new_hash(name: str) -> Any:
    """A new hash object of one of the algorithms that HASHES names."""
    return getattr(xxhash, name)() if name.startswith("xxh") else hashlib.new(name)


def _shard(entry: Any) -> Shard:
    if entry["format"] != "mds" or entry["version"] != VERSION:
        raise ValueError(f"a shard is {str(entry['format'])[:20]}, version {entry['version']}")
    names, encodings, sizes = (entry[f"column_{what}"] for what in ("names", "encodings", "sizes"))
    if not len(names) == len(set(names)) == len(encodings) == len(sizes):
        raise ValueError("a shard has not as many names of columns as encodings and sizes")
    if not all(isinstance(each, str) for each in (*names, *encodings)):
        raise TypeError("the name or the encoding of a column is no text")
    raw, zipped = entry["raw_data"], entry["zip_data"]
    return Shard(
        name=_plain_name(raw["basename"]),
        bytes=_whole(raw["bytes"]),
        hashes=_hashes(raw["hashes"]),
        zip_name=_plain_name(zipped["basename"]) if zipped else None,
        zip_bytes=_whole(zipped["bytes"]) if zipped else None,
        samples=_whole(entry["samples"]),
        columns=dict(zip(names, encodings, strict=True)),
        # Streaming takes a size of 0 for none.
        sizes=[_whole(size) or None if size is not None else None for size in sizes],
    )


def _hashes(found: dict[str, str]) -> dict[str, str]:
    for name, digest in found.items():
        if name not in HASHES or not isinstance(digest, str):
            raise ValueError(f"it has a hash of an unknown kind, {name[:20]!r}")
    return found


def _plain_name(name: str) -> str:
    if PurePosixPath(name).name != name or "\0" in name:
        raise ValueError(f"it names a file outside its folder, {name[:200]!r}")
    return name


def _whole(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{str(number)[:20]} is no count")
    return number
