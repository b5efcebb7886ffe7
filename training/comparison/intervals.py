"""What paired differences say: intervals, tests, and what could have been found.

A difference has two sources of chance, and each has its own interval:

    over seeds   d +- t(n-1, 0.975) sd / sqrt(n) over the n seeds: whether it holds for a new seed
    over items   percentiles of 10,000 means over items drawn again, with these seeds: how exactly
                 it was measured

Both at once is the two-way bootstrap, which draws seeds and items again. "Unchanged" is a claim of
its own, made by two one-sided tests: a mean is equivalent to 0 if its 90% interval lies within a
margin.

Means that are drawn again spread less than means of new draws, the more so the fewer there are. So
the percentiles are further out than 2.5 and 97.5, for n draws at the probabilities
Phi(-+ sqrt(n / (n-1)) t(n-1, 0.975)): the expanded percentiles of Hesterberg (The American
Statistician 69, 2015).

Student's distribution is exact, by the finite sums for whole degrees of freedom (Abramowitz and
Stegun, 26.7.3 and 26.7.4).
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "bootstrap_items",
    "bootstrap_seeds_and_items",
    "detectable_difference",
    "half_width",
    "holm",
    "is_equivalent",
    "p_value",
    "seeds_needed",
    "student_cdf",
    "student_quantile",
]

RESAMPLES = 10_000
AT_A_TIME = 500
"""Resamples that are drawn together, for the memory they take."""
POWER = 0.8
MOST_SEEDS = 100_000

Values = NDArray[np.float64]


def student_cdf(t: float, freedom: int) -> float:
    """P(T <= t) for Student's T with a whole number of degrees of freedom, at least 1."""
    angle = math.atan(t / math.sqrt(freedom))
    cos2 = math.cos(angle) ** 2
    odd = freedom % 2
    # The factors of the terms are 2/3, 4/5, ... for odd degrees of freedom, 1/2, 3/4, ... for even.
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cos2 * k / (k + 1)
    inside = (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total
    return (1 + inside) / 2


def student_quantile(p: float, freedom: int) -> float:
    """The t with P(T <= t) = p, for 0 < p < 1."""
    low, high = -1.0, 1.0
    while student_cdf(low, freedom) > p:
        low *= 2
    while student_cdf(high, freedom) < p:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def half_width(values: Sequence[float], level: float = 0.95) -> float | None:
    """Half the width of the interval of a mean over seeds; None with one seed.

    Args:
        values: one difference per seed.
        level: probability that the interval covers the true mean.
    """
    n = len(values)
    if n < 2:
        return None
    return student_quantile((1 + level) / 2, n - 1) * _standard_error(values)


def p_value(values: Sequence[float]) -> float | None:
    """The two-sided p of Student's test that the mean over seeds is 0; None with one seed."""
    n = len(values)
    if n < 2:
        return None
    mean, error = float(np.mean(values)), _standard_error(values)
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * student_cdf(-abs(mean) / error, n - 1)


def is_equivalent(values: Sequence[float], margin: float) -> bool | None:
    """Whether a mean over seeds is equivalent to 0: its 90% interval lies within the margin.

    None with one seed.
    """
    half = half_width(values, 0.9)
    return None if half is None else abs(float(np.mean(values))) + half <= margin


def detectable_difference(values: Sequence[float]) -> float | None:
    """The true mean that a test at 5% finds with 80% power, given these seeds; None with one."""
    n = len(values)
    return None if n < 2 else _detectable(float(np.std(values, ddof=1)), n)


def seeds_needed(values: Sequence[float], difference: float) -> int | None:
    """The number of seeds for which `difference` is detectable; None with one seed.

    None too if it is more than 100,000.
    """
    if len(values) < 2:
        return None
    deviation = float(np.std(values, ddof=1))
    low, high = 1, 2
    while _detectable(deviation, high) > difference:
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        found = _detectable(deviation, middle) <= difference
        low, high = (low, middle) if found else (middle, high)
    return high


def _detectable(deviation: float, n: int) -> float:
    quantiles = student_quantile(0.975, n - 1) + student_quantile(POWER, n - 1)
    return quantiles * deviation / math.sqrt(n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p of each of several tests, in their order.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none may be smaller than one
    before it, or exceed 1. (Holm, Scandinavian Journal of Statistics 6, 1979.)
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def bootstrap_items(differences: Values, *, seed: int = 0) -> tuple[float, float]:
    """The 95% interval of the mean over items, with these seeds.

    Args:
        differences: one per seed and item, shape [seeds, items]. Values that belong together, such
            as those of one item at several distances, are one item here: their mean.
        seed: of the draws.
    """
    by_item = differences.mean(axis=0)
    items = by_item.size
    means = [counts @ by_item / items for counts in _draws(seed, "items", items)]
    return _percentiles(means, items)


def bootstrap_seeds_and_items(differences: Values, *, seed: int = 0) -> tuple[float, float]:
    """The 95% interval of the mean over seeds and items, drawn again; see `bootstrap_items`."""
    seeds, items = differences.shape
    drawn = zip(_draws(seed, "seeds", seeds), _draws(seed, "items", items), strict=True)
    means = [
        (of_seeds @ differences * of_items).sum(axis=1) / (seeds * items)
        for of_seeds, of_items in drawn
    ]
    return _percentiles(means, min(seeds, items))


def _draws(seed: int, what: str, n: int) -> Iterator[NDArray[np.int64]]:
    """Yields blocks of resamples, n out of n with replacement, as how often each of n was drawn.

    Blocks have the shape [AT_A_TIME, n].
    """
    key = np.array([seed, ("seeds", "items").index(what)], np.uint64)
    random = np.random.Generator(np.random.Philox(key=key))
    for _ in range(RESAMPLES // AT_A_TIME):
        yield random.multinomial(n, np.full(n, 1 / n), size=AT_A_TIME)


def _percentiles(blocks: Sequence[Values], n: int) -> tuple[float, float]:
    """The ends of the 95% interval of means of n draws."""
    beyond = 0.025 if n < 2 else _expanded(n)
    low, high = np.percentile(np.concatenate(blocks), [100 * beyond, 100 * (1 - beyond)])
    return float(low), float(high)


def _expanded(n: int) -> float:
    """The share of resampled means of n draws that lies beyond each end of a 95% interval."""
    distance = math.sqrt(n / (n - 1)) * student_quantile(0.975, n - 1)
    return math.erfc(distance / math.sqrt(2)) / 2
