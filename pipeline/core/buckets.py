"""Effective context, its buckets, and how many targets each bucket has.

A window of L tokens is a row of segments, each a run of tokens of one document. Documents are
masked from each other, so the target at position j sees the tokens of its own segment that precede
it. With s(j) the start of j's segment, its effective context is

    l_j = j - s(j)

    segments    3       2     4
    window      a a a | b b | c c c c
    l_j         0 1 2   0 1   0 1 2 3

A target is supervised where l_j >= 1: the first token of a segment sees nothing of its document.
Inside a segment of n tokens the contexts are 0, 1, ..., n - 1, each exactly once. Everything this
program knows about a corpus before it touches a token follows from that.

Bucket 0 holds the contexts 0..7 and bucket b >= 1 holds 2^(b+2) .. 2^(b+3) - 1:

    bucket    0     1      2       3       4        5         ...
    contexts  0-7   8-15   16-31   32-63   64-127   128-255   ...

A segment of n tokens has one supervised target at each context 1..n-1. So the number of targets
with context l is the number of segments longer than l, and a bucket's count is the sum of that
over its contexts: the lengths of the segments are enough. Example, segments of 3 and 10 tokens:

    l                          1  2  3  4  5  6  7 | 8  9
    segments longer than l     2  2  1  1  1  1  1 | 1  1
    histogram                  9                   | 2

Counts are int64, so histograms of parts of a corpus add up exactly, in any order.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "bucket_count",
    "bucket_of",
    "context_codes",
    "histogram",
    "histogram_by_length",
    "lower_edges",
    "sum_by_bucket",
]


def bucket_of(context: int) -> int:
    """The bucket of one effective context (>= 0)."""
    return max(0, context.bit_length() - 3)


def bucket_count(window: int) -> int:
    """How many buckets the contexts 0..window-1 fall into."""
    return bucket_of(window - 1) + 1


def lower_edges(n_buckets: int) -> NDArray[np.int64]:
    """The smallest context of each bucket, shape [n_buckets]: 0, 8, 16, 32, ..."""
    edges = np.int64(1) << np.arange(2, n_buckets + 2, dtype=np.int64)
    edges[0] = 0
    return edges


def context_codes(window: int) -> NDArray[np.uint8]:
    """The weight code of every context 0..window-1, shape [window].

    Code 0 means unsupervised and belongs to context 0; code b + 1 means bucket b. The contexts of a
    segment of n tokens are 0..n-1, so its codes are the first n entries.
    """
    n = bucket_count(window)
    sizes = np.diff(lower_edges(n), append=window)
    codes = np.repeat(np.arange(1, n + 1, dtype=np.uint8), sizes)
    codes[0] = 0
    return codes


def histogram(segment_lengths: NDArray[np.integer], window: int) -> NDArray[np.int64]:
    """Supervised targets per bucket over segments of the given lengths.

    Args:
        segment_lengths: in tokens, each in 1..window, padding left out; any shape.
        window: the window length L in tokens.

    Returns:
        int64, shape [bucket_count(window)].
    """
    return histogram_by_length(np.bincount(np.ravel(segment_lengths)), window)


def histogram_by_length(segments: NDArray[np.integer], window: int) -> NDArray[np.int64]:
    """Like `histogram`, but from the number of segments of each length.

    Args:
        segments: how many have 0, 1, 2, ... tokens, shape [n], n <= window + 1.
        window: the window length L in tokens.

    Returns:
        int64, shape [bucket_count(window)].
    """
    longer_than = np.asarray(segments, np.int64)[::-1].cumsum()[::-1][1:]
    longer_than[:1] = 0  # context 0 is unsupervised
    return sum_by_bucket(longer_than, window)


def sum_by_bucket(counts: NDArray[np.integer], window: int) -> NDArray[np.int64]:
    """Adds up the counts of each bucket's contexts.

    Args:
        counts: the counts of the contexts 0, 1, ..., shape [n], n <= window.
        window: the window length L in tokens.

    Returns:
        int64, shape [bucket_count(window)].
    """
    before = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    edges = np.append(lower_edges(bucket_count(window)), window)
    return np.diff(before[np.minimum(edges, len(counts))])
