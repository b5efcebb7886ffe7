"""Intervals contain what they promise: samples of a made-up corpus with a heavy tail.

`tests/benchmarks/coverage_of_samples.py` has the same for real corpora.
"""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "coverage_of_samples.py"
coverage = SimpleNamespace(**runpy.run_path(str(BENCHMARK)))
SEEDS = 200


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_intervals_cover_what_they_promise(packing):
    corpus = coverage.made_up(4000)
    found = coverage.covered(corpus, 0.25, SEEDS, 1024, packing, "documents")
    given = [one for one in found if one.given > SEEDS / 2 and one.figure != "windows"]
    assert len(given) >= 8
    rates = [one.covered / one.given for one in given]
    assert 0.9 <= np.mean(rates) <= 0.985
    assert min(rates) >= 0.86
    assert all(one.width is not None and one.width > 0.001 for one in given)


def test_a_sample_of_few_documents_has_no_interval():
    found = coverage.covered(coverage.made_up(300), 0.1, 20, 1024, "concat", "documents")
    assert sum(one.given for one in found) == 0


def test_a_sample_of_one_block_has_no_interval():
    corpus = coverage.made_up(2000)
    found = coverage.covered(corpus, 0.05, 20, 1024, "concat", "blocks")
    assert sum(one.given for one in found) == 0


def the_exposure(seed: int):
    corpus = coverage.made_up(2000)
    stratum = coverage.of_documents(corpus, 0.25, np.random.default_rng(0))
    config = coverage.PackConfig(window=1024, validation_fraction=0, seed=seed)
    return stratum, coverage.estimated(stratum, config).exposure


def test_an_estimate_has_no_order_of_its_own():
    """That of the corpus is left to chance; a second one would be missing in the interval."""
    one, other = (the_exposure(seed)[1] for seed in (0, 1))
    assert one.histogram.tolist() == pytest.approx(other.histogram.tolist(), abs=2)


def test_the_tokens_of_short_documents_are_not_rounded_one_way():
    stratum, exposure = the_exposure(0)
    rest = stratum.weight - 1
    per_byte = (rest @ stratum.lengths) / (rest @ stratum.sizes)
    predicted = stratum.tokens + per_byte * (stratum.whole - stratum.tokenized)
    assert exposure.tokens == pytest.approx(predicted, abs=20)
