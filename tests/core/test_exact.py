import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import weights_by_bisection, weights_by_formula
from strategies import exacts, histograms

from exactcpt.pipeline.core.buckets import bucket_count
from exactcpt.pipeline.core.exact import WeightTable, given_table, weight_table
from exactcpt.pipeline.core.parameters import Exact, ParameterError


def spent(table: WeightTable) -> float:
    """The budget from the rows, as a reader of the table would add it up."""
    return math.fsum(row.share * (row.weight - 1) for row in table.rows if row.share is not None)


def test_worked_example():
    counts = [50, 50, 50, 50, 300, 100]
    table = weight_table(counts, 256, Exact(tau=64, alpha=0.15, gamma=0.5))
    first, second = table.rows[4:]
    assert (first.share, second.share) == (0.75, 0.25)
    assert first.inverse_frequency == pytest.approx(1.1547, abs=5e-5)
    assert second.inverse_frequency == pytest.approx(2, abs=5e-5)
    r_bar = 0.75 * first.inverse_frequency + 0.25 * second.inverse_frequency
    assert r_bar == pytest.approx(1.3660, abs=5e-5)
    assert first.weight == pytest.approx(1.1268, abs=5e-5)
    assert second.weight == pytest.approx(1.2196, abs=5e-5)
    assert table.weights[:4] == [1.0] * 4
    assert table.budget == pytest.approx(0.15, abs=1e-12)


@given(histograms(), exacts())
def test_weights_are_the_formula(drawn, exact):
    counts, window = drawn
    expected = [float(weight) for weight in weights_by_formula(counts, exact)]
    assert weight_table(counts, window, exact).weights == pytest.approx(expected, rel=1e-12)


@given(histograms(), exacts(capped=True))
def test_weights_under_a_ceiling_are_the_formula(drawn, exact):
    counts, window = drawn
    table = weight_table(counts, window, exact)
    assert table.weights == pytest.approx(weights_by_bisection(counts, exact), rel=1e-9)
    assert max(table.weights) <= exact.max_weight * (1 + 1e-15)


@given(histograms(), exacts() | exacts(capped=True))
def test_the_budget_is_alpha_or_nothing(drawn, exact):
    counts, window = drawn
    table = weight_table(counts, window, exact)
    expected = 0.0 if table.tail_is_empty else exact.alpha
    assert table.budget == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert spent(table) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(histograms(), exacts() | exacts(capped=True))
def test_rows_say_which_bucket_they_are(drawn, exact):
    counts, window = drawn
    table = weight_table(counts, window, exact)
    assert [row.bucket for row in table.rows] == list(range(bucket_count(window)))
    assert [row.targets for row in table.rows] == counts
    assert [row.low for row in table.rows] == [0, *(8 << b for b in range(len(counts) - 1))]
    assert [row.high + 1 for row in table.rows] == [row.low for row in table.rows[1:]] + [window]
    total = sum(row.targets for row in table.rows if row.in_tail)
    for row in table.rows:
        assert row.in_tail == (row.low >= exact.tau and row.targets > 0)
        if row.in_tail:
            assert row.share == row.targets / total
            assert row.inverse_frequency == (row.share + exact.epsilon) ** -exact.gamma
        else:
            assert (row.share, row.inverse_frequency, row.weight) == (None, None, 1.0)


@given(histograms(), exacts() | exacts(capped=True))
def test_everything_is_finite_and_rarer_is_never_lighter(drawn, exact):
    table = weight_table(*drawn, exact)
    assert all(math.isfinite(weight) and weight >= 1 for weight in table.weights)
    by_targets = sorted((row for row in table.rows if row.in_tail), key=lambda row: row.targets)
    for rarer, commoner in pairwise(by_targets):
        assert rarer.weight >= commoner.weight * (1 - 1e-12)


@given(histograms(), exacts() | exacts(capped=True))
def test_gamma_zero_treats_the_tail_alike(drawn, exact):
    flat = Exact(
        tau=exact.tau,
        alpha=exact.alpha,
        gamma=0,
        epsilon=exact.epsilon,
        max_weight=exact.max_weight,
    )
    for row in weight_table(*drawn, flat).rows:
        assert row.weight == pytest.approx(1 + exact.alpha if row.in_tail else 1, rel=1e-12)


@given(histograms(), st.floats(0, 5))
def test_gamma_one_gives_every_bucket_of_the_tail_the_same_extra_mass(drawn, alpha):
    table = weight_table(*drawn, Exact(tau=0, alpha=alpha, gamma=1, epsilon=0))
    masses = [row.share * (row.weight - 1) for row in table.rows if row.share is not None]
    assert masses == pytest.approx([alpha / max(1, len(masses))] * len(masses), abs=1e-12)


@given(histograms(), exacts() | exacts(capped=True))
def test_alpha_zero_changes_nothing(drawn, exact):
    plain = Exact(tau=exact.tau, alpha=0, gamma=exact.gamma, epsilon=exact.epsilon)
    table = weight_table(*drawn, plain)
    assert table.weights == [1.0] * len(table.rows)
    assert table.budget == 0


