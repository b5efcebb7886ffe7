"""The words of a line that tells how far something is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.status_line import amount, clock, fitted, percentage, speed


@pytest.mark.parametrize(
    ("done", "total", "what", "about", "words"),
    [
        (0, 1, "split", False, "0 of 1 split"),
        (3, 12, "split", False, "3 of 12 splits"),
        (1, None, "token", False, "1 token"),
        (1234, None, "token", False, "1,234 tokens"),
        (1234, 52311, "token", False, "1,234 of 52,311 tokens"),
        (1234, 52311, "token", True, "1,234 of about 52,300 tokens"),
        (999_999, 1_000_000, "token", False, "1.0 of 1.0 million tokens"),
        (1_210_000_000, 3_141_592_653, "token", True, "1.2 of about 3.1 billion tokens"),
        (7_000_000_000, None, "token", False, "7.0 billion tokens"),
        (5 * 10**11, 4 * 10**15, "token", False, "0.5 of 4,000.0 trillion tokens"),
        (0, 0, "token", True, "0 of about 0 tokens"),
        (12, 800, "byte", False, "12 of 800 bytes"),
        (1_500, 123_000, "byte", False, "1.5 of 123.0 KB"),
        (1_500_000_000, 3_100_000_000, "byte", False, "1.5 of 3.1 GB"),
    ],
)
def test_amounts(done, total, what, about, words):
    assert amount(done, total, what, about=about) == words


def test_percentages_are_rounded_down():
    assert percentage(0, 3) == "0 %"
    assert percentage(2, 3) == "66 %"
    assert percentage(999, 1000) == "99 %"
    assert percentage(1000, 1000) == "100 %"
    assert percentage(0, 0) == "100 %"
    assert percentage(5, 4) == "100 %"


def test_speeds():
    assert speed(0, "token") == "0 /s"
    assert speed(950, "token") == "950 /s"
    assert speed(12_345_678, "token") == "12.3 M/s"
    assert speed(530_100_000, "byte") == "530.1 MB/s"


def test_clocks():
    assert clock(0.2) == "0:00"
    assert clock(59.6) == "1:00"
    assert clock(161) == "2:41"
    assert clock(3600 + 161) == "1:02:41"


PIECES = [(0, "tokenize"), (1, "38 %"), (3, "1.2 of 3.1 million tokens"), (2, "2:41 left")]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (None, "tokenize  38 %  1.2 of 3.1 million tokens  2:41 left"),
        (52, "tokenize  38 %  1.2 of 3.1 million tokens  2:41 left"),
        (51, "tokenize  38 %  2:41 left"),
        (20, "tokenize  38 %"),
        (13, "tokenize"),
        (5, "token"),
        (0, ""),
    ],
)
def test_what_matters_least_goes_first(width, line):
    assert fitted(PIECES, width) == line


def test_of_one_rank_the_last_goes_first():
    assert fitted([(1, "one"), (1, "two"), (0, "kept"), (1, "three")], 14) == "one  two  kept"


@given(st.lists(st.tuples(st.integers(0, 5), st.text("ab ", max_size=12))), st.integers(0, 60))
def test_no_line_is_wider_than_asked(pieces, width):
    line = fitted(pieces, width)
    assert len(line) <= width
    if sum(len(piece) + 2 for _, piece in pieces) <= width:
        assert line == "  ".join(piece for _, piece in pieces if piece)
