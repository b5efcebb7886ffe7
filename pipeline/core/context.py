"""Effective context: how much of its own document a target token can see.

A window of L tokens is a row of segments, each a run of tokens of one occurrence of a document.
With documents masked from each other, the target at position j sees the tokens of its own segment
that precede it, so with s(j) the start of j's segment

    l_j = j - s(j)

    segments    3       2     4
    window      a a a | b b | c c c c
    l_j         0 1 2   0 1   0 1 2 3

A target is supervised where l_j >= 1: the first token of a segment sees nothing of its document.
Inside a segment of n tokens the contexts are 0, 1, ..., n - 1, each exactly once. Everything this
program knows about a corpus before it touches a token follows from that.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["effective_context"]


def effective_context(segment_lengths: NDArray[np.integer]) -> NDArray[np.int32]:
    """The effective context of every position of one window.

    Args:
        segment_lengths: lengths of the window's segments in order, in tokens, shape [n_segments].

    Returns:
        int32, shape [sum(segment_lengths)].
    """
    lengths = np.asarray(segment_lengths, dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(int(lengths.sum()), dtype=np.int64)
    return (positions - np.repeat(starts, lengths)).astype(np.int32)
