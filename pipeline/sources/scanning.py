"""One pass over the bytes of a file: its digest, and the newlines before each of its ranges."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xxhash

from ..files.storage import open_input
from .listing import InputFile

__all__ = ["FileFacts", "scan"]

READ_BYTES = 8 << 20
"""Bytes read at a time."""


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
    """Reads the bytes of a file once, for its digest and the newlines before some byte offsets."""
    digest = xxhash.xxh3_128()
    newlines: dict[int, int] = {}
    wanted = sorted(set(offsets))
    position = count = 0
    with open_input(file.url) as stream:
        for target in [*wanted, None]:
            while target is None or position < target:
                size = READ_BYTES if target is None else min(READ_BYTES, target - position)
                block = stream.read(size)
                if not block:
                    break
                digest.update(block)
                position += len(block)
                if target is not None:
                    count += int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))
            if target is not None:
                newlines[target] = count
    return FileFacts(digest.hexdigest(), newlines)
