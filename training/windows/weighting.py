"""The weightings that a run can train with, all from the same shards: see `WEIGHTINGS`.

The shards have one code per position: 0 for no target, b + 1 for a target in bucket b. With c_b the
number of supervised targets of bucket b in the train split and w_b their weight, which the shards
give or a table in their place,

    exact      w_b
    uniform    1
    matched    sum_b c_b w_b / sum_b c_b
    tail_flat  1 + alpha in the tail, else 1
    table      w_b, of a table
    document   mean of w over contexts 1 .. n-1, for a segment of n tokens
    near       1 in the tail; elsewhere w_b + E(n) / N(n), for a segment of n tokens with N(n)
               targets outside of the tail, where E(n) = sum of w - 1 over its targets in the tail
    shuffled   w_B with P(B = b) = c_b / sum c, drawn with the key (seed, number of the window)

So a weight follows from a code and the length of a segment, and codes and lengths are all that a
batch has to carry. For `shuffled`, a window gets codes of its own: those of the weights drawn.

Weights are float32, rounded once from float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ...schemas import shard
from ...schemas.errors import UsageError
from ...schemas.shard_set import ShardSet
from ...schemas.sizes import plural
from ...schemas.weights import bucket_ranges
from ..config import WeightingName

__all__ = ["WEIGHTINGS", "Draws", "OfSegments", "Weighting", "make_weighting"]

WEIGHTINGS: tuple[WeightingName, ...] = get_args(WeightingName)

UNDECIDED = 255

Codes = NDArray[np.uint8]
Weights = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class OfSegments:
    """What targets weigh because of the segment that they are in.

    Attributes:
        by_length: in a segment of n tokens, at index n; float32 [L + 1].
        has: 1 for the codes whose targets weigh that in addition, 0 for the others and for code 0;
            float32 [codes].
    """

    by_length: Weights
    has: Weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Random codes, one per target: a function of the seed and of the window's number.

    Attributes:
        bounds: a uint32 draw below bounds[i] and not below bounds[i-1] gives i, shape [k - 1].
        by_prefix: the i of all draws with the same upper half, shape [2^16]; `UNDECIDED` where the
            lower half decides.
        seed: of the draws.
    """

    bounds: NDArray[np.uint32]
    by_prefix: NDArray[np.uint8]
    seed: int

    def codes(self, codes: Codes, window: int) -> Codes:
        """i + 1 for every target, 0 elsewhere.

        Every position is drawn for, so that the draw of a target does not depend on the others.
        """
        key = np.array([self.seed, window], np.uint64)
        raw = np.random.Philox(key=key).random_raw((len(codes) + 1) // 2)
        draws = raw.astype("<u8", copy=False).view("<u4")[: len(codes)]
        drawn = np.take(self.by_prefix, draws >> np.uint32(16))
        near = np.flatnonzero(drawn == UNDECIDED)
        drawn[near] = np.searchsorted(self.bounds, draws[near], side="right")
        drawn += 1
        drawn[codes == shard.UNSUPERVISED] = shard.UNSUPERVISED
        return drawn


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighting:
    """Gives targets their weights.

    A target with code c in a segment of n tokens weighs, in float32,

        by_code[c] + of_segments.has[c] * of_segments.by_length[n]

    Attributes:
        window: window length L in tokens.
        by_code: float32 [codes]; the first is that of no target, 0.
        of_segments: what the segment adds; None for nothing.
        draws: gives the targets other codes; None where they keep those of the shards.
        has_spans: whether not all targets of a segment are supervised; then no segment adds
            anything.
    """

    window: int
    by_code: Weights
    of_segments: OfSegments | None = None
    draws: Draws | None = None
    has_spans: bool = False

    def codes(self, codes: Codes, window: int) -> Codes:
        """The codes that weights are looked up by.

        Args:
            codes: those of the window's positions in the shard, [L].
            window: number of the window in its split of the shard set.
        """
        return codes if self.draws is None else self.draws.codes(codes, window)

    def total(self, codes: Codes, lengths: NDArray[np.integer]) -> float:
        """The sum of the weights of all targets of some windows.

        In float64, which has 53 bits where a weight has 24. So it is exact, and the same in any
        order, while the number of targets times the largest weight is at most 2^29 times the
        smallest.

        Args:
            codes: what `codes` gives for the windows, any shape.
            lengths: of all their segments, padding left out.
        """
        if self.draws is not None or self.has_spans:
            counts = np.bincount(codes.ravel(), minlength=len(self.by_code))
            return float(counts @ self.by_code.astype(np.float64))
        return float(self._total_by_length[lengths].sum())

    @cached_property
    def _total_by_length(self) -> NDArray[np.float64]:
        """The sum of the weights of a segment of n tokens, at index n; float64 [L + 1].

        Its contexts are 1 .. n-1; code b + 1 is that of the contexts of bucket b.
        """
        length = np.arange(self.window + 1)
        total = np.zeros(self.window + 1)
        for code, (low, high) in enumerate(bucket_ranges(self.window), 1):
            targets = length.clip(max(low, 1), high + 1) - max(low, 1)
            weight = self.by_code[code]
            if self.of_segments is not None:
                weight = weight + self.of_segments.has[code] * self.of_segments.by_length
            total += targets * np.float64(weight)
        return total


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
            finds no alpha; `document` or `near` finds supervised spans; `near` finds no targets
            outside of the tail, or would need weights that are not positive.
    """
    weights = shards.dictionary(shard.TRAIN)[1:]
    if table is not None:
        weights = _checked_table(table, len(weights))
    elif name == "table":
        raise UsageError(
            "the weighting `table` has no weights", fix="name a file with --weight-table FILE"
        )
    counts = shards.histogram(shard.TRAIN)
    if shards.has_spans and name in ("document", "near"):
        raise UsageError(
            f"the weighting `{name}` follows from the length of a segment, but in these shards "
            "only some tokens of a segment are supervised",
            where=str(shards.root),
            expected="a weighting by effective context alone",
            fix="train with --weighting uniform, as a stage of questions and answers does",
        )
    match name:
        case "exact" | "table":
            return _by_bucket(weights, shards)
        case "uniform":
            return _by_bucket(np.ones(len(weights)), shards)
        case "matched":
            mean = np.average(weights, weights=counts)
            return _by_bucket(np.full(len(weights), mean), shards)
        case "tail_flat":
            return _by_bucket(_tail_flat(shards), shards)
        case "document":
            return _document(weights, shards)
        case "near":
            return _near(weights, shards)
        case "shuffled":
            return _shuffled(weights, counts, seed, shards)


def _by_bucket(weights: NDArray[np.floating], shards: ShardSet) -> Weighting:
    return Weighting(window=shards.window, by_code=_by_code(weights), has_spans=shards.has_spans)


def _by_code(by_bucket: NDArray[Any]) -> Weights:
    return np.concatenate([[0.0], by_bucket]).astype(np.float32)


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


def _document(weights: Weights, shards: ShardSet) -> Weighting:
    means = np.zeros(shards.window + 1, np.float32)
    targets = np.arange(1, shards.window)
    means[2:] = _sums_by_length(weights.astype(np.float64), shards)[2:] / targets
    return Weighting(
        window=shards.window,
        by_code=_by_code(np.zeros(len(weights))),
        of_segments=OfSegments(by_length=means, has=_by_code(np.ones(len(weights)))),
    )


def _near(weights: Weights, shards: ShardSet) -> Weighting:
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
    return Weighting(
        window=shards.window,
        by_code=_by_code(by_bucket),
        of_segments=OfSegments(by_length=extra.astype(np.float32), has=_by_code(~in_tail)),
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


def _shuffled(
    weights: Weights, counts: NDArray[np.int64], seed: int, shards: ShardSet
) -> Weighting:
    used = np.flatnonzero(counts)
    total = int(counts.sum())
    below = [((int(c) << 32) + total // 2) // total for c in np.cumsum(counts[used])[:-1]]
    bounds = np.minimum(below, (1 << 32) - 1).astype(np.uint32)
    smallest = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    first = np.searchsorted(bounds, smallest, side="right")
    last = np.searchsorted(bounds, smallest | np.uint32(0xFFFF), side="right")
    by_prefix = np.where(first == last, first, UNDECIDED).astype(np.uint8)
    return Weighting(
        window=shards.window,
        by_code=_by_code(weights[used]),
        draws=Draws(bounds=bounds, by_prefix=by_prefix, seed=seed),
    )
