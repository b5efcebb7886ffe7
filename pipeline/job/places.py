"""Where a job may write: never inside its inputs, and only where there is room."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from ...schemas.errors import ExactcptError, UsageError
from ..config import SourceConfig
from ..files.storage import Folder, is_local_url, resolve

__all__ = ["file_to_write", "refuse_inside_sources", "refuse_one_inside_another", "require_space"]

MAGIC = frozenset("*?[")


def refuse_one_inside_another(**folders: Folder) -> None:
    """Checks that the folder a job reads and the folder it writes are apart.

    Args:
        folders: the two folders, by their names on the command line.

    Raises:
        UsageError: they are the same folder, or one is inside the other.
    """
    one, other = (folder.url for folder in folders.values())
    if _is_inside(one, other) or _is_inside(other, one):
        names = " and ".join(folders)
        raise UsageError(
            f"the folders {names} are the same, or one is inside the other",
            where=", ".join(f"{name}: {folder.url}" for name, folder in folders.items()),
            expected="two folders beside each other",
        )


def refuse_inside_sources(sources: Iterable[SourceConfig], outputs: Sequence[Folder]) -> None:
    """Checks that a source will not read the job's own output the next time.

    Args:
        sources: the sources of the job.
        outputs: the folders that the job writes.

    Raises:
        UsageError: an output is inside a folder that a source reads whole.
    """
    for source in sources:
        if source.format == "hub":
            continue
        for output in outputs:
            if _is_read(source.pattern, output.url):
                raise UsageError(
                    f"the output would be inside source {source.name!r}, which reads all of "
                    "its folder",
                    where=f"{output.url} is inside {source.pattern}",
                    fix="write beside that folder, or narrow the source with a glob: DIR/*.jsonl",
                )


def _is_read(pattern: str, output: str) -> bool:
    """Whether a pattern reads a folder whole that has the output, or is in it."""
    before, deep, _ = pattern.partition("**")
    if not MAGIC & set(before):
        return _is_inside(output, before.rstrip("/") or "." if deep else pattern)
    from fsspec.utils import glob_translate

    matches = re.compile(glob_translate(_canonical(pattern))).match
    *folders, _ = accumulate(f"{_canonical(output)}/folder/file".split("/"), "{}/{}".format)
    return any(matches(folder) for folder in folders)


def _is_inside(inner: str, outer: str) -> bool:
    """Whether a folder is the other one or below it, however the two are spelled."""
    return f"{_canonical(inner)}/".startswith(f"{_canonical(outer)}/")


def _canonical(url: str) -> str:
    fs, path = resolve(url)
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    if is_local_url(url):
        path = os.path.realpath(path)
    return f"{protocol}:{path.rstrip('/')}"


def file_to_write(flag: str, path: str, *, apart_from: Iterable[Folder] = ()) -> tuple[Folder, str]:
    """The place of a file that a flag names: its folder, and its name in that folder.

    Args:
        flag: the flag, as on the command line.
        path: path or URL of the file.
        apart_from: folders that the command reads.

    Raises:
        UsageError: the path is a folder or a device, or inside one of the folders.
    """
    parent, slash, name = path.rpartition("/")
    folder = Folder(parent or slash or ".")
    fs, target = resolve(path)
    if not name or fs.isdir(target):
        raise UsageError(f"{flag} is a folder", where=path, expected="the name of a file")
    if is_local_url(path) and Path(target).exists() and not Path(target).is_file():
        raise UsageError(f"{flag} is not a regular file", where=path, expected="the name of a file")
    for other in apart_from:
        if _is_inside(path, other.url):
            raise UsageError(f"{flag} is inside {other.url}", where=path, fix="write beside it")
    return folder, name


def require_space(needed: Mapping[Folder, int]) -> None:
    """Checks, before the work begins, that the local disks have room for the output.

    What an earlier run has written to a folder is subtracted.

    Args:
        needed: folder -> its size in bytes when it is complete.

    Raises:
        ExactcptError: a disk has too little room.
    """
    missing: dict[int, int] = {}
    room: dict[int, int] = {}
    for folder, size in needed.items():
        disk = folder.disk()
        if disk is not None:
            device, room[disk[0]] = disk
            there = sum(folder.sizes().values())
            missing[device] = missing.get(device, 0) + max(0, size - there)
    for device, size in missing.items():
        free = room[device]
        if free < size:
            raise ExactcptError(
                f"the disk has too little room: {free / 1e6:,.1f} MB free",
                where=", ".join(folder.url for folder in needed),
                expected=f"about {size / 1e6:,.1f} MB",
                fix="make room, or write to another disk",
            )