@pytest.mark.parametrize("max_weight", [None, 2.0])
@pytest.mark.parametrize(
    ("counts", "tau"),
    [([5, 5], 9), ([5, 0], 8), ([0, 0], 0), ([5, 5], 10**9)],
    ids=["no bucket", "no targets", "no targets at all", "tau past the window"],
)
def test_an_empty_tail_leaves_plain_weights(counts, tau, max_weight):
    table = weight_table(counts, 16, Exact(tau=tau, max_weight=max_weight))
    assert table.tail_is_empty
    assert table.weights == [1.0, 1.0]
    assert table.budget == 0
    assert not any(row.in_tail for row in table.rows)


def test_a_tail_of_one_bucket_gets_all_of_the_budget():
    table = weight_table([7, 7, 1], 32, Exact(tau=16, alpha=0.15, gamma=0.5))
    assert not table.tail_is_empty
    assert table.weights == pytest.approx([1, 1, 1.15])


def test_counts_past_the_precision_of_a_float():
    counts = [0, 2**60, 2**60 + 1, 1]
    exact = Exact(tau=8, gamma=2, epsilon=0)
    table = weight_table(counts, 64, exact)
    expected = [float(weight) for weight in weights_by_formula(counts, exact)]
    assert table.weights == pytest.approx(expected, rel=1e-12)


def test_counts_may_be_an_array():
    counts = np.array([2**62, 2**62, 2**62], dtype=np.int64)
    table = weight_table(counts, 32, Exact(tau=0, gamma=0.5))
    assert table.weights == pytest.approx([1.15] * 3)
    assert all(type(row.targets) is int for row in table.rows)


def test_what_rounding_leaves_of_the_budget_does_not_go_to_a_rare_bucket():
    most = 1.9830518699332733
    counts = [1, 961875284316262002, 930, 283401652913514001, 619352322595791932]
    exact = Exact(tau=0, alpha=most - 1, gamma=0, max_weight=most)
    assert weight_table(counts, 128, exact).weights == pytest.approx([most] * 5, rel=1e-12)


def test_alpha_may_fill_the_ceiling_although_the_difference_rounds_down():
    exact = Exact(tau=0, alpha=0.15, max_weight=1.15)
    assert 1.15 - 1 < 0.15
    assert weight_table([3, 4], 16, exact).weights == pytest.approx([1.15] * 2)


def test_a_ceiling_that_binds_moves_the_budget_to_the_others():
    counts = [0, 1000, 10, 1]
    free = weight_table(counts, 64, Exact(tau=8, alpha=0.5, gamma=1, epsilon=0))
    capped = weight_table(counts, 64, Exact(tau=8, alpha=0.5, gamma=1, epsilon=0, max_weight=2))
    assert free.weights[2] > 2
    assert capped.weights[2:] == [2.0, 2.0]
    assert 2 > capped.weights[1] > free.weights[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tau": -1}, "tau is -1; expected: at least 0"),
        ({"alpha": -0.1}, "alpha is -0.1; expected: 0 to 1,000"),
        ({"alpha": 1001.0}, "alpha is 1,001.0; expected: 0 to 1,000"),
        ({"alpha": math.nan}, "alpha is nan; expected: 0 to 1,000"),
        ({"gamma": -1}, "gamma is -1; expected: 0 to 10"),
        ({"gamma": math.inf}, "gamma is inf; expected: 0 to 10"),
        ({"epsilon": -1e-9}, "epsilon is -1e-09; expected: 0 to 1"),
        ({"epsilon": 2}, "epsilon is 2; expected: 0 to 1"),
        ({"max_weight": 0.9}, "max_weight is 0.9; expected: 1 to 1,001"),
        ({"max_weight": math.inf}, "max_weight is inf; expected: 1 to 1,001"),
        ({"max_weight": math.nan}, "max_weight is nan; expected: 1 to 1,001"),
        (
            {"alpha": 0.5, "max_weight": 1.25},
            "alpha 0.5 is more than max_weight 1.25 allows; "
            "expected: alpha of at most max_weight - 1 = 0.25",
        ),
    ],
)
def test_impossible_parameters(changed, message):
    with pytest.raises(ParameterError) as raised:
        Exact(**{"tau": 2048, **changed})
    assert str(raised.value) == message


@pytest.mark.parametrize("gamma", [0, 10])
@pytest.mark.parametrize("epsilon", [0, 1])
@pytest.mark.parametrize("alpha", [0, 1000])
def test_the_ends_of_the_ranges_work(gamma, epsilon, alpha):
    counts = [0, 1, 2**62, 1, 2**62]
    exact = Exact(tau=0, alpha=alpha, gamma=gamma, epsilon=epsilon)
    table = weight_table(counts, 128, exact)
    assert table.budget == pytest.approx(alpha, rel=1e-12)
    assert np.isfinite(np.array(table.weights, dtype=np.float32)).all()


def test_defaults():
    exact = Exact(tau=2048)
    assert (exact.alpha, exact.gamma, exact.epsilon) == (0.15, 0.5, 1e-8)
    assert exact.max_weight is None


@given(histograms(), exacts(), st.data())
def test_given_weights_are_taken_as_they_are(case, exact, data):
    counts, window = case
    given = data.draw(st.lists(st.floats(0.1, 9), min_size=len(counts), max_size=len(counts)))
    table = given_table(counts, window, exact.tau, given)
    formula = weight_table(counts, window, exact)
    assert table.weights == given
    assert [row.share for row in table.rows] == [row.share for row in formula.rows]
    assert [row.in_tail for row in table.rows] == [row.in_tail for row in formula.rows]
    assert all(row.inverse_frequency is None for row in table.rows)
    assert table.budget == pytest.approx(spent(table))
