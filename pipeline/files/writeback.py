"""Writes a growing file to its disk early, so that the disk works while the file is made.

Linux leaves new bytes in memory until they are many or half a minute old. The sync that ends a file
of some hundred megabytes would then wait for all of them, with the disk idle until that moment.
"""

import ctypes
import mmap
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

__all__ = ["Writeback"]

STEP_BYTES = 8 << 20
"""New bytes that are worth a request of their own."""
SYNC_FILE_RANGE_WRITE = 2
"""Linux: begin to write the range, and do not wait for it."""


@cache
def _begin() -> Callable[[int, int, int, int], int] | None:
    """Linux's `sync_file_range(descriptor, offset, size, flags)`; None on other systems."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return call


class Writeback:
    """Has the system write a file to its disk while it grows; where it cannot, nothing happens.

    It makes nothing durable: that takes a sync, which also tells of a disk that has failed.

    Args:
        path: a local file, which another one writes.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._begun = 0

    def __enter__(self) -> "Writeback":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    def reached(self, size: int) -> None:
        """The file has so many bytes now, and those will not change."""
        begin = _begin()
        whole = size - size % mmap.PAGESIZE  # the last page would be written again
        if begin is not None and whole - self._begun >= STEP_BYTES:
            begin(self._descriptor, self._begun, whole - self._begun, SYNC_FILE_RANGE_WRITE)
            self._begun = whole
