"""Intervals and tests against hand-worked numbers, slow oracles and simulated studies."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.training.comparison import intervals
from exactcpt.training.comparison.intervals import (
    bootstrap_items,
    bootstrap_seeds_and_items,
    detectable_difference,
    half_width,
    holm,
    is_equivalent,
    p_value,
    seeds_needed,
    student_cdf,
    student_quantile,
)

FLOATS = st.floats(-100, 100)


def slow_cdf(t: float, freedom: int) -> float:
    """Simpson's rule over Student's density, from 0 to t."""
    scale = math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)
    x = np.linspace(0, t, 4001)
    y = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    return 0.5 + float((y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum()) * t / 12_000)


@given(st.floats(-8, 8), st.integers(1, 60))
def test_students_distribution(t, freedom):
    assert student_cdf(t, freedom) == pytest.approx(slow_cdf(t, freedom), abs=1e-9)


@pytest.mark.parametrize(
    ("p", "freedom", "t"),
    [
        (0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 5, 2.571), (0.975, 11, 2.201),
        (0.975, 30, 2.042), (0.975, 100, 1.984), (0.95, 4, 2.132), (0.8, 11, 0.876),
        (0.025, 7, -2.365),
    ],
)  # fmt: skip
def test_quantiles_of_printed_tables(p, freedom, t):
    assert student_quantile(p, freedom) == pytest.approx(t, abs=5e-4)


def test_an_interval_over_seeds():
    values = [0.1, 0.3, 0.35]
    expected = 4.302653 * statistics.stdev(values) / math.sqrt(3)
    assert half_width(values) == pytest.approx(expected, rel=1e-6)
    assert half_width(values, 0.9) == pytest.approx(expected * 2.919986 / 4.302653, rel=1e-6)


def test_one_seed_says_nothing():
    one = [0.5]
    assert (half_width(one), p_value(one), is_equivalent(one, 9.0)) == (None, None, None)
    assert (detectable_difference(one), seeds_needed(one, 1.0)) == (None, None)


@given(st.lists(FLOATS, min_size=2, max_size=12))
def test_the_test_agrees_with_the_interval(values):
    half, p = half_width(values), p_value(values)
    assert half is not None
    assert p is not None
    if abs(abs(np.mean(values)) - half) > 1e-6:
        assert (p < 0.05) == (abs(np.mean(values)) > half)


def test_equal_runs():
    assert p_value([0.0, 0.0, 0.0]) == 1.0
    assert p_value([0.2, 0.2]) == 0.0
    assert is_equivalent([0.0, 0.0], 1e-9)


def test_equivalence_is_not_the_absence_of_a_difference():
    noisy = [-1.0, 1.2, 0.1]
    p = p_value(noisy)
    assert p is not None
    assert p > 0.5
    assert not is_equivalent(noisy, 0.5)
    assert is_equivalent([0.1, 0.11, 0.09], 0.2)
    assert not is_equivalent([0.1, 0.11, 0.09], 0.11)
    assert not is_equivalent([-0.1, -0.11, -0.09], 0.11)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_steps_reject(p_values):
    """Step by step: reject the smallest while it is at most 5% over the number that are left."""
    left = sorted(p_values)
    rejected = 0
    while left and left[0] * len(left) <= 0.05:
        left.pop(0)
        rejected += 1
    assert sum(p <= 0.05 for p in holm(p_values)) == rejected


def test_a_detectable_difference_is_found_four_times_of_five():
    random = np.random.default_rng(0)
    values = random.normal(size=6)
    values = (values - values.mean()) / values.std(ddof=1)
    true = detectable_difference(values.tolist())
    assert true is not None
    studies = true + random.normal(size=(4000, 6))
    found = np.mean([(p_value(study) or 1) < 0.05 for study in studies.tolist()])
    assert 0.77 < found < 0.86  # the sum of quantiles is an approximation
    needed = seeds_needed(values.tolist(), true)
    assert needed == 6
    half = seeds_needed(values.tolist(), true / 2)
    assert half is not None
    assert 15 < half < 24
    assert seeds_needed(values.tolist(), 1e-9) is None
    assert seeds_needed([0.1, 0.1], 1e-9) == 2


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)


@pytest.mark.slow
@pytest.mark.usefixtures("few_resamples")
def test_intervals_cover_the_truth():
    """In 95% of simulated studies: 12 seeds, 60 items, with chance in both."""
    random = np.random.default_rng(1)
    studies = 1000
    over_seeds = over_items = over_both = 0
    for number in range(studies):
        of_seed = random.normal(size=(12, 1))
        of_item = random.normal(size=(1, 60))
        found = 0.3 + of_seed + of_item + random.normal(size=(12, 60))
        half = half_width((found - of_item).mean(axis=1).tolist())
        assert half is not None
        over_seeds += abs((found - of_item).mean() - 0.3) <= half
        low, high = bootstrap_items(found - of_seed, seed=number)
        over_items += low <= 0.3 <= high
        low, high = bootstrap_seeds_and_items(found, seed=number)
        over_both += low <= 0.3 <= high
    assert 0.93 <= over_seeds / studies <= 0.97
    assert 0.93 <= over_items / studies <= 0.97
    assert 0.93 <= over_both / studies <= 0.97


def test_the_bootstrap_draws_whole_items():
    """An interval over items does not know that seeds differ, one over both does."""
    seeds = np.array([[0.0], [10.0]]) + np.zeros((2, 50))
    assert bootstrap_items(seeds) == (5.0, 5.0)
    assert bootstrap_seeds_and_items(seeds) == (0.0, 10.0)
    items = np.arange(50.0) + np.zeros((2, 1))
    low, high = bootstrap_items(items)
    error = 1.96 * np.arange(50).std() / math.sqrt(50)
    assert (low, high) == pytest.approx((24.5 - error, 24.5 + error), rel=0.03)
    assert bootstrap_items(items) == (low, high)
    assert bootstrap_items(items, seed=1) != (low, high)
