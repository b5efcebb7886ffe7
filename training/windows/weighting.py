"""The weightings that a run can train with, all from the same shards: see `WEIGHTINGS`.

The shards have one code per position: 0 for no target, b + 1 for a target in bucket b. Most
weightings replace the weights in the shards' dictionary. Three do more: `document` gives every
target of a segment the segment's mean, `near` moves the extra weight of a segment's far targets to
its near ones, `shuffled` draws each target's weight from those of the corpus.

With c_b the number of supervised targets of bucket b in the train split and w_b their weight, which
the shards give or a table in their place,

    exact      w_b
    uniform    1
    matched    sum_b c_b w_b / sum_b c_b
    tail_flat  1 + alpha in the tail, else 1
    table      w_b, of a table
    document   mean of w over contexts 1 .. n-1, for a segment of n tokens
    near       1 in the tail; elsewhere w_b + E(n) / N(n), for a segment of n tokens with N(n)
               targets outside of the tail, where E(n) = sum of w - 1 over its targets in the tail
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
from ...schemas.shard_set import ShardSet
from ...schemas.sizes import plural
from ..config import WeightingName

__all__ = [
    "WEIGHTINGS",
    "ByBucket",
    "BySegment",
    "Near",
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
    """Gives the targets of a window their weights."""

    def fill(self, out: Weights, codes: Codes, lengths: Lengths, window: int) -> None:
        """Writes the weight of every target, 0 where the code is 0.

        Args:
            out: the weights to write, shape [L].
            codes: codes of the window's positions, shape [L].
            lengths: lengths of its segments, a run of padding included; they sum to L.
            window: number of the window in its split of the shard set.
        """
        ...


@dataclass(frozen=True)
class ByBucket:
    """One weight per bucket.

    Attributes:
        by_code: weight of each code, shape [1 + buckets]; the first is 0.
    """

    by_code: Weights

    def fill(self, out: Weights, codes: Codes, lengths: Lengths, window: int) -> None:
        """Looks up the weight of every code."""
        np.take(self.by_code, codes, out=out, mode="clip")


@dataclass(frozen=True)
class BySegment:
    """One weight per segment.

    Attributes:
        by_length: weight of a segment of n tokens at index n, shape [L + 1].
    """

    by_length: Weights

    def fill(self, out: Weights, codes: Codes, lengths: Lengths, window: int) -> None:
        """Gives every target the weight of its segment."""
        out[:] = np.repeat(self.by_length[lengths], lengths)
        out[codes == shard.UNSUPERVISED] = 0


@dataclass(frozen=True)
class Near:
    """The weights by bucket, with each segment's extra weight moved from the tail to the rest.

    Every segment keeps the sum of its weights, so what remains of the difference to `exact` is the
    effective context of the targets that have the extra weight.

    Attributes:
        by_code: weight of each code without what is moved to it, shape [1 + buckets].
        is_near: 1 for the codes outside of the tail, 0 for the others and for 0, shape
            [1 + buckets].
        extra: what each of these targets gets in a segment of n tokens, at index n, shape [L + 1].
    """

    by_code: Weights
    is_near: Weights
    extra: Weights

    def fill(self, out: Weights, codes: Codes, lengths: Lengths, window: int) -> None:
        """Adds to the weight of a code what its segment moves there."""
        np.take(self.is_near, codes, out=out, mode="clip")
        out *= np.repeat(self.extra[lengths], lengths)
        out += np.take(self.by_code, codes, mode="clip")


@dataclass(frozen=True)
class Shuffled:
    """One weight per target, drawn at random.

    Attributes:
        weights: weights of the buckets that have targets, shape [k].
        bounds: a uint32 draw below bounds[i] and not below bounds[i-1] gets weights[i], shape
            [k - 1].
        by_prefix: the i of all draws with the same upper half, shape [2^16]; `UNDECIDED` where the
            lower half decides.
        seed: the draws of a window are a function of the seed and the window's number.
    """

    weights: Weights
    bounds: NDArray[np.uint32]
    by_prefix: NDArray[np.uint8]
    seed: int

    def fill(self, out: Weights, codes: Codes, lengths: Lengths, window: int) -> None:
        """Draws for every position, so that the draw of a target does not depend on the others."""
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
    """Makes the weighting for the train split of a run.

    Args:
        name: one of `WEIGHTINGS`.
        shards: the shard set; its manifest has the counts and weights of the corpus.
        seed: of the draws of `shuffled`.
        table: one weight per bucket, in the place of the shards' weights; for `TABLE_WEIGHTINGS`.

    Raises:
        UsageError: the table has too many weights or too few, or `table` has none; `tail_flat`
            finds no alpha; `near` finds no targets outside of the tail, or would need weights that
            are not positive.
    """
    weights = shards.dictionary(shard.TRAIN)[1:]
    if table is not None:
        weights = _checked_table(table, len(weights))
    elif name == "table":
        raise UsageError(
            "the weighting `table` has no weights", fix="name a file with --weight-table FILE"
        )
    counts = shards.histogram(shard.TRAIN)
    match name:
        case "exact" | "table":
            return _by_bucket(weights)
        case "uniform":
            return _by_bucket(np.ones(len(weights)))
        case "matched":
            return _by_bucket(np.full(len(weights), np.average(weights, weights=counts)))
        case "tail_flat":
            return _by_bucket(_tail_flat(shards))
        case "document":
            return BySegment(_means_by_length(weights, shards))
        case "near":
            return _near(weights, shards)
        case "shuffled":
            return _shuffled(weights, counts, seed)


def _by_bucket(weights: NDArray[np.floating]) -> ByBucket:
    return ByBucket(np.concatenate([[0.0], weights]).astype(np.float32))


def _tail_flat(shards: ShardSet) -> NDArray[np.float64]:
    alpha = shards.manifest["weights"]["alpha"]
    if alpha is None:
        raise UsageError(
            "the weighting `tail_flat` needs alpha, but these shards have weights from a table",
            where=str(shards.root),
            fix="use shards with weights by EXACT, or give a table: --weighting table",
        )
    return np.array([1.0 + alpha if row["in_tail"] else 1.0 for row in shards.buckets])


def _checked_table(table: Sequence[float], buckets: int) -> Weights:
    """The weights of a table, rounded as shards would have them."""
    if len(table) != buckets:
        raise UsageError(
            f"the weight table has {plural(len(table), 'bucket')}",
            expected=f"{buckets}, as for the window of these shards",
            fix="make a table for the window of these shards",
        )
    return np.array(table, np.float32)


def _means_by_length(weights: Weights, shards: ShardSet) -> Weights:
    """Mean weight of the targets of a segment of n tokens, whose contexts are 1 .. n-1."""
    means = np.zeros(shards.window + 1, np.float32)
    targets = np.arange(1, shards.window)
    means[2:] = _sums_by_length(weights.astype(np.float64), shards)[2:] / targets
    return means


def _near(weights: Weights, shards: ShardSet) -> Near:
    in_tail = np.array([row["in_tail"] for row in shards.buckets])
    if in_tail[0]:
        raise UsageError(
            "the weighting `near` needs targets outside of the tail, but the tail of these shards "
            "begins with the first bucket",
            where=str(shards.root),
            fix="use shards with a larger tau",
        )
    moved = _sums_by_length(np.where(in_tail, weights.astype(np.float64) - 1, 0), shards)
    near = _sums_by_length((~in_tail).astype(np.float64), shards)
    extra = np.divide(moved, near, out=np.zeros_like(moved), where=near > 0)
    by_bucket = np.where(in_tail, 1, weights)
    if by_bucket[~in_tail].min() + extra.min() <= 0:
        raise UsageError(
            "the weighting `near` would need weights that are not positive: in the tail, weights "
            "are less than 1",
            where=str(shards.root),
            fix="use shards or a table whose weights in the tail are at least 1",
        )
    return Near(
        by_code=_by_bucket(by_bucket).by_code,
        is_near=_by_bucket(~in_tail).by_code,
        extra=extra.astype(np.float32),
    )


def _sums_by_length(by_bucket: NDArray[np.float64], shards: ShardSet) -> NDArray[np.float64]:
    """Sum of a value of the bucket over the targets of a segment of n tokens, at index n.

    Their contexts are 1 .. n-1. Shape [L + 1].
    """
    widths = [row["high"] - row["low"] + 1 for row in shards.buckets]
    by_context = np.repeat(by_bucket, widths)
    sums = np.zeros(shards.window + 1)
    sums[2:] = np.cumsum(by_context[1 : shards.window])
    return sums


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
