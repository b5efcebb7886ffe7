"""A shard set opened for training: finished, unaltered, in a format that this version reads."""

import hashlib
import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from ...schemas import shard
from ...schemas.errors import ExactcptError, FormatError, IncompleteError, UsageError
from ...schemas.manifest import MANIFEST, SHARD_SET, TOKENIZER, Bucket, Manifest, ShardFile, parse

__all__ = ["ShardSet", "open_set"]


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """A finished shard set on a local disk.

    Attributes:
        root: its folder.
        manifest: checked against its JSON schema.
        fingerprint: xxh3-128 of the manifest's bytes, which contain the checksum of every shard.
    """

    root: Path
    manifest: Manifest
    fingerprint: str

    @property
    def window(self) -> int:
        """Window length in tokens."""
        return self.manifest["settings"]["window"]

    @property
    def buckets(self) -> list[Bucket]:
        """The weight table, one row per bucket."""
        return self.manifest["weights"]["table"]

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
        weights = [row["weight"] if split == shard.TRAIN else 1.0 for row in self.buckets]
        return np.array([0.0, *weights], np.float32)

    def check_contents(self, rank: int = 0, world: int = 1) -> None:
        """Compares the checksums of the files that training reads; each rank takes some shards.

        Raises:
            FormatError: a file was altered.
        """
        found = hashlib.sha256(self.tokenizer.read_bytes()).hexdigest()
        if found != self.manifest["tokenizer"]["sha256"]:
            raise _altered(self.tokenizer, f"sha256 {found}", self.manifest["tokenizer"]["sha256"])
        shards = [entry for split in shard.SPLITS for entry in self.shards(split)]
        for entry in shards[rank::world]:
            path = self.root / entry["path"]
            found = _checksum(path)
            if found != entry["xxh3_128"]:
                raise _altered(path, f"xxh3-128 {found}", entry["xxh3_128"])


def open_set(path: str | Path) -> ShardSet:
    """Opens a shard set and compares the sizes of its shards with those in the manifest.

    Raises:
        UsageError: the set is not a folder on a local disk.
        IncompleteError: the set is unfinished, or a file is missing.
        FormatError: the set has another format or a newer version, or a file has another size.
    """
    if "://" in str(path):
        raise UsageError(
            f"the shards are not on a local disk: {path}",
            expected="a folder that can be memory-mapped",
            fix="copy the shard set to the machine that trains",
        )
    root = Path(path)
    if not root.is_dir():
        raise UsageError("there is no such folder", where=str(path), expected="a shard set")
    try:
        data = (root / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise IncompleteError(
            "there is no manifest, so the shards are not finished",
            expected=f"a file {MANIFEST}, which is written last",
            where=str(root),
            fix="run the job that writes them again; it continues where it stopped",
        ) from None
    manifest = parse(data, str(root / MANIFEST), SHARD_SET)
    opened = ShardSet(root=root, manifest=manifest, fingerprint=xxhash.xxh3_128_hexdigest(data))
    _check_sizes(opened)
    return opened


def _check_sizes(opened: ShardSet) -> None:
    for split in shard.SPLITS:
        for entry in opened.shards(split):
            path = opened.root / entry["path"]
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                raise IncompleteError(
                    "a shard is missing", where=str(path), fix=_restore()
                ) from None
            if size != entry["bytes"]:
                raise _altered(path, f"{size:,} bytes", f"{entry['bytes']:,} bytes")
    if not opened.tokenizer.is_file():
        raise IncompleteError(
            "the tokenizer is missing", where=str(opened.tokenizer), fix=_restore()
        )


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
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return xxhash.xxh3_128_hexdigest(view)
