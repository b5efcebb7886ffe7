"""The weights a run trains with, all from the same shards: see `WEIGHTINGS`.

The shards have codes: 0 is no target, b + 1 is a target in bucket b. Most weightings only put other
weights in the place of the dictionary's. Two look further: `document` gives every target of a
segment the segment's mean, `shuffled` draws each target's weight from what the corpus has.

With c_b the supervised targets of bucket b in the corpus' train split and w_b its weight there,

    exact      w_b
    uniform    1
    matched    sum_b c_b w_b / sum_b c_b
    tail_flat  1 + alpha in the tail, else 1
    table      the weight that a file gives to the bucket
    document   mean of w over contexts 1 .. n-1, for a segment of n tokens
    shuffled   w_B with P(B = b) = c_b / sum c, drawn with the key (seed, number of the window)

Weights are float32, rounded once from float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ...schemas import shard
from ...schemas.errors import UsageError
from ..config import WeightingName
from .shard_set import ShardSet

__all__ = [
    "WEIGHTINGS",
    "ByBucket",
    "BySegment",
    "Shuffled",
    "Weighting",
    "make_weighting",
]

WEIGHTINGS: tuple[WeightingName, ...] = get_args(WeightingName)

UNDECIDED = 255

Codes = NDArray[np.uint8]
Lengths = NDArray[np.int32]
Weights = NDArray[np.float32]


class Weighting(Protocol):
    """Gives a window its weights."""

    def fill(self, out: Weights, codes: Codes, lengths: Lengths, window: int) -> None:
        """Writes the weight of every target, 0 where the code is 0.

        Args:
            out: shape [L].
            codes: of the window's positions, shape [L].
            lengths: of its segments, a run of padding included; they sum to L.
            window: its number in the shard set.
        """
        ...


@dataclass(frozen=True)
class ByBucket:
    """A weight a bucket.

    Attributes:
        by_code: shape [1 + buckets]; the first is 0.
    """

    by_code: Weights

    def fill(self, out: Weights, codes: Codes, lengths: Lengths, window: int) -> None:
        """Looks every code up."""
        np.take(self.by_code, codes, out=out, mode="clip")


@dataclass(frozen=True)
class BySegment:
    """A weight a segment.

    Attributes:
        by_length: of a segment of n tokens, shape [L + 1].
    """

    by_length: Weights

    def fill(self, out: Weights, codes: Codes, lengths: Lengths, window: int) -> None:
        """Repeats each segment's weight over its targets."""
        out[:] = np.repeat(self.by_length[lengths], lengths)
        out[codes == shard.UNSUPERVISED] = 0


@dataclass(frozen=True)
class Shuffled:
    """A weight drawn for every target.

    Attributes:
        weights: of the buckets that have targets, shape [k].
        bounds: draws below bounds[i] and not below bounds[i-1] get weights[i], shape [k - 1]; of
            2^32 in all.
        by_prefix: the i of every draw with the same upper half, shape [2^16]; `UNDECIDED` where
            the lower half decides.
        seed: the draws of a window are a function of it and of the window's number.
    """

    weights: Weights
    bounds: NDArray[np.uint32]
    by_prefix: NDArray[np.uint8]
    seed: int

    def fill(self, out: Weights, codes: Codes, lengths: Lengths, window: int) -> None:
        """Draws for all positions, so that a target's draw does not depend on the others."""
        key = np.array([self.seed, window], np.uint64)
        raw = np.random.Philox(key=key).random_raw((len(codes) + 1) // 2)
        draws = raw.astype("<u8", copy=False).view("<u4")[: len(codes)]
        drawn = np.take(self.by_prefix, draws >> np.uint32(16))
        near = np.flatnonzero(drawn == UNDECIDED)
        drawn[near] = np.searchsorted(self.bounds, draws[near], side="right")
        np.take(self.weights, drawn, out=out, mode="clip")
        out[codes == shard.UNSUPERVISED] = 0


def make_weighting(
    name: WeightingName,
    shards: ShardSet,
    *,
    seed: int = 0,
    table: Sequence[float] | None = None,
) -> Weighting:
    """The weighting of a run's train split.

    Args:
        name: one of `WEIGHTINGS`.
        shards: the set; its manifest has the counts and weights of the corpus.
        seed: of `shuffled`.
        table: a weight a bucket, for `table` alone.

    Raises:
        UsageError: there are no weights for `table`, too many or too few.
    """
    stored = shards.dictionary(shard.TRAIN)[1:]
    counts = shards.histogram(shard.TRAIN)
    match name:
        case "exact":
            return _by_bucket(stored)
        case "uniform":
            return _by_bucket(np.ones(len(stored)))
        case "matched":
            return _by_bucket(np.full(len(stored), np.average(stored, weights=counts)))
        case "tail_flat":
            return _by_bucket(_tail_flat(shards))
        case "table":
            return _by_bucket(_checked_table(table, len(stored)))
        case "document":
            return BySegment(_means_by_length(stored, shards))
        case "shuffled":
            return _shuffled(stored, counts, seed)


def _by_bucket(weights: NDArray[np.floating]) -> ByBucket:
    return ByBucket(np.concatenate([[0.0], weights]).astype(np.float32))


def _tail_flat(shards: ShardSet) -> NDArray[np.float64]:
    alpha = shards.manifest["weights"]["alpha"]
    if alpha is None:
        raise UsageError(
            "the weighting `tail_flat` needs alpha, and the weights of these shards were given",
            where=str(shards.root),
            fix="take shards with weights by EXACT, or give a table: --weighting table",
        )
    return np.array([1.0 + alpha if row["in_tail"] else 1.0 for row in shards.buckets])


def _checked_table(table: Sequence[float] | None, buckets: int) -> NDArray[np.float64]:
    if table is None:
        raise UsageError(
            "the weighting `table` has no weights", fix="name a file with --weight-table FILE"
        )
    if len(table) != buckets:
        raise UsageError(
            f"the weight table has {len(table)} buckets",
            expected=f"{buckets}, as the window has",
            fix="make the table for the window of these shards",
        )
    return np.array(table, np.float64)


def _means_by_length(weights: Weights, shards: ShardSet) -> Weights:
    """Mean weight of the targets of a segment of n tokens: its contexts are 1 .. n-1."""
    widths = [row["high"] - row["low"] + 1 for row in shards.buckets]
    by_context = np.repeat(weights.astype(np.float64), widths)
    means = np.zeros(shards.window + 1, np.float32)
    targets = np.arange(1, shards.window)
    means[2:] = np.cumsum(by_context[1:]) / targets
    return means


def _shuffled(weights: Weights, counts: NDArray[np.int64], seed: int) -> Shuffled:
    used = np.flatnonzero(counts)
    total = int(counts.sum())
    below = [((int(c) << 32) + total // 2) // total for c in np.cumsum(counts[used])[:-1]]
    bounds = np.minimum(below, (1 << 32) - 1).astype(np.uint32)
    smallest = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    first = np.searchsorted(bounds, smallest, side="right")
    last = np.searchsorted(bounds, smallest | np.uint32(0xFFFF), side="right")
    by_prefix = np.where(first == last, first, UNDECIDED).astype(np.uint8)
    return Shuffled(weights=weights[used], bounds=bounds, by_prefix=by_prefix, seed=seed)
