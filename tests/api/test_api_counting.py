"""Histogram and weight table of anybody's windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import exactcpt
from exactcpt.pipeline.api import counting
from exactcpt.pipeline.core.buckets import bucket_count, bucket_of

WINDOW = 40
LENGTHS = st.lists(st.integers(1, WINDOW), max_size=6).filter(lambda each: sum(each) <= WINDOW)


@given(corpus=st.lists(LENGTHS, max_size=9), at_once=st.integers(1, 4))
def test_every_target_is_counted_once(corpus, at_once):
    slow = [0] * bucket_count(WINDOW)
    for window in corpus:
        for length in window:
            for context in range(1, length):
                slow[bucket_of(context)] += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "AT_ONCE", at_once)
        found = exactcpt.histogram((np.array(each) for each in corpus), window=WINDOW)
    assert found.dtype == np.int64
    assert found.tolist() == slow


def test_histograms_of_parts_add_up():
    parts = [[[3, 30], [40]], [[12, 12]]]
    whole = exactcpt.histogram(parts[0] + parts[1], window=WINDOW)
    added = sum(exactcpt.histogram(part, window=WINDOW) for part in parts)
    assert whole.tolist() == added.tolist()


def test_the_table_is_that_of_the_formula():
    """The example of the formula: buckets of 300 and 100 targets in the tail."""
    table = exactcpt.weight_table([9, 9, 300, 100], window=64, tau=16, alpha=0.15, gamma=0.5)
    assert table.weights == pytest.approx([1, 1, 1.1268, 1.2196], abs=1e-4)
    assert table.budget == pytest.approx(0.15)
    assert table.window == 64
    capped = exactcpt.weight_table([9, 9, 300, 100], window=64, tau=16, max_weight=1.16)
    assert max(capped.weights) == 1.16


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ([[3], [40, 1]], "window 1: the segments have 41 tokens; expected: at most 40"),
        ([[3], [0]], "window 1: a segment has 0 tokens"),
        ([[3.5]], "window 0: seq_lengths is an array of float64"),
        ([3], "window 0: seq_lengths is an array of int64 of shape (); expected: one integer"),
    ],
)
def test_lengths_that_are_no_window_are_refused(corpus, message):
    with pytest.raises(ValueError) as caught:
        exactcpt.histogram(corpus, window=WINDOW)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("counts", "changes", "message"),
    [
        ([1, 2], {}, "the histogram has 2 buckets; expected: 4, for a window of 40 tokens"),
        ([0.5, 0.2, 0.2, 0.1], {}, "the histogram has 0.5; expected: counts, not shares"),
        ([1, 2, -3, 4], {}, "the histogram has -3 targets in a bucket; expected: counts"),
        ([1, 2, 3, 4], {"alpha": -1}, "alpha is -1; expected: 0 to 1,000"),
        ([1, 2, 3, 4], {"tau": -1}, "tau is -1; expected: at least 0"),
    ],
)
def test_impossible_tables_are_refused(counts, changes, message):
    with pytest.raises(ValueError) as caught:
        exactcpt.weight_table(counts, window=WINDOW, **{"tau": 10, **changes})
    assert message in str(caught.value)
