"""Which files a source has."""

import glob
import json
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...schemas.errors import ExactcptError
from ..core.choices import FORMATS, Format
from ..files.storage import is_local_url, resolve
from . import hub
from .formats import SUFFIXES, Choice, Compression, choose, format_of
from .records import Fields

__all__ = ["InputFile", "Listing", "Source", "find_files", "identity", "is_unchanged"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One corpus of the job.

    Attributes:
        name: what tables and manifests call it.
        pattern: a file, folder or glob, local or as a URL; for `hub` the data set's name, as
            hub.py reads it.
        fields: what is read of a record.
        format: the format of all its files, or None to go by their names.
    """

    name: str
    pattern: str
    fields: Fields
    format: Format | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """A file, as it was when the job listed it.

    Attributes:
        source: its source's name.
        path: relative to the part of the source's pattern that has no wildcard.
        url: where it is read.
        bytes: its size, None for a data set of the hub.
        stamp: modification time, etag or revision: what changes when the file does.
        format: how it is read.
        compression: of the whole file, or None.
    """

    source: str
    path: str
    url: str
    bytes: int | None
    stamp: str
    format: Format
    compression: Compression | None

    @property
    def work(self) -> int:
        """Roughly how many bytes of text it holds, for dividing work."""
        return (self.bytes or 0) * (3 if self.compression else 1)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a source.

    Attributes:
        files: in the order of their paths.
        warning: which files beside them are not read, if any.
    """

    files: list[InputFile]
    warning: str | None = None


def find_files(source: Source) -> Listing:
    """The files of a source; formats.py says which of a folder are.

    Raises:
        ExactcptError: nothing matches, files of several formats do, or a file is of no known one.
    """
    if source.format == "hub":
        return Listing(files=[_hub_file(source)])
    fs, pattern = resolve(source.pattern)
    fs.invalidate_cache()
    if (info := _info(fs, pattern)) is not None and info["type"] == "file":
        name, by_name = PurePosixPath(pattern).name, format_of(pattern)[0]
        return Listing(
            files=[_describe(source.name, fs, name, pattern, info, source.format or by_name)]
        )
    root, found = _match(fs, pattern, info)
    names = {path: path[len(root) :].lstrip("/") for path in sorted(found)}
    choice = choose(list(names), source.format)
    if len(choice.formats) > 1:
        raise _several_formats(source, choice, names)
    if not choice.formats or not names:
        raise ExactcptError(
            f"source {source.name!r} matches no file",
            where=source.pattern,
            expected="a file, a folder with files of a known format, or a glob that matches some",
            fix=_what_is_there(fs, root),
        )
    [(chosen, paths)] = choice.formats.items()
    return Listing(
        files=[
            _describe(source.name, fs, names[p], p, found[p] or _info(fs, p), chosen)
            for p in sorted(paths)
        ],
        warning=_left_out(source, chosen, [names[path] for path in choice.left_out]),
    )


def _hub_file(source: Source) -> InputFile:
    pinned = hub.pin(source.pattern)
    return InputFile(
        source=source.name,
        path=pinned.label,
        url=pinned.pattern,
        bytes=None,
        stamp=pinned.stamp,
        format="hub",
        compression=None,
    )


def _several_formats(source: Source, choice: Choice, names: Mapping[str, str]) -> ExactcptError:
    found = [
        f"{len(some):,} {kind} ({_shown([names[path] for path in some])})"
        for kind, some in sorted(choice.formats.items())
    ]
    return ExactcptError(
        f"source {source.name!r} has files of several formats: {', '.join(found)}",
        where=source.pattern,
        expected="one format a source",
        fix="add ,format=F for those of one format, or a source for each with a glob such as *.txt",
    )


def _left_out(source: Source, chosen: Format, names: Sequence[str]) -> str | None:
    if not names:
        return None
    files = "1 file is" if len(names) == 1 else f"{len(names):,} files are"
    return f"source {source.name!r} is read as {chosen}; {files} left out: {_shown(names)}"


def _shown(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


Found = dict[str, dict[str, Any] | None]
"""What fsspec tells of each file; None where it is not known yet."""


def _match(fs: Any, pattern: str, info: dict[str, Any] | None) -> tuple[str, Found]:
    """The folder that paths are relative to, and the files that match."""
    parts = pattern.split("/")
    wild = [i for i, part in enumerate(parts) if any(c in part for c in "*?[")]
    if info is not None:
        return pattern, _without_hidden(_files_below(fs, pattern), pattern)
    if wild:
        root = "/".join(parts[: wild[0]])
        return root, _without_hidden(_glob(fs, pattern), root)
    return "/".join(parts[:-1]), {}


def _info(fs: Any, path: str) -> dict[str, Any] | None:
    """What fsspec tells of a path, or of what it links to; None where there is nothing."""
    try:
        return fs.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _glob(fs: Any, pattern: str) -> Found:
    # fsspec does not follow links to folders.
    if _is_local(fs):
        found = glob.iglob(pattern, recursive=True)  # noqa: PTH207 (nor does pathlib)
        return dict.fromkeys(path for path in found if not Path(path).is_dir())
    return {p: info for p, info in fs.glob(pattern, detail=True).items() if info["type"] == "file"}


def _files_below(fs: Any, folder: str) -> Found:
    """All files of a folder; of a data set that `datasets` saved, its data files."""
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
    return dict.fromkeys(_walk(folder)) if _is_local(fs) else fs.find(folder, detail=True)


def _walk(folder: str) -> Iterator[str]:
    """Files of a local folder and of the folders that links in it lead to, each folder once."""
    seen: set[str] = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        if os.path.realpath(at) in seen:
            folders.clear()
        else:
            seen.add(os.path.realpath(at))
            yield from (f"{at}/{file}" for file in files)


def _is_local(fs: Any) -> bool:
    return "file" in fs.protocol


def _without_hidden(found: Found, root: str) -> Found:
    return {p: info for p, info in found.items() if "/." not in f"/{p[len(root) :]}"}


def _what_is_there(fs: Any, folder: str) -> str:
    try:
        names = sorted(PurePosixPath(path).name for path in fs.ls(folder, detail=False))
    except (OSError, ValueError):
        return f"{folder or '.'} does not exist: check the path"
    return f"{folder or '.'} has: {_shown(names, 10) or 'nothing'}"


def _describe(
    source: str,
    fs: Any,
    name: str,
    path: str,
    info: dict[str, Any] | None,
    file_format: Format | None,
) -> InputFile:
    if file_format is None:
        raise ExactcptError(
            f"source {source!r}: cannot tell the format of a file by its name",
            where=path,
            expected=f"a name that ends in {', '.join(SUFFIXES)} (.gz or .zst after it)",
            fix=f"add ,format=F to the source, F one of {', '.join(FORMATS)}",
        )
    if info is None:
        raise ExactcptError(
            "a link leads to no file", where=path, fix="mend the link, or remove it"
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ExactcptError(
            "the name of a file is not UTF-8", where=ascii(path), fix="rename it"
        ) from None
    stamp = next(
        info[key]
        for key in ("mtime", "ETag", "etag", "LastModified", "created", "size")
        if key in info
    )
    return InputFile(
        source=source,
        path=name,
        url=path if _is_local(fs) else fs.unstrip_protocol(path),
        bytes=int(info["size"]) if info["size"] is not None else None,
        stamp=str(stamp),
        format=file_format,
        compression=format_of(path)[1],
    )


def identity(file: InputFile) -> Hashable:
    """What two names of one file have in common: device and inode, or the URL."""
    if file.format == "hub" or not is_local_url(file.url):
        return file.url
    status = Path(file.url).stat()
    return status.st_dev, status.st_ino


def is_unchanged(file: InputFile) -> bool:
    """Whether a local file still has the size and time it was listed with."""
    if file.format == "hub" or not is_local_url(file.url):
        return True
    now = Path(file.url).stat()
    return now.st_size == file.bytes and str(now.st_mtime) == file.stamp
