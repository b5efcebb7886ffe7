"""The files of a shard set or store: their names, sizes, checksums and bytes.

The manifest says what each file has to be. A file that differs is reported and not read: its
content would mislead.
"""

import hashlib
import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from ...schemas import shard
from ...schemas.errors import FormatError, IncompleteError
from ...schemas.manifest import MANIFEST, TOKENIZER, Kind, Manifest, parse
from ...schemas.regular import check_inside, read_regular
from ...schemas.remote import RemoteFile, is_local_url, resolve
from ...schemas.sizes import plural
from .arrays import cause
from .encoding import check_vocabulary
from .report import Problems

__all__ = ["Folder", "Meter", "check_folder", "named_files"]


class Meter:
    """Files and bytes done, and the total bytes."""

    def __init__(self, progress: Callable[[int, int], None] | None = None) -> None:
        self.total = self.done = self.files = 0
        self._progress = progress

    def advance(self, size: int, files: int = 1) -> None:
        """Counts files of `size` bytes in all."""
        self.files += files
        self.done += size
        self.total = max(self.total, self.done)
        if self._progress is not None:
            self._progress(self.done, self.total)


class Folder:
    """A store or shard set, on any filesystem."""

    def __init__(self, url: str, problems: Problems, meter: Meter) -> None:
        self._fs, root = resolve(url)
        self._url = url
        self.root = root.rstrip("/")
        self._is_local = is_local_url(url)
        self._problems = problems
        self._meter = meter

    def manifest(self, kind: Kind) -> tuple[Manifest, str]:
        """The manifest and its xxh3-128.

        Raises:
            IncompleteError: there is none.
            FormatError: it is not a file, not JSON, of another format, or not as its schema says.
        """
        where = f"{self.root}/{MANIFEST}"
        try:
            data = read_regular(Path(where)) if self._is_local else self._fs.cat_file(where)
        except FileNotFoundError:
            raise IncompleteError(
                "there is no manifest: the job has not finished, or this is another folder",
                expected=f"the file {MANIFEST}, which is written last",
                where=self._url,
                fix="check the path, or run the job again: it continues where it stopped",
            ) from None
        return parse(data, where, kind), xxhash.xxh3_128_hexdigest(data)

    def listing(self, below: str) -> list[str]:
        """Files below a folder that are not hidden or temporary, relative to the root."""
        found = self._fs.find(f"{self.root}/{below}")
        paths = sorted(str(path)[len(self.root) + 1 :] for path in found)
        return [path for path in paths if not any(p.startswith(".") for p in path.split("/"))]

    def buffer(self, path: str) -> pa.Buffer:
        """A file's bytes, memory-mapped.

        Raises:
            FormatError: it is not a file, or leads out of the folder.
            OSError: it is missing or cannot be read.
        """
        if self._is_local:
            check_inside(Path(self.root), Path(self.root) / path)
        with self._fs.open(f"{self.root}/{path}", "rb") as file:
            if self._is_local:
                return _mapped(file.fileno())
            with tempfile.TemporaryFile() as copy:
                while chunk := file.read(1 << 24):
                    copy.write(chunk)
                copy.flush()
                return _mapped(copy.fileno())

    def open_ranges(self, path: str) -> Any:
        """Opens a file to read ranges of it; no more of a remote file is fetched."""
        if self._is_local:
            return pa.BufferReader(self.buffer(path))
        return RemoteFile(f"{self._url.rstrip('/')}/{path}")

    def checked(self, entry: Any, check: str = "files") -> pa.Buffer | None:
        """A file that the manifest names, or None if it is not the one that was written."""
        path: str = entry["path"]
        size = plural(entry["bytes"], "byte")
        try:
            data = self.buffer(path)
        except FileNotFoundError:
            self._problems.add(check, path, "the file is missing", size)
            return None
        except FormatError as error:
            self._problems.add(check, error.where or path, error.found, error.expected)
            return None
        except OSError as error:
            self._problems.add(check, path, f"the file cannot be read: {error}")
            return None
        self._meter.advance(data.size)
        if data.size != entry["bytes"]:
            self._problems.add(check, path, plural(data.size, "byte"), size)
            return None
        digest = xxhash.xxh3_128_hexdigest(memoryview(data))
        if digest != entry["xxh3_128"]:
            self._problems.add(check, f"{path}: xxh3-128", digest, entry["xxh3_128"])
            return None
        return data

    def check_tokenizer(self, claims: Any, check: str) -> None:
        """Checks the tokenizer's file against what the manifest says of the tokenizer."""
        try:
            data = self.buffer(TOKENIZER).to_pybytes()
        except (FormatError, OSError) as error:
            found = f"the file cannot be read: {cause(error)}"
            self._problems.add(check, TOKENIZER, found, "the tokenizer")
            return
        found = hashlib.sha256(data).hexdigest()
        self._problems.compare(check, f"{TOKENIZER}: sha256", found, claims["sha256"])
        if found == claims["sha256"]:
            check_vocabulary(data, claims, check, self._problems)


def _mapped(descriptor: int) -> pa.Buffer:
    try:
        return pa.py_buffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    except ValueError:  # an empty file cannot be mapped
        return pa.py_buffer(b"")


def named_files(manifest: Manifest) -> list[Any]:
    """The manifest's entries for the files of a shard set."""
    shards = [entry for split in shard.SPLITS for entry in manifest["shards"][split]]
    return [*shards, *manifest["documents"]]


def check_folder(folder: Folder, manifest: Manifest, problems: Problems) -> None:
    """Checks that there is no file beside the named ones, and that the tokenizer is the same."""
    named = {entry["path"] for entry in named_files(manifest)}
    for below in (*shard.SPLITS, "documents"):
        for path in folder.listing(below):
            if path not in named:
                problems.add("files", path, "a file that the manifest does not name")
    folder.check_tokenizer(manifest["tokenizer"], "files")
