"""Copies the files of a shard set and swaps the dictionary of weights on the way.

The dictionary of a shard is a few float32 in one place of the file, and nothing else depends on the
weights. So a copy with other values there is, byte for byte, what packing again would write.
"""

import errno
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from ...schemas.errors import FormatError
from ...schemas.manifest import MANIFEST, ShardFile
from ...schemas.shard import weight_dictionary
from ..files.storage import Folder, resolve
from ..shard_set.manifest import SEE_VERIFY

__all__ = ["Swap", "can_clone", "copy_file", "dictionary_swap"]

CHUNK = 1 << 20
"""Bytes read, hashed and written at a time. They stay in the cache of a core."""
FICLONE = 0x40049409
"""Linux's ioctl for a file that shares another's blocks until one of them is written to."""
NO_CLONES = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM}


@dataclass(frozen=True)
class Swap:
    """Bytes that replace those at an offset of a file."""

    offset: int
    data: bytes

    def apply(self, chunk: memoryview, at: int) -> None:
        """Replaces those of the bytes that are in a chunk, which begins at offset `at`."""
        start, stop = max(at, self.offset), min(at + len(chunk), self.offset + len(self.data))
        if start < stop:
            chunk[start - at : stop - at] = self.data[start - self.offset : stop - self.offset]


def dictionary_swap(path: Path, where: str, old: Sequence[float], new: Sequence[float]) -> Swap:
    """The place of a shard's dictionary in its file, and the new bytes for it.

    Args:
        path: the local file.
        where: how errors name it.
        old: the weights that it must have, one per bucket.
        new: the weights that it gets, one per bucket.

    Raises:
        FormatError: it is not a shard, or has another dictionary.
    """
    found: Any = weight_dictionary(list(old))
    wanted: Any = weight_dictionary(list(new))
    try:
        with pa.memory_map(str(path)) as view:
            offset, dictionary = _dictionary(view)
            if not dictionary.equals(found):
                raise FormatError(
                    f"the shard's dictionary is {dictionary.to_pylist()}",
                    where=where,
                    expected=f"{found.to_pylist()}, as the manifest's weights say",
                    fix=SEE_VERIFY,
                )
    except (pa.ArrowException, ValueError) as error:
        raise FormatError(f"the shard cannot be read: {error}", where=where) from None
    return Swap(offset, wanted.buffers()[1].to_pybytes())


def _dictionary(view: Any) -> tuple[int, pa.Array]:
    """The offset in a file of its only dictionary's values, and the values."""
    start = view.read_buffer(1).address
    reader = pa.ipc.open_file(view)
    weights: Any = reader.get_batch(0).column("loss_weight")
    values = weights.flatten().dictionary
    if reader.stats.num_dictionary_batches != 1 or values.offset or values.null_count:
        raise ValueError("it does not have exactly one dictionary without nulls")
    offset = values.buffers()[1].address - start
    if not 0 < offset <= view.size() - 4 * len(values):
        raise ValueError("its dictionary is compressed")
    return offset, values


def copy_file(
    entry: ShardFile,
    source: Folder,
    out: Folder,
    old: Sequence[float],
    new: Sequence[float],
    check: Callable[[Path, str], None] | None = None,
) -> ShardFile:
    """Copies a file of a shard set.

    Args:
        entry: the file's description in the manifest.
        source: the shard set.
        out: where the copy goes.
        old, new: weights before and after, one per bucket; both empty for a file without weights.
        check: is called with the local file, and its name for errors, before it is copied.

    Returns:
        The description of the copy.

    Raises:
        FormatError: the file is not the one that the manifest describes.
    """
    name, where = entry["path"], source.url_of(entry["path"])
    with source.local_copies([name]) as local:
        if check is not None:
            check(local[name], where)
        swap = dictionary_swap(local[name], where, old, new) if old else None
        with out.create(name) as scratch:
            found, written = _copy(local[name], scratch, swap)
            if found != entry["xxh3_128"]:
                raise FormatError(
                    "a file of the shard set is damaged",
                    where=where,
                    expected=f"xxh3-128 {entry['xxh3_128']}, not {found}",
                    fix="write the set again with `exactcpt pack --overwrite`",
                )
    return {**entry, "xxh3_128": written}


def _copy(source: Path, target: Path, swap: Swap | None) -> tuple[str, str]:
    """Copies a local file; returns the checksums of both."""
    before, after = xxhash.xxh3_128(), xxhash.xxh3_128()
    chunk = memoryview(bytearray(CHUNK))
    with source.open("rb", buffering=0) as reads, target.open("w+b", buffering=0) as writes:
        cloned = _clone(reads.fileno(), writes.fileno())
        at = 0
        while n := (writes if cloned else reads).readinto(chunk):
            part = chunk[:n]
            before.update(part)
            if swap is not None:
                swap.apply(part, at)
                after.update(part)
            if not cloned:
                _write_all(writes, part)
            at += n
        if cloned and swap is not None:
            os.pwrite(writes.fileno(), swap.data, swap.offset)
    return before.hexdigest(), (before if swap is None else after).hexdigest()


def can_clone(source: Folder, out: Folder) -> bool:
    """Whether copies take no space: both folders are on one filesystem that clones files."""
    if not (source.is_local and out.is_local):
        return False
    manifest, folder = resolve(source.url_of(MANIFEST))[1], resolve(out.url)[1]
    with Path(manifest).open("rb") as reads, tempfile.TemporaryFile(dir=folder) as writes:
        return _clone(reads.fileno(), writes.fileno())


def _write_all(file: Any, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]


def _clone(source: int, target: int) -> bool:
    """Makes one open file a clone of another; returns whether the filesystem could."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in NO_CLONES:
            return False
        raise
    return True
