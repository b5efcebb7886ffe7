"""Splits: the files of all sources, cut or joined into work units of similar size."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from ...schemas.errors import UsageError
from ..files.storage import open_input
from . import datatrove, hub, megatron, npy
from .listing import InputFile
from .records import BadFileError

__all__ = ["Member", "Split", "make_splits"]

ROWS = {
    "megatron": megatron.row_count,
    "datatrove": datatrove.row_count,
    "npy": npy.row_count,
}
"""How many rows a file has, for the formats that can be read from any row on."""
MAX_SPLITS = 1_000_000
"""Names of parts have six digits for the split, and their order is that of the store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file of a split, or a range of it.

    Attributes:
        file: the file.
        start, stop: bytes of plain JSON Lines, row groups of Parquet, shards of a data set of the
            hub, or documents of files of token ids; `stop` is exclusive, and None for the end.
        work: roughly how many bytes of text it holds.
    """

    file: InputFile
    start: int = 0
    stop: int | None = None
    work: int = 0


@dataclass(frozen=True, kw_only=True)
class Split:
    """A work unit; the parts that it becomes are named after its ordinal."""

    ordinal: int
    source: str
    members: tuple[Member, ...]

    @property
    def work(self) -> int:
        """Roughly how many bytes of text it holds."""
        return sum(member.work for member in self.members)


def make_splits(files: Iterable[InputFile], split_bytes: int) -> list[Split]:
    """Divides files into work units of about `split_bytes` bytes of text.

    Small files of one source share a unit; each range of a file has its own unit.

    Raises:
        UsageError: there would be more than MAX_SPLITS.
    """
    members = _members(files, split_bytes)
    groups: list[list[Member]] = []
    filled = 0
    for member in members:
        fits = groups and groups[-1][-1].file.source == member.file.source
        if fits and filled + member.work <= split_bytes and _is_whole(member, groups[-1][-1]):
            groups[-1].append(member)
            filled += member.work
        else:
            groups.append([member])
            filled = member.work
    if len(groups) > MAX_SPLITS:
        raise UsageError(
            f"the input would be divided into {len(groups):,} splits",
            expected=f"at most {MAX_SPLITS:,}",
            fix="set a larger --split-bytes",
        )
    return [
        Split(ordinal=i, source=group[0].file.source, members=tuple(group))
        for i, group in enumerate(groups)
    ]


def _is_whole(*members: Member) -> bool:
    """Whether the members are whole files, not ranges of one."""
    return all(member.start == 0 and member.stop is None for member in members)


def _members(files: Iterable[InputFile], split_bytes: int) -> Iterator[Member]:
    with ThreadPoolExecutor(16) as pool:  # to read the footers of many remote files
        for ranges in pool.map(lambda file: _ranges(file, split_bytes), files):
            yield from ranges


def _ranges(file: InputFile, split_bytes: int) -> list[Member]:
    if file.format == "jsonl" and file.compression is None and file.work > split_bytes:
        starts = range(0, file.work, split_bytes)
        stops = [*starts[1:], file.work]
        return [
            Member(file=file, start=a, stop=b, work=b - a)
            for a, b in zip(starts, stops, strict=True)
        ]
    if file.format == "parquet" and file.work > split_bytes:
        return _row_group_ranges(file, split_bytes)
    if file.format in ROWS and file.work > split_bytes:
        return _row_ranges(file, split_bytes)
    if file.format == "hub":
        shards = hub.shard_count(file.url)
        return [Member(file=file, start=i, stop=i + 1, work=split_bytes) for i in range(shards)]
    return [Member(file=file, work=file.work)]


def _row_ranges(file: InputFile, split_bytes: int) -> list[Member]:
    """Ranges of equally many rows, of about `split_bytes` each; the whole file if it is damaged.

    Reading the file then meets the same error, and treats it as that of a bad file.
    """
    try:
        count = ROWS[file.format](file)
    except (BadFileError, OSError):
        count = 1
    pieces = min(count, -(-file.work // split_bytes))
    if pieces < 2:
        return [Member(file=file, work=file.work)]
    bounds = [count * i // pieces for i in range(pieces + 1)]
    return [
        Member(file=file, start=a, stop=b, work=file.work * (b - a) // count)
        for a, b in pairwise(bounds)
    ]


def _row_group_ranges(file: InputFile, split_bytes: int) -> list[Member]:
    """Ranges of row groups of about `split_bytes` each; the whole file if its footer is damaged.

    Reading the file then meets the same error, and treats it as that of a bad file.
    """
    try:
        with open_input(file.url) as stream:
            metadata = pq.ParquetFile(stream).metadata
            sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError):
        return [Member(file=file, work=file.work)]
    ranges: list[Member] = []
    for i, size in enumerate(sizes):
        if ranges and ranges[-1].work + size <= split_bytes:
            ranges[-1] = replace(ranges[-1], stop=i + 1, work=ranges[-1].work + size)
        else:
            ranges.append(Member(file=file, start=i, stop=i + 1, work=size))
    return ranges or [Member(file=file, work=file.work)]
