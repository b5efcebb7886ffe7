"""The suite `buckets`: the loss on validation windows, by what a target can see.

Every document segment of a window is read as a sequence of its own, by stock attention. For a
target at the effective context l (its position in the segment):

    bucket       its loss, by the bucket of l
    gain-h       its loss with a short context minus its loss with the whole one, by the bucket of l
    recurrence   its loss, by floor(log2 distance) to the nearest earlier place in the segment with
                 the same two tokens, the target and the one before it; -1 if there is none

The short context is what a target sees in a piece of 2h tokens. Pieces begin at every multiple of
h, and the targets in the second half of each count:

    h = 2    segment   0 1 2 3 4 5 6 7 8
             whole     0 1 2 3              the first piece: nothing is cut off, the gain is 0
             piece         2 3 4 5          targets 4 and 5 see 2 and 3 tokens
             piece             4 5 6 7      targets 6 and 7
             piece                 6 7 8    target 8

So a target with l >= 2h sees the last h to 2h - 1 tokens, and for the others the gain is 0. It is
positive where distant text helps. The horizon tau is that of the shard set.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from ...schemas import shard
from ...schemas.errors import UsageError
from ...schemas.shard_set import ShardSet
from ...schemas.weights import bucket_ranges
from ..windows.batches import ShardDataset
from ..windows.order import permuted

__all__ = [
    "SCORES",
    "VERSION",
    "Windows",
    "horizons",
    "open_windows",
    "pieces",
    "recurrence",
    "score_table",
    "window_rows",
]

VERSION = 1

SCORES = pa.schema(
    [
        ("table", pa.string()),
        ("window", pa.int32()),
        ("bucket", pa.int32()),
        ("targets", pa.int64()),
        ("ce_sum", pa.float64()),
    ]
)

GAIN = "gain-"
TAU = "tau"

Ids = NDArray[np.int32]
Losses = NDArray[np.float64]
LossesOf = Callable[[Sequence[Ids]], Sequence[Losses]]
"""Gives the losses of some sequences: of n tokens, the n - 1 losses of all but the first."""

Row = tuple[str, int, int, float]
"""Table, bucket, targets, sum of losses or gains."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The validation windows that are read.

    Attributes:
        dataset: the validation split.
        numbers: which windows of the split, in the order of reading.
        digest: xxh3-128 of their numbers, tokens and segments.
    """

    dataset: ShardDataset
    numbers: tuple[int, ...]
    digest: str

    def segments(self, number: int) -> list[Ids]:
        """The segments of a window that have targets, each int32 [n] with n >= 2."""
        return [ids for ids, is_document in _segments(self.dataset, number) if is_document]


def _segments(dataset: ShardDataset, number: int) -> Iterator[tuple[Ids, bool]]:
    """Yields the segments of a window, and whether each has targets."""
    batch = dataset.batch([number])
    ids, codes = batch.input_ids[0].numpy(), batch.codes[0].numpy()
    edges = batch.cu_seqlens.tolist()
    for start, stop in pairwise(edges):
        yield ids[start:stop], bool(codes[start:stop].any())


def open_windows(shards: ShardSet, count: int, seed: int) -> Windows:
    """Chooses validation windows; the first ones are the same however many there are.

    Args:
        shards: the shard set.
        count: how many windows, if there are as many.
        seed: of the choice.

    Raises:
        UsageError: the set has no validation windows, or supervised spans.
    """
    if shards.has_spans:
        raise UsageError(
            "the suite buckets measures all tokens of its windows, but in this shard set only the "
            "answers are supervised",
            where=str(shards.root),
            expected="a shard set of plain documents",
            fix="name another one with --haystack",
        )
    dataset = ShardDataset(shards, split=shard.VALIDATION)
    chosen = permuted(np.arange(min(count, len(dataset))), len(dataset), seed).tolist()
    found = xxhash.xxh3_128()
    for number in chosen:
        for ids, is_document in _segments(dataset, number):
            found.update(f"{number} {len(ids)} {is_document} ".encode())
            found.update(ids.astype("<i4").tobytes())
    return Windows(dataset=dataset, numbers=tuple(chosen), digest=found.hexdigest())


def horizons(tasks: Iterable[str], shards: ShardSet) -> dict[str, int]:
    """The tables of context gain among some tasks, with their horizons in tokens."""
    names = [task for task in tasks if task.startswith(GAIN)]
    tau = shards.manifest["settings"]["tau"]
    ends = {name: name.removeprefix(GAIN) for name in names}
    return {name: tau if end == TAU else int(end) for name, end in ends.items()}


def window_rows(
    windows: Sequence[Sequence[Ids]],
    losses_of: LossesOf,
    *,
    tasks: Sequence[str],
    gains: Mapping[str, int],
    longest: int,
) -> list[list[Row]]:
    """The rows of some windows in all tables.

    Args:
        windows: the segments of each.
        losses_of: gives the losses of sequences.
        tasks: names of the tables.
        gains: horizon of each table of context gain.
        longest: window length in tokens.

    Returns:
        For each window its rows, in the order of `tasks`, without those that have no targets.
    """
    segments = [segment for window in windows for segment in window]
    whole = losses_of(segments)
    shorts = {h: _short_losses(segments, whole, h, losses_of) for h in {*gains.values()}}
    lows = np.array([low for low, _ in bucket_ranges(longest)])
    rows: list[list[Row]] = []
    first = 0
    for window in windows:
        own = range(first, first + len(window))
        first += len(window)
        contexts = _joined([np.arange(1, len(segments[i])) for i in own], np.int64)
        losses = _joined([whole[i] for i in own], np.float64)
        by_context = np.searchsorted(lows, contexts, side="right") - 1
        found: list[Row] = []
        for task in tasks:
            bins, values = by_context, losses
            if task in gains:
                values = _joined([shorts[gains[task]][i] for i in own], np.float64) - losses
            elif task == "recurrence":
                bins = _log2(_joined([recurrence(segments[i]) for i in own], np.int64))
            found += _sums(task, bins, values)
        rows.append(found)
    return rows


def _joined(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])


def _sums(task: str, bins: NDArray[np.int64], values: Losses) -> Iterator[Row]:
    """Yields the number of targets and the sum of their values in every bin that has some."""
    for number in np.unique(bins).tolist():
        chosen = values[bins == number]
        yield task, number, len(chosen), float(chosen.sum())


def _short_losses(
    segments: Sequence[Ids], whole: Sequence[Losses], horizon: int, losses_of: LossesOf
) -> list[Losses]:
    """The losses of all targets with a short context, shaped as `whole`."""
    places = [(i, start) for i, ids in enumerate(segments) for start in pieces(len(ids), horizon)]
    read = losses_of([segments[i][start : start + 2 * horizon] for i, start in places])
    shorts = [losses.copy() for losses in whole]
    for (i, start), losses in zip(places, read, strict=True):
        second_half = losses[horizon - 1 :]
        begin = start + horizon - 1
        shorts[i][begin : begin + len(second_half)] = second_half
    return shorts


def pieces(length: int, horizon: int) -> range:
    """Where the pieces of a segment begin whose second half has targets and sees less than all."""
    return range(horizon, length - horizon, horizon) if horizon else range(0)


def recurrence(ids: Ids) -> NDArray[np.int64]:
    """How far before each target of a segment the same two tokens stand; 0 if nowhere, [n - 1]."""
    pairs = (ids[:-1].astype(np.int64) << 32) | ids[1:]
    order = np.argsort(pairs, kind="stable")
    same = pairs[order[1:]] == pairs[order[:-1]]
    found = np.zeros(len(pairs), np.int64)
    found[order[1:][same]] = (order[1:] - order[:-1])[same]
    return found


def _log2(distances: NDArray[np.int64]) -> NDArray[np.int64]:
    """floor(log2) of each distance; -1 for 0."""
    return np.searchsorted(1 << np.arange(62), distances, side="right") - 1


def score_table(numbers: Sequence[int], rows: Sequence[Sequence[Row]]) -> pa.Table:
    """The rows of `scores.parquet`, window by window in the order of reading."""
    flat = [
        (table, number, *rest)
        for number, window in zip(numbers, rows, strict=True)
        for table, *rest in window
    ]
    columns = zip(*flat, strict=True) if flat else [()] * len(SCORES)
    return pa.table(
        {field.name: pa.array(c, field.type) for field, c in zip(SCORES, columns, strict=True)}
    )
