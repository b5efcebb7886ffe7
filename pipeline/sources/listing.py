"""The files of a source, as they are when the job begins."""

import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...schemas.errors import ExactcptError
from ...schemas.pointers import MAX_POINTER_BYTES, refuse_pointers
from ..core.choices import Format
from ..files.storage import is_local_url, resolve
from . import hub
from .content import HEAD_BYTES, how_to_read
from .formats import SUFFIXES, Compression, format_of
from .matching import info_of, is_local, match, what_is_there
from .records import Fields
from .sifting import Found, check_split, sift
from .tables import table_around

__all__ = ["InputFile", "Listing", "Source", "find_files", "identity", "is_unchanged"]

COMPRESSION_RATIO = 3
"""How many bytes of text a byte of a compressed file holds, roughly."""
STAMPS = ("mtime", "ETag", "etag", "LastModified", "created", "size")
"""Entries of fsspec's file info that change when the file does, the best first."""
STREAMS = ("/dev/std", "/dev/fd/", "/proc/")
"""What begins like this may be another file to every process. `/dev/shm` has ordinary files."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One corpus of the job.

    Attributes:
        name: what tables and manifests call it.
        pattern: a file, folder or glob, as a local path or URL; for the format `hub` the name of
            a data set, see hub.py.
        fields: which fields of a record are read.
        format: the format of all its files, or None to go by their names.
        split: the split that is read, `all` for every file, or None for training data.
    """

    name: str
    pattern: str
    fields: Fields
    format: Format | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """A file, as it was when the job listed it.

    Attributes:
        source: the name of its source.
        path: relative to the part of the source's pattern that has no wildcard.
        url: where it is read.
        bytes: its size; None for a data set of the hub.
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
        """Roughly how many bytes of text it holds, for dividing the work."""
        return (self.bytes or 0) * (COMPRESSION_RATIO if self.compression else 1)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a source.

    Attributes:
        files: sorted by path.
        warnings: name the files beside them that are not read, and why.
    """

    files: list[InputFile]
    warnings: tuple[str, ...] = ()


def find_files(source: Source) -> Listing:
    """Lists the files of a source; sifting.py says which files of a folder belong to it.

    Raises:
        ExactcptError: no file matches, files of several formats do, the format of a file is
            unknown, its content is elsewhere, or it can be read only once.
        OSError: a folder cannot be listed.
    """
    if source.format == "hub":
        return Listing(files=[_hub_file(source)])
    fs, pattern = resolve(source.pattern)
    fs.invalidate_cache()
    info = info_of(fs, pattern)
    _refuse_stream(source, fs, pattern, info)
    if info is not None and info["type"] == "file":
        name, by_name = PurePosixPath(pattern).name, format_of(pattern)[0]
        if source.split is not None:
            check_split(source.name, source.pattern, name, source.split)
        file = _describe(source.name, fs, name, pattern, info, source.format or by_name)
        return Listing(files=[file])
    root, found = match(fs, pattern, info)
    paths = {path[len(root) :].lstrip("/"): path for path in sorted(found)}
    folder = Found(
        source=source.name,
        where=source.pattern,
        wild="" if info is not None else pattern[len(root) :].lstrip("/"),
        files={name: found[path] for name, path in paths.items()},
        read=lambda name: fs.cat_file(paths[name]),
    )
    chosen = sift(folder, source.format, source.split)
    if chosen.names and (kind := table_around(fs, root)) is not None:
        chosen.warn(f"its files are part of a {kind} table; they may hold rows of older versions")
    if not chosen.names:
        raise ExactcptError(
            f"source {source.name!r} matches no file",
            where=source.pattern,
            expected="a file, a folder with files of a known format, or a glob that matches some",
            fix="; ".join([what_is_there(fs, root), *chosen.warnings]),
        )
    return Listing(
        files=[
            _describe(source.name, fs, name, paths[name], found[paths[name]], chosen.format)
            for name in chosen.names
        ],
        warnings=tuple(chosen.warnings),
    )


def _refuse_stream(source: Source, fs: Any, path: str, info: dict[str, Any] | None) -> None:
    if (source.pattern == "-" and info is None) or (
        is_local(fs)
        and info is not None
        and info["type"] != "directory"
        and (info["type"] == "other" or path.startswith(STREAMS))
    ):
        raise ExactcptError(
            f"source {source.name!r} is no regular file, but a pipe, a device or a socket",
            where=source.pattern,
            expected="a file on a disk: it is read more than once, by several processes",
            fix="write the data to a file first",
        )


def _hub_file(source: Source) -> InputFile:
    pinned = hub.pin(source.pattern, source.split)
    return InputFile(
        source=source.name,
        path=pinned.label,
        url=pinned.pattern,
        bytes=None,
        stamp=pinned.stamp,
        format="hub",
        compression=None,
    )


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
            f"source {source!r}: the name of a file does not show its format",
            where=path,
            expected=f"a name that ends in {', '.join(SUFFIXES)} (.gz, .zst, .bz2 or .xz "
            "may follow, but not after .parquet and .arrow)",
            fix=how_to_read(PurePosixPath(path).name, _head(fs, path)),
        )
    if is_local(fs) and (info is None or info["size"] <= MAX_POINTER_BYTES):
        refuse_pointers([Path(path)])
    if info is None:
        is_link = is_local(fs) and Path(path).is_symlink()
        raise ExactcptError(
            "a link points to nothing" if is_link else "a file is missing that belongs here",
            where=path,
            fix="repair the link, or remove it" if is_link else "restore the file",
        )
    _refuse_name_outside_utf8(path)
    return InputFile(
        source=source,
        path=name,
        url=path if is_local(fs) else fs.unstrip_protocol(path),
        bytes=int(info["size"]) if info["size"] is not None else None,
        stamp=str(next(info[key] for key in STAMPS if key in info)),
        format=file_format,
        compression=format_of(path)[1],
    )


def _head(fs: Any, path: str) -> bytes:
    """The first bytes of a file, for advice about it; nothing if they cannot be read."""
    try:
        return fs.cat_file(path, start=0, end=HEAD_BYTES)
    except OSError:
        return b""


def _refuse_name_outside_utf8(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ExactcptError(
            "the name of a file is not UTF-8", where=ascii(path), fix="rename the file"
        ) from None


def identity(file: InputFile) -> Hashable:
    """Equal for all names of one file: device and inode, or the URL."""
    if file.format == "hub" or not is_local_url(file.url):
        return file.url
    status = Path(file.url).stat()
    # Some network drives have no inodes, and say that all are 0.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(file.url)


def is_unchanged(file: InputFile) -> bool:
    """Whether a local file still has the size and time it was listed with."""
    if file.format == "hub" or not is_local_url(file.url):
        return True
    now = Path(file.url).stat()
    return now.st_size == file.bytes and str(now.st_mtime) == file.stamp
