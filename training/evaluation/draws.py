"""Random draws that are the same on every machine and with every version of NumPy."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import xxhash

__all__ = ["Draws"]

T = TypeVar("T")


class Draws:
    """A stream of draws with a key of its own.

    NumPy keeps the stream of raw bits of `Philox` and of `SeedSequence` fixed, but not what its
    generators make of them.

    Args:
        seed: at least 0.
        purpose: what the draws are for.
        key: tells apart the streams of one purpose; each at least 0.
    """

    def __init__(self, seed: int, purpose: str, *key: int) -> None:
        spawn_key = (xxhash.xxh32_intdigest(purpose.encode()), *key)
        self._bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=spawn_key))

    def below(self, n: int) -> int:
        """A number of 0 .. n - 1, all equally likely to within 2^-64 n."""
        return (int(self._bits.random_raw()) * n) >> 64

    def choice(self, options: Sequence[T]) -> T:
        """One of some options."""
        return options[self.below(len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """All options in an order that is drawn (Fisher and Yates)."""
        order = list(options)
        for last in range(len(order) - 1, 0, -1):
            drawn = self.below(last + 1)
            order[last], order[drawn] = order[drawn], order[last]
        return order
