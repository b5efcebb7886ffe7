"""Progress in words: a count agrees with its noun."""

import pytest

from exactcpt.pipeline.job.progress import Count


@pytest.mark.parametrize(
    ("done", "total", "tokens", "words"),
    [
        (0, 1, 0, "0 of 1 split, 0 tokens"),
        (1, 1, 1, "1 of 1 split, 1 token"),
        (3, 12, 1000, "3 of 12 splits, 1,000 tokens"),
        (1, None, 2, "1 split, 2 tokens"),
        (1234, None, 2, "1,234 splits, 2 tokens"),
    ],
)
def test_counts_in_words(done, total, tokens, words):
    assert Count("split", done, total, tokens).in_words == words
