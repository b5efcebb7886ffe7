"""Repeats against a slow search of every pair of places."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.training.evaluation.haystack import stream_of
from exactcpt.training.evaluation.repeats import LONGEST

GAP = (0, 0)
DOCUMENTS = st.lists(st.lists(st.integers(0, 3), max_size=20), max_size=5)


def sequences(haystack):
    """Every sequence of one document -> where it begins, for 2 to LONGEST tokens."""
    found = {}
    for start, stop in haystack.spans.tolist():
        for size in range(2, LONGEST + 1):
            for at in range(start, stop - size + 1):
                found.setdefault(tuple(haystack.ids[at : at + size].tolist()), []).append(at)
    return found


def document_of(haystack, at):
    return next(s.tolist() for s in haystack.spans if s[0] <= at < s[1])


def slow_repeats(haystack):
    """Sequences that stand twice, begin and end with the repetition, and do not overlap."""
    ids = haystack.ids.tolist()
    found = []
    for sequence, places in sequences(haystack).items():
        for first, second in combinations(places, 2):
            size = len(sequence)
            start, stop = document_of(haystack, first)
            can_go_back = first > start and ids[first - 1] == ids[second - 1]
            can_go_on = second + size < stop and ids[first + size] == ids[second + size]
            if (
                len(places) == 2
                and start <= second < stop
                and first + size <= second
                and not can_go_back
                and not (can_go_on and size < LONGEST)
            ):
                found.append((second, first, size, start))
    return sorted(found)


@given(DOCUMENTS)
def test_repeats_are_those_of_a_slow_search(documents):
    haystack = stream_of("made up", documents, GAP)
    found = haystack.repeats
    rows = (found.second, found.first, found.size, found.begin)
    assert list(zip(*(row.tolist() for row in rows), strict=True)) == slow_repeats(haystack)


@given(DOCUMENTS)
def test_what_stands_once(documents):
    haystack = stream_of("made up", documents, GAP)
    once = {(at[0], len(s)) for s, at in sequences(haystack).items() if len(at) == 1}
    found = {
        (at, size)
        for at in range(len(haystack.ids))
        for size in range(2, LONGEST + 1)
        if haystack.repeats.is_once(at, size)
    }
    assert found == once


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([[1, 2, 7, 8, 3, 7, 8]], [(2, 5, 2)]),
        ([[7, 8, 3, 7, 8]], [(0, 3, 2)]),
        ([[7, 8, 3, 7, 8], [7, 8]], []),
        ([[7, 8], [7, 8]], []),
        ([[1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8]], [(0, 9, 6)]),
        ([[5, 5, 5]], []),
        ([[]], []),
        ([], []),
    ],
)
def test_examples(documents, expected):
    """In another document, and thrice; the end of a long one; of itself; nothing."""
    found = stream_of("made up", documents, (9,)).repeats
    rows = zip(found.first.tolist(), found.second.tolist(), found.size.tolist(), strict=True)
    assert list(rows) == expected


def test_equal_tokens_at_large_numbers():
    """A vocabulary of 2^31 ids."""
    large = np.array([2**31 - 1, 2**31 - 2, 5, 2**31 - 1, 2**31 - 2], np.int32)
    assert stream_of("made up", [large], ()).repeats.second.tolist() == [3]
