"""How far a sample's figures may be from the corpus': expected histograms, and a bootstrap.

How many targets a document of n tokens adds to a bucket depends on the window length L and, under
`concat`, on where in a window the document begins. All L places are equally likely. With the
largest context m = min(n, L) - 1, the expected number of its targets with context l is

    E(l) = (n + L - 1 - 2 l) / L      for l = 1 .. m, else 0

(n <= L: the document is uncut at L - n + 1 of the places. At the other n - 1 it has a first and a
last piece, and over these places each has every length 1 .. n - 1 once. n > L: all places together
give n - L whole windows, first pieces of 1 .. L tokens and last pieces of 0 .. L - 1.) Under
`best_fit` the pieces follow from n and L alone. So a histogram is a sum over documents, and so is
the histogram of a resample of them.

The bootstrap draws, from each source, as many blocks of documents as the sample has, with
replacement. Documents of one block were read together, so only blocks are independent. Deviations
are multiplied by sqrt(1 - f), where f is the fraction of the corpus that was sampled: a sample of
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
"""Sets these draws apart from those of the sample itself."""
Floats = NDArray[np.float64]
Interval = tuple[float, float]


def expected_histogram(lengths: NDArray[np.integer], window: int, packing: PackingName) -> Floats:
    """Expected supervised targets per bucket of documents of the given lengths.

    Args:
        lengths: in tokens, shape [n].
        window: L, in tokens.
        packing: under `concat` the mean is over all places in a window.

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
    """Sums over the documents of each block of one source.

    Each document counts as many times as the number of documents it stands for.

    Attributes:
        histogram: expected supervised targets, shape [blocks, buckets].
        tokens: shape [blocks].
    """

    histogram: Floats
    tokens: Floats


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """The sums of each resample over all blocks of all sources.

    Attributes:
        histogram: expected supervised targets, shape [resamples, buckets].
        tokens: relative to the sample's, shape [resamples].
    """

    histogram: Floats
    tokens: Floats

    def interval(self, figure: Callable[[Floats], float], estimate: float) -> Interval:
        """The interval of a figure of the histogram in 95% of the resamples, estimate included."""
        return _middle(np.array([figure(one) for one in self.histogram]), estimate)

    def shares(self, estimates: Sequence[float]) -> list[Interval]:
        """The interval of each bucket's share of the targets."""
        shares = self.histogram / np.maximum(self.histogram.sum(axis=1, keepdims=True), 1e-300)
        return [_middle(shares[:, b], share) for b, share in enumerate(estimates)]

    def of_tokens(self, estimate: float) -> Interval:
        """The interval of a figure that is proportional to the number of tokens."""
        return _middle(self.tokens * estimate, estimate)


def _middle(values: Floats, estimate: float) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, (tail, 1 - tail)).tolist()
    return min(low, estimate), max(high, estimate)


def block_weights(blocks: Sequence[int], fraction: float, seed: int) -> list[Floats]:
    """The weight of each block in each resample; the mean weight is 1.

    Args:
        blocks: how many each source has.
        fraction: how much of the corpus was sampled, 0 to 1.
        seed: of the draws.

    Returns:
        One array per source, shape [RESAMPLES, blocks].
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
    """The sums over the blocks of all sources, with the weights of `block_weights`."""
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
    """An interval for the number of windows under `best_fit`, from resamples that are packed.

    A sample leaves more room in its windows than the corpus, and a resample leaves more than the
    sample. So the corpus is expected to be as far from the estimate as the resamples are, but on
    the other side.

    Args:
        documents: for each source, the lengths of its documents, how many documents each stands
            for, and its block; shape [documents] each.
        weights: those of `block_weights`.
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
