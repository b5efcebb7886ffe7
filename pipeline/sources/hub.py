"""Data sets of the Hugging Face hub, streamed: NAME[@REVISION][:CONFIG[:SPLIT]]."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ...schemas.errors import ExactcptError, UsageError
from ...schemas.pointers import refuse_pointers
from .formats import format_of
from .named_splits import TRAIN

__all__ = ["Pinned", "pin", "read_shard", "shard_count"]

ROWS_PER_TABLE = 1000


class Pinned(NamedTuple):
    """A version of a data set.

    Attributes:
        pattern: names exactly this version, from any working directory.
        label: the pattern without paths of this machine.
        stamp: changes when the data set does.
    """

    pattern: str
    label: str
    stamp: str


class _Name(NamedTuple):
    name: str
    revision: str | None
    config: str | None
    split: str | None

    def pattern(self, name: str) -> str:
        return f"{name}:{self.config or ''}:{self.split or TRAIN}"


def pin(pattern: str, split: str | None = None) -> Pinned:
    """Resolves the revision to a commit; for a local folder, to the state of its files.

    Args:
        pattern: names the data set.
        split: another way to name the split; `train` if neither says one.

    Raises:
        UsageError: the pattern and `split` name two splits.
        ExactcptError: there is no such data set, or a file in a local folder is a pointer of Git
            LFS.
    """
    parsed = _with_split(_parse(pattern), split, pattern)
    folder = Path(parsed.name).absolute()
    if folder.exists():
        paths = [path for path in [folder, *folder.rglob("*")] if path.is_file()]
        refuse_pointers(path for path in paths if format_of(path.name)[0] is not None)
        files = [path.stat() for path in paths]
        stamp = f"{sum(f.st_size for f in files)} {max((f.st_mtime for f in files), default=0)}"
        return Pinned(parsed.pattern(str(folder)), parsed.pattern(folder.name), stamp)
    import huggingface_hub

    try:
        info = huggingface_hub.HfApi().dataset_info(parsed.name, revision=parsed.revision)
    except Exception as error:
        raise _failed("cannot open the data set", pattern, error) from error
    pinned = parsed.pattern(f"{parsed.name}@{info.sha}")
    return Pinned(pinned, pinned, str(info.sha))


def shard_count(pattern: str) -> int:
    """How many shards can be streamed separately."""
    return int(_open(pattern).num_shards)


def read_shard(pattern: str, index: int) -> Iterator[pa.Table]:
    """Streams the rows of one shard, in order, as Arrow tables."""
    data = _open(pattern)
    shard = data.shard(num_shards=data.num_shards, index=index).with_format("arrow")
    try:
        yield from shard.iter(batch_size=ROWS_PER_TABLE)
    except Exception as error:
        raise _failed("cannot read the data set to its end", pattern, error) from error


def _parse(pattern: str) -> _Name:
    head, *rest = pattern.split(":")
    name, _, revision = (head, "", "") if Path(head).exists() else head.partition("@")
    config = rest[0] if rest else ""
    return _Name(name, revision or None, config or None, rest[1] if len(rest) > 1 else None)


def _with_split(name: _Name, split: str | None, pattern: str) -> _Name:
    if None not in (name.split, split) and name.split != split:
        raise UsageError(
            f"two splits are named: {name.split!r} in the pattern, and split={split}",
            where=pattern,
            fix="name the split once",
        )
    return name._replace(split=split or name.split)


@lru_cache(maxsize=8)
def _open(pattern: str) -> Any:
    import datasets

    name, revision, config, split = _parse(pattern)
    try:
        return datasets.load_dataset(name, config, split=split, revision=revision, streaming=True)
    except Exception as error:
        raise _failed("cannot open the data set", pattern, error) from error


def _failed(what: str, pattern: str, error: Exception) -> ExactcptError:
    """One error for the many kinds that datasets and the hub's client raise."""
    return ExactcptError(
        f"{what}: {' '.join(str(error).split())[:300]}",
        where=pattern,
        expected="NAME[@REVISION][:CONFIG[:SPLIT]] of a data set that datasets can stream",
    )
