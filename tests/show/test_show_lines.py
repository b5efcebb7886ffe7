"""Lines of tokens: everything is there, nothing is too wide, every line has one weight."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import get_character_cell_size

from exactcpt.pipeline.show.decoding import Piece
from exactcpt.pipeline.show.lines import Block, Line, lay_out, shade
from exactcpt.schemas.printable import printable_character

TEXTS = st.text(st.sampled_from("abc   xyz\n\t日本🙂é\u0301\x1bن"), max_size=9)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Block, list[Piece]]:
    """Pieces of some tokens each, and weights that change now and then."""
    pieces: list[Piece] = []
    for text in draw(st.lists(TEXTS, max_size=30)):
        start = pieces[-1].stop if pieces else 0
        pieces.append(Piece(start, start + draw(st.integers(1, 3)), text))
    n = pieces[-1].stop if pieces else 0
    levels = draw(st.lists(st.sampled_from([1.0, 1.25, 0.5]), min_size=4, max_size=4))
    weights = np.repeat(np.array(levels, np.float32), -(-n // 4))[:n]
    supervised = np.arange(n) > 0
    ids = np.zeros(n, np.int32)
    first = draw(st.sampled_from([0, 5000]))
    block = Block(heading=("x",), ids=ids, weights=weights, supervised=supervised, first=first)
    return block, pieces


def width_of(text: str) -> int:
    return sum(map(get_character_cell_size, text))


@given(blocks(), st.integers(8, 60))
def test_all_text_is_there_and_nothing_is_too_wide(case, width):
    block, pieces = case
    lines = list(lay_out(block, pieces, width))
    shown = "".join(
        "↵" if c == "\n" else "    " if c == "\t" else printable_character(c)
        for piece in pieces
        for c in piece.text
    )
    assert "".join(line.text for line in lines) == shown
    assert all(width_of(line.text.removesuffix("↵")) <= width for line in lines)


@given(blocks(), st.integers(8, 60) | st.none())
def test_a_line_has_one_weight_and_the_context_of_its_first_token(case, width):
    block, pieces = case
    start_of = {piece.stop - 1: piece.start for piece in pieces}
    lines = list(lay_out(block, pieces, width))
    for line in lines:
        tokens = [token for _, token in line.parts]
        weights = {float(block.weights[t]) for t in tokens if block.supervised[t]}
        assert weights == ({line.weight} if line.weight is not None else set())
        assert line.context == block.first + start_of[tokens[0]]
    contexts = [line.context for line in lines]
    assert contexts == sorted(contexts)


def lines_of(texts: list[str], weights: list[float], width: int | None = None) -> list[Line]:
    pieces = [Piece(i, i + 1, text) for i, text in enumerate(texts)]
    n = len(texts)
    block = Block(
        heading=("x",),
        ids=np.zeros(n, np.int32),
        weights=np.array(weights, np.float32),
        supervised=np.arange(n) > 0,
    )
    return list(lay_out(block, pieces, width))


def test_lines_break_where_the_weight_changes_and_where_the_text_does():
    lines = lines_of(["It", " was", "\n", "dark", " and"], [0, 1, 1, 1, 1.5])
    assert [(x.context, x.weight, x.text) for x in lines] == [
        (0, 1, "It was↵"),
        (3, 1, "dark"),
        (4, 1.5, " and"),
    ]


def test_lines_break_at_spaces():
    lines = lines_of(["One", " two", " three", " four"], [0, 1, 1, 1], 10)
    assert [(line.context, line.text) for line in lines] == [(0, "One two "), (2, "three four")]


def test_a_wide_character_does_not_stick_out():
    assert [x.text for x in lines_of(["日本", "日本"], [0, 1], 5)] == ["日本", "日本"]


@given(st.floats(0.001, 1000))
def test_black_can_be_read_on_every_shade(weight):
    back = shade(weight, 1000, 0.001)
    if weight == 1:
        assert back is None
        return
    assert back is not None
    parts = [int(back[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert (luminance + 0.05) / 0.05 >= 4.5, "WCAG AA"


def test_more_weight_is_a_stronger_shade():
    shades = [shade(w, 4, 0.25) for w in (0.25, 0.5, 1, 2, 4)]
    assert shades == ["#9283c2", "#bdb6db", None, "#f6c184", "#ed9535"]


@pytest.mark.parametrize("weight", [1.0001, 3.0])
def test_a_set_with_one_weight_above_1(weight):
    assert shade(weight, weight, 1) == "#ed9535"
