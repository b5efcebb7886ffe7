"""The files of a token store as packing reads them: those that its manifest describes, or an error.

An index is small: it is hashed whenever it is read. A part is read by many shards. A copy of a
remote part is hashed when it has been downloaded. A local part is hashed once for the whole job, by
one of the shards of the group that has its first copy: then the memory that the disk's files are
cached in is warm for the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from ...schemas.errors import ExactcptError
from ...schemas.manifest import MANIFEST
from ...schemas.sizes import plural
from ..files.storage import Folder
from ..tokens.store import PartIndex, damaged, read_index, refuse_damaged
from .documents import PartRef
from .shards import ShardTask

__all__ = [
    "check_parts",
    "checked_index",
    "manifest_digest",
    "part_index",
    "refuse_replaced",
    "with_checks",
]


def part_index(part: PartRef, store: Folder) -> PartIndex:
    """Reads the index of a part.

    Raises:
        FormatError: it is not the one that the manifest describes.
    """
    with store.local_copies([part.index.path]) as local:
        return checked_index(local[part.index.path], part, store)


def checked_index(path: Path, part: PartRef, store: Folder) -> PartIndex:
    """Reads the index of a part from its local file, or a local copy of it.

    Raises:
        FormatError: it is not the one that the manifest describes, is unreadable, or does not have
            the documents and tokens of its part.
    """
    refuse_damaged(path, part.index, store)
    where = store.url_of(part.index.path)
    try:
        index = read_index(path)
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise damaged(where, f"the index of a part; reading it: {error}") from None
    found = len(index.lengths), int(index.lengths.sum(dtype=np.int64))
    if found != (part.documents, part.tokens) or index.lengths.min() < 1:
        expected = f"{_counts(part.documents, part.tokens)}, as the manifest says"
        raise damaged(where, f"{expected}, not {_counts(*found)}")
    return index


def _counts(documents: int, tokens: int) -> str:
    return f"{plural(documents, 'document')} with {plural(tokens, 'token')}"


def with_checks(
    shards: Sequence[ShardTask],
    parts: Sequence[PartRef],
    summaries: Sequence[Mapping[str, Any]],
) -> list[ShardTask]:
    """Gives every part to one shard, which will check it.

    Args:
        shards: all shards of the set.
        parts: all parts of the store.
        summaries: those of all plans; each names the parts of which its group has the first copy.
    """
    group_of = {name: one["group"] for one in summaries for name in one.get("parts", ())}
    at_work: dict[int | None, list[int]] = {None: list(range(len(shards)))}
    for i, shard in enumerate(shards):
        at_work.setdefault(shard.group, []).append(i)
    mine: list[list[PartRef]] = [[] for _ in shards]
    for number, part in enumerate(parts):
        # The documents of a group without windows were all dropped; any shard may check its parts.
        takers = at_work.get(group_of.get(part.part), at_work[None])
        if takers:
            mine[takers[number % len(takers)]].append(part)
    return [replace(s, checks=tuple(checks)) for s, checks in zip(shards, mine, strict=True)]


def check_parts(parts: Sequence[PartRef], store: Folder) -> None:
    """Hashes parts of a local store; copies of a remote store are hashed when they are made.

    Raises:
        FormatError: a part is not the one that the manifest describes.
    """
    if store.is_local:
        for part in parts:
            with store.local_copies([part.file.path]) as local:
                refuse_damaged(local[part.file.path], part.file, store)


def manifest_digest(store: Folder) -> str | None:
    """The xxh3-128 of a store's manifest; None if there is none."""
    try:
        return xxhash.xxh3_128_hexdigest(store.read(MANIFEST))
    except FileNotFoundError:
        return None


@contextmanager
def refuse_replaced(store: Folder, digest: str | None) -> Iterator[None]:
    """Checks, when a block that reads a store ends, that the store is still the same.

    Args:
        store: the token store.
        digest: its `manifest_digest` when the block began.

    Raises:
        ExactcptError: it has been replaced; also where the block has met an error, because that is
            its cause.
    """
    try:
        yield
    except Exception:
        with suppress(OSError):  # the block's own error says more
            _refuse_replaced(store, digest)
        raise
    _refuse_replaced(store, digest)


def _refuse_replaced(store: Folder, digest: str | None) -> None:
    if manifest_digest(store) != digest:
        raise ExactcptError(
            "the token store has been replaced while it was read",
            where=store.url,
            expected="a store that stays as it is",
            fix="run the command again once no job writes there; `pack` then needs --overwrite",
        )
