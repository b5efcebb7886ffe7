"""Finds the files that a path, folder or glob matches, locally or on a filesystem of fsspec.

A glob matches files and folders, and a folder stands for all files in it, as when it is named
alone. What cannot be listed is an error: a folder that is passed over would be data that is lost.
Only where nothing is read anyway, such as in a disk's `lost+found`, it is none.
"""

import errno
import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem
from fsspec.utils import glob_translate

from ...schemas.errors import UsageError
from .leftovers import is_hidden, is_leftover
from .saved import saved_files

__all__ = ["Matches", "first_names", "info_of", "is_local", "match", "what_is_there"]

Matches = dict[str, dict[str, Any] | None]
"""What fsspec says about each file, by path; None if nothing is there, such as for a dead link."""
Refuse = Callable[[OSError], None]
"""Raises the error of a local folder that cannot be listed, if files in it would be read."""


def match(fs: Any, pattern: str, info: dict[str, Any] | None) -> tuple[str, Matches]:
    """The folder that paths are relative to, and the files that match.

    Args:
        fs: the filesystem.
        pattern: a folder or a glob.
        info: what `info_of` returns for the pattern taken as a path.

    Raises:
        UsageError: the pattern is not one that can be matched.
        ExactcptError: a folder was saved by `datasets` with several splits, or is damaged.
        OSError: a folder cannot be listed.
    """
    if info is not None:
        return pattern, _files_of_folder(fs, pattern, partial(_refuse, pattern, ""))
    parts = pattern.split("/")
    wild = [i for i, part in enumerate(parts) if _is_wild(part)]
    if not wild:
        return "/".join(parts[:-1]), {}
    if any("**" in part and part != "**" for part in parts):
        raise UsageError(
            "** is not alone between two slashes", where=pattern, expected="such as DIR/**/*.jsonl"
        )
    root = "/".join(parts[: wild[0]])
    refuse = partial(_refuse, root, "/".join(parts[wild[0] :]))
    if "**" in parts:
        return root, _matching_at_any_depth(fs, parts, refuse)
    return root, _matching(fs, pattern, refuse)


def info_of(fs: Any, path: str) -> dict[str, Any] | None:
    """What fsspec says about a path, or what it links to; None if nothing is there."""
    try:
        return fs.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return None
        raise


def is_local(fs: Any) -> bool:
    """Whether a filesystem is this machine's disk."""
    return "file" in fs.protocol


def what_is_there(fs: Any, folder: str) -> str:
    """Says what a folder holds, for an error about a pattern that matches nothing in it."""
    try:
        names = sorted(PurePosixPath(path).name for path in fs.ls(folder, detail=False))
    except (OSError, ValueError):
        return f"check the path; {folder or '.'} does not exist"
    return f"check the path; {folder or '.'} has: {first_names(names, 10) or 'nothing'}"


def first_names(names: Sequence[str], most: int = 3) -> str:
    """The first few of many names: "a, b, c and 1,234 more"."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _is_wild(part: str) -> bool:
    return any(c in part for c in "*?[")


def _refuse(root: str, wild: str, error: OSError) -> None:
    name = f"{str(error.filename)[len(root) :].strip('/')}/file"
    if not (is_hidden(name, wild) or is_leftover(name, wild)):
        raise error


def _files_of_folder(fs: Any, folder: str, refuse: Refuse) -> Matches:
    """All files in a folder; in a folder that the `datasets` library saved, its data files."""
    saved = saved_files(fs, folder)
    if saved is not None:
        return {path: info_of(fs, path) for path in saved}
    return _files_below(fs, folder, refuse)


def _files_below(fs: Any, folder: str, refuse: Refuse) -> Matches:
    if is_local(fs):
        return {path: info_of(fs, path) for path in _walk(folder, refuse)}
    driver = fs.driver
    own = driver._find if issubclass(driver, AsyncFileSystem) else driver.find
    if own in (AsyncFileSystem._find, AbstractFileSystem.find):
        # These pass over folders that they fail to list.
        return dict(_listed_below(fs, folder))
    found: Any = fs.find(folder, detail=True)
    return found


def _walk(folder: str, refuse: Refuse) -> Iterator[str]:
    """Files in a local folder and in the folders that links in it point to, each folder once."""
    seen: set[str] = set()
    for at, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        folders.sort()
        if os.path.realpath(at) in seen:
            folders.clear()
        else:
            seen.add(os.path.realpath(at))
            yield from (f"{at.rstrip('/')}/{file}" for file in files)


def _listed_below(fs: Any, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for info in fs.ls(folder, detail=True):
        if info["type"] != "directory":
            yield info["name"], info
        elif info["name"].rstrip("/") != folder.rstrip("/"):
            yield from _listed_below(fs, info["name"])


def _matching(fs: Any, pattern: str, refuse: Refuse) -> Matches:
    """What matches a glob without `**`."""
    if is_local(fs):
        # fsspec does not follow links to folders.
        found = {path: info_of(fs, path) for path in glob.iglob(pattern)}  # noqa: PTH207
        _list_folders_of(pattern, refuse)
    else:
        found = fs.glob(pattern, detail=True)
    matches: Matches = {}
    for path, info in found.items():
        is_folder = info is not None and info["type"] == "directory"
        matches |= _files_of_folder(fs, path, refuse) if is_folder else {path: info}
    return matches


def _list_folders_of(pattern: str, refuse: Refuse) -> None:
    """Lists the folders that a local glob looks into, as `glob` passes over what it cannot read."""
    parts = pattern.split("/")
    for i, part in enumerate(parts):
        if _is_wild(part):
            for folder in glob.iglob(f"{'/'.join(parts[:i])}/"):  # noqa: PTH207
                try:
                    os.scandir(folder).close()
                except OSError as error:
                    refuse(error)


def _matching_at_any_depth(fs: Any, parts: Sequence[str], refuse: Refuse) -> Matches:
    """What matches a glob with `**`, or is in a folder that matches."""
    deep = parts.index("**")
    above = "/".join(parts[:deep]) or "/"
    if not _is_wild(above):
        tops = [above] if info_of(fs, above) is not None else []
    elif is_local(fs):
        _list_folders_of(above, refuse)
        tops = sorted(path for path in glob.iglob(above) if Path(path).is_dir())  # noqa: PTH207
    else:
        tops = [p for p, each in fs.glob(above, detail=True).items() if each["type"] == "directory"]
    matches = re.compile(glob_translate("/".join(parts))).match
    return {
        path: info
        for top in tops
        for path, info in _files_below(fs, top, refuse).items()
        if any(matches(part) for part in _with_folders(path, len(top)))
    }


def _with_folders(path: str, start: int) -> Iterator[str]:
    """A path, and those of the folders that lead to it from position `start` on."""
    yield path
    for i, c in enumerate(path[start + 1 :], start + 1):
        if c == "/":
            yield path[:i]
