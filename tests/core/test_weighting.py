"""The figures of a weighting are sums over targets."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import exacts, histograms

from exactcpt.pipeline.core.buckets import bucket_count
from exactcpt.pipeline.core.exact import weight_table
from exactcpt.pipeline.core.parameters import Exact
from exactcpt.pipeline.core.weighting import weigh
from exactcpt.pipeline.core.whatif import Exposure, SourceExposure

NAMES = ("a", "b")


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
    """This holds for all histograms whose sums fit into int64."""
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
