"""The journal that the shim writes: the operations of a process on the files below one folder."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

__all__ = ["Kind", "Operation", "read_journal"]

HEAD = struct.Struct("=BQQQQQ")
"""Kind, node, offset; lengths of path, target and data, which follow."""


class Kind(IntEnum):
    """What an operation does; the numbers are those of shim.c."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    LINK = 9


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that has succeeded.

    Attributes:
        kind: what it did.
        node: inode of the file or folder that it made, changed or synced.
        offset: where WRITE wrote; the length that TRUNCATE left.
        path: absolute path of what it made, changed, synced, removed or renamed; "" for a file that
            it made without a name.
        target: new absolute path, of RENAME and LINK.
        data: what WRITE wrote.
    """

    kind: Kind
    node: int = 0
    offset: int = 0
    path: str = ""
    target: str = ""
    data: bytes = b""


def read_journal(path: Path) -> list[Operation]:
    """Reads a journal whose process has ended."""
    return list(_operations(path.read_bytes()))


def _operations(journal: bytes) -> Iterator[Operation]:
    at = 0
    while at < len(journal):
        kind, node, offset, *lengths = HEAD.unpack_from(journal, at)
        at += HEAD.size
        texts = []
        for length in lengths:
            texts.append(journal[at : at + length])
            at += length
        path, target, data = texts
        yield Operation(Kind(kind), node, offset, path.decode(), target.decode(), data)
