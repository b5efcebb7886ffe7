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
    assert 0.92 <= np.mean(rates) <= 0.985
    assert min(rates) >= 0.88
    assert all(one.width is not None and one.width > 0.001 for one in given)


def test_a_sample_of_few_documents_has_no_interval():
    found = coverage.covered(coverage.made_up(300), 0.1, 20, 1024, "concat", "documents")
    assert sum(one.given for one in found) == 0


def test_a_sample_of_one_block_has_no_interval():
    corpus = coverage.made_up(2000)
    found = coverage.covered(corpus, 0.05, 20, 1024, "concat", "blocks")
    assert sum(one.given for one in found) == 0
