"""Hypothesis strategies for what the core takes."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from exactcpt.pipeline.buckets import bucket_count
from exactcpt.pipeline.exact import Exact

POWERS = tuple(2**k + d for k in range(2, 8) for d in (-1, 0, 1))

Counts = list[int]


def windows(largest: int = 300) -> st.SearchStrategy[int]:
    """Window lengths, with powers of two and their neighbours often among them."""
    edges = [2, *(window for window in POWERS if window <= largest)]
    return st.sampled_from(edges) | st.integers(2, largest)


def arrays_of(lengths: list[int]) -> st.SearchStrategy[NDArray[np.integer]]:
    """The lengths as an array of one of the types they come in."""
    kinds = st.sampled_from([np.int32, np.int64, np.uint32])
    return kinds.map(lambda kind: np.array(lengths, dtype=kind))


@st.composite
def segments(draw: st.DrawFn, largest_window: int = 150) -> tuple[NDArray[np.integer], int]:
    """Segment lengths in 1..window, and the window."""
    window = draw(windows(largest_window))
    length = st.integers(1, window) | st.sampled_from([1, window])
    return draw(st.lists(length, max_size=20).flatmap(arrays_of)), window


@st.composite
def documents(
    draw: st.DrawFn, largest_window: int = 40, most: int = 25
) -> tuple[NDArray[np.integer], int]:
    """Document lengths and a window: short ones, multiples of the window, and their neighbours."""
    window = draw(windows(largest_window))
    near = [n for k in range(1, 4) for n in (k * window - 1, k * window, k * window + 1)]
    length = (
        st.integers(1, 3 * window) | st.integers(1, max(1, window // 3)) | st.sampled_from(near)
    )
    return draw(st.lists(length, max_size=most).flatmap(arrays_of)), window


@st.composite
def exacts(draw: st.DrawFn, capped: bool = False) -> Exact:
    """Parameters of the weighting; with `capped` always a ceiling that leaves room for alpha."""
    alpha = draw(st.sampled_from([0.0, 0.15, 1.0]) | st.floats(0, 5))
    spare = draw(st.sampled_from([0.0, 0.01, 0.5]) | st.floats(0, 20))
    return Exact(
        tau=draw(st.sampled_from([0, 1, 8, 9, 64, 1024]) | st.integers(0, 5000)),
        alpha=alpha,
        gamma=draw(st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(0, 4)),
        epsilon=draw(st.sampled_from([0.0, 1e-8, 1e-3, 1.0])),
        max_weight=1 + alpha + spare if capped else None,
    )


@st.composite
def histograms(draw: st.DrawFn) -> tuple[Counts, int]:
    """Counts a bucket, from none to 2^60, and the window they belong to."""
    window = draw(st.sampled_from([2, 8, 9, 4096, 8192]) | st.integers(2, 20_000))
    count = st.sampled_from([0, 1, 2**60]) | st.integers(0, 1000) | st.integers(0, 2**60)
    n_buckets = bucket_count(window)
    return draw(st.lists(count, min_size=n_buckets, max_size=n_buckets)), window
