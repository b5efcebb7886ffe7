"""EXACT: from the corpus' histogram of effective contexts to one weight per bucket.

Source: EXACT, Effective-context Allocation for Context Training, arXiv 2605.10544. The paper gives
the shape of the weight, the buckets and the fixed budget; gamma, tau and all default values follow
a third party's reading of it, which is why each of them is an option.

    c_b     supervised targets in bucket b, over the packed training windows of the whole corpus
    a_b     the smallest context of bucket b
    T       the tail: the buckets with a_b >= tau and c_b > 0
    q_b     c_b / sum_{j in T} c_j             the tail's own distribution
    r_b     (q_b + eps)^(-gamma)               inverse frequency
    r_bar   sum_{b in T} q_b r_b               its mean over the tail's targets
    w_b     1 + alpha r_b / r_bar              for b in T, else 1

The extra weight is a fixed budget: sum_T q_b (w_b - 1) = alpha, whatever gamma. With gamma = 0
every target of the tail gets 1 + alpha; with gamma = 1 (and eps = 0) the extra weights of every
bucket of the tail add up to the same sum.

Example: the tail has two buckets with 300 and 100 targets, alpha = 0.15, gamma = 0.5:

    q      0.75      0.25
    r      1.1547    2         r_bar = 1.3660
    w      1.1268    1.2196    0.75 * 0.1268 + 0.25 * 0.2196 = 0.15

With a ceiling W on the weights (`max_weight`, not in the paper) w_b = 1 + min(W - 1, lambda r_b),
and lambda is chosen so that the budget still holds, which takes alpha <= W - 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .buckets import context_codes, lower_edges
from .parameters import Exact

__all__ = ["BucketWeight", "WeightTable", "given_table", "weight_table"]


@dataclass(frozen=True, kw_only=True)
class BucketWeight:
    """One row of the weight table.

    Attributes:
        bucket: b.
        low, high: the smallest and the largest context of the bucket, both included.
        targets: c_b.
        in_tail: whether b is in T.
        share: q_b, or None outside T.
        inverse_frequency: r_b, or None outside T and where the weights were given.
        weight: w_b.
    """

    bucket: int
    low: int
    high: int
    targets: int
    in_tail: bool
    share: float | None
    inverse_frequency: float | None
    weight: float


@dataclass(frozen=True, kw_only=True)
class WeightTable:
    """The weights of all buckets.

    Attributes:
        rows: one per bucket, from bucket 0 to that of context window - 1.
        budget: sum_T q_b (w_b - 1), the mean extra weight of the tail's targets: alpha up to
            rounding, or 0 where the tail is empty. Given weights may have any budget.
    """

    rows: tuple[BucketWeight, ...]
    budget: float

    @property
    def tail_is_empty(self) -> bool:
        """Whether the tail has no targets: no context reaches tau."""
        return not any(row.in_tail for row in self.rows)

    @property
    def weights(self) -> list[float]:
        """w_b of every bucket."""
        return [row.weight for row in self.rows]

    @property
    def window(self) -> int:
        """The window length L in tokens."""
        return self.rows[-1].high + 1

    @cached_property
    def by_context(self) -> NDArray[np.float32]:
        """The weight of a target with each effective context, [L]: 0 for context 0."""
        of_codes = np.array([0.0, *self.weights], np.float32)
        found = of_codes[context_codes(self.window)]
        found.setflags(write=False)
        return found


def weight_table(counts: Sequence[int], window: int, exact: Exact) -> WeightTable:
    """The weight of every bucket.

    Args:
        counts: c_b, shape [bucket_count(window)].
        window: the window length in tokens; the last bucket ends at context window - 1.
        exact: the parameters.
    """
    lows = [int(edge) for edge in lower_edges(len(counts))]
    highs = [low - 1 for low in lows[1:]] + [window - 1]
    tail = [b for b, count in enumerate(counts) if lows[b] >= exact.tau and count > 0]
    total = sum(int(counts[b]) for b in tail)
    share = {b: int(counts[b]) / total for b in tail}
    inverse = {b: (share[b] + exact.epsilon) ** -exact.gamma for b in tail}
    extra = _spend(share, inverse, exact)
    rows = tuple(
        BucketWeight(
            bucket=b,
            low=lows[b],
            high=highs[b],
            targets=int(counts[b]),
            in_tail=b in share,
            share=share.get(b),
            inverse_frequency=inverse.get(b),
            weight=1.0 + extra.get(b, 0.0),
        )
        for b in range(len(counts))
    )
    return WeightTable(rows=rows, budget=sum(share[b] * extra[b] for b in tail))


def given_table(
    counts: Sequence[int], window: int, tau: int, weights: Sequence[float]
) -> WeightTable:
    """A table of given weights.

    Args:
        counts: c_b, shape [bucket_count(window)].
        window: the window length in tokens.
        tau: where the tail begins, in tokens of effective context; the budget is the mean extra
            weight in the tail.
        weights: w_b, shape [bucket_count(window)].
    """
    plain = weight_table(counts, window, Exact(tau=tau, alpha=0.0)).rows
    rows = tuple(
        replace(row, inverse_frequency=None, weight=float(weight))
        for row, weight in zip(plain, weights, strict=True)
    )
    tail = (row for row in rows if row.share is not None)
    return WeightTable(rows=rows, budget=sum((row.share or 0) * (row.weight - 1) for row in tail))


def _spend(share: dict[int, float], inverse: dict[int, float], exact: Exact) -> dict[int, float]:
    """The extra weight w_b - 1 of each bucket of the tail: lambda r_b, but at most the ceiling.

    The rarest buckets have the largest r_b and reach the ceiling first. So they are capped one by
    one, until the other buckets can take the rest of the budget without reaching it. Of buckets
    with equal r_b the rarest is capped first, so that what rounding leaves of the budget is spread
    over a large share.
    """
    ceiling = float("inf") if exact.max_weight is None else exact.max_weight - 1
    extra: dict[int, float] = {}
    free = sorted(share, key=lambda b: share[b], reverse=True)
    budget = exact.alpha
    while free:
        scale = max(0.0, budget) / sum(share[b] * inverse[b] for b in free)
        if scale * inverse[free[-1]] <= ceiling:
            extra.update((b, scale * inverse[b]) for b in free)
            break
        capped = free.pop()
        extra[capped] = ceiling
        budget -= share[capped] * ceiling
    return extra
