"""Files that others wrote are opened only if they are ordinary files, inside their own folder.

A pipe would make a reader wait for ever, and a device would never end; a link could lead anywhere.

    set/train/shard.arrow                         a file of the set
    set -> elsewhere/set                          a whole set behind a link, or a link inside it
    snapshots/x/train/shard.arrow -> blobs/y      a snapshot of a Hugging Face cache
    set/train/shard.arrow -> /etc/passwd          refused
"""

import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from .errors import FormatError

__all__ = [
    "MOST_BYTES",
    "check_inside",
    "check_regular",
    "hash_regular",
    "open_regular",
    "read_regular",
]

MOST_BYTES = 1 << 30
"""What a file may have that is read whole: a manifest of a million files has a third of it."""
BLOCK = 1 << 20
HASHED = 1 << 24
"""Bytes that are read at once to be hashed."""
SHELL = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
"""Where a shell puts the pipes of `<(command)`: the user has asked for those."""
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_regular(path: Path) -> BufferedReader:
    """Opens a file for reading bytes.

    Raises:
        FormatError: it is a folder, a named pipe, a device or a socket.
        OSError: it is missing or cannot be opened.
    """
    if not str(path).startswith(SHELL):
        check_regular(path)
    return path.open("rb")


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """All bytes of a file.

    Raises:
        FormatError: as `open_regular`, or it has more than `most` bytes.
        OSError: it is missing or cannot be read.
    """
    blocks: list[bytes] = []
    size = 0
    with open_regular(path) as file:
        while block := file.read(BLOCK):  # Python sets aside at once what it is asked to read
            blocks.append(block)
            size += len(block)
            if size > most:
                raise FormatError(
                    "the file is too large to be what it should be",
                    where=str(path),
                    expected=f"at most {most:,} bytes",
                )
    return b"".join(blocks)


def hash_regular(path: Path, digest: Any) -> int:
    """Adds the bytes of a file, however large, to a digest.

    Args:
        path: of the file.
        digest: one of hashlib or xxhash; it is updated.

    Returns:
        How many bytes it has.

    Raises:
        FormatError, OSError: as `open_regular`.
    """
    size, block = 0, memoryview(bytearray(HASHED))
    with open_regular(path) as file:
        while read := file.readinto(block):
            digest.update(block[:read])
            size += read
    return size


def check_regular(path: Path) -> None:
    """Checks that a path is an ordinary file, or a link to one.

    Raises:
        FormatError: it is something else.
        OSError: there is nothing.
    """
    try:
        found = path.stat().st_mode
    except ValueError:
        raise FormatError("this is no path: it has a NUL", where=str(path)) from None
    if not stat.S_ISREG(found):
        kind = KINDS.get(stat.S_IFMT(found), "something else")
        raise FormatError(
            f"this is {kind}", where=str(path), expected="an ordinary file", fix="check the path"
        )


def check_inside(root: Path, path: Path) -> None:
    """Checks that a path below a folder is an ordinary file of it, whatever links are on the way.

    In a Hugging Face cache, the files of a snapshot are links into the folder `blobs` beside all
    snapshots.

    Raises:
        FormatError: it leads out of the folder, or is not an ordinary file.
        OSError: there is nothing.
    """
    check_regular(path)
    folder, target = root.resolve(), path.resolve()
    if not any(target.is_relative_to(home) for home in (folder, *_blobs(folder))):
        raise FormatError(
            "a file leads out of its folder",
            where=f"{path} -> {target}",
            expected=f"a file below {folder}",
            fix="copy the file there, if you trust whoever made the link",
        )


def _blobs(folder: Path) -> list[Path]:
    """The folder of contents of the Hugging Face cache in which a folder is a snapshot, if any."""
    levels = (folder, *folder.parents)
    return [each.parent / "blobs" for each in levels if each.name == "snapshots"]
