"""Folders in TMPDIR for copies of remote files; those of killed processes are removed.

A process holds a lock on each of its folders. The system gives the lock back when the process ends,
however it ends. So a folder that can be locked is nobody's, and the next process removes it.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

__all__ = ["scratch_folder"]

PREFIX = "exactcpt-copies-"
NAME = re.compile(f"{PREFIX}[a-z0-9_]{{8}}")
"""How `mkdtemp` names these folders; no other one in TMPDIR is touched, such as a job's output."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder of this process, removed at the end of the block."""
    _remove_abandoned()
    path, lock = _made()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _made() -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = os.open(path, os.O_RDONLY)
        # Another process may have found it before it was locked, and have removed it.
        if _is_locked(lock) and path.exists():
            return path, lock
        os.close(lock)


@cache
def _remove_abandoned() -> None:
    """Removes what killed processes have left; once per process."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if not NAME.fullmatch(path.name):
            continue
        with suppress(OSError):  # such as a folder of another user
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(folder)


def _is_locked(folder: int) -> bool:
    """Locks a folder; false if another process holds it.

    A file system without locks has none to find either: then nothing abandoned is removed.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
