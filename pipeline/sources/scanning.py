"""One pass over the bytes of a file: its digest, and the newlines before each of its ranges."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from ...schemas.pointers import MAX_POINTER_BYTES, refuse_pointer
from ..files.storage import open_input
from .listing import InputFile

__all__ = ["FileFacts", "refuse_pointer_file", "scan"]

READ_BYTES = 512 << 10
"""Bytes read at a time; what is read stays in the cache of a core while it is looked through."""


@dataclass(frozen=True)
class FileFacts:
    """The result of a scan.

    Attributes:
        xxh3_128: the digest of the file's bytes, 32 hexadecimal digits.
        newlines: how many newlines precede each byte offset that was asked for.
    """

    xxh3_128: str
    newlines: dict[int, int]


def scan(file: InputFile, offsets: Iterable[int]) -> FileFacts:
    """Reads the bytes of a file once, for its digest and the newlines before some byte offsets.

    Raises:
        ExactcptError: the file is a pointer of Git LFS or git-annex.
    """
    digest = xxhash.xxh3_128()
    newlines: dict[int, int] = {}
    wanted = sorted(set(offsets))
    position = count = 0
    buffer = memoryview(bytearray(READ_BYTES))  # used again: new memory for each read takes longer
    with open_input(file.url) as stream:
        _refuse_pointer(file, stream)
        for target in [*wanted, None]:
            while target is None or position < target:
                size = READ_BYTES if target is None else min(READ_BYTES, target - position)
                block = buffer[: stream.readinto(buffer[:size])]
                if not block:
                    break
                digest.update(block)
                position += len(block)
                if target is not None:
                    count += int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))
            if target is not None:
                newlines[target] = count
    return FileFacts(digest.hexdigest(), newlines)


def refuse_pointer_file(file: InputFile) -> None:
    """Refuses a file that is a pointer of Git LFS or git-annex; opens it only if it is small.

    Raises:
        ExactcptError: it is one.
    """
    if file.bytes is not None and file.bytes <= MAX_POINTER_BYTES:
        with open_input(file.url) as stream:
            _refuse_pointer(file, stream)


def _refuse_pointer(file: InputFile, stream: Any) -> None:
    if file.bytes is not None and file.bytes <= MAX_POINTER_BYTES:
        refuse_pointer(stream.read(MAX_POINTER_BYTES), file.url)
        stream.seek(0)
