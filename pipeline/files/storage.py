"""Folders of files, on a local disk or on any filesystem that fsspec has a driver for.

A file appears under its name whole or not at all. Locally it is written under a temporary name in
the same folder, synced and renamed, and then the folder is synced. What goes to a server is written
to a local temporary file first and uploaded. An object store publishes an upload at its end; to any
other server it goes under a temporary name, and is moved.
"""

import io
import mmap
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import xxhash

from ...schemas.disk import TEMPORARY, is_temporary, sync_folder, written_whole
from ...schemas.manifest import PartFile
from ...schemas.regular import check_inside, open_regular, read_regular
from ...schemas.remote import (
    CONNECTIONS,
    COPY_BYTES,
    RemoteFile,
    is_local_url,
    publishes_whole,
    resolve,
    resolve_fresh,
)
from ...schemas.remote_errors import RemoteError, no_bucket
from .publishing import require_publishable
from .scratch import scratch_folder

__all__ = ["Folder", "checksum", "is_local_url", "open_input", "resolve"]

T = TypeVar("T")

AT_ONCE = CONNECTIONS
"""Requests to a server that are under way together, where there are many small ones."""
DOWNLOADS_AT_ONCE = 16
"""Those of large files: each holds up to COPY_BYTES in memory."""


def open_input(url: str) -> Any:
    """Opens an input file for reading bytes."""
    fs, path = resolve(url)
    if is_local_url(url):
        return open_regular(Path(path))
    if "memory" in fs.protocol:
        # Its `open` returns the same object to all threads, with one position.
        return io.BytesIO(fs.cat_file(path))
    return fs.open(path, "rb")


def checksum(path: Path) -> str:
    """The xxh3-128 of a local file, as 32 hexadecimal digits."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return xxhash.xxh3_128_hexdigest(b"")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return xxhash.xxh3_128_hexdigest(view)


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
        fs, path = resolve_fresh(self.url_of(name))
        return fs.exists(path)

    def create_if_absent(self, name: str, data: bytes) -> bool:
        """Writes a small remote file unless there is one; whether it was written.

        Of two that call this together, one is told no: on S3 and Google's store. Others, and
        servers that only resemble S3, may tell both yes.
        """
        fs, path = resolve(self.url_of(name))
        if not publishes_whole(self.url):
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise no_bucket(self.url_of(name)) from error
        return True

    def read_if_there(self, name: str) -> bytes | None:
        """All bytes of a small file; None if there is none. One request, where `exists` makes two.

        Raises:
            FormatError: as `read`.
        """
        try:
            if self.is_local:
                return self.read(name)
            fs, path = resolve_fresh(self.url_of(name))
            try:
                return fs.cat_file(path, start=0)
            except RemoteError:  # an empty file has no range that a server could send
                return self.read(name)
        except FileNotFoundError:
            return None

    def for_all(
        self, names: Iterable[str], do: Callable[[str], T], at_once: int = AT_ONCE
    ) -> list[T]:
        """The results of a function for names of files; of remote ones, many at once, in order."""
        if self.is_local:
            return [do(name) for name in names]
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(do, names))

    def read(self, name: str) -> bytes:
        """All bytes of a file.

        Raises:
            FormatError: it is on the disk, and a pipe or something else that is not a file.
        """
        fs, path = resolve_fresh(self.url_of(name))
        return read_regular(Path(path)) if self.is_local else fs.cat_file(path)

    def stamp(self, name: str) -> str:
        """What changes when a file is replaced: its size, when it was written, and the like."""
        fs, path = resolve_fresh(self.url_of(name))
        return fs.ukey(path)

    def stamps(self, below: str) -> dict[str, str]:
        """The stamps of all complete files in a subfolder and below; see `stamp`."""
        if self.is_local:
            return {name: self.stamp(name) for name in self.names(below)}
        _, root = resolve(self.url.rstrip("/"))
        fs, path = resolve_fresh(self.url_of(below).rstrip("/"))
        found = {
            str(PurePosixPath(file).relative_to(root)): repr(sorted(info.items(), key=str))
            for file, info in fs.find(path, detail=True).items()
        }
        return {name: found[name] for name in sorted(found) if not is_temporary(name)}

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
        fs, path = resolve_fresh(self.url_of(name))
        try:
            return int(fs.info(path)["size"])
        except FileNotFoundError:
            return None

    def sizes(self, below: str = "") -> dict[str, int]:
        """The size in bytes of every complete file in a subfolder and below."""
        if self.is_local:
            known = {name: self.size(name) for name in self.names(below)}
            return {name: size for name, size in known.items() if size is not None}
        _, root = resolve(self.url.rstrip("/"))
        fs, path = resolve_fresh(self.url_of(below).rstrip("/"))
        found = {
            str(PurePosixPath(file).relative_to(root)): int(info["size"] or 0)
            for file, info in fs.find(path, detail=True).items()
        }
        return {name: found[name] for name in sorted(found) if not is_temporary(name)}

    def names(self, below: str = "") -> list[str]:
        """The names of all complete files in a subfolder and below, sorted."""
        return [name for name in self._all_names(below) if not is_temporary(name)]

    def _all_names(self, below: str = "") -> list[str]:
        _, root = resolve(self.url.rstrip("/"))
        fs, path = resolve_fresh(self.url_of(below).rstrip("/"))
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

    def remove_all(self, names: list[str]) -> None:
        """Removes files that are there."""
        if self.is_local or not names:
            for name in names:
                self.remove(name)
            return
        fs, _ = resolve(self.url)
        with suppress(FileNotFoundError):
            fs.rm([resolve(self.url_of(name))[1] for name in names])

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
                require_publishable()
        else:
            with scratch_folder() as directory:
                scratch = directory / "file"
                yield scratch
                require_publishable()
                self._upload(scratch, name)

    def _upload(self, scratch: Path, name: str) -> None:
        fs, target = resolve(self.url_of(name))
        if publishes_whole(self.url):
            try:
                fs.put_file(str(scratch), target)
            except FileNotFoundError as error:
                raise no_bucket(self.url_of(name)) from error
            return
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
        self.remove_all([name for name in self._all_names() if is_temporary(name)])

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
            self.for_all(names, lambda name: self._download(name, paths[name]), DOWNLOADS_AT_ONCE)
            yield paths

    def _download(self, name: str, path: Path) -> None:
        remote = RemoteFile(self.url_of(name))
        with path.open("wb") as copy:
            while data := remote.read(COPY_BYTES):
                copy.write(data)

    def open_ranges(self, name: str) -> Any:
        """Opens a file to read ranges of it; no more of a remote file is fetched."""
        if self.is_local:
            return Path(resolve(self.url_of(name))[1]).open("rb")
        return RemoteFile(self.url_of(name))
