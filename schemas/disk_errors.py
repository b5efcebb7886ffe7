"""An error of the system in words: what failed, which path it concerns, and what helps against it.

A full disk, a missing permission and a broken disk have nothing in common but the class OSError.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

from .errors import ExactcptError
from .remote_errors import RemoteError

__all__ = ["disk_error"]

AGAIN = "run the same command again"
ROOM = f"make room there, and {AGAIN}"
PERMISSION = "change the permissions of that path or of a folder above it, or name another path"
NETWORK = f"see whether the server and the connection work, and {AGAIN}"
UNSUPPORTED = "name a path on another file system: this one cannot do that, such as lock a file"
FIXES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: f"make room there or raise the quota, and {AGAIN}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f), and {AGAIN}; or name a path "
    "on a file system that has no such limit",
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EROFS: "name a path on another disk: this one is mounted for reading only",
    errno.EIO: f"see what the system's log says of this disk, repair or replace it, and {AGAIN}",
    errno.ENOENT: "see whether the path is right, and whether something has moved or removed it",
    errno.ENOTDIR: "see whether the path is right: a file is where a folder should be",
    errno.EEXIST: "see whether the path is right: something else of that name is there",
    errno.EISDIR: "see whether the path is right: a folder is where a file should be",
    errno.ENAMETOOLONG: "name a path with shorter names",
    errno.ELOOP: "repair the links on that path: they point to each other",
    errno.EMFILE: f"raise the limit on open files (ulimit -n) or set fewer --workers, and {AGAIN}",
    errno.ENFILE: f"close other programs: the whole system has too many open files; then {AGAIN}",
    errno.ENOMEM: f"free some memory or set fewer --workers, and {AGAIN}",
    errno.ESTALE: f"mount that network file system again: it has lost the file; then {AGAIN}",
    errno.ENOLCK: UNSUPPORTED,
    errno.ENOTSUP: UNSUPPORTED,
    errno.EOPNOTSUPP: UNSUPPORTED,
    errno.ENOSYS: UNSUPPORTED,
    errno.EBUSY: f"see what else uses that path, and {AGAIN}",
    **dict.fromkeys(
        (
            errno.ETIMEDOUT,
            errno.ECONNREFUSED,
            errno.ECONNRESET,
            errno.ECONNABORTED,
            errno.EHOSTDOWN,
            errno.EHOSTUNREACH,
            errno.ENETDOWN,
            errno.ENETUNREACH,
            errno.ENOTCONN,
        ),
        NETWORK,
    ),
}
"""What helps, by the number of the error."""
BY_CLASS: tuple[tuple[type[OSError], str], ...] = (
    (FileNotFoundError, FIXES[errno.ENOENT]),
    (PermissionError, PERMISSION),
    (ConnectionError, NETWORK),
    (TimeoutError, NETWORK),
)
"""What helps against errors without a number, such as those of drivers of remote storage."""
ELSE = f"{AGAIN} once that path can be read and written"


def disk_error(error: OSError, where: object = None) -> ExactcptError:
    """An error of the system, in words.

    Args:
        error: the error.
        where: the file or folder that it concerns, if the error does not name one itself.

    Returns:
        The error to raise.
    """
    if isinstance(error, RemoteError):
        return ExactcptError(str(error.strerror), where=error.filename, fix=error.fix)
    path = _path_of(error) or (None if where is None else str(where))
    if path is not None and (target := _dangling(Path(path))) is not None:
        return ExactcptError(
            "reading or writing failed: a link points to nothing",
            where=f"{path} -> {target}",
            fix="repair the link, or remove it",
        )
    return ExactcptError(
        f"reading or writing failed: {error.strerror or str(error) or type(error).__name__}",
        where=path,
        fix=_fix_of(error),
    )


def _path_of(error: OSError) -> str | None:
    names = [name for name in (error.filename, error.filename2) if name not in (None, "", b"")]
    return " -> ".join(dict.fromkeys(_text(name) for name in names)) or None


def _text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


def _dangling(path: Path) -> Path | None:
    """What a link names, if there is no such thing."""
    with suppress(OSError, ValueError):
        return path.readlink() if path.is_symlink() and not path.exists() else None
    return None


def _fix_of(error: OSError) -> str:
    if error.errno is not None and error.errno in FIXES:
        return FIXES[error.errno]
    return next((fix for kind, fix in BY_CLASS if isinstance(error, kind)), ELSE)
