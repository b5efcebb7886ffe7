"""Folders of files, on a local disk or on any filesystem fsspec has a driver for.

A file appears under its name whole or not at all. Locally it is written beside its place, synced,
renamed, and the folder synced. On an object store, where a rename is a copy, it is written to local
scratch first, uploaded under a temporary name, and moved.
"""

import mmap
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

from ..schemas.errors import ExactcptError
from ..schemas.manifest import PartFile

__all__ = ["Folder", "checksum", "is_local_url", "open_input", "resolve"]

TEMPORARY = ".tmp"


def resolve(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a path or URL, and the path inside it.

    Raises:
        ExactcptError: no driver is installed for the URL's protocol.
    """
    # A relative path is another file after a change of the working directory: it is not remembered.
    return _resolve(url) if is_local_url(url) else _resolve_once(url)


def _resolve(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ExactcptError(
            f"no filesystem for {url}: {error}", fix="install the fsspec driver it names"
        ) from None


_resolve_once = lru_cache(maxsize=1 << 12)(_resolve)


def is_local_url(url: str) -> bool:
    """Whether a path or URL is on this machine's disk."""
    return "://" not in url or url.startswith(("file://", "local://"))


def open_input(url: str) -> Any:
    """An input file, opened for reading bytes."""
    fs, path = resolve(url)
    return Path(path).open("rb") if is_local_url(url) else fs.open(path, "rb")


def checksum(path: Path) -> str:
    """xxh3-128 of a local file, 32 hexadecimal digits."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return xxhash.xxh3_128_hexdigest(b"")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return xxhash.xxh3_128_hexdigest(view)


def _resolve_fresh(url: str) -> tuple[Any, str]:
    """As `resolve`, for reading what others write: drivers remember listings."""
    fs, path = resolve(url)
    fs.invalidate_cache()
    return fs, path


@dataclass(frozen=True)
class Folder:
    """A folder by its path or URL. Names of files are relative to it, with forward slashes."""

    url: str

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's disk."""
        return is_local_url(self.url)

    def url_of(self, name: str) -> str:
        """Path or URL of a file."""
        return f"{self.url.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is such a file or subfolder."""
        fs, path = _resolve_fresh(self.url_of(name))
        return fs.exists(path)

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        fs, path = _resolve_fresh(self.url_of(name))
        return fs.cat_file(path)

    def size(self, name: str) -> int | None:
        """Bytes of a file, or None where there is none."""
        fs, path = _resolve_fresh(self.url_of(name))
        try:
            return int(fs.info(path)["size"])
        except FileNotFoundError:
            return None

    def names(self, below: str = "") -> list[str]:
        """All whole files below a subfolder, sorted, as names relative to this folder."""
        return [name for name in self._all_names(below) if not _is_temporary(name)]

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
        """Removes a subfolder, or the folder itself, if it holds nothing; only disks have such."""
        _, path = resolve(self.url_of(name).rstrip("/"))
        if self.is_local:
            with suppress(OSError):
                Path(path).rmdir()

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
        """A local path to write to; the file gets its name when the block ends without an error."""
        if self.is_local:
            _, target = resolve(self.url_of(name))
            with _beside(Path(target)) as scratch:
                yield scratch
        else:
            with tempfile.TemporaryDirectory(prefix="exactcpt-") as directory:
                scratch = Path(directory) / "file"
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
        """Removes what writers that were killed have left. No other job may be running here."""
        for name in self._all_names():
            if _is_temporary(name):
                self.remove(name)

    def disk(self) -> tuple[int, int] | None:
        """Which disk the folder is, or will be, on, and its free bytes; None if it is remote."""
        if not self.is_local:
            return None
        _, path = resolve(self.url)
        existing = Path(path).absolute()
        while not existing.exists():
            existing = existing.parent
        return existing.stat().st_dev, shutil.disk_usage(existing).free

    @contextmanager
    def local_copies(self, names: list[str]) -> Iterator[dict[str, Path]]:
        """Local paths of the named files: the files themselves, or downloads removed at the end."""
        if self.is_local:
            _, root = resolve(self.url)
            yield {name: Path(root) / name for name in names}
            return
        with tempfile.TemporaryDirectory(prefix="exactcpt-") as directory:
            paths = {name: Path(directory) / f"{i}" for i, name in enumerate(names)}
            for name, path in paths.items():
                fs, remote = resolve(self.url_of(name))
                fs.get_file(remote, str(path))
            yield paths


def _is_temporary(name: str) -> bool:
    base = PurePosixPath(name).name
    return base.startswith(".") and base.endswith(TEMPORARY)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.parent / f".{target.name}.{uuid.uuid4().hex}{TEMPORARY}"
    try:
        yield scratch
        _sync(scratch)
        scratch.replace(target)
        _sync(target.parent)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
