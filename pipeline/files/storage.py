"""Folders of files, on a local disk or on any filesystem that fsspec has a driver for.

A file appears under its name whole or not at all. Locally it is written under a temporary name in
the same folder, synced and renamed, and then the folder is synced. On an object store, where a
rename is a copy, it is written to a local temporary file first, uploaded under a temporary name,
and moved.
"""

import errno
import io
import mmap
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

from ...schemas.disk import TEMPORARY, is_temporary, sync_folder, written_whole
from ...schemas.errors import ExactcptError
from ...schemas.manifest import PartFile
from ...schemas.regular import check_inside, open_regular, read_regular
from .scratch import scratch_folder

__all__ = ["Folder", "RemoteReadError", "checksum", "is_local_url", "open_input", "resolve"]

COPY_BYTES = 16 << 20
"""Bytes per request when a remote file is copied."""
TRIES = 3
"""Requests for a range of a remote file that may come back incomplete."""


def resolve(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a path or URL, and the path inside it.

    Raises:
        ExactcptError: no driver is installed for the URL's protocol.
    """
    # A relative path means another file once the working directory changes: it is not cached.
    return _resolve(url) if is_local_url(url) else _resolve_once(url)


def _resolve(url: str) -> tuple[Any, str]:
    import fsspec

    if "://" not in url:
        # A path may have `::` in it, which in a URL leads from one filesystem to the next.
        fs: Any = fsspec.filesystem("file")
        return fs, fs._strip_protocol(url)
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ExactcptError(
            f"no filesystem for {url}: {error}",
            fix="install the fsspec driver that the message names",
        ) from None


_resolve_once = lru_cache(maxsize=1 << 12)(_resolve)


def is_local_url(url: str) -> bool:
    """Whether a path or URL is on this machine's disk."""
    return "://" not in url or url.startswith(("file://", "local://"))


def open_input(url: str) -> Any:
    """Opens an input file for reading bytes."""
    fs, path = resolve(url)
    if is_local_url(url):
        return open_regular(Path(path))
    if "memory" in fs.protocol:
        # Its `open` returns the same object to all threads, with one position.
        return io.BytesIO(fs.cat_file(path))
    return _RemoteStream(fs.open(path, "rb"), url)


class RemoteReadError(OSError):
    """A driver failed to read a remote file, which says nothing about the file's content."""


class _RemoteStream:
    """A file opened by a driver, whose errors become RemoteReadErrors.

    Drivers raise errors of many kinds when a server is busy, among them plain OSErrors, which Arrow
    raises for damaged files. This way the two can be told apart.
    """

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_RemoteStream":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def read(self, *size: int) -> bytes:
        with self._telling():
            return self._file.read(*size)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise RemoteReadError(errno.EIO, what, self._url) from error


def checksum(path: Path) -> str:
    """The xxh3-128 of a local file, as 32 hexadecimal digits."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return xxhash.xxh3_128_hexdigest(b"")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return xxhash.xxh3_128_hexdigest(view)


def _resolve_fresh(url: str) -> tuple[Any, str]:
    """Like `resolve`, for reading what others write: drops the listings that the driver caches."""
    fs, path = resolve(url)
    fs.invalidate_cache()
    return fs, path


@dataclass(frozen=True)
class Folder:
    """A folder, by its path or URL; names of files are relative to it, with forward slashes."""

    url: str

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's disk."""
        return is_local_url(self.url)

    def url_of(self, name: str) -> str:
        """Path or URL of a file."""
        return f"{self.url.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is a file or subfolder of this name."""
        fs, path = _resolve_fresh(self.url_of(name))
        return fs.exists(path)

    def read(self, name: str) -> bytes:
        """All bytes of a file.

        Raises:
            FormatError: it is on the disk, and a pipe or something else that is not a file.
        """
        fs, path = _resolve_fresh(self.url_of(name))
        return read_regular(Path(path)) if self.is_local else fs.cat_file(path)

    def stamp(self, name: str) -> str:
        """What changes when a file is replaced: its size, when it was written, and the like."""
        fs, path = _resolve_fresh(self.url_of(name))
        return fs.ukey(path)

    def check_own(self, name: str) -> None:
        """Checks that a file that a manifest names is a file of the folder; remote ones always are.

        Raises:
            FormatError: it is a pipe or something else that is not a file, or a link leads out.
        """
        if self.is_local:
            _, root = resolve(self.url)
            check_inside(Path(root), Path(root) / name)

    def size(self, name: str) -> int | None:
        """The size of a file in bytes; None if there is no such file."""
        fs, path = _resolve_fresh(self.url_of(name))
        try:
            return int(fs.info(path)["size"])
        except FileNotFoundError:
            return None

    def names(self, below: str = "") -> list[str]:
        """The names of all complete files in a subfolder and below, sorted."""
        return [name for name in self._all_names(below) if not is_temporary(name)]

    def _all_names(self, below: str = "") -> list[str]:
        _, root = resolve(self.url.rstrip("/"))
        fs, path = _resolve_fresh(self.url_of(below).rstrip("/"))
        if self.is_local:
            found = [f"{at}/{file}" for at, _, files in os.walk(path) for file in files]
        else:
            found = fs.find(path)
        return sorted(str(PurePosixPath(file).relative_to(root)) for file in found)

    def remove(self, name: str) -> None:
        """Removes a file if it is there."""
        fs, path = resolve(self.url_of(name))
        with suppress(FileNotFoundError):
            fs.rm_file(path)

    def remove_tree(self, name: str = "") -> None:
        """Removes a subfolder, or the folder itself, with all it holds."""
        fs, path = resolve(self.url_of(name).rstrip("/"))
        with suppress(FileNotFoundError):
            fs.rm(path, recursive=True)

    def remove_if_empty(self, name: str = "") -> None:
        """Removes a subfolder, or the folder itself, if it is empty; object stores have none."""
        _, path = resolve(self.url_of(name).rstrip("/"))
        if self.is_local:
            with suppress(OSError):
                Path(path).rmdir()

    def keep_removed(self) -> None:
        """Makes sure that no name removed from the folder itself comes back after a power cut."""
        if self.is_local:
            sync_folder(Path(resolve(self.url)[1]))

    def has_folders(self, name: str) -> bool:
        """Whether a subfolder has subfolders of its own; object stores have none."""
        path = Path(resolve(self.url_of(name))[1])
        return self.is_local and path.is_dir() and any(each.is_dir() for each in path.iterdir())

    def remove_empty_below(self, name: str) -> None:
        """Removes the empty folders below a subfolder; object stores have none."""
        _, path = resolve(self.url_of(name))
        if self.is_local:
            for at, _, _ in os.walk(path, topdown=False):
                with suppress(OSError):
                    if at != path:
                        Path(at).rmdir()

    def write(self, name: str, data: bytes) -> PartFile:
        """Writes a file whole."""
        with self.create(name) as scratch:
            scratch.write_bytes(data)
        return {"path": name, "bytes": len(data), "xxh3_128": xxhash.xxh3_128_hexdigest(data)}

    def describe(self, name: str, scratch: Path) -> PartFile:
        """Name, size and checksum of a file that is still at its local scratch path."""
        return {"path": name, "bytes": scratch.stat().st_size, "xxh3_128": checksum(scratch)}

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """A local path to write to; the file gets its name if the block ends without an error."""
        if self.is_local:
            _, target = resolve(self.url_of(name))
            with written_whole(Path(target)) as scratch:
                yield scratch
        else:
            with scratch_folder() as directory:
                scratch = directory / "file"
                yield scratch
                self._upload(scratch, name)

    def _upload(self, scratch: Path, name: str) -> None:
        fs, target = resolve(self.url_of(name))
        parent, _, base = target.rpartition("/")
        temporary = f"{parent}/.{base}.{uuid.uuid4().hex}{TEMPORARY}"
        fs.makedirs(parent, exist_ok=True)
        try:
            fs.put_file(str(scratch), temporary)
            fs.mv(temporary, target)
        except BaseException:
            with suppress(Exception):
                fs.rm_file(temporary)
            raise

    def remove_temporaries(self) -> None:
        """Removes the files that killed writers left behind. No other job may be running here."""
        for name in self._all_names():
            if is_temporary(name):
                self.remove(name)

    def disk(self) -> tuple[int, int] | None:
        """The number of the disk that has, or will have, the folder, and the bytes free on it.

        None if the folder is remote, or on a file system that does not know its size.
        """
        if not self.is_local:
            return None
        _, path = resolve(self.url)
        existing = Path(path).absolute()
        while not existing.exists():
            existing = existing.parent
        usage = shutil.disk_usage(existing)
        return (existing.stat().st_dev, usage.free) if usage.total else None

    @contextmanager
    def local_copies(self, names: list[str]) -> Iterator[dict[str, Path]]:
        """Local paths of some files: the files themselves, or downloads removed at the end."""
        if self.is_local:
            _, root = resolve(self.url)
            yield {name: Path(root) / name for name in names}
            return
        with scratch_folder() as directory:
            paths = {name: directory / f"{i}" for i, name in enumerate(names)}
            for name, path in paths.items():
                self._download(name, path)
            yield paths

    def _download(self, name: str, path: Path) -> None:
        remote = _RemoteFile(self.url_of(name))
        with path.open("wb") as copy:
            while data := remote.read(COPY_BYTES):
                copy.write(data)

    def open_ranges(self, name: str) -> Any:
        """Opens a file to read ranges of it; no more of a remote file is fetched."""
        if self.is_local:
            return Path(resolve(self.url_of(name))[1]).open("rb")
        return _RemoteFile(self.url_of(name))


class _RemoteFile(io.RawIOBase):
    """A remote file of which exactly the ranges that are read are requested.

    A driver that does not notice a broken connection returns too few bytes. Such a range is
    requested again.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._fs, self._path = _resolve_fresh(url)
        self._size = int(self._fs.info(self._path)["size"])
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        start = min(self._position, self._size)
        stop = self._size if size < 0 else min(start + size, self._size)
        self._position = stop
        return self._range(start, stop) if stop > start else b""

    def _range(self, start: int, stop: int) -> bytes:
        found = 0
        for _ in range(TRIES):
            data = self._fs.cat_file(self._path, start=start, end=stop)
            if len(data) == stop - start:
                return data
            found = len(data)
        raise ExactcptError(
            f"a remote file was read only in part: {found:,} of {stop - start:,} bytes from byte "
            f"{start:,}",
            where=self._url,
            expected=f"{self._size:,} bytes in all, its listed size",
            fix="run the same command again: it continues where it stopped",
        )
