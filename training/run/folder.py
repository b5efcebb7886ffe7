"""The folder of a run, held by one process at a time."""

import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from ...schemas.disk import make_folder, remove_unfinished
from ...schemas.disk_errors import disk_error
from ...schemas.errors import ExactcptError, UsageError
from .log import LOG, RUN
from .world import World

__all__ = ["PATIENCE", "acquire", "held", "is_unused"]

LOCK = ".lock"
PATIENCE = 60.0
"""Seconds after which a file that another machine wrote is seen on every network file system."""


@contextmanager
def held(folder: Path, world: World) -> Iterator[None]:
    """Keeps other runs out of a run's folder; the first rank holds it for all, and all see it.

    The system releases the folder when the process ends, however it ends. A folder to which nothing
    was written is removed again.

    Raises:
        ExactcptError: another run is at work in the folder, or it cannot be made or written to.
        UsageError: the folder is another one for some ranks.
    """
    lock = world.together(lambda: acquire(folder) if world.is_first else None)
    try:
        check_shared(folder, world)
        yield
    finally:
        if lock is not None:
            if is_unused(folder):
                # Still held, so that nobody else can take it in between.
                (folder / LOCK).unlink(missing_ok=True)
            lock.release()
            with suppress(OSError):  # the folder is not empty
                folder.rmdir()


def check_shared(folder: Path, world: World) -> None:
    """Checks that a folder is one and the same for all ranks, and that all may write to it.

    Each machine could have a folder of that name on a disk of its own. Then every rank would write
    its part of a checkpoint, and no folder would have all of it.

    Raises:
        UsageError: a rank does not see what the first one writes.
        OSError, ExactcptError: a rank cannot write; the first is raised on that rank alone.
    """
    if world.size == 1:
        return
    name = world.gather(f"{LOCK}.{uuid.uuid4().hex}")[0]
    token = folder / name
    world.first(token.touch)
    try:
        world.together(lambda: _await_token(token, world.rank))
    finally:
        if world.is_first:
            token.unlink(missing_ok=True)


def _await_token(token: Path, rank: int) -> None:
    end = time.monotonic() + PATIENCE
    while not token.exists():
        if time.monotonic() > end:
            raise UsageError(
                f"rank {rank} does not see the run's folder of rank 0: its machine, "
                f"{socket.gethostname()}, has another folder of that name, or none",
                where=str(token.parent),
                fix="name an --out on a disk that all machines share",
            )
        time.sleep(0.1)
    own = token.with_name(f"{token.name}.{rank}")
    own.touch()
    own.unlink()


def is_unused(folder: Path) -> bool:
    """Whether a folder has nothing but its lock."""
    return not folder.is_dir() or all(path.name.startswith(LOCK) for path in folder.iterdir())


def acquire(folder: Path) -> filelock.BaseFileLock:
    """Makes a run's folder and locks it for this process.

    What a killed run had not finished writing is removed: it would make a new run's folder one with
    other files in it.

    Raises:
        ExactcptError: another process holds the folder, or it cannot be made or written to.
    """
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        make_folder(folder)
        lock.acquire()
        remove_unfinished(folder, (RUN, LOG))
    except filelock.Timeout:
        raise ExactcptError(
            "another run is at work in this folder",
            where=str(folder),
            fix="wait for it to end, or name another --out",
        ) from None
    except OSError as error:  # flock's own do not name the file
        raise disk_error(error, folder) from None
    return lock
