from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import splitmix64_inverse

from exactcpt.pipeline.core.selection import (
    RANK_BINS,
    Epochs,
    Quota,
    Share,
    boundary_bin,
    copies,
    extra_tokens,
    is_repeated,
    is_validation,
    quota,
    rank,
    tokens_by_rank,
    wanted_copies,
)

hashes = st.integers(0, 2**64 - 1)
seeds = st.integers(0, 2**63)
fractions = st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(1, 10**15), Fraction(1)]) | (
    st.fractions(0, 1, max_denominator=10**6)
)


def uint64(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


# repeated documents


few = st.integers(0, 3) | st.integers(2**64 - 2, 2**64 - 1)


@given(st.lists(st.tuples(few, few), max_size=40))
def test_the_first_in_the_store_stays(contents):
    found = is_repeated(np.array(contents, np.uint64).reshape(-1, 2))
    assert found.tolist() == [content in contents[:i] for i, content in enumerate(contents)]


# train and validation


@given(st.lists(hashes, max_size=30), fractions, seeds)
def test_equal_content_is_on_one_side(values, fraction, seed):
    twice = is_validation(uint64(values + values[::-1]), fraction, seed)
    assert twice.tolist() == twice.tolist()[::-1]


@given(st.lists(hashes, max_size=30), seeds)
def test_nothing_or_everything_validates(values, seed):
    assert not is_validation(uint64(values), Fraction(0), seed).any()
    assert is_validation(uint64(values), Fraction(1), seed).all()


@given(st.lists(hashes, max_size=30), fractions, fractions, seeds)
def test_a_larger_fraction_keeps_what_validates(values, one, other, seed):
    few, many = sorted((one, other))
    fewer = is_validation(uint64(values), few, seed)
    assert (fewer <= is_validation(uint64(values), many, seed)).all()


@given(fractions, seeds, st.integers(-2, 1))
def test_the_limit_is_exact(fraction, seed, beside):
    """The hash that mixes to the limit validates no more; the one before it does."""
    mixed = int(fraction * 2**64) + beside
    if not 0 <= mixed < 2**64:
        return
    sequence = np.random.SeedSequence(seed, spawn_key=(3,))
    key = (splitmix64_inverse(mixed) - int(sequence.generate_state(1, np.uint64)[0])) % 2**64
    assert is_validation(uint64([key]), fraction, seed).tolist() == [beside < 0]


@pytest.mark.parametrize("fraction", [Fraction(1, 100), Fraction(1, 3), Fraction(9, 10)])
def test_about_that_fraction_validates(fraction):
    n = 200_000
    share = is_validation(np.arange(n, dtype=np.uint64), fraction, 5).mean()
    assert abs(share - fraction) < 5 * float(fraction * (1 - fraction) / n) ** 0.5


def test_seeds_and_purposes_are_independent():
    values = np.arange(100_000, dtype=np.uint64)
    half = Fraction(1, 2)
    split = is_validation(values, half, 1)
    agrees = (split == is_validation(values, half, 2)).mean()
    assert abs(agrees - 0.5) < 0.01
    agrees = (split == (rank(values, 1) < np.uint64(2**63))).mean()
    assert abs(agrees - 0.5) < 0.01


# mixing


positive = st.fractions(0, 4, max_denominator=100)


def test_without_a_budget_sources_are_seen_as_often_as_they_say():
    tokens = {"a": 100, "b": 50, "c": 0}
    mixing = {"a": Epochs(Fraction(1, 2)), "c": Epochs(Fraction(3))}
    assert wanted_copies(tokens, mixing, None) == {"a": Fraction(1, 2), "b": 1, "c": 3}
    assert list(wanted_copies(tokens, mixing, None)) == ["a", "b", "c"]


def test_a_share_needs_a_budget():
    with pytest.raises(ValueError, match="'a' has a share, but there is no token budget"):
        wanted_copies({"a": 100}, {"a": Share(Fraction(1))}, None)


def test_a_budget_scales():
    """30% of 1000 tokens from `a`; 700 from `b` and `c`, `c` twice as often as `b`."""
    tokens = {"a": 600, "b": 300, "c": 200}
    mixing = {"a": Share(Fraction(3, 10)), "c": Epochs(Fraction(2))}
    wanted = wanted_copies(tokens, mixing, 1000)
    assert wanted == {"a": Fraction(1, 2), "b": 1, "c": 2}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**9), min_size=1),
    st.dictionaries(
        st.sampled_from("abcdef"), positive.map(Epochs) | st.fractions(0, Fraction(1, 6)).map(Share)
    ),
    st.integers(1, 10**12),
)
def test_what_is_wanted_adds_up_to_the_budget(tokens, mixing, budget):
    mixing = {name: asked for name, asked in mixing.items() if name in tokens}
    wanted = wanted_copies(tokens, mixing, budget)
    total = {name: wanted[name] * tokens[name] for name in tokens}
    shares = {name: a.share for name, a in mixing.items() if isinstance(a, Share)}
    for name, share in shares.items():
        assert total[name] == (share * budget if tokens[name] else 0)
    rest = [name for name in tokens if name not in shares]
    weights = {name: mixing.get(name, Epochs(Fraction(1))).epochs * tokens[name] for name in rest}
    left = (1 - sum(shares.values())) * budget
    if any(weights.values()):
        assert sum(total[name] for name in rest) == left
        scale = {total[name] / weights[name] for name in rest if weights[name]}
        assert len(scale) == 1
    else:
        assert all(wanted[name] == 0 for name in rest)


