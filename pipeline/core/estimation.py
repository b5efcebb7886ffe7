"""How far a sample's figures may be from the corpus': expected histograms, and intervals.

How many targets a document of n tokens adds to a bucket depends on the window length L and, under
`concat`, on where in a window the document begins. All L places are equally likely. With the
largest context m = min(n, L) - 1, the expected number of its targets with context l is

    E(l) = (n + L - 1 - 2 l) / L      for l = 1 .. m, else 0

(n <= L: the document is uncut at L - n + 1 of the places. At the other n - 1 it has a first and a
last piece, and over these places each has every length 1 .. n - 1 once. n > L: all places together
give n - L whole windows, first pieces of 1 .. L tokens and last pieces of 0 .. L - 1.) Under
`best_fit` the pieces follow from n and L alone. So a histogram is a sum over documents, and its
error is a sum over what was drawn, the *units*: blocks of documents, or single documents.

With a unit's residual e, what it has beyond what its known size predicts, its contribution to the
error of an estimated total is

    blocks       X / x sqrt(1 - f)   e / (1 - h)    a ratio to known bytes, without replacement
    documents    w     sqrt(1 - 1/w) e / (1 - h)    a difference from known bytes, one by one

where X are the bytes of all, x those drawn, f = x / X, 1/w the chance of a document to be drawn,
and h the part of the predicted size that the unit itself has. The variance is the sum of the
squared contributions. Sources: Cochran, Sampling Techniques, 3rd ed. (1977), 6.3 and 9A for ratios
of clusters; Sarndal, Swensson, Wretman, Model Assisted Survey Sampling (1992), 3.5 and 6.3 for the
chances and differences. 1 / (1 - h) is the jackknife's correction for units of very different
sizes. The degrees of freedom of Student's t are Satterthwaite's (1946), with the kurtosis of the
contributions: where a few of them make up the error, there are few.

The places of the corpus' documents are left to chance: their covariance is added once, so the
estimate has to be the mean over all places, and must not bring a chance of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from .buckets import bucket_count, lower_edges
from .choices import PackingName

__all__ = [
    "LEAST_IN_BUCKET",
    "LEAST_UNITS",
    "LEVEL",
    "Errors",
    "Interval",
    "contributions_of_blocks",
    "contributions_of_documents",
    "expected_histogram",
    "place_covariance",
    "student_quantile",
]

LEVEL = 0.95
LEAST_UNITS = 20
"""With fewer units drawn there are no intervals: too little is known about how they vary."""
LEAST_IN_BUCKET = 10
"""The same for the share of a bucket, with units that have targets there."""
PLACES = 32
"""Places in a window that stand for all of them."""
Floats = NDArray[np.float64]
Interval = tuple[float, float]


def expected_histogram(lengths: NDArray[np.number], window: int, packing: PackingName) -> Floats:
    """Expected supervised targets per bucket of documents of the given lengths.

    Args:
        lengths: in tokens, shape [n]; a length of 0 is no document. It may be a fraction.
        window: L, in tokens.
        packing: under `concat` the mean is over all places in a window.

    Returns:
        Shape [n, buckets].
    """
    n = np.asarray(lengths, np.float64)[:, None]
    lows = lower_edges(bucket_count(window)).astype(np.float64)
    before = np.append(np.maximum(lows, 1) - 1, window - 1)  # the largest context below a bucket
    if packing == "concat":
        last = np.minimum(before, np.maximum(np.minimum(n, window) - 1, 0))
        up_to = last * (n + window - 1) / window - last * (last + 1) / window
    else:
        whole, rest = np.divmod(n, window)
        up_to = whole * before + np.minimum(before, np.maximum(rest - 1, 0))
    return np.diff(up_to, axis=1)


def place_covariance(lengths: NDArray[np.number], often: Floats, window: int) -> Floats:
    """How much histograms vary because documents begin at any place in a window, under `concat`.

    Args:
        lengths: in tokens, shape [n].
        often: how many documents have each length, shape [n].
        window: L, in tokens.

    Returns:
        A covariance matrix, shape [buckets, buckets].
    """
    n, which = np.unique(np.rint(lengths).astype(np.int64), return_inverse=True)
    count = np.bincount(which, often, len(n))
    edges = np.append(np.maximum(lower_edges(bucket_count(window)), 1), window)

    def histogram(pieces: NDArray[np.int64]) -> Floats:
        return np.diff(np.clip(pieces[:, None], 1, edges), axis=1).astype(np.float64)

    whole = histogram(np.array([window]))
    mean = expected_histogram(n, window, "concat")
    found = np.zeros((mean.shape[1], mean.shape[1]))
    for number in range(PLACES):
        head = np.minimum(n, window - (2 * number + 1) * window // (2 * PLACES))
        full, rest = np.divmod(n - head, window)
        off = histogram(head) + full[:, None] * whole + histogram(rest) - mean
        found += (off * count[:, None]).T @ off / PLACES
    return found


def contributions_of_blocks(totals: Floats, size: Floats, whole: float) -> Floats:
    """The contributions of blocks to the errors of totals that are ratios to known bytes.

    Args:
        totals: of each block, shape [blocks, figures]; blocks without documents are left out.
        size: bytes of each block, shape [blocks].
        whole: X, the bytes of all blocks, drawn or not.

    Returns:
        Shape [blocks, figures].
    """
    drawn = float(size.sum())
    residual = totals - size[:, None] * (totals.sum(axis=0) / drawn)
    unsampled = np.sqrt(max(0.0, 1 - drawn / whole))
    own = np.minimum(size / drawn, 0.5)
    return residual / (1 - own[:, None]) * (whole / drawn * unsampled)


def contributions_of_documents(residual: Floats, size: Floats, weight: Floats) -> Floats:
    """The contributions of documents to the errors of totals that are predicted from known bytes.

    Args:
        residual: of each document, what it has beyond its prediction; shape [documents, figures].
        size: bytes of each document, shape [documents].
        weight: w, the inverse of its chance to be drawn, at least 1; shape [documents].

    Returns:
        Shape [documents, figures].
    """
    stands_for = weight * size
    own = np.minimum(stands_for / max(float(stands_for.sum()), 1e-300), 0.5)
    return residual * (weight * np.sqrt(1 - 1 / weight) / (1 - own))[:, None]


@dataclass(frozen=True, kw_only=True)
class Errors:
    """The errors of an estimated histogram and of the estimated tokens, all sources together.

    Attributes:
        histogram: the estimate, shape [buckets].
        tokens: the estimate.
        contributions: shape [units, buckets + 1]; the last column is that of the tokens.
        places: the part that comes from the places of documents, shape [buckets, buckets].
        seen: in how many units each bucket has targets, shape [buckets].
    """

    histogram: Floats
    tokens: float
    contributions: Floats
    places: Floats
    seen: NDArray[np.int64]

    @property
    def units(self) -> int:
        """How many units contribute to the error."""
        return int((self.contributions != 0).any(axis=1).sum())

    def of_tokens(self, figure: float) -> Interval:
        """The interval of a positive figure that is proportional to the tokens."""
        gradient = np.append(np.zeros(len(self.histogram)), 1 / max(self.tokens, 1e-300))
        spread = np.exp(self._half_width(gradient))
        return figure / spread, figure * spread

    def shares(self) -> list[Interval | None]:
        """The interval of each bucket's share of the targets, on the logit scale."""
        total = max(float(self.histogram.sum()), 1e-300)
        found: list[Interval | None] = []
        for bucket, share in enumerate((self.histogram / total).tolist()):
            if self.seen[bucket] < LEAST_IN_BUCKET or not 0 < share < 1:
                found.append(None)
                continue
            gradient = np.append(np.full(len(self.histogram), -share / total), 0)
            gradient[bucket] += 1 / total
            half = self._half_width(gradient) / (share * (1 - share))
            odds = share / (1 - share) * np.exp([-half, half])
            low, high = (odds / (1 + odds)).tolist()
            found.append((low, high))
        return found

    def of_weight(self, mean: Callable[[Floats], float], tail: Sequence[bool]) -> Interval | None:
        """The interval of the mean weight, which is at least 1.

        Args:
            mean: the mean weight, from a histogram.
            tail: which buckets it depends on.

        Returns:
            None if one of these buckets has been seen in too few units, or there is none: the
            corpus may have one.
        """
        chosen = np.array(tail, bool)
        if not chosen.any() or (self.seen[chosen] < LEAST_IN_BUCKET).any():
            return None
        figure = mean(self.histogram)
        gradient = np.zeros(len(self.histogram) + 1)
        for bucket, count in enumerate(self.histogram.tolist()):
            step = max(1.0, count / 100)
            moved = self.histogram.copy()
            moved[bucket] += step
            gradient[bucket] = (mean(moved) - figure) / step
        half, above = self._half_width(gradient), figure - 1
        if above <= 0:  # alpha is 0
            return figure, figure
        spread = float(np.exp(half / above))
        return 1 + above / spread, 1 + above * spread

    def _half_width(self, gradient: Floats) -> float:
        """Half the width of the interval of a figure with this gradient."""
        parts = np.square(self.contributions @ gradient)
        drawn = float(parts.sum())
        units = self.units
        fourth = float(np.square(parts).sum())
        freedom = min(units - 1, 3 * drawn**2 / fourth - 1) if fourth else units - 1
        places = gradient[:-1] @ self.places @ gradient[:-1]
        variance = drawn * units / max(1, units - 1) + float(places)
        return student_quantile((1 + LEVEL) / 2, max(3.0, freedom)) * float(np.sqrt(variance))


def student_quantile(p: float, freedom: float) -> float:
    """The t with P(T <= t) = p, by Abramowitz and Stegun, 26.7.5; from 3 degrees of freedom on."""
    x = NormalDist().inv_cdf(p)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / freedom**power for power, term in enumerate(terms, 1))
