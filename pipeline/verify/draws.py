"""The draws of the format: numbers that follow from the seed and from their purpose.

Only parts of NumPy whose results never change are used: seed sequences.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from .arrays import Array

__all__ = ["Purpose", "mix", "prefixes"]


class Purpose(IntEnum):
    """The purposes that hashes are mixed for, by their numbers."""

    SPLIT = 3
    MIXING = 4


def prefixes(content_hash: Array) -> NDArray[np.uint64]:
    """The first 8 bytes of hashes, shape [n, 2] as they are in memory, as big-endian integers."""
    return np.ascontiguousarray(content_hash[:, 0]).view(">u8").astype(np.uint64)


def mix(keys: NDArray[np.uint64], seed: int, purpose: Purpose) -> NDArray[np.uint64]:
    """Mixes every key, plus an offset from seed and purpose, by the finaliser of SplitMix64."""
    (offset,) = np.random.SeedSequence(seed, spawn_key=(purpose,)).generate_state(1, np.uint64)
    mixed = keys + offset
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed
