"""Pieces of a document are encoded without a space that the text does not have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from exactcpt.pipeline.sources.records import Pieces, Strings
from exactcpt.pipeline.tokens.answers import encode_pieces
from exactcpt.pipeline.tokens.encoders import Reference

SPACE = "\u2581"
CHARACTERS = {character: i for i, character in enumerate(f"{SPACE}\n.abc")}
MARKS = normalizers.Replace(" ", SPACE)


def encoder(normalizer=None, pre_tokenizer=None, merges=()):
    """A token per character, and one for each merge."""
    merged = {"".join(pair): len(CHARACTERS) + i for i, pair in enumerate(merges)}
    made = Tokenizer(models.BPE(vocab=CHARACTERS | merged, merges=list(merges)))
    if normalizer is not None:
        made.normalizer = normalizer
    if pre_tokenizer is not None:
        made.pre_tokenizer = pre_tokenizer
    return Reference(made.to_str().encode(), special_tokens_in_text=False)


PREPENDING = normalizers.Sequence([normalizers.Prepend(SPACE), MARKS])
ENCODERS = {
    "puts a space before every text": encoder(PREPENDING),
    "puts one where there is none": encoder(pre_tokenizer=pre_tokenizers.Metaspace()),
    "puts none": encoder(MARKS),
}


def encoded(by, documents):
    """The pieces of documents, as text again."""
    texts = Strings.of_texts([piece.encode() for document in documents for piece in document])
    ids = encode_pieces(by, texts, Pieces.of([[(p.encode(), True) for p in d] for d in documents]))
    names = {i: character.replace(SPACE, " ") for character, i in CHARACTERS.items()}
    return ["".join(names[i] for i in ids[piece].tolist()) for piece in range(len(ids))]


documents = st.lists(st.lists(st.text(" \nabc", min_size=1), min_size=1), min_size=1)


@pytest.mark.parametrize("by", ENCODERS.values(), ids=ENCODERS)
@given(documents)
def test_a_piece_that_goes_on_is_its_own_text(by, documents):
    alone = encoded(by, [[document[0]] for document in documents])
    expected = [
        text for first, document in zip(alone, documents, strict=True)
        for text in (first, *document[1:])
    ]  # fmt: skip
    assert encoded(by, documents) == expected


@pytest.mark.parametrize("by", ENCODERS.values(), ids=ENCODERS)
def test_pieces_that_begin_with_a_space_make_up_the_text(by):
    pieces = ["a.b", " c", "\nb", " a"]
    assert "".join(encoded(by, [pieces])) == encoded(by, [["".join(pieces)]])[0]


JOINING = [("\n", "a"), ("\n", "\n")]


def named(by, documents, characters):
    """The tokens of the pieces of documents."""
    texts = Strings.of_texts([piece.encode() for document in documents for piece in document])
    pieces = Pieces.of([[(piece.encode(), True) for piece in document] for document in documents])
    ids = encode_pieces(by, texts, pieces, characters.get("<unk>"))
    names = {i: token for token, i in characters.items()}
    return [" ".join(names[i] for i in ids[at].tolist()) for at in range(len(ids))]


@pytest.mark.parametrize("neighbours", [[], [["b", "\n\na"]], [["b", "a"], ["c", "\n"]]])
def test_a_seam_that_joins_a_piece_is_not_taken_for_it_and_for_no_other(neighbours):
    by = encoder(PREPENDING, merges=JOINING)
    tokens = CHARACTERS | {"".join(pair): len(CHARACTERS) + i for i, pair in enumerate(JOINING)}
    found = named(by, [["b", "ac", " b", "\n\nc"], *neighbours], tokens)
    assert found[:4] == [f"{SPACE} b", "a c", f"{SPACE} b", "\n\n c"]


def test_a_piece_that_all_seams_would_join_has_the_space():
    by = encoder(PREPENDING, merges=[(seam, "c") for seam in "\n.a"])
    assert encoded(by, [["b", "c", "b"]]) == [" b", " c", "b"]


WORDS = {"<unk>": 0, "foo": 1, "bar": 2, "a": 3, "b": 4}


@pytest.mark.parametrize("piece", ["foo bar", "\u6f22foo bar", "what bar"])
def test_no_token_of_a_piece_is_lost_with_an_unknown_seam(piece):
    made = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    by = Reference(made.to_str().encode(), special_tokens_in_text=False)
    first = "foo" if piece.startswith("foo") else "<unk>"
    assert named(by, [["a", piece]], WORDS)[1] == f"{first} bar"


@pytest.mark.parametrize("letters", [(), ("a", "b")])
def test_a_tokenizer_that_fails_on_seams_or_behind_them_encodes_pieces_alone(letters):
    words = {word: i for i, word in enumerate(("foo", "bar", *letters))}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    by = Reference(made.to_str().encode(), special_tokens_in_text=False)
    assert named(by, [["foo", "bar foo", " foo"]], words)[1:] == ["bar foo", "foo"]
