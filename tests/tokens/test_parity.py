import numpy as np
import pytest
from batches import TEXTS, lists, strings
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources.records import Strings
from exactcpt.pipeline.tokens.encoders import (
    make_encoder,
)
from exactcpt.pipeline.tokens.parity import (
    SAMPLE_DOCUMENT_BYTES,
    TORTURE_TEXTS,
    compare_backends,
    sample,
    torture_set,
)
from exactcpt.schemas.errors import BackendDifferenceError


@pytest.mark.slow
@pytest.mark.parametrize("special_tokens_in_text", [False, True])
def test_backends_agree_on_the_torture_set(tokenizer, special_tokens_in_text):
    texts = torture_set(tokenizer.facts.special_tokens)
    one = make_encoder("gigatoken", tokenizer.json, special_tokens_in_text)
    other = make_encoder("tokenizers", tokenizer.json, special_tokens_in_text)
    compare_backends(one, other, texts)
    assert len(texts) == len(TORTURE_TEXTS) + len(tokenizer.facts.special_tokens)


class Fake:
    """An encoder that gives every character's number, and something else for one text."""

    def __init__(self, wrong: bytes | None = None) -> None:
        self._wrong = wrong

    def encode(self, texts: Strings) -> Strings:
        values = [texts[i].tobytes() for i in range(len(texts))]
        return Strings.of_ids([[7] if value == self._wrong else list(value) for value in values])


def test_a_difference_names_the_text():
    texts = strings("same", "other", "x" * 200)
    compare_backends(Fake(), Fake(), texts)
    compare_backends(Fake(), Fake(b"not there"), texts)
    with pytest.raises(BackendDifferenceError, match=r"^'other'$"):
        compare_backends(Fake(), Fake(b"other"), texts)
    with pytest.raises(BackendDifferenceError, match=r"^'x{80}\.\.\.'$"):
        compare_backends(Fake(b"x" * 200), Fake(), texts)


def test_a_difference_of_equal_lengths_is_seen():
    with pytest.raises(BackendDifferenceError, match="'b'"):
        compare_backends(Fake(b"b"), Fake(), strings("a", "b"))


# samples


@given(
    st.lists(TEXTS, max_size=30),
    st.integers(0, 20_000),
    st.integers(0, 2**64 - 1),
    st.randoms(use_true_random=False),
)
def test_a_sample_is_bounded_and_of_whole_characters(values, size, seed, random):
    values = [value * (1 + i % 7 * 500) for i, value in enumerate(values)]
    hashes = np.random.Generator(np.random.PCG64(seed)).permutation(len(values)).astype(np.uint64)
    drawn = sample(strings(*values), hashes, size)
    assert len(drawn.data) <= size
    for i in range(len(drawn)):
        text = drawn[i].tobytes().decode()
        assert any(value.startswith(text) for value in values)
        assert len(drawn[i]) <= SAMPLE_DOCUMENT_BYTES
    order = random.sample(range(len(values)), len(values))
    again = sample(strings(*(values[i] for i in order)), hashes[order], size)
    assert lists(drawn) == lists(again)


@pytest.mark.parametrize("size", [1 << 10, 3 << 10, 64 << 10])
def test_a_sample_is_about_as_large_as_it_may_be(size):
    values = ["Ein Satz mit Umlauten: äöü. " * (1 + i % 300) for i in range(400)]
    drawn = sample(strings(*values), np.arange(400, dtype=np.uint64)[::-1], size)
    assert size - 4 < len(drawn.data) <= size
    assert drawn[0].tobytes().decode().startswith("Ein Satz")


def test_a_sample_of_empty_texts_is_short():
    drawn = sample(strings(*[""] * 5000), np.zeros(5000, np.uint64), 64 << 10)
    assert len(drawn) == 256


def test_the_smallest_hashes_are_drawn():
    drawn = sample(strings("a", "b", "c"), np.array([5, 1, 3], np.uint64))
    assert lists(drawn) == [[ord("b")], [ord("c")], [ord("a")]]
