"""Ids back to text, with the tokens that the text comes from."""

import json
import unicodedata

import pytest
from harness import DATA, TOKENIZER, encode
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.show.decoding import MOST_WAITING, Piece, decode, open_tokenizer, visible
from exactcpt.schemas.errors import FormatError, IncompleteError

BUNDLED = Tokenizer.from_file(str(TOKENIZER))
texts = st.text() | st.text(st.sampled_from("ab é日本🙂👩‍👩‍👧ن\n\t\x1b"))


def check(ids: list[int]) -> list[Piece]:
    """The pieces, which must follow each other and have all tokens and all text."""
    pieces = list(decode(BUNDLED, ids))
    edges = [edge for piece in pieces for edge in (piece.start, piece.stop)]
    assert edges == sorted(edges)
    assert edges[1:-1:2] == edges[2::2]
    assert (edges[0], edges[-1]) == (0, len(ids)) if ids else not edges
    assert all(piece.start < piece.stop for piece in pieces)
    return pieces


@given(texts)
def test_the_pieces_are_the_text(text):
    pieces = check(encode(text))
    assert "".join(piece.text for piece in pieces) == text


@given(texts, st.data())
def test_a_run_that_begins_or_ends_inside_a_character(text, data):
    ids = encode(text)
    start = data.draw(st.integers(0, len(ids)))
    stop = data.draw(st.integers(start, len(ids)))
    pieces = check(ids[start:stop])
    expected = BUNDLED.decode(ids[start:stop], skip_special_tokens=False)
    assert "".join(p.text for p in pieces).replace("�", "") == expected.replace("�", "")


def test_a_character_over_several_tokens_is_one_piece():
    ids = encode("a🙂b")
    assert len(ids) > 3
    assert list(decode(BUNDLED, ids)) == [
        Piece(0, 1, "a"),
        Piece(1, len(ids) - 1, "🙂"),
        Piece(len(ids) - 1, len(ids), "b"),
    ]


def test_special_tokens_and_ids_that_are_none():
    assert list(decode(BUNDLED, [0, 99_999, *encode("a")])) == [
        Piece(0, 1, "<|endoftext|>"),
        Piece(1, 2, "<id 99999>"),
        Piece(2, 3, "a"),
    ]


def test_an_unfinished_character_before_an_unknown_id():
    half = encode("🙂")[:1]
    assert [piece[:2] for piece in decode(BUNDLED, [*half, 99_999])] == [(0, 1), (1, 2)]


def test_what_is_no_utf8_does_not_wait_for_ever():
    half = encode("🙂")[:1] * 1000
    assert max(piece.stop - piece.start for piece in check(half)) <= MOST_WAITING


def test_a_tokenizer_whose_pieces_begin_with_spaces(tmp_path):
    """What a token reads as depends on those before it."""
    vocab = {"<unk>": 0, "▁to": 1, "day": 2, "▁is": 3, "<0xE2>": 4, "<0x82>": 5, "<0xAC>": 6}
    model = {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>"}
    decoders = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    file = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    tokenizer = open_tokenizer(Folder(str(tmp_path)))
    pieces = list(decode(tokenizer, [1, 2, 3, 4, 5, 6, 1]))
    assert "".join(piece.text for piece in pieces) == "today is€ to"
    assert Piece(3, 6, "€") in pieces


def test_errors(tmp_path):
    with pytest.raises(IncompleteError, match=r"the shard set has no tokenizer\.json"):
        open_tokenizer(Folder(str(tmp_path)))
    broken = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}  # the library panics at it
    for content in ({}, json.loads((DATA / "tokenizer.json").read_text()) | {"normalizer": broken}):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        with pytest.raises(FormatError, match="the tokenizer cannot be read"):
            open_tokenizer(Folder(str(tmp_path)))
    assert open_tokenizer(Folder(str(DATA))).get_vocab_size() == 4096


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    shown = visible(text)
    hidden = {c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")}
    assert hidden <= set("\u200c\u200d")


def test_what_is_seen_instead():
    assert visible("a\x1b[31mb\x00\x7f\x9b\r") == "a␛[31mb␀␡<U+009B>␍"
    assert visible("x\u202ey\u2028z\ufeff\n\t.") == "x<U+202E>y<U+2028>z<U+FEFF>↵ ."
    assert visible("می\u200cخواهم 👩‍👧") == "می\u200cخواهم 👩‍👧"
