"""A run's folder, held by one run at a time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from ...schemas.errors import ExactcptError, UsageError
from .world import World

__all__ = ["acquire", "held", "is_unused"]

LOCK = ".lock"


@contextmanager
def held(folder: Path, world: World) -> Iterator[None]:
    """Holds a run's folder against other runs, on the first rank for all.

    The system lets go of it when the process ends, however it ends. A folder in which nothing was
    written is removed again.

    Raises:
        ExactcptError: another run is at work in it.
        UsageError: it cannot be made or written to.
    """
    lock = world.together(lambda: acquire(folder) if world.is_first else None)
    try:
        yield
    finally:
        if lock is not None:
            if is_unused(folder):
                # While it is held: nobody else can come to hold it.
                (folder / LOCK).unlink(missing_ok=True)
            lock.release()
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def is_unused(folder: Path) -> bool:
    """Whether a folder has nothing but its lock."""
    return not folder.is_dir() or all(path.name == LOCK for path in folder.iterdir())


def acquire(folder: Path) -> filelock.BaseFileLock:
    """Makes a run's folder and locks it for this process.

    Raises:
        ExactcptError: another process holds it.
        UsageError: it cannot be made or written to.
    """
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise ExactcptError(
            "another run is at work in this folder",
            where=str(folder),
            fix="wait for it to end, or name another --out",
        ) from None
    except OSError as error:
        raise UsageError(
            f"the run's folder cannot be written: {error.strerror}", where=str(folder)
        ) from None
    return lock
