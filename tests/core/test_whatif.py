"""Counting what packing comes to equals packing; figures of a weighting are sums over targets."""

import math
from collections import Counter as Tally

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import bucket_by_search, histogram_by_counting, windows_of
from strategies import documents, exacts, histograms

from exactcpt.pipeline.core.buckets import bucket_count
from exactcpt.pipeline.core.choices import PACKINGS, PackingName
from exactcpt.pipeline.core.exact import weight_table
from exactcpt.pipeline.core.packing import pack
from exactcpt.pipeline.core.parameters import Exact
from exactcpt.pipeline.core.whatif import (
    Counter,
    Exposure,
    OrderedLengths,
    SourceExposure,
    weigh,
    windows_opened,
)

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


def exposure_of(*counts: list[int], window: int) -> Exposure:
    return Exposure(
        window=window,
        windows=0,
        segments=0,
        cut_documents=0,
        largest_context=0,
        windows_by_largest=np.zeros(bucket_count(window), np.int64),
        sources={
            name: SourceExposure(documents=0, tokens=0, histogram=np.array(one, np.int64))
            for name, one in zip(NAMES, counts, strict=False)
        },
    )


@given(st.data(), st.integers(2, 200), exacts())
def test_figures_are_sums_over_targets(data, window, exact):
    """Every target written out with its weight."""
    size = bucket_count(window)
    one = st.lists(st.integers(0, 20), min_size=size, max_size=size)
    counts = [data.draw(one), data.draw(one)]
    both = [a + b for a, b in zip(*counts, strict=True)]
    table = weight_table(both, window, exact)
    found = weigh(exposure_of(*counts, window=window), exact)
    targets = [(row.weight, row.in_tail) for row in table.rows for _ in range(row.targets)]
    weights = [weight for weight, _ in targets]
    assert found.table == table
    assert found.largest_weight == max(weights, default=1.0)
    if not targets:
        assert found.mean_weight is None
        assert found.effective_sample_size is None
        return
    total = math.fsum(weights)
    assert found.mean_weight == pytest.approx(total / len(weights))
    squares = math.fsum(w * w for w in weights)
    assert found.effective_sample_size == pytest.approx(total**2 / squares / len(weights))
    assert sum(found.mass_before) == pytest.approx(1)
    assert sum(found.mass_after) == pytest.approx(1)
    for row, before, after in zip(table.rows, found.mass_before, found.mass_after, strict=True):
        assert before == pytest.approx(row.targets / len(weights))
        assert after == pytest.approx(row.targets * row.weight / total)
    for name, histogram in zip(NAMES, counts, strict=False):
        mass = sum(n * row.weight for n, row in zip(histogram, table.rows, strict=True))
        of = found.sources[name]
        assert of.tail_targets == sum(
            n for n, row in zip(histogram, table.rows, strict=True) if row.in_tail
        )
        assert of.mass_before == pytest.approx(sum(histogram) / len(weights))
        assert of.mass_after == pytest.approx(mass / total)
        mean = mass / sum(histogram) if sum(histogram) else None
        assert of.mean_weight == (mean if mean is None else pytest.approx(mean))


@given(histograms(), exacts(capped=True))
def test_no_figure_is_infinite_or_nan(corpus, exact):
    """Of histograms whose sums fit into int64."""
    counts, window = [count // 64 for count in corpus[0]], corpus[1]
    found = weigh(exposure_of(counts, counts, window=window), exact)
    figures = [
        *found.mass_before,
        *found.mass_after,
        found.largest_weight,
        found.mean_weight or 0.0,
        found.effective_sample_size or 0.0,
        found.table.budget,
        *(s.mass_after for s in found.sources.values()),
    ]
    assert all(map(math.isfinite, figures))


def test_equal_weights_lose_no_sample():
    found = weigh(exposure_of([10, 0, 30], window=32), Exact(tau=8, alpha=0.0))
    assert found.effective_sample_size == pytest.approx(1)
    assert found.mean_weight == 1
