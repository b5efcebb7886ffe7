"""Blocks of whole lines from a stream, in bounded memory: a line has a longest length."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["LongLineError", "blocks_of_lines", "rest_of_line"]

STEP_BYTES = 64 << 10
"""Read at a time in search of the end of a line."""


class LongLineError(Exception):
    """A line is longer than allowed; `index` says which one, from 0, of those not yet yielded."""

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self.index = index


def blocks_of_lines(
    stream: Any, block_bytes: int, remaining: int | None, limit: int
) -> Iterator[bytes]:
    """Yields blocks of whole lines until `remaining` bytes are read and the last line is whole.

    Args:
        stream: where to read; if `remaining` is given, it can seek.
        block_bytes: bytes to read at a time; a longer line is read whole.
        remaining: bytes to read, None for all.
        limit: bytes that a line may have, its newline not counted.

    Raises:
        LongLineError: a line has more. All lines before its block have been yielded.
    """
    pending: list[bytes] = []
    held = 0
    while remaining is None or remaining > 0:
        chunk = stream.read(block_bytes if remaining is None else min(block_bytes, remaining))
        if not chunk:
            break
        remaining = None if remaining is None else remaining - len(chunk)
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield _checked(b"".join([*pending, memoryview(chunk)[:cut]]), limit)
            pending, held = [], 0
        pending.append(chunk[cut:])
        held += len(chunk) - cut
        if held > limit:
            raise LongLineError
    rest = b"".join(pending)
    if rest and remaining is not None:
        rest += rest_of_line(stream, limit)
    if rest:
        yield _checked(rest, limit)


def rest_of_line(stream: Any, limit: int) -> bytes:
    """The bytes up to and including the next newline; the stream can seek.

    Raises:
        LongLineError: there are more than `limit` of them, and more than a step.
    """
    pieces: list[bytes] = []
    held = 0
    while chunk := stream.read(STEP_BYTES):
        cut = chunk.find(b"\n") + 1
        if cut:
            stream.seek(cut - len(chunk), os.SEEK_CUR)
            return b"".join([*pieces, chunk[:cut]])
        pieces.append(chunk)
        held += len(chunk)
        if held > limit:
            raise LongLineError
    return b"".join(pieces)


def _checked(block: bytes, limit: int) -> bytes:
    if len(block) > limit:
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
        bounds = np.concatenate(([-1], ends, [len(block)]))
        is_long = np.diff(bounds) - 1 > limit
        if is_long.any():
            raise LongLineError(int(np.argmax(is_long)))
    return block
