"""Which documents are drawn: chances, and how much they draw."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.core.drawing import SizeTable, chances, size_class, threshold

SIZES = st.lists(st.integers(8, 1 << 40), min_size=1, max_size=50)


def table_of(sizes):
    table = SizeTable()
    table.add(np.array(sizes, np.float64))
    return table


@given(SIZES)
def test_a_class_is_a_32nd_of_an_octave(sizes):
    table = table_of(sizes)
    mean = table.mean[size_class(np.array(sizes, np.float64))]
    assert mean == pytest.approx(sizes, rel=0.023)
    assert table.count.sum() == len(sizes)
    assert table.size.sum() == sum(sizes)


@given(SIZES, st.floats(0.001, 0.999))
def test_the_fraction_is_what_is_drawn(sizes, fraction):
    table = table_of(sizes)
    drawn = table.size @ chances(table.mean, fraction, threshold(table, fraction))
    assert drawn == pytest.approx(fraction * sum(sizes), rel=1e-6)


@given(SIZES, st.floats(0.001, 0.999))
def test_long_documents_are_drawn_more_often_and_short_ones_still(sizes, fraction):
    ordered = np.sort(np.array(sizes, np.float64))
    chance = chances(ordered, fraction, threshold(table_of(sizes), fraction))
    assert (np.diff(chance) >= 0).all()
    assert (chance >= fraction / 4).all()
    assert (chance <= 1).all()


def test_four_times_the_bytes_are_eight_times_as_likely():
    sizes = [1000] * 2000 + [4000] * 20
    short, long = chances(np.array([1000.0, 4000.0]), 0.1, threshold(table_of(sizes), 0.1))
    assert 8 * short == pytest.approx(long)
    assert long < 1


def test_all_of_it():
    assert threshold(table_of([8, 9]), 1.0) == 0
    assert chances(np.array([8.0, 9.0]), 1.0, 0).tolist() == [1, 1]


def test_nothing():
    assert threshold(SizeTable(), 0.1) == 0
