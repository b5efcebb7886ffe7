"""Supervised spans against oracles that look at every token."""

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import bucket_by_search, contexts_by_mask, supervised_by_token, windows_of
from strategies import documents, runs

from exactcpt.pipeline.core.buckets import bucket_count, sum_by_bucket
from exactcpt.pipeline.core.choices import PACKINGS
from exactcpt.pipeline.core.packing import pack
from exactcpt.pipeline.core.spans import Spans
from exactcpt.pipeline.core.whatif import Counter, OrderedLengths

Runs = list[list[tuple[int, int]]]


def spans_of(supervised: Runs) -> Spans:
    start, stop = (np.array([r[i] for mine in supervised for r in mine], np.int32) for i in (0, 1))
    return Spans(np.array([0, *accumulate(map(len, supervised))]), start, stop)


def runs_of(spans: Spans) -> Runs:
    ends = list(zip(spans.start.tolist(), spans.stop.tolist(), strict=True))
    return [ends[a:b] for a, b in zip(spans.bounds[:-1], spans.bounds[1:], strict=True)]


@st.composite
def supervised(draw: st.DrawFn):
    """Documents with supervised runs, and a window."""
    lengths, window = draw(documents(24, 10))
    return lengths, [draw(runs(int(n))) for n in lengths], window


@pytest.mark.parametrize("packing", PACKINGS)
@given(supervised())
def test_targets_of_segments(packing, given_documents):
    lengths, mine, window = given_documents
    packed = pack(lengths, window, packing)
    spans = spans_of(mine).within(packed.document, packed.offset, packed.length)
    by_context = [0] * window
    seen = iter(runs_of(spans))
    for segments in windows_of(packed):
        contexts = contexts_by_mask([length for _, _, length in segments])
        targets = supervised_by_token(segments, mine)
        for context, is_target in zip(contexts, targets, strict=True):
            by_context[context] += is_target
        inside = [
            any(start <= i < stop for start, stop in here)
            for (_, _, n), here in zip(segments, seen, strict=False)
            for i in range(n)
        ]
        assert [hit and context > 0 for hit, context in zip(inside, contexts, strict=True)] == (
            targets
        )
    assert spans.targets_by_context(window).tolist() == by_context


@pytest.mark.parametrize("packing", PACKINGS)
@given(supervised(), supervised(), st.randoms())
def test_counting_equals_packing(packing, one, other, random):
    window = one[2]
    groups = [one, (other[0], other[1])]
    counter = Counter(window, packing, ("a", "b"), max([1, *one[0], *other[0]]))
    histograms = np.zeros((2, bucket_count(window)), np.int64)
    largest: list[int] = []
    for lengths, mine, *_ in groups:
        source = np.array([random.randrange(2) for _ in lengths], np.int16)
        counter.add(OrderedLengths(np.asarray(lengths, np.int32), source, spans_of(mine)))
        for segments in windows_of(pack(lengths, window, packing)):
            contexts = contexts_by_mask([length for _, _, length in segments])
            targets = supervised_by_token(segments, mine)
            of = [source[document] for document, _, n in segments for _ in range(n)]
            for s, context, is_target in zip(of, contexts, targets, strict=True):
                histograms[s, bucket_by_search(context)] += is_target
            largest.append(
                max(c for c, hit in zip([0, *contexts], [True, *targets], strict=True) if hit)
            )
    found = counter.exposure()
    assert [found.sources[name].histogram.tolist() for name in "ab"] == histograms.tolist()
    assert found.largest_context == max(largest, default=0)
    assert found.windows == len(largest)
    counts = np.bincount([c for c in largest if c], minlength=1)
    assert found.windows_by_largest.tolist() == sum_by_bucket(counts, window).tolist()


@given(supervised())
def test_whole_documents_have_all_targets(given_documents):
    lengths, _, window = given_documents
    packed = pack(lengths, window, "concat")
    spans = Spans.whole(lengths).within(packed.document, packed.offset, packed.length)
    assert runs_of(spans) == [[(0, n)] for n in packed.length.tolist()]


@given(supervised(), st.randoms())
def test_documents_are_chosen_and_joined(given_documents, random):
    _, mine, _ = given_documents
    order = [random.randrange(len(mine)) for _ in range(5)] if mine else []
    chosen = spans_of(mine)[np.array(order, np.int64)]
    assert runs_of(chosen) == [mine[i] for i in order]
    assert runs_of(Spans.joined([spans_of(mine), chosen])) == mine + [mine[i] for i in order]
    mask = np.array([random.random() < 0.5 for _ in mine], bool)
    assert runs_of(spans_of(mine)[mask]) == [r for r, keep in zip(mine, mask, strict=True) if keep]
