"""A shard set on a server, copied to this machine once: files whole and checked, for all processes.

CACHE/shard-sets/DIGEST/        manifest.json, tokenizer.json, train/, validation/
CACHE/shard-sets/DIGEST.lock    held by the process that copies; the others wait for it

DIGEST is the xxh3-128 of the manifest, which has the checksum of every file. So another set is
another folder, and a copy never goes out of date. The manifest is written last.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from . import shard
from .consistency import check_consistency
from .disk import is_temporary, make_folder, written_whole
from .errors import ExactcptError, FormatError, IncompleteError
from .manifest import MANIFEST, SHARD_SET, TOKENIZER, Manifest, parse
from .remote import COPY_BYTES, RemoteFile, resolve_fresh
from .sizes import plural

__all__ = ["CACHE", "cache_folder", "cached_set"]

CACHE = "EXACTCPT_CACHE"
"""Environment variable that names the folder of all copies."""
AT_ONCE = 8
"""Files that are copied together."""
SPARE_BYTES = 64 << 20
"""Room to be left on the disk."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class _File:
    """A file to be copied: its name in the set, and what it has to be."""

    name: str
    bytes: int
    digest: str

    def new_digest(self) -> Any:
        """The digest that the manifest has of it."""
        return hashlib.sha256() if self.name == TOKENIZER else xxhash.xxh3_128()


def cache_folder() -> Path:
    """Where copies are kept: EXACTCPT_CACHE, or `exactcpt` in the user's folder for caches."""
    if named := os.environ.get(CACHE):
        return Path(named).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "exactcpt"


def cached_set(url: str, say: Say | None = None) -> Path:
    """The folder on this machine with a copy of a shard set, which is made if there is none.

    The documents table is not copied.

    Args:
        url: of the shard set.
        say: is told what is copied.

    Raises:
        IncompleteError: the set is unfinished, or a file is missing.
        FormatError: the set has another format or a newer version, or a file was altered.
        RemoteError: the server does not answer as it should.
        ExactcptError: the disk has too little room.
    """
    url = url.rstrip("/")
    data = _manifest(url)
    where = f"{url}/{MANIFEST}"
    manifest = parse(data, where, SHARD_SET)
    check_consistency(manifest, where)
    files = _files(manifest, url)
    folder = cache_folder() / "shard-sets" / xxhash.xxh3_128_hexdigest(data)
    if _is_whole(folder, files):
        return folder
    import filelock

    make_folder(folder)
    with filelock.FileLock(f"{folder}.lock"):
        if not _is_whole(folder, files):
            _copy(url, folder, files, say)
            with written_whole(folder / MANIFEST) as scratch:
                scratch.write_bytes(data)
    return folder


def _manifest(url: str) -> bytes:
    fs, path = resolve_fresh(f"{url}/{MANIFEST}")
    try:
        return fs.cat_file(path)
    except FileNotFoundError:
        raise IncompleteError(
            "there is no manifest: the shards are not finished, or this is another folder",
            expected=f"a file {MANIFEST}, which is written last",
            where=url,
            fix="check the address, or run the job that writes them again; it continues where it "
            "stopped",
        ) from None


def _files(manifest: Manifest, url: str) -> list[_File]:
    """The files that training reads."""
    entries = [entry for split in shard.SPLITS for entry in manifest["shards"][split]]
    shards = [_File(each["path"], each["bytes"], each["xxh3_128"]) for each in entries]
    fs, path = resolve_fresh(f"{url}/{TOKENIZER}")
    try:
        size = int(fs.info(path)["size"])
    except FileNotFoundError:
        raise _missing(url, TOKENIZER) from None
    return [_File(TOKENIZER, size, manifest["tokenizer"]["sha256"]), *shards]


def _is_whole(folder: Path, files: list[_File]) -> bool:
    """Whether the manifest is there, and with it all files, in full size."""
    return (folder / MANIFEST).is_file() and not _absent(folder, files)


def _absent(folder: Path, files: list[_File]) -> list[_File]:
    def is_there(file: _File) -> bool:
        path = folder / file.name
        return path.is_file() and path.stat().st_size == file.bytes

    return [file for file in files if not is_there(file)]


def _copy(url: str, folder: Path, files: list[_File], say: Say | None) -> None:
    for left in [path for path in folder.rglob("*") if is_temporary(path.name)]:
        left.unlink()  # by a process that was killed
    absent = _absent(folder, files)
    size = sum(file.bytes for file in absent)
    _require_room(folder, size)
    if say is not None:
        number = plural(len(absent), "file")
        say(f"copying {number}, {size / 1e6:,.1f} MB, from {url} to {folder}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [pool.submit(_copy_file, url, folder, file) for file in absent]
        try:
            for each in found:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SPARE_BYTES:
        raise ExactcptError(
            f"the disk has too little room for a copy of the shards: {free / 1e6:,.1f} MB free",
            where=str(folder),
            expected=f"about {(size + SPARE_BYTES) / 1e6:,.1f} MB",
            fix=f"make room, or name a folder on another disk with {CACHE}",
        )


def _copy_file(url: str, folder: Path, file: _File) -> None:
    where = f"{url}/{file.name}"
    digest, size = file.new_digest(), 0
    with written_whole(folder / file.name) as scratch:
        try:
            remote = RemoteFile(where)
        except FileNotFoundError:
            raise _missing(url, file.name) from None
        with scratch.open("wb") as copy:
            while data := remote.read(COPY_BYTES):
                copy.write(data)
                digest.update(data)
                size += len(data)
        if (size, digest.hexdigest()) != (file.bytes, file.digest):
            raise FormatError(
                f"the file was altered: {size:,} bytes with the digest {digest.hexdigest()}",
                where=where,
                expected=f"{file.bytes:,} bytes with {file.digest}, as the manifest says",
                fix="see `exactcpt verify`, then restore the file or write the shards again",
            )


def _missing(url: str, name: str) -> IncompleteError:
    return IncompleteError(
        "a file of the shard set is missing",
        where=f"{url}/{name}",
        fix="see `exactcpt verify`, then restore the file or write the shards again",
    )
