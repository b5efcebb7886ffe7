"""What documents are encoded with: no forged boundaries, nothing random, nothing cut off."""

import json

import pytest
import tokenizers
from batches import lists, strings
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import (
    BOS,
    EOS,
    KINDS,
    PAD,
    SPECIALS,
    UNK,
    WORDS,
    bpe,
    changed,
    dumped,
    producing,
    unigram,
    with_model,
    word_level,
)

from exactcpt.pipeline.tokens.encoders import make_encoder
from exactcpt.pipeline.tokens.encoding import encoding_json, facts_of

MADE = {name: make() for name, make in KINDS.items()}
PIECES = st.sampled_from([*SPECIALS, *WORDS, " ", "  ", "<", ">", "/s>", "s>", "x", "\u2581"])
CLEAN = st.sampled_from([*WORDS, " ", "  ", "x", "/", "\u2581", "under the door"])
PADDING = {
    "strategy": {"Fixed": 64},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": PAD,
}
TRUNCATION = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}


def ids_of(data: bytes, text: str, boundaries: frozenset[int] = frozenset()) -> list[int]:
    (found,) = lists(make_encoder("tokenizers", data, False, boundaries).encode(strings(text)))
    return found


def forged(tokenizer, ids: list[int], *, but: tuple[str, ...] = ()) -> set[str]:
    return {t for t in SPECIALS if tokenizer.token_to_id(t) in ids} - set(but)


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_text_becomes_a_special_token(kind, text):
    made = MADE[kind]
    # What a vocabulary lacks is unknown, and so is the text of the unknown token itself.
    assert not forged(made, ids_of(dumped(made), text), but=(UNK,))


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(CLEAN, max_size=12).map("".join))
def test_all_other_texts_have_the_ids_they_had(kind, text):
    made = MADE[kind]
    assert ids_of(dumped(made), text) == made.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", KINDS)
def test_without_it_the_models_would_find_the_token_by_themselves(kind):
    """The premise: telling the library that special tokens are text is not enough."""
    library = tokenizers.Tokenizer.from_str(MADE[kind].to_str())
    library.encode_special_tokens = True
    assert forged(library, library.encode(EOS).ids) == {EOS}
    assert not forged(library, ids_of(dumped(library), EOS), but=(UNK,))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_scores_stay(kind):
    before = json.loads(dumped(MADE[kind]))
    after = json.loads(encoding_json(dumped(MADE[kind]), False))
    assert [t["id"] for t in after["added_tokens"]] == [t["id"] for t in before["added_tokens"]]
    vocabulary = tokenizers.Tokenizer.from_str(json.dumps(after)).get_vocab()
    for token, number in MADE[kind].get_vocab().items():
        assert vocabulary.pop(token, number) == number
    assert len(vocabulary) == len([t for t in vocabulary if t.startswith("unreachable-")])
    if isinstance(before["model"]["vocab"], list):
        assert [s for _, s in after["model"]["vocab"]] == [s for _, s in before["model"]["vocab"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_normalizer_that_makes_the_token_forges_nothing(kind):
    made = producing(KINDS[kind](), "\u00a7", EOS)
    for normalized in (False, True):
        found = json.loads(dumped(made))
        for token in found["added_tokens"]:
            token["normalized"] = normalized
        assert not forged(made, ids_of(json.dumps(found).encode(), "the \u00a7 cat"), but=(UNK,))


@pytest.mark.parametrize("kind", KINDS)
def test_added_tokens_that_are_not_special_are_text_if_they_are_boundaries(kind):
    made = KINDS[kind](special=False)
    boundaries = frozenset(made.token_to_id(t) for t in (BOS, EOS, PAD))
    text = f"the {BOS} {EOS}{PAD} cat"
    assert forged(made, ids_of(dumped(made), text), but=(UNK,)) == {BOS, EOS, PAD}
    assert not forged(made, ids_of(dumped(made), text, boundaries), but=(UNK,))


def test_a_special_byte_or_letter_is_no_longer_found():
    found = json.loads(dumped(bpe(byte_fallback=True)))
    letter, byte = "x", "<0xC3>"
    for token in (letter, byte):
        number = found["model"]["vocab"][token]
        found["added_tokens"].append(found["added_tokens"][0] | {"id": number, "content": token})
    found["added_tokens"].sort(key=lambda each: each["id"])
    ids = ids_of(json.dumps(found).encode(), "x \u00e9")
    assert not {found["model"]["vocab"][token] for token in (letter, byte)} & set(ids)


def test_gigatoken_forges_nothing_either():
    """A byte-level vocabulary whose merges lead to its special token."""
    import vocabularies

    made = vocabularies.byte_level(f"{EOS} " * 50)
    merges = json.loads(dumped(made))["model"]["merges"]
    vocabulary = json.loads(dumped(made))["model"]["vocab"]
    for at in range(2, len(EOS) + 1):
        vocabulary.setdefault(EOS[:at], len(vocabulary))
        if [EOS[: at - 1], EOS[at - 1]] not in merges:
            merges.append([EOS[: at - 1], EOS[at - 1]])
    data = with_model(made, merges=merges, vocab=vocabulary)
    texts = strings(f"a {EOS}b", EOS, "no end", f"{EOS}{EOS}")
    one, other = (make_encoder(b, data, False).encode(texts) for b in ("gigatoken", "tokenizers"))
    assert lists(one) == lists(other)
    assert made.token_to_id(EOS) not in one.data
    allowed = make_encoder("gigatoken", data, True).encode(texts)
    assert allowed.data.tolist().count(made.token_to_id(EOS)) == 4


def test_a_tokenizer_without_such_entries_is_used_as_it_is(tokenizer):
    assert encoding_json(tokenizer.json, False) == tokenizer.json
    assert encoding_json(tokenizer.json, True) == tokenizer.json


@pytest.mark.parametrize("allow", [False, True])
def test_dropout_truncation_and_padding_are_no_part_of_encoding(allow):
    made = bpe()
    text = "under the door sat the cat"
    expected = make_encoder("tokenizers", dumped(made), allow).encode(strings(text)).data.tolist()
    assert len(expected) > 2
    for data in (
        with_model(made, dropout=0.9),
        changed(made, padding=PADDING),
        changed(made, truncation=TRUNCATION),
    ):
        encoder = make_encoder("tokenizers", data, allow)
        for _ in range(20):
            assert encoder.encode(strings(text)).data.tolist() == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
TIGHT, WIDE = (",", ":"), (" ,\r\n ", "\t:\n ")


@given(
    allow=st.booleans(),
    named=st.booleans(),
    more=st.dictionaries(st.text().map("x-".__add__), VALUES),
    last=st.booleans(),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 0, 3]),
    separators=st.sampled_from([None, TIGHT, WIDE]),
)
@settings(max_examples=40)
def test_all_else_stays_however_the_file_is_written(
    allow, named, more, last, ascii_only, indent, separators
):
    found = json.loads(changed(bpe(), padding=PADDING, truncation=TRUNCATION))
    expected = json.loads(encoding_json(json.dumps(found).encode(), allow, named=named))
    found["model"] = found["model"] | more if last else more | found["model"]
    found = found if last else {"model": found["model"]} | found
    text = json.dumps(found, ensure_ascii=ascii_only, indent=indent, separators=separators)
    data = encoding_json(f" {text}\n".encode(), allow, named=named)
    assert json.loads(data) == expected | {"model": expected["model"] | more}
    assert tokenizers.Tokenizer.from_buffer(data).get_vocab_size() == len(
        expected["model"]["vocab"]
    )


