"""JSON records that notice when they were altered: each has a checksum of its own content."""

import json
from collections.abc import Mapping
from typing import Any

import xxhash

from .json_text import parse_json

__all__ = ["AlteredError", "read_sealed", "sealed", "unsealed"]

DIGEST = "record_xxh3_128"


class AlteredError(ValueError):
    """A record whose checksum is that of another one."""


def sealed(record: Mapping[str, Any]) -> bytes:
    """A record as JSON, with the checksum of everything else as its last field."""
    whole = {**record, DIGEST: _digest(record)}
    return (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode()


def read_sealed(data: bytes) -> Any:
    """The JSON value that the bytes hold; a record comes without its checksum.

    Raises:
        AlteredError: its checksum is that of another record.
        ValueError: it is not JSON.
    """
    return unsealed(parse_json(data))


def unsealed(record: Any) -> Any:
    """A record without its checksum, which is compared; records of older versions have none.

    Raises:
        AlteredError: its checksum is that of another record.
    """
    if not isinstance(record, dict) or DIGEST not in record:
        return record  # pyright: ignore[reportUnknownVariableType]
    content: dict[str, Any] = {**record}
    if content.pop(DIGEST) != _digest(content):
        raise AlteredError(f"it was altered: its {DIGEST} is that of other content")
    return content


def _digest(record: Mapping[str, Any]) -> str:
    """The checksum of a record, however it is laid out as JSON."""
    as_read = json.loads(json.dumps(record))  # tuples are lists there, and names are strings
    return xxhash.xxh3_128_hexdigest(json.dumps(as_read, sort_keys=True).encode())
