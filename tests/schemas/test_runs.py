"""Runs of bounded size: nothing lost, nothing moved, each as long as it may be."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.runs import runs


@given(st.lists(st.integers(0, 20)), st.integers(1, 40))
def test_runs_are_consecutive_bounded_and_as_long_as_they_may_be(sizes, limit):
    found = list(runs(sizes, lambda size: size, limit))
    assert [size for run in found for size in run] == sizes
    assert all(sum(run) <= limit or len(run) == 1 for run in found)
    for run, following in pairwise(found):
        assert sum(run) + following[0] > limit
