"""Finds the files that a path, folder or glob matches, locally or on a filesystem of fsspec."""

import glob
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ...schemas.errors import ExactcptError

__all__ = ["Matches", "first_names", "info_of", "is_local", "match", "what_is_there"]

Matches = dict[str, dict[str, Any] | None]
"""What fsspec says about each file, by path; None where it has not been asked yet."""


def match(fs: Any, pattern: str, info: dict[str, Any] | None) -> tuple[str, Matches]:
    """The folder that paths are relative to, and the files that match; hidden files never do.

    Args:
        fs: the filesystem.
        pattern: a folder or a glob.
        info: what `info_of` returns for the pattern taken as a path.
    """
    if info is not None:
        return pattern, _without_hidden(_files_below(fs, pattern), pattern)
    parts = pattern.split("/")
    wild = [i for i, part in enumerate(parts) if any(c in part for c in "*?[")]
    if wild:
        root = "/".join(parts[: wild[0]])
        return root, _without_hidden(_glob(fs, pattern), root)
    return "/".join(parts[:-1]), {}


def info_of(fs: Any, path: str) -> dict[str, Any] | None:
    """What fsspec says about a path, or what it links to; None if nothing is there."""
    try:
        return fs.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


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


def _files_below(fs: Any, folder: str) -> Matches:
    """All files in a folder; in a folder that the `datasets` library saved, its data files."""
    if fs.exists(f"{folder}/dataset_dict.json"):
        splits = sorted(PurePosixPath(p).name for p in fs.ls(folder, detail=False) if fs.isdir(p))
        raise ExactcptError(
            "this folder is a saved DatasetDict of several splits",
            where=folder,
            fix=f"name one of its folders: {', '.join(splits)}",
        )
    if fs.exists(f"{folder}/state.json") and fs.exists(f"{folder}/dataset_info.json"):
        state = json.loads(fs.cat_file(f"{folder}/state.json"))
        return dict.fromkeys(f"{folder}/{file['filename']}" for file in state["_data_files"])
    return dict.fromkeys(_walk(folder)) if is_local(fs) else fs.find(folder, detail=True)


def _walk(folder: str) -> Iterator[str]:
    """Files in a local folder and in the folders that links in it point to, each folder once."""
    seen: set[str] = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        if os.path.realpath(at) in seen:
            folders.clear()
        else:
            seen.add(os.path.realpath(at))
            yield from (f"{at}/{file}" for file in files)


def _glob(fs: Any, pattern: str) -> Matches:
    # fsspec does not follow links to folders.
    if is_local(fs):
        found = glob.iglob(pattern, recursive=True)  # noqa: PTH207 (nor does pathlib)
        return dict.fromkeys(path for path in found if not Path(path).is_dir())
    try:
        matched = fs.glob(pattern, detail=True)
    except ValueError as error:
        raise ExactcptError(
            f"the pattern is not a glob: {error}",
            where=pattern,
            expected="** only between slashes, as in a/**/*.jsonl",
        ) from None
    return {path: info for path, info in matched.items() if info["type"] == "file"}


def _without_hidden(found: Matches, root: str) -> Matches:
    return {p: info for p, info in found.items() if "/." not in f"/{p[len(root) :]}"}
