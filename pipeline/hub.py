"""Data sets by their Hugging Face name, streamed with `datasets`: NAME[@REVISION][:CONFIG[:SPLIT]]."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..schemas.errors import ExactcptError

__all__ = ["pin", "read_shard", "shard_count"]

ROWS_PER_TABLE = 1000


class _Name(NamedTuple):
    name: str
    revision: str | None
    config: str | None
    split: str


def pin(pattern: str) -> tuple[str, str]:
    """The pattern with its revision resolved to a commit, and that commit.

    A folder or script on this machine has no commit; it stays as it is.
    """
    parsed = _parse(pattern)
    if Path(parsed.name).exists():
        return pattern, "local"
    import huggingface_hub

    try:
        info = huggingface_hub.HfApi().dataset_info(parsed.name, revision=parsed.revision)
    except Exception as error:
        raise _cannot_open(pattern, error) from error
    return f"{parsed.name}@{info.sha}:{parsed.config or ''}:{parsed.split}", str(info.sha)


def shard_count(pattern: str) -> int:
    """How many shards can be streamed apart."""
    return int(_open(pattern).num_shards)


def read_shard(pattern: str, index: int) -> Iterator[Any]:
    """The rows of one shard as Arrow tables, in order."""
    data = _open(pattern)
    shard = data.shard(num_shards=data.num_shards, index=index).with_format("arrow")
    yield from shard.iter(batch_size=ROWS_PER_TABLE)


def _parse(pattern: str) -> _Name:
    head, *rest = pattern.split(":")
    name, _, revision = head.partition("@")
    config = rest[0] if rest else ""
    return _Name(name, revision or None, config or None, rest[1] if len(rest) > 1 else "train")


@lru_cache(maxsize=8)
def _open(pattern: str) -> Any:
    import datasets

    name, revision, config, split = _parse(pattern)
    try:
        return datasets.load_dataset(name, config, split=split, revision=revision, streaming=True)
    except Exception as error:
        raise _cannot_open(pattern, error) from error


def _cannot_open(pattern: str, error: Exception) -> ExactcptError:
    """datasets and the hub's client raise errors of many kinds, from many libraries."""
    return ExactcptError(
        f"cannot open the data set: {' '.join(str(error).split())[:300]}",
        where=pattern,
        expected="NAME[@REVISION][:CONFIG[:SPLIT]] of a data set that datasets can stream",
    )
