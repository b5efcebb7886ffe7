"""One pass over a file's bytes: its digest, and the numbers of the lines its ranges begin with."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xxhash

from ..files.storage import open_input
from .listing import InputFile

__all__ = ["FileFacts", "scan"]

READ_BYTES = 8 << 20
"""Read at a time."""


@dataclass(frozen=True)
class FileFacts:
    """What one pass over a file's bytes tells.

    Attributes:
        xxh3_128: its content digest.
        newlines: how many newlines precede each of the byte offsets asked for.
    """

    xxh3_128: str
    newlines: dict[int, int]


def scan(file: InputFile, offsets: Iterable[int]) -> FileFacts:
    """Reads a file's bytes once: its digest, and the newlines before each offset (rising)."""
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
