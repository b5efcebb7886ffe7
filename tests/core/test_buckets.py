import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import bucket_by_search, contexts_by_mask, histogram_by_counting
from strategies import POWERS, segments

from exactcpt.pipeline.core.buckets import (
    bucket_count,
    bucket_of,
    context_codes,
    histogram,
    lower_edges,
)

WINDOWS = sorted({2, 3, 7, 8, 9, 10, *POWERS, 4095, 4096, 4097, 8191, 8192, 8193})


def test_worked_example_contexts():
    """The oracle agrees with the drawing that the module begins with."""
    assert contexts_by_mask([3, 2, 4]) == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert contexts_by_mask([]) == []


@given(segments(largest_window=40))
def test_each_context_of_a_segment_comes_once_in_order(drawn):
    """Under a document-causal mask, over a whole window."""
    lengths, _ = drawn
    expected = [context for length in lengths.tolist() for context in range(length)]
    assert contexts_by_mask(lengths.tolist()) == expected


@given(segments(largest_window=40))
def test_the_codes_of_a_segment_are_the_first_entries(drawn):
    lengths, window = drawn
    codes = context_codes(window)
    found = [code for length in lengths.tolist() for code in codes[:length].tolist()]
    contexts = contexts_by_mask(lengths.tolist())
    assert found == [bucket_by_search(c) + 1 if c else 0 for c in contexts]


def test_worked_example_buckets():
    bounds = {0: (0, 7), 1: (8, 15), 2: (16, 31), 3: (32, 63), 4: (64, 127), 5: (128, 255)}
    for bucket, (low, high) in bounds.items():
        assert [bucket_of(low), bucket_of(high)] == [bucket, bucket]


def test_worked_example_histogram():
    assert histogram(np.array([3, 10]), 10).tolist() == [9, 2]


@given(st.integers(0, 2**40))
def test_bucket_of_is_its_definition(context):
    assert bucket_of(context) == bucket_by_search(context)


@pytest.mark.parametrize("window", WINDOWS)
def test_bucket_count_and_edges(window):
    buckets = [bucket_by_search(context) for context in range(window)]
    assert bucket_count(window) == len(set(buckets))
    edges = lower_edges(bucket_count(window))
    assert edges.tolist() == [buckets.index(bucket) for bucket in sorted(set(buckets))]
    assert edges.dtype == np.int64


@pytest.mark.parametrize("window", WINDOWS)
def test_codes_are_buckets_plus_one_and_zero_for_context_zero(window):
    codes = context_codes(window)
    assert codes.tolist() == [0] + [bucket_by_search(c) + 1 for c in range(1, window)]
    assert codes.dtype == np.uint8


@given(segments())
def test_histogram_is_what_counting_finds(drawn):
    lengths, window = drawn
    counts = histogram(lengths, window)
    assert counts.tolist() == histogram_by_counting(lengths.tolist(), window)
    assert counts.dtype == np.int64
    assert counts.shape == (bucket_count(window),)


def test_memory_follows_the_longest_segment_and_not_the_window():
    lengths = np.array([3, 10])
    tracemalloc.start()
    counts = histogram(lengths, 1 << 30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts.tolist() == [9, 2] + [0] * (bucket_count(1 << 30) - 2)
    assert peak < 100_000


@given(segments(largest_window=40))
def test_histogram_counts_the_codes_of_the_masked_window(drawn):
    lengths, window = drawn
    codes = context_codes(window)[contexts_by_mask(lengths.tolist())]
    supervised = np.bincount(codes, minlength=bucket_count(window) + 1)[1:]
    assert histogram(lengths, window).tolist() == supervised.tolist()


@given(segments(), st.integers(0, 20))
def test_histograms_of_parts_add_up(drawn, cut):
    lengths, window = drawn
    parts = histogram(lengths[:cut], window) + histogram(lengths[cut:], window)
    assert parts.tolist() == histogram(lengths, window).tolist()


@given(segments())
def test_targets_are_all_tokens_but_the_first_of_each_segment(drawn):
    lengths, window = drawn
    assert histogram(lengths, window).sum() == sum(length - 1 for length in lengths.tolist())


def test_any_shape_counts_alike():
    lengths = np.array([[3, 10], [1, 8]])
    assert histogram(lengths, 10).tolist() == histogram(lengths.ravel(), 10).tolist()


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_no_segments(kind):
    lengths = np.array([], dtype=kind)
    assert histogram(lengths, 9).tolist() == [0, 0]
