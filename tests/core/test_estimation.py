"""Expected histograms against every place in a window; intervals against what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import best_fit_by_piece, histogram_by_counting
from strategies import windows

from exactcpt.pipeline.core.estimation import (
    LEAST_IN_BUCKET,
    Errors,
    contributions_of_blocks,
    contributions_of_documents,
    expected_histogram,
    place_covariance,
    student_quantile,
)
from exactcpt.training.comparison.intervals import student_quantile as exact_quantile


def pieces_at(place: int, length: int, window: int) -> list[int]:
    """The pieces of a document that begins at a place in a window."""
    pieces, room = [], window - place
    while length:
        pieces.append(min(length, room))
        length, room = length - pieces[-1], window
    return pieces


@given(windows(40), st.integers(1, 130))
def test_concat_is_the_mean_over_all_places(window, length):
    every = [
        histogram_by_counting(pieces_at(place, length, window), window) for place in range(window)
    ]
    found = expected_histogram(np.array([length]), window, "concat")
    assert found[0].tolist() == pytest.approx(np.mean(every, axis=0).tolist(), abs=1e-9)


@given(windows(40), st.integers(1, 130))
def test_best_fit_is_what_its_pieces_have(window, length):
    pieces = [n for w in best_fit_by_piece([length], window) for _, _, n in w]
    found = expected_histogram(np.array([length]), window, "best_fit")
    assert found[0].tolist() == histogram_by_counting(pieces, window)


@given(st.lists(st.integers(1, 130), min_size=1, max_size=5))
def test_places_vary_as_much_as_all_of_them(lengths):
    """A window of 32 tokens has as many places as are tried."""
    found = place_covariance(np.array(lengths), np.ones(len(lengths)), 32)
    wanted = np.zeros(found.shape)
    for n in lengths:
        every = [histogram_by_counting(pieces_at(place, n, 32), 32) for place in range(32)]
        wanted += np.cov(np.array(every).T, bias=True)
    assert found.ravel().tolist() == pytest.approx(wanted.ravel().tolist(), abs=1e-9)


@pytest.mark.parametrize("freedom", [5, 8, 19, 60, 400])
def test_students_quantile(freedom):
    assert student_quantile(0.975, freedom) == pytest.approx(
        exact_quantile(0.975, freedom), rel=2e-3
    )


def test_no_document_that_is_certain_to_be_drawn_adds_to_the_error():
    found = contributions_of_documents(np.ones((3, 2)), np.ones(3), np.array([1.0, 1.0, 4.0]))
    assert found[:2].tolist() == [[0, 0], [0, 0]]
    assert found[2].min() > 0


def test_all_blocks_have_no_error():
    figures, size = np.array([[1.0], [5.0], [2.0]]), np.array([1.0, 2.0, 3.0])
    assert contributions_of_blocks(figures, size, 6.0).tolist() == [[0], [0], [0]]


def test_blocks_in_proportion_to_their_size_have_no_error():
    size = np.array([1.0, 2.0, 3.0])
    found = contributions_of_blocks(7 * size[:, None], size, 100.0)
    assert found.ravel().tolist() == pytest.approx([0, 0, 0])


def errors(contributions, histogram=(600.0, 300.0, 100.0), seen=(50, 50, 50)):
    return Errors(
        histogram=np.array(histogram),
        tokens=1000.0,
        contributions=np.asarray(contributions, np.float64),
        places=np.zeros((3, 3)),
        seen=np.array(seen),
    )


def test_an_interval_is_around_the_estimate_and_possible():
    found = errors(np.random.default_rng(0).normal(0, 60, (40, 4)))
    for share, interval in zip((0.6, 0.3, 0.1), found.shares(), strict=True):
        assert interval is not None
        assert 0 < interval[0] < share < interval[1] < 1
    low, high = found.of_tokens(1000.0)
    assert 0 < low < 1000 < high


def test_a_bucket_that_few_have_seen_has_no_interval():
    found = errors(np.ones((40, 4)), seen=(50, 50, LEAST_IN_BUCKET - 1))
    assert [interval is None for interval in found.shares()] == [False, False, True]
    assert found.of_weight(lambda _: 1.1, [False, False, True]) is None
    assert found.of_weight(lambda _: 1.1, [False, True, False]) is not None
    assert found.of_weight(lambda _: 1.0, [False, False, False]) is None


def test_where_few_units_make_up_the_error_it_is_larger():
    even = np.zeros((40, 4))
    even[:, 3] = np.tile([10.0, -10.0], 20)
    few = np.zeros((40, 4))
    few[:2, 3] = np.array([1, -1]) * 10 * np.sqrt(20)
    few[2:, 3] = 1e-6
    widths = [np.diff(errors(one).of_tokens(1000.0))[0] for one in (even, few)]
    assert widths[1] > 1.2 * widths[0]
