"""The order of windows: a pure function of the seed and of how many windows came before.

Window number c of a run, counted from 0, belongs to epoch e = c // n of a set of n windows and is

    window(c) = permutation(seed, e)[c % n]

so each epoch has every window once, batches cross epochs, and a run is resumed by its count alone,
whatever the number of ranks and the size of the batches were and will be.

The permutation is the swap-or-not shuffle (Hoang, Morris, Rogaway, "An enciphering scheme based on
a card shuffle", 2012). In each round x and its partner (k - x) mod n change places or do not, as
one bit says that is drawn for the pair. Any entry is computed alone, so no permutation is stored.
The k and the bits come from SeedSequence(seed, spawn_key=(epoch,)), whose stream NumPy keeps fixed,
and the finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["permuted", "windows_at"]

ROUNDS = 90  # the place of one entry is then uniform to within sqrt(n) 2^-45

U64 = NDArray[np.uint64]


def windows_at(positions: NDArray[np.integer], n: int, seed: int) -> NDArray[np.int64]:
    """The windows at some positions of a run, shape [count].

    Args:
        positions: how many windows come before each, shape [count].
        n: windows of the set.
        seed: of the order.
    """
    epochs, within = np.divmod(np.asarray(positions), n)
    found = np.empty(len(within), np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        found[chosen] = permuted(within[chosen], n, seed, int(epoch))
    return found


def permuted(indices: NDArray[np.integer], n: int, seed: int, epoch: int = 0) -> NDArray[np.int64]:
    """Where a permutation of range(n) takes each index; any shape.

    Args:
        indices: each in range(n).
        n: at most 2^62.
        seed, epoch: at least 0; every pair has a permutation of its own.
    """
    partners, keys = _round_keys(n, seed, epoch)
    size = np.uint64(n)
    x = np.asarray(indices).astype(np.uint64)
    for partner, key in zip(partners, keys, strict=True):
        other = (partner + size - x) % size
        swap = (_mixed(np.maximum(x, other) + key) & np.uint64(1)).astype(bool)
        x = np.where(swap, other, x)
    return x.astype(np.int64)


@lru_cache(maxsize=8)
def _round_keys(n: int, seed: int, epoch: int) -> tuple[U64, U64]:
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch,))
    draws: U64 = sequence.generate_state(2 * ROUNDS, np.uint64).astype(np.uint64, copy=False)
    return draws[:ROUNDS] % np.uint64(n), draws[ROUNDS:]


def _mixed(z: U64) -> U64:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
