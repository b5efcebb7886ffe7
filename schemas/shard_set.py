"""A shard set that is open: finished, unaltered, in a format that this version reads."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from . import shard
from .consistency import check_consistency
from .errors import ExactcptError, FormatError, IncompleteError, UsageError
from .manifest import MANIFEST, SHARD_SET, TOKENIZER, Bucket, Manifest, ShardFile, has_spans, parse
from .mapped import read_segments
from .regular import check_inside, check_regular, hash_regular, read_regular
from .windows import histogram_of, weights_of_codes

__all__ = ["ShardSet", "open_set"]

Stamp = tuple[int, int, int]
"""A file's number on its disk, its size, and when it was written, in ns."""


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """A finished shard set on a local disk.

    Attributes:
        root: its folder.
        manifest: checked against its JSON schema.
        fingerprint: xxh3-128 of the manifest's bytes, which contain the checksum of every shard.
        stamps: what `check_same` compares, by name, for the manifest and every shard.
    """

    root: Path
    manifest: Manifest
    fingerprint: str
    stamps: dict[str, Stamp]

    @property
    def window(self) -> int:
        """Window length in tokens."""
        return self.manifest["settings"]["window"]

    @property
    def buckets(self) -> list[Bucket]:
        """The weight table, one row per bucket."""
        return self.manifest["weights"]["table"]

    @property
    def has_spans(self) -> bool:
        """Whether only some tokens of the documents are supervised."""
        return has_spans(self.manifest)

    @property
    def tokenizer(self) -> Path:
        """The tokenizer that made the tokens."""
        return self.root / TOKENIZER

    @property
    def largest_id(self) -> int:
        """The largest token id that the tokenizer can give."""
        return self.manifest["tokenizer"]["largest_id"]

    def shards(self, split: str) -> list[ShardFile]:
        """The shards of a split, in order."""
        return self.manifest["shards"][split]

    def histogram(self, split: str) -> NDArray[np.int64]:
        """Number of supervised targets in each bucket."""
        return np.array(self.manifest["splits"][split]["histogram"], np.int64)

    def dictionary(self, split: str) -> NDArray[np.float32]:
        """The weight of each code in the shards of a split: 0, then one weight per bucket."""
        return weights_of_codes(self.manifest, split)

    def check_contents(self, rank: int = 0, world: int = 1) -> None:
        """Compares the checksums of the files that training reads; each rank takes some shards.

        Raises:
            FormatError: a file was altered.
        """
        found = hashlib.sha256(read_regular(self.tokenizer)).hexdigest()
        if found != self.manifest["tokenizer"]["sha256"]:
            raise _altered(self.tokenizer, f"sha256 {found}", self.manifest["tokenizer"]["sha256"])
        for entry in self._files()[rank::world]:
            path = self.root / entry["path"]
            found = _checksum(path)
            if found != entry["xxh3_128"]:
                raise _altered(path, f"xxh3-128 {found}", entry["xxh3_128"])
            self.check_same(entry["path"])

    def check_counts(self) -> None:
        """Compares the training windows with the histogram, from which weights follow.

        It needs the lengths of the segments alone, and the supervised spans if there are some.

        Raises:
            FormatError: they differ, or a shard is damaged.
        """
        histogram = np.zeros(len(self.buckets), np.int64)
        for entry in self.shards(shard.TRAIN):
            segments = read_segments(self.root / entry["path"], self.window, self.has_spans)
            histogram += histogram_of(segments, self.window)
        found = histogram.tolist()
        expected = self.histogram(shard.TRAIN).tolist()
        if found != expected:
            raise FormatError(
                f"the shards have the histogram {found}",
                where=str(self.root),
                expected=f"{expected}, as the manifest says",
                fix=_restore(),
            )

    def check_same(self, name: str) -> None:
        """To be called after a shard was opened: checks that it is the one that was checked.

        A job that replaces a set removes the manifest first. A file that was written again with the
        same bytes is the same.

        Raises:
            FormatError: the shard or the whole set was replaced or removed.
        """
        for each in (MANIFEST, name):
            if not self._is_same(each):
                raise FormatError(
                    "the shard set was replaced while it was read",
                    where=str(self.root / each),
                    expected="the file that was there when the run started",
                    fix="bring it back, or start another run with the new set",
                )

    def _is_same(self, name: str) -> bool:
        path = self.root / name
        try:
            if _stamp(path) == self.stamps[name]:
                return True
            found = _checksum(path)
        except FileNotFoundError:
            return False
        checksums = {entry["path"]: entry["xxh3_128"] for entry in self._files()}
        return found == checksums.get(name, self.fingerprint)

    def _files(self) -> list[ShardFile]:
        return [entry for split in shard.SPLITS for entry in self.shards(split)]


def open_set(path: str | Path, say: Callable[[str], None] | None = None) -> ShardSet:
    """Opens a shard set and compares the sizes of its shards with those in the manifest.

    Args:
        path: its folder, or its URL: then a copy on this disk is opened, see `cached_set`.
        say: is told what is copied.

    Raises:
        UsageError: there is no such folder.
        IncompleteError: the set is unfinished, or a file is missing.
        FormatError: the set has another format or a newer version, or a file has another size.
        ExactcptError, RemoteError: as `cached_set`.
    """
    root = _local_folder(str(path), say)
    if not root.is_dir():
        raise UsageError("there is no such folder", where=str(path), expected="a shard set")
    try:
        stamps = {MANIFEST: _stamp(root / MANIFEST)}
        data = read_regular(root / MANIFEST)
    except FileNotFoundError:
        raise IncompleteError(
            "there is no manifest, so the shards are not finished",
            expected=f"a file {MANIFEST}, which is written last",
            where=str(root),
            fix="run the job that writes them again; it continues where it stopped",
        ) from None
    manifest = parse(data, str(root / MANIFEST), SHARD_SET)
    check_consistency(manifest, str(root / MANIFEST))
    stamps |= _checked_sizes(root, manifest)
    fingerprint = xxhash.xxh3_128_hexdigest(data)
    return ShardSet(root=root, manifest=manifest, fingerprint=fingerprint, stamps=stamps)


def _local_folder(path: str, say: Callable[[str], None] | None) -> Path:
    if "://" not in path:
        return Path(path)
    from .cached_set import cached_set
    from .remote import is_local_url, resolve

    return Path(resolve(path)[1]) if is_local_url(path) else cached_set(path, say)


def _checked_sizes(root: Path, manifest: Manifest) -> dict[str, Stamp]:
    """Compares the sizes of all shards with the manifest; returns their stamps."""
    stamps: dict[str, Stamp] = {}
    for entry in [entry for split in shard.SPLITS for entry in manifest["shards"][split]]:
        path = root / entry["path"]
        try:
            check_inside(root, path)
            stamps[entry["path"]] = stamp = _stamp(path)
        except FileNotFoundError:
            raise IncompleteError("a shard is missing", where=str(path), fix=_restore()) from None
        _, size, _ = stamp
        if size != entry["bytes"]:
            raise _altered(path, f"{size:,} bytes", f"{entry['bytes']:,} bytes")
    tokenizer = root / TOKENIZER
    try:
        check_regular(tokenizer)
    except FileNotFoundError:
        raise IncompleteError(
            "the tokenizer is missing", where=str(tokenizer), fix=_restore()
        ) from None
    return stamps


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _altered(path: Path, found: str, expected: str) -> ExactcptError:
    return FormatError(
        f"the file was altered: {found}",
        expected=f"{expected}, as the manifest says",
        where=str(path),
        fix=_restore(),
    )


def _restore() -> str:
    return "see `exactcpt verify`, then restore the file or write the shards again"


def _checksum(path: Path) -> str:
    found = xxhash.xxh3_128()
    hash_regular(path, found)
    return found.hexdigest()
