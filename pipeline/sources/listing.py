"""The files of a source, as they are when the job begins."""

import os
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ...schemas.errors import ExactcptError
from ...schemas.pointers import MAX_POINTER_BYTES, refuse_pointers
from ..core.choices import Format
from ..files.storage import is_local_url, open_input, resolve
from . import hub
from .companions import INDEX, Companion, companions, data_file, loss_mask
from .content import HEAD_BYTES, how_to_read
from .formats import COMPRESSED, SUFFIXES, Compression, format_of
from .matching import info_of, is_local, match, what_is_there
from .mds_index import first_missing, parse_index
from .records import Fields
from .sifting import Found, check_split, sift
from .tables import table_around

__all__ = [
    "InputFile",
    "Listing",
    "Source",
    "find_files",
    "identity",
    "is_unchanged",
    "with_companions",
]

COMPRESSION_RATIO = 3
"""How many bytes of text a byte of a compressed file holds, roughly."""
STAMPS = ("mtime", "ETag", "etag", "LastModified", "created", "size")
"""Entries of fsspec's file info that change when the file does, the best first."""
BARE_IDS = (
    "restore the index; a .bin file that is nothing but ids has none: save them with "
    "numpy.save('NEW.npy', numpy.fromfile('FILE', 'uint16')), or whatever their type is"
)
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[^:]+)?(:.*)?")
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
        beside: the files that belong to it, such as its index, see companions.py.
    """

    source: str
    path: str
    url: str
    bytes: int | None
    stamp: str
    format: Format
    compression: Compression | None
    beside: "tuple[InputFile, ...]" = ()

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
            unknown, its content is elsewhere, it can be read only once, or a file that belongs to
            it is missing.
        OSError: a folder cannot be listed.
    """
    if source.format == "hub":
        return Listing(files=[_hub_file(source)])
    fs, pattern = resolve(source.pattern)
    fs.invalidate_cache()
    info = info_of(fs, pattern)
    _refuse_stream(source, fs, pattern, info)
    describe = _Describing(source, fs)
    if info is not None and info["type"] == "file":
        name, by_name = PurePosixPath(pattern).name, format_of(pattern)[0]
        if source.split is not None:
            check_split(source.name, source.pattern, name, source.split)
        return Listing(files=[describe(name, pattern, info, source.format or by_name)])
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
            fix="; ".join([*_about_hub(source), what_is_there(fs, root), *chosen.warnings]),
        )
    files = [
        describe(name, paths[name], found[paths[name]], chosen.format) for name in chosen.names
    ]
    if chosen.format == "mds" and not folder.wild:
        _refuse_missing_shards(source.name, fs, files)
    return Listing(files=files, warnings=tuple(chosen.warnings))


def _about_hub(source: Source) -> list[str]:
    """Advice if a pattern that matches nothing looks like the name of a data set of the hub."""
    if not HUB_NAME.fullmatch(source.pattern) or format_of(source.pattern)[0] is not None:
        return []
    return ["if it is a data set of the Hugging Face hub, add ,format=hub"]


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


class _Describing:
    """Describes files of a source, each with those that belong to it."""

    def __init__(self, source: Source, fs: Any) -> None:
        self._source, self._fs = source.name, fs
        self._known: dict[str, InputFile | None] = {}

    def __call__(
        self, name: str, path: str, info: dict[str, Any] | None, of: Format | None
    ) -> InputFile:
        data = data_file(path, of)
        if data != path and (info := info_of(self._fs, data)) is None:
            raise ExactcptError(
                f"source {self._source!r}: a file has no tokens beside it",
                where=path,
                expected=f"{PurePosixPath(data).name} in the same folder",
                fix="restore the file with the tokens, or remove what is left of it",
            )
        mask = loss_mask(data, of)
        if mask is not None and info_of(self._fs, mask) is not None:
            raise ExactcptError(
                f"source {self._source!r}: a loss mask says which tokens are no targets, and would "
                "be ignored",
                where=mask,
                expected="documents of which every token is a target",
                fix="move the mask elsewhere if that is what you want",
            )
        file = _describe(self._source, self._fs, data_file(name, of), data, info, of)
        beside = (self._beside(each, file) for each in companions(data, of))
        return replace(file, beside=tuple(each for each in beside if each is not None))

    def _beside(self, companion: Companion, file: InputFile) -> InputFile | None:
        path = companion.path
        if path not in self._known:
            info = info_of(self._fs, path)
            name = str(PurePosixPath(file.path).with_name(PurePosixPath(path).name))
            self._known[path] = (
                _describe(self._source, self._fs, name, path, info, file.format) if info else None
            )
        found = self._known[path]
        if found is None and companion.needed:
            raise ExactcptError(
                f"source {self._source!r}: a file has no index beside it",
                where=file.url,
                expected=f"{PurePosixPath(path).name}, which {companion.writer} writes with it",
                fix=BARE_IDS if file.format == "megatron" else "restore the index",
            )
        return found


def _refuse_missing_shards(source: str, fs: Any, files: Sequence[InputFile]) -> None:
    """Refuses a folder that lacks a shard that its index lists."""
    names: dict[InputFile, set[str]] = {}
    for file in files:
        names.setdefault(file.beside[0], set()).add(PurePosixPath(file.path).name)
    for index, there in names.items():
        data = fs.cat_file(resolve(index.url)[1])
        missing = first_missing(parse_index(data, index.url), there)
        if missing is not None:
            raise ExactcptError(
                f"source {source!r}: {INDEX} lists a shard that is not there, or is compressed in "
                f"a way that cannot be read: {missing}",
                where=index.url,
                expected="every shard, as .mds, or compressed with zstd, gzip or bzip2",
                fix="restore the shard; a glob such as DIR/*.mds reads those that are there",
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
            f"may follow those of {', '.join(COMPRESSED)})",
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
    if is_local(fs) and not os.access(path, os.R_OK):
        open_input(path).close()  # says why, before work begins that may take hours
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


def with_companions(files: Iterable[InputFile]) -> list[InputFile]:
    """The files and those that belong to them, each once."""
    return list(dict.fromkeys(each for file in files for each in (file, *file.beside)))


def is_unchanged(file: InputFile) -> bool:
    """Whether a local file, and what belongs to it, have the size and time of the listing."""
    return all(_is_unchanged(each) for each in (file, *file.beside))


def _is_unchanged(file: InputFile) -> bool:
    if file.format == "hub" or not is_local_url(file.url):
        return True
    now = Path(file.url).stat()
    return now.st_size == file.bytes and str(now.st_mtime) == file.stamp
