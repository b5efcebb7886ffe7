"""The folder of a run, held by one process at a time."""

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
    """Keeps other runs out of a run's folder; the first rank holds it for all.

    The system releases the folder when the process ends, however it ends. A folder to which nothing
    was written is removed again.

    Raises:
        ExactcptError: another run is at work in the folder.
        UsageError: the folder cannot be made or written to.
    """
    lock = world.together(lambda: acquire(folder) if world.is_first else None)
    try:
        yield
    finally:
        if lock is not None:
            if is_unused(folder):
                # Still held, so that nobody else can take it in between.
                (folder / LOCK).unlink(missing_ok=True)
            lock.release()
            with suppress(OSError):  # the folder is not empty
                folder.rmdir()


def is_unused(folder: Path) -> bool:
    """Whether a folder has nothing but its lock."""
    return not folder.is_dir() or all(path.name == LOCK for path in folder.iterdir())


def acquire(folder: Path) -> filelock.BaseFileLock:
    """Makes a run's folder and locks it for this process.

    Raises:
        ExactcptError: another process holds the folder.
        UsageError: the folder cannot be made or written to.
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
