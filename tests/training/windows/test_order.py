from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.training.windows.order import ROUNDS, permuted, windows_at

MASK = (1 << 64) - 1


def slow_permuted(x: int, n: int, seed: int, epoch: int) -> int:
    """The swap-or-not shuffle of one index, in whole numbers."""
    draws = np.random.SeedSequence(seed, spawn_key=(epoch,)).generate_state(2 * ROUNDS, np.uint64)
    for partner, key in zip(draws[:ROUNDS].tolist(), draws[ROUNDS:].tolist(), strict=True):
        other = (partner - x) % n
        z = (max(x, other) + key) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        if (z ^ (z >> 31)) & 1:
            x = other
    return x


@given(n=st.integers(1, 600), seed=st.integers(0, MASK), epoch=st.integers(0, 5))
def test_every_window_once_an_epoch(n, seed, epoch):
    assert sorted(permuted(np.arange(n), n, seed, epoch)) == list(range(n))


@given(
    n=st.integers(1, 1 << 40), at=st.integers(0, 1 << 40), seed=st.integers(0, MASK),
    epoch=st.integers(0, 9),
)  # fmt: skip
def test_one_index_at_a_time(n, at, seed, epoch):
    assert permuted(np.array([at % n]), n, seed, epoch) == slow_permuted(at % n, n, seed, epoch)


def test_the_order_never_changes():
    assert permuted(np.arange(12), 12, 0).tolist() == [8, 3, 9, 10, 7, 1, 0, 5, 4, 11, 2, 6]
    assert permuted(np.arange(3), 10**12, 7, 2).tolist() == [
        293037946631,
        60561308599,
        500111174511,
    ]


@pytest.mark.slow
def test_all_permutations_are_about_equally_likely():
    seen = Counter(tuple(permuted(np.arange(4), 4, seed)) for seed in range(2400))
    assert len(seen) == 24
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 49.7  # p = 0.001, 23 degrees


def test_neighbours_do_not_stay_neighbours():
    n = 5000
    steps = np.diff(permuted(np.arange(n), n, 3)) % n
    assert np.bincount(steps, minlength=n).max() < 10


@pytest.mark.slow
@given(
    n=st.integers(1, 50), consumed=st.integers(0, 500), seed=st.integers(0, 3),
    sizes=st.lists(st.integers(0, 70), max_size=5),
)  # fmt: skip
def test_batches_of_any_size_cross_epochs(n, consumed, seed, sizes):
    places = np.arange(consumed, consumed + sum(sizes))
    pieces = [windows_at(p, n, seed) for p in np.split(places, np.cumsum(sizes)[:-1])]
    slow = [slow_permuted(int(c) % n, n, seed, int(c) // n) for c in places]
    assert np.concatenate([*pieces, []]).tolist() == slow


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = [tuple(permuted(np.arange(99), 99, s, e)) for s in range(3) for e in range(3)]
    assert len(set(orders)) == 9


@pytest.mark.parametrize("n", [1, 2])
def test_small_sets(n):
    assert set(windows_at(np.arange(10 * n), n, 0).tolist()) == set(range(n))
