"""Packed rows of a split, cut into segments, and joined into batches of as many as are wanted."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...schemas.errors import ExactcptError
from ...schemas.sizes import plural
from ..core.boundaries import Cut, CutError, Rows, cut_rows
from ..core.buckets import histogram, sum_by_bucket
from ..core.spans import Spans
from ..sources.reading import read_member
from ..sources.records import Batch, Strings
from ..sources.splits import Split
from .labels import in_text, spans_of_labels
from .lists import lists_of
from .task import WeighTask

__all__ = ["PackedRows", "regrouped", "rows_of"]


@dataclass(frozen=True)
class PackedRows:
    """Some rows and their segments.

    Attributes:
        names: what errors and the documents table call the rows, a column of strings.
        ids: token ids, int32, one list per row.
        cut: the segments.
        spans: the supervised spans of the segments; None if all tokens of the set are supervised.
    """

    names: pa.Array
    ids: Rows
    cut: Cut
    spans: Spans | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def segment_names(self) -> pa.Array:
        """The names of all segments: ROW:1, ROW:2, ..., [segments]."""
        counts = self.cut.counts
        row = np.repeat(np.arange(len(self)), counts)
        first = np.cumsum(counts) - counts
        number = np.arange(len(row)) - first[row] + 1
        pieces: tuple[Any, ...] = (self.names.take(row), pa.array(number).cast(pa.string()), ":")
        return pc.binary_join_element_wise(*pieces)

    def texts(self) -> Strings:
        """The tokens of each segment, padding left out."""
        ends = np.concatenate(([0], np.cumsum(self.cut.lengths)))
        return Strings(ends, in_text(self.ids, self.cut))

    def histogram(self, window: int) -> NDArray[np.int64]:
        """Supervised targets per bucket, int64 [buckets]."""
        if self.spans is None:
            return histogram(self.cut.lengths, window)
        return sum_by_bucket(self.spans.targets_by_context(window), window)

    def __getitem__(self, rows: slice) -> "PackedRows":
        start, stop, _ = rows.indices(len(self))
        ends, cut = self.ids.ends, self.cut
        first = np.concatenate(([0], np.cumsum(cut.counts)))
        return PackedRows(
            self.names.slice(start, stop - start),
            Rows(ends[start : stop + 1] - ends[start], self.ids.values[ends[start] : ends[stop]]),
            Cut(
                cut.lengths[first[start] : first[stop]],
                cut.counts[start:stop],
                cut.texts[start:stop],
            ),
            None if self.spans is None else self.spans[np.arange(first[start], first[stop])],
        )

    @classmethod
    def joined(cls, several: "list[PackedRows]") -> "PackedRows":
        """All of one or more, one after the other."""
        if len(several) == 1:
            return several[0]

        def join(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
            return np.concatenate(list(arrays))

        lengths = join(each.ids.lengths for each in several)
        has_spans = several[0].spans is not None  # one job has them everywhere or nowhere
        spans = [each.spans for each in several if each.spans is not None] if has_spans else None
        return cls(
            pa.concat_arrays([each.names for each in several]),
            Rows(np.concatenate(([0], np.cumsum(lengths))), join(e.ids.values for e in several)),
            Cut(
                join(each.cut.lengths for each in several),
                join(each.cut.counts for each in several),
                join(each.cut.texts for each in several),
            ),
            None if spans is None else Spans.joined(spans),
        )


def rows_of(
    split: Split, task: WeighTask, newlines: Mapping[str, Mapping[int, int]]
) -> Iterator[PackedRows]:
    """The rows of a split, in order.

    Args:
        split: what to read.
        task: the job.
        newlines: by URL, the newlines before each range of a file that is read in ranges.

    Raises:
        ExactcptError: a row cannot be used, is longer than the window, or shorter where the window
            is that of the rows.
        BadFileError: a file cannot be read.
    """
    for member in split.members:
        before = newlines.get(member.file.url, {}).get(member.start, 0)
        for batch in read_member(member, task.fields[split.source], before):
            rows = _cut(batch, split.source, task)
            if len(rows):
                yield rows


def _cut(batch: Batch, source: str, task: WeighTask) -> PackedRows:
    for rejected in batch.rejected[:1]:
        raise ExactcptError(
            f"source {source!r}: a row cannot be a window: {rejected.reason}",
            where=f"{rejected.file}, {rejected.unit} {rejected.at:,}",
            expected="rows of token ids of the tokenizer that the job names",
            fix="correct the row, or name the column of token ids with ,tokens=FIELD in the source",
        )
    names, ids = batch.ids.cast(pa.string()), lists_of(batch.content)
    boundaries = None if batch.boundaries is None else lists_of(batch.boundaries)
    kind = task.boundaries[source]
    try:
        _check_lengths(ids.lengths, task)
        cut = cut_rows(ids, kind, boundaries, end_id=task.end_id, pad_id=task.fill_id)
        spans = _spans(batch, ids, cut) if task.has_spans else None
    except CutError as error:
        raise ExactcptError(
            f"source {source!r}: {error.found}",
            where=f"row {names[error.row].as_py()}",
            expected=error.expected,
            fix=error.fix,
        ) from None
    return PackedRows(names, ids, cut, spans)


def _spans(batch: Batch, ids: Rows, cut: Cut) -> Spans:
    """The supervised spans; of rows without labels, all tokens."""
    if batch.labels is None:
        return Spans.whole(cut.lengths)
    return spans_of_labels(ids, lists_of(batch.labels), cut)


def _check_lengths(lengths: NDArray[np.int64], task: WeighTask) -> None:
    wrong = lengths > task.window if task.pads else lengths != task.window
    for row in np.flatnonzero(wrong)[:1].tolist():
        limit = f"at most {task.window:,}, the window" if task.pads else f"{task.window:,}"
        advice = "" if task.pads else ", as the first row; with --window, shorter rows are padded"
        raise CutError(row, f"a row has {plural(int(lengths[row]), 'token')}", limit + advice)


def regrouped(rows: Iterable[PackedRows], sizes: Iterable[int]) -> Iterator[PackedRows]:
    """The same rows in groups of given sizes.

    If there are more rows, a last group has some of them; if there are fewer, groups are missing.
    """
    stream = iter(rows)
    rest: PackedRows | None = None
    for size in sizes:
        group: list[PackedRows] = []
        missing = size
        while missing:
            rest = next(stream, None) if rest is None else rest
            if rest is None:
                return
            group.append(rest[:missing])
            rest = rest[missing:] if len(rest) > missing else None
            missing -= len(group[-1])
        yield PackedRows.joined(group)
    more = next(stream, None) if rest is None else rest
    if more is not None:
        yield more
