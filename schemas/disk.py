"""How a file gets onto a local disk: whole, under its own name, or not at all.

scratch = .NAME.<random>.tmp   written beside the target
sync scratch                   its bytes are on the disk
rename scratch -> NAME         readers see the whole file, or none
sync the folder                the name is on the disk
"""

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from .errors import UsageError
from .regular import hash_regular

__all__ = [
    "TEMPORARY",
    "folder_written_whole",
    "is_file_name",
    "is_temporary",
    "make_folder",
    "remove_unfinished",
    "sync_file",
    "sync_folder",
    "written_whole",
]

TEMPORARY = ".tmp"
PARTIAL = ".partial"
NO_FOLDER_SYNC = {
    *(errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF),
    errno.EACCES,
}
"""What file systems answer that cannot sync a folder, such as CIFS and some of FUSE, and what any
answers for a folder that may be written to and not read."""


@contextmanager
def written_whole(target: Path) -> Generator[Path]:
    """A path to write to; the file gets its name if the block ends without an error."""
    make_folder(target.parent)
    scratch = target.parent / f".{target.name}.{uuid.uuid4().hex}{TEMPORARY}"
    try:
        yield scratch
        sync_file(scratch)
        scratch.replace(target)
        sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):  # the first error says more
            scratch.unlink(missing_ok=True)
        raise


@contextmanager
def folder_written_whole(
    target: Path, *, replace: bool = False, same: bool = False
) -> Generator[Path]:
    """A folder to fill; it gets its name if the block ends without an error.

    One that an interruption has left is emptied and filled again. If it is whole and cannot get its
    name, it stays as NAME.partial.

    Args:
        target: the folder with its name, which must be free.
        replace: whether what has the name is removed first, once the new folder is on the disk.
        same: whether a folder that has the name already is kept, if its files are the same.

    Raises:
        UsageError: with `same`, the folder that has the name is another one.
    """
    if same and target.exists() and not (target.is_dir() and any(target.iterdir())):
        raise _exists(target)
    partial = target.with_name(target.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(target.parent)
    partial.mkdir()
    try:
        yield partial
        for path in [*partial.rglob("*"), partial]:
            (sync_folder if path.is_dir() else sync_file)(path)
        is_there = same and target.exists()
        other = _first_other(target, partial) if is_there else None
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if is_there:
        shutil.rmtree(partial, ignore_errors=True)
        if other is not None:
            raise _exists(target, f", and its {other} is not what would be written")
        return
    # From here on, the new folder may be the only one: it is kept, whatever happens.
    if replace:
        shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    sync_folder(target.parent)


def _exists(target: Path, how: str = "") -> UsageError:
    return UsageError(
        f"the folder to write exists{how}", where=str(target), fix="remove it or name another one"
    )


def _first_other(one: Path, two: Path) -> str | None:
    """The first name of a file that two folders do not both have, or not with the same bytes."""
    files, others = _files(one), _files(two)
    return next((n for n in sorted({*files, *others}) if files.get(n) != others.get(n)), None)


def _files(folder: Path) -> dict[str, bytes]:
    """Name of each file below a folder -> digest of its bytes."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            digest = hashlib.sha256()
            hash_regular(path, digest)
            found[str(path.relative_to(folder))] = digest.digest()
    return found


def is_temporary(name: str) -> bool:
    """Whether a file, by its name, is one that `written_whole` had not finished."""
    base = PurePosixPath(name).name
    return base.startswith(".") and base.endswith(TEMPORARY)


def remove_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Removes what killed writers of some files of a folder have left; nobody may be writing them.

    Raises:
        OSError: the folder cannot be read, or a file cannot be removed.
    """
    one_of = "|".join(re.escape(name) for name in names)
    ours = re.compile(rf"\.({one_of})\.[0-9a-f]{{32}}{re.escape(TEMPORARY)}")
    for path in [*folder.iterdir()]:
        if ours.fullmatch(path.name):
            path.unlink()


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it that are missing; their names are on the disk."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def is_file_name(name: str) -> bool:
    """Whether a name is of a file in a folder, and not a path that leads elsewhere."""
    return name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name)


def sync_file(path: Path) -> None:
    """Waits until a file's bytes are on the disk."""
    _sync(path)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk, where the file system can do that.

    Raises:
        OSError: the disk failed.
    """
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
