"""Seeded orders and draws, as pure functions of (seed, purpose, scope).

Only SeedSequence and the raw 64-bit stream of the Philox generator are used. NumPy promises that
both stay the same in all versions; it does not promise that of `Generator.permutation`.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Purpose", "mix", "permutation", "stream"]


class Purpose(IntEnum):
    """What draws are for; draws for different purposes are independent."""

    PARTS = 0
    DOCUMENTS = 1
    WINDOWS = 2
    SPLIT = 3
    MIXING = 4
    SAMPLE = 5


def stream(n: int, seed: int, purpose: Purpose, *scope: int) -> NDArray[np.uint64]:
    """n draws of 64 bits, shape [n]; scope is any further numbers that tell draws apart."""
    generator = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(purpose, *scope)))
    return generator.random_raw(n)


def permutation(n: int, seed: int, purpose: Purpose, *scope: int) -> NDArray[np.int64]:
    """A permutation of range(n), shape [n]: the order that sorts n draws, ties kept in order.

    Each draw has its index in its low bits. So sorting the draws gives the order, several times
    faster than an argsort. With n < 2^32 at least 32 bits of each draw are random.
    """
    index_bits = np.uint64(max(1, n.bit_length()))
    draws = stream(n, seed, purpose, *scope) << index_bits | np.arange(n, dtype=np.uint64)
    draws.sort()
    return (draws & ((np.uint64(1) << index_bits) - np.uint64(1))).astype(np.int64)


def mix(keys: NDArray[np.uint64], seed: int, purpose: Purpose) -> NDArray[np.uint64]:
    """Hashes content hashes again, so that they have another order for every seed and purpose.

    This is the finaliser of SplitMix64 (Steele, Lea, Flood, 2014) of key + offset, a bijection.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(purpose,))
    z = keys + sequence.generate_state(1, np.uint64)[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
