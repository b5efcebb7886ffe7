"""Boundaries of packed rows, against a loop over the tokens that a person can follow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.core.boundaries import CutError, Rows, cut_rows

END, PAD = 1, 0


def rows_of(lists) -> Rows:
    ends = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return Rows(ends, np.array([i for each in lists for i in each], np.int64))


def cut(ids, kind, values=None, end=END, pad=PAD):
    """The segments of each row, as lists."""
    named = None if values is None else rows_of(values)
    found = cut_rows(rows_of(ids), kind, named, end_id=end, pad_id=pad)
    assert found.counts.sum() == len(found.lengths)
    parts = np.split(found.lengths, np.cumsum(found.counts)[:-1])
    assert [sum(part) for part in parts] == found.texts.tolist()
    return [part.tolist() for part in parts]


def text_length(row, end, pad):
    """How many tokens precede the padding: of a run of padding and ends, a first end stays."""
    n = len(row)
    while n and row[n - 1] in (end, pad):
        n -= 1
    return n + (0 < n < len(row) and row[n] == end)


@st.composite
def packed(draw, most_rows=4):
    """Rows of segments, some with padding behind: the rows, and the lengths of the segments."""
    pad = draw(st.sampled_from([PAD, END]))
    rows, lengths = [], []
    for _ in range(draw(st.integers(1, most_rows))):
        # Every segment begins with a word, so that no segment is padding.
        words = st.lists(st.integers(2, 5), min_size=1, max_size=6)
        segments = [
            [*some, *[END] * draw(st.integers(0, 1))]
            for some in draw(st.lists(words, min_size=1, max_size=4))
        ]
        rows.append([i for some in segments for i in some] + [pad] * draw(st.integers(0, 3)))
        lengths.append([len(some) for some in segments])
    return rows, lengths, pad


def positions(lengths, total):
    found = [i for n in lengths for i in range(n)]
    return found + list(range(total - len(found)))  # of padding, as many packers count them


def with_padding_segment(lengths, total):
    rest = total - sum(lengths)
    return [*lengths, rest] if rest else lengths


@given(packed())
def test_all_ways_to_say_it_say_the_same(case):
    rows, lengths, pad = case
    expected = [_trimmed(row, own, pad) for row, own in zip(rows, lengths, strict=True)]
    pairs = list(zip(rows, lengths, strict=True))
    ways = {
        "seq_lengths": [lengths, [with_padding_segment(n, len(row)) for row, n in pairs]],
        "cu_seqlens": [[np.cumsum([0, *n]).tolist() for n in lengths]],
        "position_ids": [[positions(n, len(row)) for row, n in pairs]],
    }
    for kind, several in ways.items():
        for values in several:
            assert cut(rows, kind, values, pad=pad) == expected


def _trimmed(row, lengths, pad):
    """The segments, without what counts as padding: ends after the first one at a row's end."""
    text, found = min(text_length(row, END, pad), sum(lengths)), []
    for n in lengths:
        found.append(min(n, text - sum(found)))
    return [n for n in found if n > 0]


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=5),
    st.sampled_from([PAD, END]),
)
def test_end_tokens_end_segments(rows, pad):
    rows = [[2, *row] for row in rows]
    expected = []
    for row in rows:
        found, n = [], 0
        for token in row[: text_length(row, END, pad)]:
            n += 1
            if token == END:
                found.append(n)
                n = 0
        expected.append([*found, n] if n else found)
    assert cut(rows, "end_token", pad=pad) == expected


WRONG = {
    "a large sum": ("seq_lengths", [5, 5], [[2, 3], [3, 3]], 1, "up to 6, and the row has 5"),
    "a sum that leaves text": ("seq_lengths", [5], [[2, 2]], 0, "add up to 4, and the row has 5"),
    "an empty segment": ("seq_lengths", [5, 5], [[5], [5, 0]], 1, "a segment of 0 tokens"),
    "a negative length": ("seq_lengths", [5], [[6, -1]], 0, "a segment of -1 tokens"),
    "sums that leave text": ("cu_seqlens", [5], [[0, 4]], 0, "cu_seqlens end with 4"),
    "sums that fill a list": ("cu_seqlens", [5], [[0, 5, -1]], 0, "a segment of -6 tokens"),
    "no sums": ("cu_seqlens", [5, 5], [[0, 5], []], 1, "cu_seqlens is empty"),
    "sums without the 0": ("cu_seqlens", [5, 5], [[0, 5], [2, 5]], 1, "begins with 2"),
    "sums that fall": ("cu_seqlens", [5], [[0, 3, 2, 5]], 0, "a segment of -1 tokens"),
    "few positions": ("position_ids", [5, 5], [[0, 1, 2, 3, 4], [0]], 1, "1 position_ids for 5"),
    "a jump": ("position_ids", [5, 5], [[0, 1, 2, 3, 4], [0, 1, 3, 4, 5]], 1, "has 3 at place 2"),
    "a row that goes on": ("position_ids", [3, 3], [[0, 1, 2], [3, 4, 5]], 1, "has 3 at place 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_boundaries_that_do_not_fit(name):
    kind, lengths, values, row, message = WRONG[name]
    with pytest.raises(CutError) as caught:
        cut([[2] * n for n in lengths], kind, values)
    assert caught.value.row == row
    assert message in caught.value.found
    assert caught.value.expected


@pytest.mark.parametrize(
    ("row", "message"), [([], "no tokens"), ([PAD] * 3, "padding alone"), ([END], "padding alone")]
)
def test_a_row_without_text(row, message):
    with pytest.raises(CutError, match=message) as caught:
        cut([[2, 3], row], "end_token")
    assert caught.value.row == 1


def test_no_rows():
    assert cut_rows(rows_of([]), "end_token", None, end_id=END, pad_id=PAD).lengths.tolist() == []
