"""The work units of weighing: counts of splits, the numbering of shards, and the shards.

Each reads files and writes files, and writes nothing that is already there. So a unit may run
twice, and a job that was killed can be continued.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas import shard
from ...schemas.errors import ExactcptError
from ...schemas.shard import SPLITS, TRAIN
from ..beam.metrics import note_done
from ..core.exact import WeightTable
from ..core.spans import Spans
from ..files.arrow import span_lists, write_batches
from ..files.json_files import read_json, write_json
from ..files.slices import Slices
from ..files.storage import Folder
from ..job.folder import JOB
from ..pack.documents import Documents
from ..pack.documents_table import documents_table, write_documents
from ..pack.plan import plan_schema
from ..pack.segment_codes import SegmentCodes
from ..pack.shards import batch_of_windows, inside, windows_per_shard
from ..sources.splits import Split
from ..tokens.hashes import content_hashes
from ..tokens.units import Reading, ScanTask, scanned
from .counting import count_rows
from .rows import PackedRows, regrouped, rows_of
from .task import WeighTask

__all__ = [
    "COUNTS",
    "NUMBERED",
    "SplitShards",
    "count_split",
    "histogram_of",
    "number_shards",
    "scan_and_count",
    "write_scanned",
    "write_split",
]

COUNTS = f"{JOB}/counts"
NUMBERED = f"{JOB}/windows.json"
Newlines = Mapping[str, Mapping[int, int]]


def count_split(split: Split, task: WeighTask, newlines: Newlines) -> tuple[Split, dict[str, Any]]:
    """Counts the windows of a split, and writes the count for the manifest.

    Returns:
        The split, and its count as JSON.

    Raises:
        ExactcptError: a row or a file cannot be used.
    """
    out, name = Folder(task.out), f"{COUNTS}/{split.ordinal:06d}.json"
    if out.exists(name):
        return split, read_json(out, name, ("source", "count"))["count"]
    found = count_rows(rows_of(split, task, newlines), task).to_json()
    write_json(out, name, {"source": split.source, "count": found})
    return split, found


def scan_and_count(reading: Reading, task: WeighTask) -> tuple[Split, dict[str, Any]]:
    """Counts the windows of a split whose files may not have been scanned; see `scanned`."""
    return count_split(reading.split, task, scanned(reading.scans, task.out))


def histogram_of(counted: tuple[Split, Mapping[str, Any]], task: WeighTask) -> NDArray[np.int64]:
    """The training targets of a split per bucket, int64 [buckets]."""
    split, count = counted
    found = np.array(count["histogram"], np.int64)
    return found * (task.split_of(split.source) == TRAIN)


@dataclass(frozen=True, kw_only=True)
class SplitShards:
    """What is written of a split of the inputs.

    Attributes:
        read: the split.
        shards: names of its shards, and how many windows each has.
        documents: the name of its file of the documents table.
        first_document: the number of its first segment.
        segments: how many it has.
        histogram: supervised targets per bucket.
    """

    read: Split
    shards: tuple[tuple[str, int], ...]
    documents: str
    first_document: int
    segments: int
    histogram: tuple[int, ...]


def number_shards(
    counted: Sequence[tuple[Split, Mapping[str, Any]]], task: WeighTask
) -> list[SplitShards]:
    """Every split with its shards and documents, numbered in the order of the inputs.

    The number of windows is written for the line of progress.
    """
    size = windows_per_shard(task.shard_bytes, task.window)
    filled = [
        (split, count["windows"], count)
        for split, count in sorted(counted, key=lambda each: each[0].ordinal)
        if count["windows"]
    ]
    total: dict[str, int] = {
        name: sum(-(-n // size) for split, n, _ in filled if task.split_of(split.source) == name)
        for name in SPLITS
    }
    numbered: list[SplitShards] = []
    next_shard: dict[str, int] = dict.fromkeys(SPLITS, 0)
    first = 0
    for i, (split, windows, count) in enumerate(filled):
        name = task.split_of(split.source)
        parts = [min(size, windows - start) for start in range(0, windows, size)]
        at = next_shard[name]
        numbers = range(at, at + len(parts))
        names = [shard.shard_name(name, number, total[name]) for number in numbers]
        numbered.append(
            SplitShards(
                read=split,
                shards=tuple(zip(names, parts, strict=True)),
                documents=f"documents/part-{i:05d}.parquet",
                first_document=first,
                segments=count["segments"],
                histogram=tuple(count["histogram"]),
            )
        )
        next_shard[name] += len(parts)
        first += count["segments"]
    Folder(task.out).write(
        NUMBERED, json.dumps({"windows": sum(windows for _, windows, _ in filled)}).encode()
    )
    return numbered


def write_split(mine: SplitShards, task: WeighTask, newlines: Newlines, table: WeightTable) -> None:
    """Writes the shards of a split, and its segments as rows of the documents table.

    Raises:
        ExactcptError: the rows are not those that were counted.
    """
    out = Folder(task.out)
    summaries = [f"{JOB}/{name}.json" for name, _ in (*mine.shards, (mine.documents, 0))]
    if all(out.exists(name) for name in summaries):
        return
    name = task.split_of(mine.read.source)
    weights = table.weights if name == TRAIN else [1.0] * len(table.rows)
    writer = _Writer(mine, task, shard.weight_dictionary(weights))
    per_batch = shard.rows_per_batch(task.window)
    batches = [_sizes(windows, per_batch) for _, windows in mine.shards]
    rows = regrouped(rows_of(mine.read, task, newlines), [n for some in batches for n in some])
    for (path, windows), sizes in zip(mine.shards, batches, strict=True):
        filled = (writer.batch(next(rows, None)) for _ in sizes)
        schema = shard.shard_schema(task.window, task.has_spans)
        written = write_batches(out, path, schema, filled, read_soon=False)
        write_json(out, f"{JOB}/{path}.json", {**written, "windows": windows})
        note_done(windows=windows, bytes=written["bytes"])
    if next(rows, None) is not None or not writer.has_all():
        raise _changed(mine.read)
    described = write_documents(out, mine.documents, [writer.documents()])
    write_json(out, f"{JOB}/{mine.documents}.json", described)


def write_scanned(
    mine: SplitShards,
    task: WeighTask,
    scans: Mapping[int, tuple[ScanTask, ...]],
    table: WeightTable,
) -> None:
    """Writes the shards of a split, whose scans are found by its ordinal; see `write_split`."""
    write_split(mine, task, scanned(scans[mine.read.ordinal], task.out), table)


def _sizes(windows: int, per_batch: int) -> list[int]:
    """How many windows each record batch of a shard has."""
    return [min(per_batch, windows - start) for start in range(0, windows, per_batch)]


def _changed(split: Split) -> ExactcptError:
    return ExactcptError(
        "an input has other windows than when they were counted",
        where=split.members[0].file.url,
        fix="run the job again once the files no longer change",
    )


class _Writer:
    """Makes record batches of rows, and keeps what the documents table says of their segments."""

    def __init__(self, mine: SplitShards, task: WeighTask, dictionary: pa.Array) -> None:
        self._mine, self._task, self._dictionary = mine, task, dictionary
        self._codes = SegmentCodes(task.window)
        self._padding = np.full(task.window, task.pad_id, np.int32)
        self._next = mine.first_document
        self._segments: list[tuple[pa.Array, NDArray[np.int64], NDArray[np.void]]] = []
        self._histogram = np.zeros(len(mine.histogram), np.int64)

    def batch(self, rows: PackedRows | None) -> pa.RecordBatch:
        """The record batch of some rows; None where there are no more, though some were counted."""
        if rows is None:
            raise _changed(self._mine.read)
        texts = rows.texts()
        self._segments.append((rows.segment_names(), rows.cut.lengths, content_hashes(texts)))
        self._histogram += rows.histogram(self._task.window)
        columns: list[Any] = self._columns(rows)
        lengths, doc_index = (np.asarray(each.flatten()) for each in columns[:2])
        is_padding = doc_index == shard.PADDING
        codes = self._codes.of(lengths, is_padding)
        tokens = self._in_windows(texts.data, lengths, is_padding)
        if rows.spans is not None:
            columns.append(self._supervised(rows, rows.spans))
            codes = inside(codes, columns[-1], self._task.window)
        return batch_of_windows(tokens, codes, columns, self._dictionary, self._task.window)

    def _in_windows(
        self, tokens: NDArray[Any], lengths: NDArray[np.int32], is_padding: NDArray[np.bool_]
    ) -> NDArray[Any]:
        """The tokens of rows, padding included.

        Args:
            tokens: without padding, shape [tokens].
            lengths, is_padding: of all segments, shape [segments].
        """
        own = np.where(is_padding, 0, lengths).astype(np.int64)
        start = np.where(is_padding, 0, np.cumsum(own) - own)
        arrays = Slices([tokens, self._padding])
        return arrays.join(is_padding.astype(np.int64), start, lengths)

    def _supervised(self, rows: PackedRows, spans: Spans) -> pa.Array:
        """The column `supervised`."""
        lengths, texts = rows.cut.lengths, rows.cut.texts
        row_begins = np.repeat(np.cumsum(texts) - texts, rows.cut.counts)
        begins = np.cumsum(lengths) - lengths - row_begins
        of_segment = np.diff(spans.bounds)
        by_row = np.concatenate(([0], np.cumsum(rows.cut.counts)))
        shift = np.repeat(begins, of_segment).astype(np.int32)
        return span_lists(spans.bounds[by_row], spans.start + shift, spans.stop + shift)

    def _columns(self, rows: PackedRows) -> list[pa.Array]:
        """The columns `seq_lengths`, `doc_index` and `doc_offset`, with a run of padding."""
        free = self._task.window - rows.cut.texts
        after = np.cumsum(rows.cut.counts)
        padded = free > 0
        count = len(rows.cut.lengths)
        index = np.arange(self._next, self._next + count, dtype=np.int64)
        self._next += count
        places = after[padded]
        values = (
            np.insert(rows.cut.lengths, places, free[padded]).astype(np.int32),
            np.insert(index, places, shard.PADDING),
            np.zeros(count + len(places), np.int64),
        )
        first = np.concatenate(([0], after + np.cumsum(padded))).astype(np.int32)
        return [
            pa.ListArray.from_arrays(pa.array(first, pa.int32()), pa.array(column), type=field.type)
            for field, column in zip(plan_schema(self._task.window), values, strict=True)
        ]

    def has_all(self) -> bool:
        """Whether the segments are as they were counted, so that the weights are theirs."""
        written = self._next - self._mine.first_document
        found = self._histogram.tolist()
        return written == self._mine.segments and found == [*self._mine.histogram]

    def documents(self) -> pa.Table:
        """The rows of the documents table: every segment is a document of its own."""
        read = self._mine.read
        names, lengths, hashes = zip(*self._segments, strict=True)
        n = self._mine.segments
        chosen = Documents(
            index=np.arange(n) + self._mine.first_document,
            lengths=np.concatenate(lengths).astype(np.int32),
            validates=np.full(n, self._task.split_of(read.source) != TRAIN, np.bool_),
            copies=np.ones(n, np.int32),
            repeated=np.zeros(n, np.bool_),
        )
        part = f"{read.ordinal:06d}"
        return documents_table(
            read.source, part, pa.chunked_array(names), np.concatenate(hashes), chosen
        )
