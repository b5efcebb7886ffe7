"""JSON records that notice when they were altered: each has a checksum of its own content."""

import json
from typing import Any

import xxhash

__all__ = ["AlteredError", "read_sealed", "sealed"]

DIGEST = "xxh3_128"


class AlteredError(ValueError):
    """A record whose checksum is that of another one."""


def sealed(record: dict[str, Any]) -> bytes:
    """A record as JSON, with the checksum of everything else as its last field."""
    whole = {**record, DIGEST: _digest(record)}
    return (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode()


def read_sealed(data: bytes) -> Any:
    """The JSON value that the bytes hold; a record comes without its checksum.

    Records of older versions have none.

    Raises:
        AlteredError: its checksum is that of another record.
        ValueError: it is not JSON.
    """
    try:
        record = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if isinstance(record, dict) and DIGEST in record:
        told = record.pop(DIGEST)
        if told != _digest(record):
            raise AlteredError(f"it was altered: its {DIGEST} is that of other content")
    return record


def _digest(record: dict[str, Any]) -> str:
    """The checksum of a record, however it is laid out as JSON."""
    as_read = json.loads(json.dumps(record))  # tuples are lists there, and names are strings
    return xxhash.xxh3_128_hexdigest(json.dumps(as_read, sort_keys=True).encode())
