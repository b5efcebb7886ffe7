"""A file that is written to the disk, and digested, while it is still being filled.

Linux leaves new bytes in memory until they are many or half a minute old. The sync that ends a file
of some hundred megabytes would then wait for all of them, with the disk idle until that moment. And
once all memory holds pages of files, each new one has to take the place of another, which costs
more than to write it: a file that nobody reads soon gives its pages back.
"""

import ctypes
import io
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import xxhash

from ...schemas.manifest import PartFile

__all__ = ["GrowingFile"]

WRITE_BYTES = 1 << 20
"""Written at a time, and digested while they are in the cache of a core."""
WRITEBACK_BYTES = 8 << 20
"""New bytes that are worth a request of their own."""
SYNC_FILE_RANGE_WRITE = 2
"""Linux: begin to write the range to the disk, and do not wait for it."""


@cache
def _begin() -> Callable[[int, int, int, int], int] | None:
    """Linux's `sync_file_range(descriptor, offset, size, flags)`; None on other systems."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return call


class GrowingFile(io.FileIO):
    """A new local file, to be written from its beginning to its end.

    Its bytes are on the disk only after a sync, which also tells of a disk that has failed.

    Args:
        path: the file.
        keeps: whether it stays where it is; one that is uploaded and removed needs no disk.
    """

    def __init__(self, path: Path, *, keeps: bool = True) -> None:
        super().__init__(path, "wb")
        self._begin = _begin() if keeps else None
        self._size = self._begun = 0
        self._digest = xxhash.xxh3_128()

    def write(self, data: Any) -> int:
        """Writes all of the bytes; returns how many they are."""
        view = memoryview(data).cast("B")
        at = 0
        while at < len(view):
            step = view[at : at + WRITE_BYTES]
            written = super().write(step)
            self._digest.update(step[:written])
            at += written
        self._size += at
        self._write_back()
        return at

    def describe(self, name: str) -> PartFile:
        """Name, size and checksum of what has been written; not read again for it."""
        return {"path": name, "bytes": self._size, "xxh3_128": self._digest.hexdigest()}

    def leave_memory(self) -> None:
        """Waits until all bytes are on the disk, and gives back the memory that holds them."""
        os.fsync(self.fileno())
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # some systems do not take advice; the file is whole
                os.posix_fadvise(self.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def _write_back(self) -> None:
        whole = self._size - self._size % mmap.PAGESIZE  # the last page will be written again
        if self._begin is not None and whole - self._begun >= WRITEBACK_BYTES:
            begin, size = self._begun, whole - self._begun
            self._begin(self.fileno(), begin, size, SYNC_FILE_RANGE_WRITE)
            self._begun = whole
