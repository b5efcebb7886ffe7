"""Which documents of a corpus are drawn, where the size of every document is known.

The chance of a document of x bytes is

    p(x) = min(1, max(f / 4, (x / s)^1.5))

so that long documents, which hold the tail, are drawn more often than short ones, and short ones
still often enough to see how they vary. s is such that the bytes that are drawn are expected to be
the fraction f of all bytes. Each document is drawn by itself (Poisson sampling: Sarndal, Swensson,
Wretman, Model Assisted Survey Sampling, 1992, 3.5).

A `SizeTable` is what is kept of the sizes of all documents: how many there are in each class of
size, and their bytes. The classes are 1/32 of an octave wide, so the mean size of a class is within
about 1% of the sizes in it, and the memory does not grow with the corpus.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["SizeTable", "chances", "size_class", "threshold"]

LEAST_CHANCE = 0.25
"""The smallest chance of a document, relative to the fraction."""
POWER = 1.5
"""How fast chances grow with the size. 1 would do if all tokens per byte varied alike; more of it
makes the longest documents certain, one of which may have a hundredth of all tokens."""
CLASSES_PER_OCTAVE = 32
OCTAVES = 48
HALVINGS = 100
Floats = NDArray[np.float64]


def size_class(sizes: Floats) -> NDArray[np.int64]:
    """The class of each size (>= 1), shape [n]."""
    return np.floor(np.log2(sizes) * CLASSES_PER_OCTAVE).astype(np.int64)


def chances(sizes: Floats, fraction: float, limit: float) -> Floats:
    """The chance of each size to be drawn, shape [n]; `limit` is s, and 0 draws everything."""
    if limit <= 0:
        return np.ones(len(sizes))
    return np.minimum(1.0, np.maximum(LEAST_CHANCE * fraction, (sizes / limit) ** POWER))


@dataclass(frozen=True)
class SizeTable:
    """How many documents have each class of size, and their bytes; shapes [classes]."""

    count: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(CLASSES_PER_OCTAVE * OCTAVES, np.int64)
    )
    size: Floats = field(default_factory=lambda: np.zeros(CLASSES_PER_OCTAVE * OCTAVES))

    def add(self, sizes: Floats) -> None:
        """Adds documents."""
        which = size_class(sizes)
        self.count[:] += np.bincount(which, minlength=len(self.count))
        self.size[:] += np.bincount(which, sizes, len(self.size))

    @property
    def mean(self) -> Floats:
        """The mean size of the documents of each class; 0 where there are none."""
        return self.size / np.maximum(self.count, 1)


def threshold(table: SizeTable, fraction: float) -> float:
    """The s with which the fraction of the bytes is expected to be drawn; 0 to draw everything."""
    total = float(table.size.sum())
    if fraction >= 1 or not total:
        return 0.0
    low, high = 0.0, total / fraction
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        drawn = float(table.size @ chances(table.mean, fraction, middle))
        low, high = (middle, high) if drawn > fraction * total else (low, middle)
    return high
