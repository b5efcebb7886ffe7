"""The haystack's text as sentences: none of it is lost, and they are counted exactly."""

import re
import textwrap

import numpy as np
import pytest
from evaluations import vocabulary
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.errors import UsageError
from exactcpt.training.evaluation.draws import Draws
from exactcpt.training.evaluation.haystack import stream_of
from exactcpt.training.evaluation.ruler.prose import (
    LONGEST,
    PARAGRAPH,
    SENTENCE,
    prose_of,
    sentences,
)

VOCABULARY = vocabulary()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "Go." "Why?" She left.', ['He said "Go."', '"Why?"', "She left."]),
        ("Of 3.5 m. or so", ["Of 3.5 m. or so"]),
        ("It costs $1.\nNobody\npays.", ["It costs $1.", "Nobody pays."]),
        ("A heading\n\nA text. Élan", ["A heading", "A text.", "Élan"]),
        ("(See below.) Then go.", ["(See below.)", "Then go."]),
        ("Wait... What", ["Wait...", "What"]),
        (" \n\n \n", []),
    ],
)
def test_sentences(text, found):
    assert list(sentences(text)) == found


@given(st.text(alphabet="aB.? \n\"'é", max_size=300))
def test_no_text_is_lost(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@given(
    st.text(alphabet="aB.\t\n\v\f\r \xa0\x1c\u2028-", max_size=60),
    st.sampled_from([0, 390, 395, 400, 405]),
)
def test_a_sentence_is_wrapped_as_a_paragraph_is(text, letters):
    """Whether or not it is short enough to be one line."""
    text = "x" * letters + text
    every = [s for p in PARAGRAPH.split(text) for s in SENTENCE.split(p.strip())]
    wrapped = [textwrap.wrap(each, LONGEST, break_on_hyphens=False) for each in every]
    assert list(sentences(text)) == [line for lines in wrapped for line in lines]


@given(st.integers(1, 3000), st.integers(0, 50))
def test_what_has_no_end_is_cut(length, word):
    text = re.sub("x" * (word + 1), lambda run: run[0] + " ", "x" * length)
    assert all(0 < len(sentence) <= LONGEST for sentence in sentences(text))


def prose(text, name="made up"):
    return prose_of(stream_of(name, [VOCABULARY.encode(text)], ()), VOCABULARY)


def test_sentences_are_tokenized_with_their_space():
    found = prose("One day it rained.\nNobody went out. Why not?")
    expected = [" One day it rained.", " Nobody went out.", " Why not?"]
    spans = list(zip(found.bounds[:-1].tolist(), found.bounds[1:].tolist(), strict=True))
    assert [tuple(found.ids[a:b].tolist()) for a, b in spans] == [
        VOCABULARY.piece(sentence) for sentence in expected
    ]


TEXT = "One. Two and two. Three is more than two. Four. " * 20
LONGEST_OF_TEXT = len(VOCABULARY.piece(" Three is more than two."))


@given(st.integers(LONGEST_OF_TEXT, 200), st.integers(0, 99))
def test_a_stretch_is_as_long_as_fits(room, seed):
    found = prose(TEXT)
    stretch = found.stretch(Draws(seed, "test"), room)
    lengths = [len(sentence) for sentence in stretch]
    ids = [i for sentence in stretch for i in sentence.tolist()]
    assert sum(lengths) <= room
    starts = [i for i in found.bounds.tolist() if found.ids[i : i + len(ids)].tolist() == ids]
    following = [b - a for a, b in zip(found.bounds[:-1], found.bounds[1:], strict=True)]
    assert any(
        i + len(ids) == len(found.ids)
        or sum(lengths) + following[found.bounds.tolist().index(i + len(ids))] > room
        for i in starts
    )


def test_every_place_is_drawn_that_enough_text_follows():
    found = prose("One. Two. Three. Four. Five. Six.")
    room = len(VOCABULARY.piece(" Five.") + VOCABULARY.piece(" Six."))
    first = {tuple(found.stretch(Draws(s, "test"), room)[0].tolist()) for s in range(200)}
    assert first == {
        VOCABULARY.piece(f" {word}.") for word in ("One", "Two", "Three", "Four", "Five")
    }


def test_a_sentence_that_is_longer_than_the_room_is_cut():
    found = prose("Nobody went out of the house. " * 3)
    for seed in range(20):
        (only,) = found.stretch(Draws(seed, "test"), 3)
        assert only.tolist() == found.ids[:3].tolist()


def test_too_little_text():
    found = prose("One day.", name="book.txt")
    found.check_holds(len(found.ids))
    with pytest.raises(UsageError) as raised:
        found.check_holds(4096)
    assert str(raised.value) == (
        f"the sentences of the haystack have {len(found.ids)} tokens\n"
        "  where:    book.txt\n"
        "  expected: at least 4,096, the length of the longest items\n"
        "  fix:      name a larger one with --haystack, or give shorter --lengths"
    )


def test_an_empty_haystack():
    found = prose("")
    assert (found.ids.dtype, found.bounds.tolist()) == (np.int32, [0])
