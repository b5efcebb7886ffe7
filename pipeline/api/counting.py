"""The histogram of a corpus, and the weights that follow from it."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import exact
from ..core.buckets import bucket_count, histogram_by_length
from ..core.exact import WeightTable
from ..core.parameters import Exact
from .contexts import check_lengths

__all__ = ["histogram", "weight_table"]

AT_ONCE = 4096
"""Windows that are counted together."""


def histogram(seq_lengths: Iterable[ArrayLike], *, window: int) -> NDArray[np.int64]:
    """Counts the supervised targets of a corpus by effective context.

    Weights follow from the whole corpus, so all of its training windows have to be counted. The
    histograms of parts add up.

    Args:
        seq_lengths: for each window, the lengths of its segments in tokens: integers, each at least
            1, together at most `window`. What is missing to `window` is padding.
        window: the window length L in tokens.

    Returns:
        int64 [buckets]: bucket 0 has the effective contexts 1 to 7, bucket b >= 1 those from
        2^(b+2) to 2^(b+3) - 1.

    Raises:
        ValueError: a segment has no token, or a window more than L.
    """
    by_length = np.zeros(window + 1, np.int64)
    first = 0
    for windows in _batched(seq_lengths):
        by_length += np.bincount(_checked(windows, window, first), minlength=window + 1)
        first += len(windows)
    return histogram_by_length(by_length, window)


def weight_table(
    histogram: Sequence[int] | NDArray[np.integer],
    *,
    window: int,
    tau: int,
    alpha: float = Exact.alpha,
    gamma: float = Exact.gamma,
    epsilon: float = Exact.epsilon,
    max_weight: float | None = Exact.max_weight,
) -> WeightTable:
    """Computes the weight of every bucket by EXACT, arXiv 2605.10544.

    Args:
        histogram: of the whole corpus, [buckets].
        window: the window length L in tokens.
        tau: where the tail begins, in tokens of effective context, such as L / 4.
        alpha: mean extra weight of the tail's targets.
        gamma: exponent of the inverse frequency; 0 treats the tail's buckets alike.
        epsilon: added to a bucket's share of the tail before the power.
        max_weight: ceiling for a weight, at least 1 + alpha; None for no ceiling.

    Returns:
        The table: `weights`, one per bucket, and `rows` that say how they came about. Without a
        target in the tail, `tail_is_empty`, and all weights are 1.

    Raises:
        ValueError: the histogram has not the buckets of this window, or a parameter is out of its
            range.
    """
    counts = [_whole(count) for count in histogram]
    if len(counts) != bucket_count(window):
        raise ValueError(
            f"the histogram has {len(counts)} buckets; expected: {bucket_count(window)}, for a "
            f"window of {window:,} tokens"
        )
    if min(counts) < 0:
        raise ValueError(f"the histogram has {min(counts):,} targets in a bucket; expected: counts")
    parameters = Exact(tau=tau, alpha=alpha, gamma=gamma, epsilon=epsilon, max_weight=max_weight)
    return exact.weight_table(counts, window, parameters)


def _whole(count: Any) -> int:
    try:
        return operator.index(count)
    except TypeError:
        raise ValueError(f"the histogram has {count!r}; expected: counts, not shares") from None


def _batched(seq_lengths: Iterable[ArrayLike]) -> Iterator[list[NDArray[Any]]]:
    batch: list[NDArray[Any]] = []
    for lengths in seq_lengths:
        batch.append(np.asarray(lengths))
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _checked(windows: list[NDArray[Any]], window: int, first: int) -> NDArray[np.int64]:
    """The lengths of all segments of some windows, the first of which has the number `first`."""
    for number, lengths in enumerate(windows, first):
        try:
            check_lengths(lengths, window)
        except ValueError as error:
            raise ValueError(f"window {number:,}: {error}") from None
    return np.concatenate([lengths.astype(np.int64) for lengths in windows])
