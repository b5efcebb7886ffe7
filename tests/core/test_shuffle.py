from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import MASK_64, sorted_by_draw, splitmix64, splitmix64_inverse

from exactcpt.pipeline.core.shuffle import Purpose, mix, permutation

seeds = st.integers(0, 2**64)
purposes = st.sampled_from(Purpose)
scopes = st.lists(st.integers(0, 2**32 - 1), max_size=3)


def offset_of(seed: int, purpose: Purpose) -> int:
    sequence = np.random.SeedSequence(seed, spawn_key=(purpose,))
    return int(sequence.generate_state(1, np.uint64)[0])


def chi_squared(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


@given(st.integers(0, 300), seeds, purposes, scopes)
def test_permutation_has_every_index_once(n, seed, purpose, scope):
    order = permutation(n, seed, purpose, *scope)
    assert sorted(order.tolist()) == list(range(n))
    assert order.dtype == np.int64


@given(st.integers(0, 300), seeds, purposes, scopes)
def test_permutation_sorts_the_draws(n, seed, purpose, scope):
    sequence = np.random.SeedSequence(seed, spawn_key=(purpose, *scope))
    draws = np.random.Philox(sequence).random_raw(n)
    assert permutation(n, seed, purpose, *scope).tolist() == sorted_by_draw(draws)


@given(st.integers(0, 300), seeds, purposes, scopes)
def test_permutation_is_a_function_of_its_arguments(n, seed, purpose, scope):
    once, again = (permutation(n, seed, purpose, *scope) for _ in range(2))
    assert once.tolist() == again.tolist()


def test_seed_purpose_and_scope_each_give_another_order():
    argument_sets = [
        (seed, purpose, *scope)
        for seed in (0, 1, 2**40)
        for purpose in Purpose
        for scope in ((), (0,), (1,), (0, 0), (0, 1), (1, 0))
    ]
    orders = {tuple(permutation(100, *arguments)) for arguments in argument_sets}
    assert len(orders) == len(argument_sets)


# A change here changes every shard set that is made again from the same seed.
def test_golden_permutations():
    assert permutation(10, 0, Purpose.DOCUMENTS).tolist() == [4, 9, 3, 5, 6, 1, 0, 8, 7, 2]
    assert permutation(16, 7, Purpose.WINDOWS, 3, 1).tolist() == (
        [1, 15, 14, 9, 2, 7, 10, 11, 3, 6, 0, 5, 4, 8, 13, 12]
    )


def test_golden_purposes():
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "PARTS": 0,
        "DOCUMENTS": 1,
        "WINDOWS": 2,
        "SPLIT": 3,
        "MIXING": 4,
        "SAMPLE": 5,
    }


def test_golden_mix():
    keys = np.array([0, 1, 2**63, MASK_64], dtype=np.uint64)
    assert mix(keys, 0, Purpose.SPLIT).tolist() == [
        0x6D08028D81C55DCB,
        0xF42CD5BF84961CBE,
        0xB328E5F97422A0E1,
        0x28430D47D902596A,
    ]


def test_all_orders_of_four_are_equally_likely():
    index = {order: i for i, order in enumerate(permutations(range(4)))}
    drawn = [index[tuple(permutation(4, seed, Purpose.WINDOWS).tolist())] for seed in range(2400)]
    assert chi_squared(np.bincount(drawn, minlength=24)) < 49.7  # p = 0.001, 23 degrees


def test_no_index_prefers_a_place():
    n = 20_000
    order = permutation(n, 0, Purpose.DOCUMENTS)
    blocks = np.histogram2d(np.arange(n), order, bins=10)[0]
    assert chi_squared(blocks) < 126.1  # p = 0.001, 81 degrees
    assert abs(np.corrcoef(np.arange(n), order)[0, 1]) < 3.3 / n**0.5


@given(st.lists(st.integers(0, MASK_64), max_size=50), seeds, purposes)
def test_mix_is_the_finaliser_over_key_plus_offset(keys, seed, purpose):
    offset = offset_of(seed, purpose)
    mixed = mix(np.array(keys, dtype=np.uint64), seed, purpose)
    assert mixed.tolist() == [splitmix64(key + offset) for key in keys]
    assert mixed.dtype == np.uint64


@given(st.lists(st.integers(0, MASK_64), max_size=50), seeds, purposes)
def test_mix_can_be_undone_so_it_is_injective(keys, seed, purpose):
    offset = offset_of(seed, purpose)
    mixed = mix(np.array(keys, dtype=np.uint64), seed, purpose).tolist()
    assert [splitmix64_inverse(z) - offset & MASK_64 for z in mixed] == keys


def test_mix_gives_the_published_stream_of_splitmix64():
    step = 0x9E3779B97F4A7C15
    offset = offset_of(0, Purpose.MIXING)
    keys = np.array([i * step - offset & MASK_64 for i in (1, 2, 3)], dtype=np.uint64)
    assert mix(keys, 0, Purpose.MIXING).tolist() == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_seed_and_purpose_each_rank_keys_in_another_order():
    keys = np.arange(100, dtype=np.uint64)
    arguments = [(seed, purpose) for seed in (0, 1, 2**40) for purpose in Purpose]
    orders = {tuple(np.argsort(mix(keys, *argument))) for argument in arguments}
    assert len(orders) == len(arguments)


@pytest.mark.parametrize("shift", [0, 20, 48])
def test_mix_spreads_keys_that_differ_in_a_few_bits(shift):
    keys = np.arange(2**16, dtype=np.uint64) << np.uint64(shift)
    mixed = mix(keys, 0, Purpose.SPLIT)
    for byte in range(8):
        values = mixed >> np.uint64(8 * byte) & np.uint64(255)
        assert chi_squared(np.bincount(values.astype(np.int64), minlength=256)) < 331  # p = 0.001


def test_mix_leaves_its_argument_alone():
    keys = np.arange(5, dtype=np.uint64)
    mix(keys, 0, Purpose.SPLIT)
    assert keys.tolist() == [0, 1, 2, 3, 4]


def test_nothing_to_mix():
    assert mix(np.array([], dtype=np.uint64), 0, Purpose.SPLIT).shape == (0,)