@pytest.mark.parametrize("allow", [False, True])
def test_the_first_line_of_an_old_file_of_merges_is_none(allow):
    made = json.loads(dumped(bpe()))["model"]["merges"]
    old = with_model(bpe(), merges=["#version", *map(" ".join, made)])
    text = strings("under the door sat the cat")
    expected = make_encoder("tokenizers", dumped(bpe()), allow).encode(text)
    assert lists(make_encoder("tokenizers", old, allow).encode(text)) == lists(expected)


def test_gigatoken_knows_neither_dropout_nor_truncation_nor_padding(bundled):
    found = json.loads(bundled.json) | {"truncation": TRUNCATION, "padding": PADDING}
    found["model"]["dropout"] = 0.9
    text = strings("a text of several words, which is not cut off")
    encoded = make_encoder("gigatoken", json.dumps(found).encode(), False).encode(text)
    assert lists(encoded) == lists(make_encoder("tokenizers", bundled.json, False).encode(text))


def test_a_file_cannot_ask_a_unigram_model_to_draw():
    """The model can draw at random, but its file has no such setting."""
    data = with_model(unigram(), alpha=0.1, nbest_size=64)
    assert len({tuple(ids_of(data, "under the door sat the cat")) for _ in range(20)}) == 1


@pytest.mark.parametrize(("saved", "said"), [(None, None), (0.0, None), (0.25, 0.25)])
def test_dropout_as_saved(saved, said):
    assert facts_of(with_model(bpe(), dropout=saved)).dropout == said


@pytest.mark.parametrize("kind", KINDS)
def test_the_unknown_token(kind):
    assert facts_of(dumped(MADE[kind])).unk_id == SPECIALS.index(UNK)
    assert facts_of(encoding_json(dumped(MADE[kind]), False)).unk_id == SPECIALS.index(UNK)


def test_no_unknown_token(bundled):
    assert facts_of(bundled.json).unk_id is None
    assert facts_of(with_model(word_level(), unk_token="none of it")).unk_id is None
    assert facts_of(with_model(unigram(), unk_id=None)).unk_id is None
