"""Files that stand for others: what Git LFS and git-annex leave where the content is not there.

    version https://git-lfs.github.com/spec/v1      a pointer of Git LFS, under 1,024 bytes
    /annex/objects/SHA256E-s12--...                 a pointer of git-annex
    a link to .../annex/objects/...                 a file of git-annex, which may be missing

A clone without the content has such files under the names of data sets, tokenizers and weights. For
some formats they would even be valid.
"""

import re
import stat
from collections.abc import Iterable
from pathlib import Path

from .errors import ExactcptError

__all__ = ["MAX_POINTER_BYTES", "refuse_pointer", "refuse_pointers"]

MAX_POINTER_BYTES = 1024
"""No larger file is a pointer."""
LFS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
ANNEX = b"/annex/objects/"
ANNEX_KEY = re.compile(ANNEX + rb"[A-Z0-9_]+-[^\n/]*--")


def refuse_pointer(head: bytes, where: str) -> None:
    """Refuses a file that stands for another.

    Args:
        head: the first MAX_POINTER_BYTES of the file as it is stored, or more.
        where: path or URL of the file.

    Raises:
        ExactcptError: it is a pointer of Git LFS or git-annex.
    """
    if head.startswith(LFS) and b"\noid " in head[:MAX_POINTER_BYTES]:
        raise ExactcptError(
            "this is a Git LFS pointer: the content of the file has not been downloaded",
            where=where,
            fix="run `git lfs pull` in the clone that has the file, or download it again",
        )
    if ANNEX_KEY.match(head):
        raise _not_in_annex(where)


def refuse_pointers(paths: Iterable[Path]) -> None:
    """Refuses local files that stand for others; opens only those that are small enough.

    Args:
        paths: files, or names where nothing is.

    Raises:
        ExactcptError: one is a pointer of Git LFS or git-annex, or a link of git-annex that points
            to nothing.
    """
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            if path.is_symlink() and ANNEX.decode() in str(path.readlink()):
                raise _not_in_annex(str(path)) from None
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_POINTER_BYTES:
            with path.open("rb") as file:
                refuse_pointer(file.read(MAX_POINTER_BYTES), str(path))


def _not_in_annex(where: str) -> ExactcptError:
    return ExactcptError(
        "this is a git-annex pointer: the content of the file is not in this clone",
        where=where,
        fix="run `git annex get` for the file",
    )
