"""Writes shards: the windows of a plan, filled with tokens and weight codes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas import shard
from ...schemas.manifest import ShardFile
from ...schemas.sizes import plural
from ...schemas.windows import SEGMENT_COLUMNS
from ..files.arrow import write_batches
from ..files.slices import Slices
from ..files.storage import Folder
from ..tokens.store import PartTokens, damaged, open_tokens, refuse_damaged
from .documents import PartRef
from .segment_codes import SegmentCodes

__all__ = ["Gather", "ShardTask", "batch_of_windows", "inside", "windows_per_shard", "write_shard"]


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """A shard to write.

    Attributes:
        name: its path in the shard set.
        split: the split of its windows.
        group: ordinal of the group that its windows are from.
        start, stop: the range of the group's windows.
        checks: parts of the store that are compared with its manifest before the shard is written.
    """

    name: str
    split: str
    group: int
    start: int
    stop: int
    checks: tuple[PartRef, ...] = ()


def windows_per_shard(shard_bytes: int, window: int) -> int:
    """How many windows fill a shard of about this size: 4 bytes per token, 1 for its weight."""
    return max(1, shard_bytes // (5 * window))


def write_shard(
    task: ShardTask,
    plan: pa.Table,
    *,
    gather: "Gather",
    out: Folder,
    weights: Sequence[float],
) -> ShardFile:
    """Writes one shard; returns its description.

    Args:
        task: the shard to write.
        plan: the plan table of its group and split.
        gather: where its tokens are.
        out: the shard set.
        weights: one per bucket.
    """
    window = gather.window
    rows = plan.slice(task.start, task.stop - task.start)
    schema = shard.shard_schema(window, shard.SUPERVISED in plan.schema.names)
    dictionary = shard.weight_dictionary(list(weights))
    batches = (
        gather.fill(batch, dictionary) for batch in _batches(rows, shard.rows_per_batch(window))
    )
    written = write_batches(out, task.name, schema, batches, read_soon=False)
    return {**written, "windows": len(rows)}


def batch_of_windows(
    tokens: NDArray[np.int32],
    codes: NDArray[np.uint8],
    segments: Sequence[pa.Array],
    dictionary: pa.Array,
    window: int,
) -> pa.RecordBatch:
    """A record batch of a shard.

    Args:
        tokens, codes: of all its windows, end to end.
        segments: the columns `seq_lengths`, `doc_index` and `doc_offset`, and `supervised` if the
            shard has it.
        dictionary: the weight of each code.
        window: window length in tokens.
    """
    types = shard.shard_schema(window, len(segments) > len(SEGMENT_COLUMNS))
    # Arrow would look at every code to see that it has a weight.
    weights = pa.DictionaryArray.from_arrays(pa.array(codes, pa.uint8()), dictionary, safe=False)
    return pa.RecordBatch.from_arrays(
        [
            pa.FixedSizeListArray.from_arrays(pa.array(tokens), type=types.field("input_ids").type),
            pa.FixedSizeListArray.from_arrays(weights, type=types.field("loss_weight").type),
            *segments,
        ],
        schema=types,
    )


def _batches(rows: pa.Table, size: int) -> Iterator[pa.Table]:
    for start in range(0, len(rows), size):
        yield rows.slice(start, size).combine_chunks()


def inside(codes: NDArray[np.uint8], spans: Any, window: int) -> NDArray[np.uint8]:
    """The codes of windows laid end to end, 0 outside of their supervised spans."""
    row = np.repeat(np.arange(len(spans)), np.diff(spans.offsets.to_numpy()))
    start, stop = (each.to_numpy() + window * row for each in spans.flatten().flatten())
    found = np.zeros_like(codes)
    for begin, end in zip(start.tolist(), stop.tolist(), strict=True):
        found[begin:end] = codes[begin:end]
    return found


class Gather:
    """Copies documents' tokens out of memory-mapped parts, each opened when it is first needed.

    Parts of a remote store are downloaded then, compared with the manifest, and kept to the end:
    the windows of a shard are drawn from its whole group. So the scratch folder must have room for
    about the group, 4 bytes per token.

    Args:
        store: the token store.
        parts: all parts of the store, in order.
        window: window length in tokens.
        pad_id: the token id of padding.
    """

    def __init__(self, store: Folder, parts: Sequence[PartRef], window: int, pad_id: int) -> None:
        self.window = window
        self._store, self._parts = store, parts
        self._files = ExitStack()
        self._codes = SegmentCodes(window)
        self._first = np.array([part.first_document for part in parts], np.int64)
        self._arrays = [np.full(window, pad_id, np.int32)]
        self._slices = Slices(self._arrays)
        # Of the documents in parts that are open: the number of the array, and the place in it.
        self._array_of, self._start_of = np.empty((2, 0), np.int64)
        # How many documents of other parts precede a part's there; -1 if it is not open.
        self._before = np.full(len(parts), -1, np.int64)

    def __enter__(self) -> "Gather":
        return self

    def __exit__(self, *error: object) -> None:
        self._arrays.clear()
        del self._slices
        self._files.close()

    def fill(self, rows: pa.Table, dictionary: pa.Array) -> pa.RecordBatch:
        """A record batch of a shard from rows of a plan."""
        segments: list[Any] = [column.chunk(0) for column in rows.columns]
        lengths, doc_index, doc_offset = (np.asarray(c.flatten()) for c in segments[:3])
        tokens = self._join(lengths, doc_index, doc_offset)
        codes = self._codes.of(lengths, doc_index == shard.PADDING)
        if len(segments) > len(SEGMENT_COLUMNS):
            codes = inside(codes, segments[-1], self.window)
        return batch_of_windows(tokens, codes, segments, dictionary, self.window)

    def _join(
        self,
        lengths: NDArray[np.int32],
        doc_index: NDArray[np.int64],
        doc_offset: NDArray[np.int64],
    ) -> NDArray[np.int32]:
        """The tokens of segments, end to end; not writable.

        Raises:
            FormatError: a part is not what the manifest and its index say.
        """
        array, start = np.zeros((2, len(lengths)), np.int64)  # array 0 is padding
        real = np.flatnonzero(doc_index != shard.PADDING)
        part = np.searchsorted(self._first, doc_index[real], side="right") - 1
        self._open(np.unique(part[self._before[part] < 0]).tolist())
        row = self._before[part] + doc_index[real] - self._first[part]
        array[real], start[real] = self._array_of[row], self._start_of[row] + doc_offset[real]
        try:
            return self._slices.join(array, start, lengths)
        except IndexError:
            raise damaged(self._store.url, "documents as long as their index says") from None

    def _open(self, numbers: Sequence[int]) -> None:
        """Opens parts, by their numbers in the store."""
        if not numbers:
            return
        before, arrays, starts = self._before.copy(), [self._array_of], [self._start_of]
        for number in numbers:
            tokens = self._tokens(self._parts[number])
            before[number] = sum(map(len, starts))
            arrays.append(len(self._arrays) + tokens.run.astype(np.int64))
            starts.append(tokens.starts)
            self._arrays += tokens.values
        self._array_of, self._start_of = np.concatenate(arrays), np.concatenate(starts)
        self._before, self._slices = before, Slices(self._arrays)

    def _tokens(self, part: PartRef) -> PartTokens:
        local = self._files.enter_context(self._store.local_copies([part.file.path]))
        path, where = local[part.file.path], self._store.url_of(part.file.path)
        if not self._store.is_local:
            refuse_damaged(path, part.file, self._store)
        try:
            tokens = open_tokens(path)
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise damaged(where, f"a part; reading it: {error}") from None
        if len(tokens.run) != part.documents:
            expected = f"{plural(part.documents, 'document')}, as the manifest says"
            raise damaged(where, f"{expected}, not {len(tokens.run):,}")
        return tokens
