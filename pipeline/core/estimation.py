"""How far a sample's figures may be from the corpus': expected histograms, and a bootstrap.

The targets that a document contributes to a bucket depend on its length n, the window L, and under
`concat` on where in a window it begins. Over all L places that are equally likely, with m the
largest context, min(n, L) - 1, the expected number of its targets with context l is

    E(l) = (n + L - 1 - 2 l) / L      for l = 1 .. m, else 0

(n <= L: uncut at L - n + 1 of the places; at each of the other n - 1 it has a first and a last
piece, of every length once. n > L: n - L whole windows over all places, first pieces of 1 .. L
tokens, last pieces of 0 .. L - 1.) Under `best_fit` the pieces follow from the length alone. So a
histogram is a sum over documents, and so is that of a resample of them.

The bootstrap draws, from each source, as many blocks of documents as the sample has, with
replacement. Documents of one block were read together, so it is the blocks that are independent.
Deviations are shrunk by sqrt(1 - f), f the part of the corpus that was sampled: a sample of
everything has no error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .buckets import bucket_count, lower_edges
from .choices import PackingName
from .shuffle import Purpose, stream
from .whatif import windows_opened

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "Blocks",
    "Interval",
    "Resampled",
    "block_weights",
    "expected_histogram",
    "resample",
    "window_interval",
]

LEVEL = 0.95
RESAMPLES = 400
PACKED_RESAMPLES = 100
BOOTSTRAP = 1
"""Tells these draws from those of the sample itself."""
Floats = NDArray[np.float64]
Interval = tuple[float, float]


def expected_histogram(lengths: NDArray[np.integer], window: int, packing: PackingName) -> Floats:
    """Supervised targets by bucket that documents of each length contribute.

    Args:
        lengths: in tokens, shape [n].
        window: L, in tokens.
        packing: for `concat` it is the mean over all places in a window.

    Returns:
        Shape [n, buckets].
    """
    n = np.asarray(lengths, np.float64)[:, None]
    lows = lower_edges(bucket_count(window)).astype(np.float64)
    before = np.append(np.maximum(lows, 1) - 1, window - 1)  # the largest context below a bucket
    if packing == "concat":
        last = np.minimum(before, np.minimum(n, window) - 1)
        up_to = last * (n + window - 1) / window - last * (last + 1) / window
    else:
        whole, rest = np.divmod(n, window)
        up_to = whole * before + np.minimum(before, np.maximum(rest - 1, 0))
    return np.diff(up_to, axis=1)


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Sums over the documents of each block of one source, each document as often as it stands for.

    Attributes:
        histogram: expected supervised targets, shape [blocks, buckets].
        tokens: shape [blocks].
    """

    histogram: Floats
    tokens: Floats


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Histograms and tokens of resamples: shapes [resamples, buckets] and [resamples].

    `tokens` is relative to the sample's.
    """

    histogram: Floats
    tokens: Floats

    def interval(self, figure: Callable[[Floats], float], estimate: float) -> Interval:
        """In which a figure of the histogram lies in 95% of the resamples; it has the estimate."""
        return _middle(np.array([figure(one) for one in self.histogram]), estimate)

    def shares(self, estimates: Sequence[float]) -> list[Interval]:
        """The same for each bucket's share of the targets."""
        shares = self.histogram / np.maximum(self.histogram.sum(axis=1, keepdims=True), 1e-300)
        return [_middle(shares[:, b], share) for b, share in enumerate(estimates)]

    def of_tokens(self, estimate: float) -> Interval:
        """The same for what grows with the number of tokens."""
        return _middle(self.tokens * estimate, estimate)


def _middle(values: Floats, estimate: float) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, (tail, 1 - tail)).tolist()
    return min(low, estimate), max(high, estimate)


def block_weights(blocks: Sequence[int], fraction: float, seed: int) -> list[Floats]:
    """What each block of each source counts for in each resample, on average 1.

    Args:
        blocks: of each source.
        fraction: of the corpus that was sampled, 0 to 1.
        seed: of the draws.

    Returns:
        For each source, shape [RESAMPLES, blocks].
    """
    shrink = np.sqrt(max(0.0, 1 - fraction))
    weights: list[Floats] = []
    for number, n in enumerate(blocks):
        often = np.zeros((RESAMPLES, n))
        if n:
            drawn = stream(RESAMPLES * n, seed, Purpose.SAMPLE, BOOTSTRAP, number)
            which = (drawn % np.uint64(n)).astype(np.int64)
            np.add.at(often, (np.repeat(np.arange(RESAMPLES), n), which), 1)
        weights.append(1 + shrink * (often - 1))
    return weights


def resample(sources: Sequence[Blocks], weights: Sequence[Floats]) -> Resampled:
    """The sums over the blocks of all sources, weighted; see `block_weights`."""
    pairs = list(zip(weights, sources, strict=True))
    total = sum(float(blocks.tokens.sum()) for blocks in sources)
    return Resampled(
        histogram=np.sum([weight @ blocks.histogram for weight, blocks in pairs], axis=0),
        tokens=np.sum([weight @ blocks.tokens for weight, blocks in pairs], axis=0)
        / max(total, 1e-300),
    )


def window_interval(
    documents: Sequence[tuple[NDArray[np.integer], Floats, NDArray[np.integer]]],
    weights: Sequence[Floats],
    window: int,
    estimate: int,
) -> Interval:
    """An interval for the number of windows under `best_fit`: some resamples are packed.

    A sample fits together worse than the corpus, and a resample worse than the sample. So it is the
    distance of the resamples from the estimate that tells on which side of it the truth lies.

    Args:
        documents: of each source, lengths, how many documents each stands for, and its block.
        weights: of the blocks.
        window: L, in tokens.
        estimate: of the number of windows.
    """
    lengths = np.concatenate([length for length, _, _ in documents]).astype(np.int64)
    whole, rest = np.divmod(lengths, window)
    found: list[int] = []
    for i in range(PACKED_RESAMPLES):
        times = np.concatenate(
            [n * weight[i][block] for (_, n, block), weight in zip(documents, weights, strict=True)]
        )
        pieces = np.bincount(rest, times)
        pieces[0] = 0
        opened = windows_opened(np.rint(pieces).astype(np.int64), window)
        found.append(int(opened.sum()) + round(float(whole @ times)))
    low, high = _middle(2.0 * estimate - np.array(found, np.float64), estimate)
    return max(low, 0.0), high
