"""What tokens do not say of their text, counted and put into words."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from batches import TEXTS, lists, strings
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers
from vocabularies import EOS, UNK, WORDS, byte_level, dumped, unigram, word_level, word_piece

from exactcpt.pipeline.sources.records import Batch, Strings
from exactcpt.pipeline.tokens.documents import encode_documents
from exactcpt.pipeline.tokens.encoders import make_encoder
from exactcpt.pipeline.tokens.encoding import facts_of
from exactcpt.pipeline.tokens.fidelity import Fidelity, fidelity_warnings, total
from exactcpt.pipeline.tokens.tokenizer import TokenizerSpec
from exactcpt.schemas.errors import ExactcptError


def spec_of(tmp_path, tokenizer, *, eos: str = EOS, **more) -> TokenizerSpec:
    """A tokenizer that ends documents with one of its tokens, written to a file."""
    import hashlib

    data = tokenizer if isinstance(tokenizer, bytes) else dumped(tokenizer)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data)
    vocabulary = tokenizers.Tokenizer.from_buffer(data).get_vocab()
    chosen = {
        "special_tokens_in_text": False,
        "bos_id": None,
        "eos_id": vocabulary[eos],
        "pad_id": vocabulary[eos],
        "unk_id": facts_of(data).unk_id,
    }
    return TokenizerSpec(
        url=str(path),
        sha256=hashlib.sha256(data).hexdigest(),
        backend="tokenizers",
        largest_id=max(vocabulary.values()),
        **(chosen | more),
    )


def encoder_of(spec: TokenizerSpec):
    data = Path(spec.url).read_bytes()
    return make_encoder("tokenizers", data, spec.special_tokens_in_text, spec.boundaries)


def fidelity_of(spec: TokenizerSpec, *texts: str) -> Fidelity:
    """What is found where the texts are the whole sample."""
    found = Fidelity()
    found.compare(strings(*texts), encoder_of(spec).encode(strings(*texts)), spec)
    return found


# counts over all tokens

UNKNOWN, END = 3, 1


@given(st.lists(st.lists(st.sampled_from([UNKNOWN, END, 0, 2, 7]), max_size=6), max_size=8))
def test_unknown_tokens_and_inner_ends_are_counted(documents):
    ended = [[*document, END] for document in documents]
    spec = TokenizerSpec(
        url="",
        sha256="",
        backend="tokenizers",
        special_tokens_in_text=False,
        bos_id=None,
        eos_id=END,
        pad_id=END,
        largest_id=9,
        unk_id=UNKNOWN,
    )
    found = Fidelity()
    found.count(Strings.of_ids(ended), spec)
    assert found.unknown_tokens == sum(each.count(UNKNOWN) for each in documents)
    assert found.inner_ends == sum(each.count(END) for each in documents)
    assert found.documents_with_inner_ends == sum(END in each for each in documents)


def test_counts_add_up_over_parts():
    one = Fidelity(3, 2, 1, 100, Counter({"a": 2, "b": 1}))
    other = Fidelity(1, 1, 1, 50, Counter({"b": 4}))
    both = total([one.to_json(), other.to_json()])
    assert both == Fidelity(4, 3, 2, 150, Counter({"a": 2, "b": 5}))
    assert both.to_manifest() == {
        "unknown_tokens": 4,
        "inner_ends": 3,
        "documents_with_inner_ends": 2,
        "sampled_characters": 150,
        "lost_characters": 7,
    }


# characters that get lost


def of_characters(alphabet: str):
    """BPE of characters; those that it lacks vanish."""
    model = models.BPE({c: i for i, c in enumerate((EOS, *alphabet))}, [])
    made = tokenizers.Tokenizer(model)
    made.decoder = decoders.Fuse()
    return made


@given(st.lists(st.text("abc dé漢\n", max_size=20), max_size=4))
def test_characters_that_vanish_are_counted(tmp_path_factory, texts):
    spec = spec_of(tmp_path_factory.mktemp("t"), of_characters("abc"))
    found = fidelity_of(spec, *texts)
    assert found.lost == Counter(c for text in texts for c in text if c not in "abc")
    assert found.sampled_characters == sum(map(len, texts))


@pytest.fixture(scope="module")
def byte_specs(tmp_path_factory) -> list[TokenizerSpec]:
    """Byte-level vocabularies: as they are, and with normalizers that change text on purpose."""
    found = [spec_of(tmp_path_factory.mktemp("t"), byte_level("the cat sat"))]
    for normalizer in (normalizers.NFC(), normalizers.NFKD(), normalizers.Lowercase()):
        made = byte_level("the cat sat")
        made.normalizer = normalizer
        found.append(spec_of(tmp_path_factory.mktemp("t"), made))
    return found


@given(TEXTS | st.sampled_from(["e\u0301 A\u030a \ufb01 \u1e9b\u0323", "ǅ İ ß", "\ufeff\x00\r\n"]))
def test_bytes_lose_nothing(byte_specs, text):
    for spec in byte_specs:
        assert fidelity_of(spec, text).lost.total() == 0


def test_well_known_tokenizers_lose_nothing(tokenizer):
    spec = TokenizerSpec(
        url=tokenizer.where,
        sha256=tokenizer.sha256,
        backend="tokenizers",
        special_tokens_in_text=False,
        bos_id=None,
        eos_id=0,
        pad_id=0,
        largest_id=tokenizer.largest_id,
        unk_id=tokenizer.facts.unk_id,
    )
    text = "Cafe\u0301 naïve\n\n\tdef f(x):  漢字 🙂\x00 \ufb01 <|endoftext|>"
    found = fidelity_of(spec, text, " " + text, text + "\n ")
    assert found.lost.total() == 0 and found.sampled_characters > 100


def sentencepiece(prepend: bool):
    """As SentencePiece models are converted: spaces are marked by the normalizer."""
    made = unigram(byte_fallback=True)
    marks = [normalizers.Replace(" ", "\u2581")]
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), *marks][not prepend :])
    made.pre_tokenizer = None
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)][: 4 if prepend else 3])
    return made


@pytest.mark.parametrize("prepend", [False, True])
def test_marks_for_spaces_are_spaces(tmp_path, prepend):
    spec = spec_of(tmp_path, sentencepiece(prepend))
    assert fidelity_of(spec, "the cat  sat\nünder 漢字", " a door", "").lost.total() == 0


def test_what_is_unknown_is_lost(tmp_path):
    """The text of the unknown token does not stand for its letters."""
    spec = spec_of(tmp_path, word_level())
    assert fidelity_of(spec, "the cat").lost.total() == 0
    assert fidelity_of(spec, "the unk nuk").lost == Counter("unknuk  ")


def test_line_breaks_that_get_lost_are_counted(tmp_path):
    spec = spec_of(tmp_path, word_level())
    assert fidelity_of(spec, "the cat\n\nsat").lost == Counter("\n\n")


def test_words_in_pieces_lose_nothing(tmp_path):
    made = word_piece()
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    assert fidelity_of(spec_of(tmp_path, made), "The CAT sat").lost.total() == 0


# in words


def test_nothing_is_said_where_nothing_is_lost():
    assert fidelity_warnings("a", Fidelity(sampled_characters=5000), 10_000, EOS) == []
    assert fidelity_warnings("a", Fidelity(), 0, EOS) == []


def test_a_little_is_not_warned_of():
    little = Fidelity(unknown_tokens=10, sampled_characters=5000, lost=Counter({" ": 5}))
    assert fidelity_warnings("a", little, 10_000, EOS) == []
    more = Fidelity(unknown_tokens=11, sampled_characters=5000, lost=Counter({" ": 6}))
    assert len(fidelity_warnings("a", more, 10_000, EOS)) == 2


def test_warnings():
    lost = Counter({"\n": 7, "é": 9, "b": 1, "a": 1, "c": 1, "d": 1})
    found = Fidelity(200, 3, 2, 1000, lost)
    assert fidelity_warnings("web", found, 10_000, EOS) == [
        "source 'web': '</s>' is inside 2 documents (3 times): each of them is packed as one "
        "document, and what follows the token is trained to see what precedes it; if the rows were "
        "packed before, give every document a row of its own",
        "source 'web': 200 of 10,000 tokens (2.00%) are the unknown token: the vocabulary lacks "
        "that text, and it is lost; a tokenizer of bytes lacks none",
        "source 'web': the tokens cannot give back 20 of 1,000 sampled characters (2.00%), such as "
        "'é', '\\n', 'a', 'b', 'c': the tokenizer drops them",
    ]


# documents that cannot be encoded


def batch(**texts: str) -> Batch:
    return Batch(ids=pa.array(list(texts)), content=strings(*texts.values()))


def test_the_document_on_which_the_tokenizer_fails_is_named(tmp_path):
    made = word_level()
    made.model = models.WordLevel(made.get_vocab(), unk_token="there is none")
    spec = spec_of(tmp_path, made)
    good = batch(x="the cat", y="sat")
    assert len(encode_documents(encoder_of(spec), good, "web", spec)) == 2
    with pytest.raises(ExactcptError) as error:
        encode_documents(encoder_of(spec), batch(x="the cat", evil="the dog"), "web", spec)
    assert str(error.value) == (
        "the tokenizer fails on a text: WordLevel error: Missing [UNK] token from the vocabulary\n"
        f"  where:    document 'evil' of source 'web'; tokenizer {spec.url}\n"
        "  expected: a tokenizer that can encode any text\n"
        "  fix:      take a tokenizer of bytes, or one with an unknown token; if the text is to "
        "blame, correct it"
    )


def test_a_text_that_becomes_a_boundary_is_refused(tmp_path):
    """A token that only the vocabulary has is text, and so is whatever is unknown."""
    made = tokenizers.Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="a")
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    spec = spec_of(tmp_path, made, eos="door", unk_id=None)
    assert lists(encode_documents(encoder_of(spec), batch(x="the cat"), "web", spec)) == [[0, 1]]
    with pytest.raises(ExactcptError) as error:
        encode_documents(
            encoder_of(spec), batch(x="", y="cat", evil="the door", z="door"), "web", spec
        )
    assert str(error.value) == (
        "a text becomes token 5, which ends documents\n"
        "  where:    document 'evil' of source 'web'\n"
        "  expected: no such token inside a document; the tokenizer gives it for some text, or for "
        "what its vocabulary lacks\n"
        "  fix:      name another token with --eos-token, or leave it out with --no-bos if it "
        "begins documents; --special-tokens-in-text allow accepts such texts as they are"
    )
    beginning = spec_of(tmp_path, made, eos="door", bos_id=4)
    with pytest.raises(ExactcptError, match="becomes token 4, which begins documents"):
        encode_documents(
            encoder_of(beginning), batch(x="the", evil="what is this"), "web", beginning
        )
    allowed = spec_of(tmp_path, made, eos="door", bos_id=4, special_tokens_in_text=True)
    ids = encode_documents(encoder_of(allowed), batch(x="the door a"), "web", allowed)
    assert lists(ids) == [[0, 5, 4]]


def test_special_tokens_are_never_refused(tmp_path):
    spec = spec_of(tmp_path, word_level())
    ids = encode_documents(encoder_of(spec), batch(x=f"the {EOS} cat"), "web", spec)
    assert spec.eos_id not in ids.data
    assert np.count_nonzero(ids.data == spec.unk_id) == 1
    assert UNK in tokenizers.Tokenizer.from_file(spec.url).get_vocab()
