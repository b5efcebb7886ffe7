"""Counting what packing would give equals packing."""

from collections import Counter as Tally

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import bucket_by_search, histogram_by_counting, windows_of
from strategies import documents

from exactcpt.pipeline.core.choices import PACKINGS, PackingName
from exactcpt.pipeline.core.packing import pack
from exactcpt.pipeline.core.whatif import Counter, Exposure, OrderedLengths, windows_opened

NAMES = ("a", "b", "c")


@st.composite
def corpora(draw: st.DrawFn):
    """Groups of documents in order, each with the number of its source; and a window."""
    first, window = draw(documents())
    groups = [first, *(draw(documents(window, 12))[0] for _ in range(draw(st.integers(0, 2))))]
    source = st.integers(0, len(NAMES) - 1)
    return [[(int(n), draw(source)) for n in lengths] for lengths in groups], window


def count(groups, window: int, packing: PackingName) -> Exposure:
    longest = max((n for group in groups for n, _ in group), default=1)
    counter = Counter(window, packing, NAMES, longest)
    for group in groups:
        lengths = np.array([n for n, _ in group], np.int32)
        counter.add(OrderedLengths(lengths, np.array([s for _, s in group], np.int16)))
    return counter.exposure()


@pytest.mark.parametrize("packing", PACKINGS)
@given(corpora())
def test_counting_equals_packing(packing, corpus):
    groups, window = corpus
    exposure = count(groups, window, packing)
    packed = [pack(np.array([n for n, _ in g], np.int64), window, packing) for g in groups]
    windows = [w for one in packed for w in windows_of(one)]
    pieces = [Tally(one.document.tolist()) for one in packed]
    assert exposure.windows == len(windows)
    assert exposure.padding == sum(one.padding for one in packed)
    assert exposure.segments == sum(map(len, windows))
    assert exposure.cut_documents == sum(n > 1 for one in pieces for n in one.values())
    largest = [max(length for _, _, length in w) - 1 for w in windows]
    assert exposure.largest_context == max(largest, default=0)
    for tau in range(window):
        in_tail = [smallest_context(bucket_by_search(c)) >= tau and c > 0 for c in largest]
        assert exposure.tail_windows(tau) == sum(in_tail)
    for number, name in enumerate(NAMES):
        source = exposure.sources[name]
        mine = [[n for n, s in group if s == number] for group in groups]
        lengths = [
            int(one.length[i])
            for one, group in zip(packed, groups, strict=True)
            for i, document in enumerate(one.document)
            if group[document][1] == number
        ]
        assert source.documents == sum(map(len, mine))
        assert source.tokens == sum(map(sum, mine))
        assert source.histogram.tolist() == histogram_by_counting(lengths, window)


def smallest_context(bucket: int) -> int:
    return 2 ** (bucket + 2) if bucket else 0


def test_the_examples_of_the_module():
    groups = [[(3, 0), (2, 1), (5, 2)]]
    concat, best_fit = (count(groups, 4, packing) for packing in PACKINGS)
    assert (concat.windows, concat.padding, concat.segments, concat.cut_documents) == (3, 2, 5, 2)
    assert (best_fit.windows, best_fit.padding, best_fit.segments) == (3, 2, 4)
    assert windows_opened(np.array([0, 1, 1, 1, 1]), 4).tolist() == [0, 0, 1, 1, 1]


def test_a_group_without_documents_adds_nothing():
    one = count([[(5, 0)]], 4, "concat")
    assert count([[], [(5, 0)], []], 4, "concat").windows == one.windows
