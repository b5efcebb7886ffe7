"""Which files a command never looked into: the kernel tells (inotify), whatever library it was."""

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["Watch"]

EVENT = struct.Struct("iIII")
"""Number of the watch, what happened, cookie, length of a name that follows."""
OPENED, DELETED, OVERFLOW = 0x20, 0x400, 0x4000
"""IN_OPEN, IN_DELETE_SELF, IN_Q_OVERFLOW of <sys/inotify.h>."""


class Watch:
    """Watches files from now on, each under every name that it has or gets; close it at the end.

    Args:
        root: the folder of the files.
        names: paths below it.

    Raises:
        OSError: the system has no watch left.
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._queue = _checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._names: dict[int, list[str]] = {}
        for name in names:
            path = os.fsencode(root / name)
            number = _checked(libc.inotify_add_watch(self._queue, path, OPENED | DELETED))
            self._names.setdefault(number, []).append(name)

    def close(self) -> frozenset[str]:
        """Ends; returns the files that were removed without having been opened."""
        opened, deleted, lost = set[int](), set[int](), False
        for number, what in self._events():
            opened |= {number} if what & OPENED else set()
            deleted |= {number} if what & DELETED else set()
            lost |= bool(what & OVERFLOW)
        os.close(self._queue)
        unread = set() if lost else deleted - opened
        return frozenset(name for number in unread for name in self._names[number])

    def _events(self) -> Iterator[tuple[int, int]]:
        while True:
            try:
                events = os.read(self._queue, 1 << 16)
            except BlockingIOError:
                return
            at = 0
            while at < len(events):
                number, what, _, length = EVENT.unpack_from(events, at)
                at += EVENT.size + length
                yield number, what


def _checked(number: int) -> int:
    if number < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return number