def test_a_source_without_tokens_has_no_share():
    mixing = {"a": Share(Fraction(1, 2))}
    assert wanted_copies({"a": 0, "b": 10}, mixing, 100) == {"a": 0, "b": 5}


# how many copies which documents have


@st.composite
def sources(draw):
    """Documents as (hash, length), with some hashes twice."""
    documents = draw(st.lists(st.tuples(hashes, st.integers(1, 1000)), min_size=1, max_size=40))
    again = draw(st.lists(st.sampled_from(documents), max_size=5))
    return documents + again


def copies_by_sorting(documents, seed: int, wanted: Fraction) -> list[int]:
    """All documents in order of (rank, index), taken until the target is met."""
    ranks = rank(uint64([h for h, _ in documents]), seed).tolist()
    target = int(wanted % 1 * sum(n for _, n in documents))
    count = [int(wanted)] * len(documents)
    for _, i in sorted((r, i) for i, r in enumerate(ranks)):
        if target <= 0:
            break
        count[i] += 1
        target -= documents[i][1]
    return count


def copies_in_parts(documents, seed: int, wanted: Fraction, edges: list[int]) -> list[int]:
    """Counts copies as a job does: part by part, first histograms, then boundary documents."""
    parts = []
    for begin, end in zip([0, *edges], [*edges, len(documents)], strict=True):
        part = documents[begin:end]
        ranks = rank(uint64([h for h, _ in part]), seed)
        parts.append((ranks, np.arange(begin, end), np.array([n for _, n in part], np.int32)))
    total = sum((tokens_by_rank(r, n) for r, _, n in parts), np.zeros(RANK_BINS, np.int64))
    assert int(total.sum()) == sum(n for _, n in documents)
    boundary = boundary_bin(total, extra_tokens(wanted, int(total.sum())))
    found = Quota(wanted)
    if boundary is not None:
        at, remaining = boundary
        inside = [
            tuple(column[r >> np.uint64(48) == np.uint64(at)] for column in (r, i, n))
            for r, i, n in reversed(parts)
        ]
        found = quota(wanted, remaining, *map(np.concatenate, zip(*inside, strict=True)))
    return np.concatenate([copies(r, i, found) for r, i, _ in parts]).tolist()


@given(sources(), seeds, positive, st.data())
def test_copies_are_exact_to_one_document_for_any_division_into_parts(
    documents, seed, wanted, data
):
    edges = sorted(data.draw(st.lists(st.integers(0, len(documents)), max_size=4)))
    found = copies_in_parts(documents, seed, wanted, edges)
    assert found == copies_by_sorting(documents, seed, wanted)
    lengths = [n for _, n in documents]
    tokens = sum(c * n for c, n in zip(found, lengths, strict=True))
    assert -1 < tokens - wanted * sum(lengths) < max(lengths)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), positive)
def test_documents_of_equal_rank_go_by_their_index(lengths, wanted):
    documents = [(123, n) for n in lengths]
    found = copies_in_parts(documents, 0, wanted, [])
    assert found == sorted(found, reverse=True)
    assert found == copies_by_sorting(documents, 0, wanted)


def test_whole_epochs_need_no_ranks():
    assert extra_tokens(Fraction(2), 1000) == 0
    assert boundary_bin(np.zeros(RANK_BINS, np.int64), 0) is None
    assert copies(uint64([0, 5]), np.array([0, 1]), Quota(Fraction(2))).tolist() == [2, 2]
    assert copies(uint64([0, 5]), np.array([0, 1]), Quota(Fraction(0))).tolist() == [0, 0]


@given(st.lists(st.tuples(hashes, st.integers(1, 2**31 - 1)), max_size=50))
def test_tokens_by_rank(documents):
    expected: dict[int, int] = defaultdict(int)
    for value, length in documents:
        expected[value >> 48] += length
    ranks, lengths = zip(*documents, strict=True) if documents else ((), ())
    found = tokens_by_rank(uint64(list(ranks)), np.array(lengths, np.int32))
    assert found.dtype == np.int64
    assert {i: int(found[i]) for i in np.flatnonzero(found)} == expected
    assert len(found) == RANK_BINS


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (-1, None),
        (0, None),
        (1, (0, 1)),
        (10, (0, 10)),
        (11, (RANK_BINS - 1, 1)),
        (15, (RANK_BINS - 1, 5)),
    ],
)
def test_the_boundary_may_be_the_first_or_the_last_bin(target, expected):
    histogram = np.zeros(RANK_BINS, np.int64)
    histogram[0], histogram[-1] = 10, 5
    assert boundary_bin(histogram, target) == expected


def test_a_quota_ends_with_the_document_that_meets_it():
    ranks, indices, lengths = uint64([7, 5, 5]), np.array([0, 2, 1]), np.array([4, 4, 4])
    half = Fraction(1, 2)
    assert quota(half, 1, ranks, indices, lengths) == Quota(half, (5, 1))
    assert quota(half, 4, ranks, indices, lengths) == Quota(half, (5, 1))
    assert quota(half, 5, ranks, indices, lengths) == Quota(half, (5, 2))
    assert quota(half, 12, ranks, indices, lengths) == Quota(half, (7, 0))
