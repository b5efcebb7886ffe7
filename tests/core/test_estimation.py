"""Expected histograms against every place in a window; intervals against what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import best_fit_by_piece, histogram_by_counting
from strategies import windows

from exactcpt.pipeline.core import estimation
from exactcpt.pipeline.core.estimation import RESAMPLES, Blocks, block_weights, expected_histogram


def resample(sources, fraction, seed):
    numbers = [len(blocks.tokens) for blocks in sources]
    return estimation.resample(sources, block_weights(numbers, fraction, seed))


def pieces_at(place: int, length: int, window: int) -> list[int]:
    """The pieces of a document that begins at a place in a window."""
    pieces, room = [], window - place
    while length:
        pieces.append(min(length, room))
        length, room = length - pieces[-1], window
    return pieces


@given(windows(40), st.integers(1, 130))
def test_concat_is_the_mean_over_all_places(window, length):
    every = [
        histogram_by_counting(pieces_at(place, length, window), window) for place in range(window)
    ]
    found = expected_histogram(np.array([length]), window, "concat")
    assert found[0].tolist() == pytest.approx(np.mean(every, axis=0).tolist(), abs=1e-9)


@given(windows(40), st.integers(1, 130))
def test_best_fit_is_what_its_pieces_have(window, length):
    pieces = [n for w in best_fit_by_piece([length], window) for _, _, n in w]
    found = expected_histogram(np.array([length]), window, "best_fit")
    assert found[0].tolist() == histogram_by_counting(pieces, window)


def blocks(rng: np.random.Generator, n: int) -> Blocks:
    """Blocks of very different sizes."""
    size = rng.lognormal(0, 1, n)
    parts = rng.dirichlet([2, 1, 1], n)
    return Blocks(histogram=size[:, None] * parts * 1000, tokens=size * 1000)


def test_a_sample_of_everything_has_no_error():
    rng = np.random.default_rng(0)
    found = resample([blocks(rng, 50), blocks(rng, 1)], 1.0, seed=0)
    assert np.ptp(found.histogram, axis=0).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert found.of_tokens(7.0) == pytest.approx((7, 7))


def test_an_interval_has_the_estimate():
    rng = np.random.default_rng(0)
    found = resample([blocks(rng, 50)], 0.1, seed=0)
    for low, high in found.shares([0.0, 0.5, 1.0])[::2]:
        assert low == 0.0 or high == 1.0


def test_resampling_follows_from_the_seed():
    one = blocks(np.random.default_rng(0), 30)
    first, again, other = (resample([one], 0.1, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.histogram, again.histogram)
    assert not np.array_equal(first.histogram, other.histogram)


def test_intervals_cover_what_they_promise():
    """Samples of 60 of 600 blocks: about 95% of the intervals have the true share and total."""
    rng = np.random.default_rng(0)
    everything = blocks(rng, 600)
    true = everything.histogram.sum(axis=0) / everything.histogram.sum()
    share = tokens = 0
    rounds = 150
    for seed in range(rounds):
        chosen = rng.permutation(600)[:60]
        sample = Blocks(
            histogram=everything.histogram[chosen] * 10, tokens=everything.tokens[chosen] * 10
        )
        found = resample([sample], 0.1, seed)
        low, high = found.shares((sample.histogram.sum(0) / sample.histogram.sum()).tolist())[1]
        share += low <= true[1] <= high
        low, high = found.of_tokens(float(sample.tokens.sum()))
        tokens += low <= everything.tokens.sum() <= high
    assert 0.88 <= share / rounds <= 0.99
    assert 0.85 <= tokens / rounds <= 0.99


def test_errors_shrink_as_the_sample_grows():
    rng = np.random.default_rng(0)
    widths = []
    for n in (20, 320):
        found = [resample([blocks(rng, n)], 0.01, seed).histogram for seed in range(10)]
        widths.append(np.mean([(one[:, 0] / one.sum(axis=1)).std() for one in found]))
    assert widths[0] > 2 * widths[1]


def test_a_source_without_documents_adds_nothing():
    one = blocks(np.random.default_rng(0), 30)
    none = Blocks(histogram=np.zeros((0, 3)), tokens=np.zeros(0))
    assert np.array_equal(
        resample([one, none], 0.1, 0).histogram, resample([one], 0.1, 0).histogram
    )
    assert resample([none], 0.1, 0).histogram.shape == (RESAMPLES, 3)
