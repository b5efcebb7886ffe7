import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources.records import Strings
from exactcpt.pipeline.tokens import encoders as tokenization
from exactcpt.pipeline.tokens.encoders import (
    UnsupportedTokenizerError,
    assemble,
    borrow_encoder,
    make_encoder,
)
from exactcpt.pipeline.tokens.parity import (
    SAMPLE_DOCUMENT_BYTES,
    TORTURE_TEXTS,
    compare_backends,
    sample,
    torture_set,
)
from exactcpt.pipeline.tokens.tokenizer import TokenizerFile, TokenizerSpec, load_tokenizer
from exactcpt.schemas.errors import BackendDifferenceError, ExactcptError, UsageError

SHARED = ("qwen2_5", "llama3_1", "gpt2")
END = "<|endoftext|>"
texts = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="session")
def bundled(data: Path) -> TokenizerFile:
    return load_tokenizer(str(data))


@pytest.fixture(scope="session", params=["bundled", *SHARED])
def tokenizer(request, data: Path) -> TokenizerFile:
    if request.param == "bundled":
        return load_tokenizer(str(data / "tokenizer.json"))
    return load_tokenizer(str(request.getfixturevalue("shared") / "tokenizers" / request.param))


def strings(*values: str) -> Strings:
    return Strings.of_texts([value.encode() for value in values])


def lists(encoded: Strings) -> list[list[int]]:
    return [encoded[i].tolist() for i in range(len(encoded))]


def library(tokenizer: TokenizerFile):
    """The tokenizer as its own library loads it."""
    import tokenizers

    return tokenizers.Tokenizer.from_buffer(tokenizer.json)


# assemble


def assembled(document: list[int], bos: int | None, eos: int) -> list[int]:
    begin = [bos] if bos is not None and document[:1] != [bos] else []
    end = [eos] if document[-1:] != [eos] else []
    return begin + document + end


ids = st.lists(st.lists(st.integers(0, 4), max_size=5), max_size=8)


@given(ids, st.none() | st.integers(0, 4), st.integers(0, 4), st.integers(0, 3))
def test_bos_and_eos_are_added_where_they_are_missing(documents, bos, eos, before):
    """Also where the documents begin in the middle of a buffer."""
    whole = Strings.of_ids([[3] * before, *documents, [4] * before])
    part = Strings(whole.offsets[1:-1], whole.data)
    found = assemble(part, bos, eos)
    assert lists(found) == [assembled(document, bos, eos) for document in documents]
    assert found.data.dtype == np.int32
    assert found.offsets.dtype == np.int64


# the two backends


@pytest.mark.parametrize("special_tokens_in_text", [False, True])
def test_backends_agree_on_the_torture_set(tokenizer, special_tokens_in_text):
    texts = torture_set(tokenizer.special_tokens())
    one = make_encoder("gigatoken", tokenizer.json, special_tokens_in_text)
    other = make_encoder("tokenizers", tokenizer.json, special_tokens_in_text)
    compare_backends(one, other, texts)
    assert len(texts) == len(TORTURE_TEXTS) + len(tokenizer.special_tokens())


@given(st.lists(texts | st.sampled_from([END, f"{END} a", "the end of text"]), max_size=5))
def test_backends_give_what_the_library_gives(bundled, values):
    reference = library(bundled)
    reference.encode_special_tokens = True
    expected = [reference.encode(value, add_special_tokens=False).ids for value in values]
    for backend in ("gigatoken", "tokenizers"):
        encoded = make_encoder(backend, bundled.json, False).encode(strings(*values))
        assert lists(encoded) == expected
        assert encoded.data.dtype == np.int32


@pytest.mark.parametrize("backend", ["gigatoken", "tokenizers"])
def test_special_tokens_in_a_text_are_text_unless_allowed(tokenizer, backend):
    ordinary = make_encoder(backend, tokenizer.json, False)
    special = make_encoder(backend, tokenizer.json, True)
    assert tokenizer.special_tokens()
    for token in tokenizer.special_tokens()[:20]:
        number, text = tokenizer.id_of(token), strings(f"x {token} y")
        assert number not in ordinary.encode(text).data
        assert special.encode(text).data.tolist().count(number) == 1


@pytest.mark.parametrize("backend", ["gigatoken", "tokenizers"])
def test_encoders_of_both_modes_work_side_by_side(bundled, backend):
    ordinary = make_encoder(backend, bundled.json, False)
    special = make_encoder(backend, bundled.json, True)
    assert bundled.id_of(END) in special.encode(strings(END)).data
    assert bundled.id_of(END) not in ordinary.encode(strings(END)).data
    assert bundled.id_of(END) in special.encode(strings(END)).data


@pytest.mark.parametrize("backend", ["gigatoken", "tokenizers"])
def test_no_texts_and_empty_texts(bundled, backend):
    encoder = make_encoder(backend, bundled.json, False)
    assert lists(encoder.encode(strings())) == []
    assert lists(encoder.encode(strings("", "", ""))) == [[], [], []]
    assert lists(encoder.encode(strings("", "a", ""))) == [[], [bundled.id_of("a")], []]


@pytest.mark.parametrize("backend", ["gigatoken", "tokenizers"])
def test_texts_may_lie_inside_a_larger_buffer(bundled, backend):
    whole = strings("left out", "Löwe", "b", "left out")
    encoder = make_encoder(backend, bundled.json, False)
    inside = encoder.encode(Strings(whole.offsets[1:4], whole.data))
    assert lists(inside) == lists(encoder.encode(strings("Löwe", "b")))


def test_the_reference_encodes_in_batches(bundled, monkeypatch):
    values = [f"text number {i}" for i in range(50)]
    at_once = make_encoder("tokenizers", bundled.json, False).encode(strings(*values))
    monkeypatch.setattr(tokenization, "REFERENCE_BATCH_BYTES", 30)
    in_batches = make_encoder("tokenizers", bundled.json, False).encode(strings(*values))
    assert lists(at_once) == lists(in_batches)


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


def word_piece() -> bytes:
    import tokenizers
    from tokenizers.models import WordPiece

    vocabulary = {"[UNK]": 0, "a": 1, "##b": 2, END: 3}
    made = tokenizers.Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    made.add_special_tokens([END])
    return made.to_str().encode()


def test_gigatoken_says_that_it_does_not_support_a_tokenizer():
    with pytest.raises(UnsupportedTokenizerError, match=r"."):
        make_encoder("gigatoken", word_piece(), False)
    encoded = make_encoder("tokenizers", word_piece(), False).encode(strings("ab"))
    assert lists(encoded) == [[1, 2]]


class PanicException(BaseException):
    """What pyo3 calls a panic."""


@pytest.mark.parametrize("failure", [PanicException("index out of bounds"), ValueError("no")])
def test_gigatoken_that_fails_on_a_text_is_a_difference(bundled, failure):
    class Failing:
        def encode_batch(self, *_, **__):
            raise failure

    encoder = make_encoder("gigatoken", bundled.json, False)
    encoder._tokenizer = Failing()
    with pytest.raises(BackendDifferenceError, match=f"gigatoken failed: {failure}"):
        encoder.encode(strings("a"))


def test_an_interruption_is_not_a_difference(bundled):
    class Interrupted:
        def encode_batch(self, *_, **__):
            raise KeyboardInterrupt

    encoder = make_encoder("gigatoken", bundled.json, False)
    encoder._tokenizer = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(strings("a"))


# borrowing


def spec(tokenizer: TokenizerFile, backend: str = "gigatoken") -> TokenizerSpec:
    return TokenizerSpec(
        url=tokenizer.where,
        sha256=tokenizer.sha256,
        backend=backend,
        special_tokens_in_text=False,
        bos_id=None,
        eos_id=0,
        pad_id=0,
        largest_id=tokenizer.largest_id,
    )


@pytest.fixture
def made(monkeypatch) -> list[object]:
    """Encoders made since; none are idle at first, and none stay."""
    encoders: list[object] = []

    def make(*_: object) -> object:
        encoders.append(object())
        return encoders[-1]

    monkeypatch.setattr(tokenization, "make_encoder", make)
    tokenization._idle.cache_clear()
    yield encoders
    tokenization._idle.cache_clear()


def test_an_encoder_is_used_again(bundled, made):
    for _ in range(3):
        with borrow_encoder(spec(bundled)) as encoder:
            assert encoder is made[0]
    assert len(made) == 1


def test_no_encoder_is_lent_twice_at_once(bundled, made):
    for borrowers in (4, 8, 3):
        with ExitStack() as stack:
            lent = [stack.enter_context(borrow_encoder(spec(bundled))) for _ in range(borrowers)]
        assert len(set(lent)) == borrowers
    assert len(made) == 8


def test_threads_borrow_encoders_of_their_own(bundled, made):
    lock, lent = threading.Lock(), set()

    def use(_: int) -> None:
        with borrow_encoder(spec(bundled)) as encoder:
            with lock:
                assert encoder not in lent
                lent.add(encoder)
            time.sleep(1e-3)
            with lock:
                lent.remove(encoder)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(100)))
    assert len(made) <= 8


def test_encoders_are_kept_apart_by_backend(bundled, made):
    with borrow_encoder(spec(bundled)) as one:
        pass
    with borrow_encoder(spec(bundled), "tokenizers") as other:
        assert one is not other
    with borrow_encoder(spec(bundled, "tokenizers")) as again:
        assert again is other


def test_an_encoder_survives_an_error_of_its_user_but_not_an_interruption(bundled, made):
    with pytest.raises(RuntimeError), borrow_encoder(spec(bundled)) as first:
        raise RuntimeError
    with pytest.raises(KeyboardInterrupt), borrow_encoder(spec(bundled)) as second:
        raise KeyboardInterrupt
    with borrow_encoder(spec(bundled)) as third:
        pass
    assert first is second
    assert second is not third


# samples


@given(
    st.lists(texts, max_size=30),
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


# the tokenizer's files


def tokenizer_of(tmp_path: Path, json_bytes: bytes, **config: object) -> TokenizerFile:
    (tmp_path / "tokenizer.json").write_bytes(json_bytes)
    if config:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return load_tokenizer(str(tmp_path))


def byte_level(special: list[str] = [], template: str | None = None) -> bytes:  # noqa: B006
    """A byte-level tokenizer without merges; ids have a hole before the special tokens."""
    import tokenizers
    from tokenizers import AddedToken, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens([AddedToken(token, special=True) for token in special])
    if template is not None:
        made.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(t, made.token_to_id(t)) for t in special]
        )
    return made.to_str().encode()


def test_a_path_may_be_the_file_or_its_folder(data):
    file, folder = load_tokenizer(str(data / "tokenizer.json")), load_tokenizer(str(data))
    assert file.json == folder.json
    assert file.where == folder.where == str(data / "tokenizer.json")
    assert file.largest_id == 4095


def test_a_url_will_do(data):
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/tokenizers/a/tokenizer.json", (data / "tokenizer.json").read_bytes())
    fs.pipe_file("/tokenizers/a/tokenizer_config.json", b'{"pad_token": "a"}')
    for url in ("memory://tokenizers/a", "memory://tokenizers/a/tokenizer.json"):
        found = load_tokenizer(url)
        assert found.config == {"pad_token": "a"}
        assert found.where == "memory://tokenizers/a/tokenizer.json"


@pytest.mark.parametrize("missing", ["nothing", "empty", "file/tokenizer.json"])
def test_a_missing_tokenizer_is_named(tmp_path, missing):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ExactcptError) as error:
        load_tokenizer(str(tmp_path / missing))
    assert error.value.found == "there is no such tokenizer"
    assert missing in error.value.where


@pytest.mark.parametrize("content", [b"", b"{}", b"no JSON", b'{"model": 5}', b"\xff\xfe"])
def test_what_is_no_tokenizer_is_said_so(tmp_path, content):
    with pytest.raises(ExactcptError, match="this is not a tokenizer: ") as error:
        tokenizer_of(tmp_path, content)
    assert error.value.where == str(tmp_path / "tokenizer.json")
    assert "\n" not in error.value.found


@pytest.mark.parametrize("content", ["", "{", "[]", "5"])
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(ExactcptError, match=r"not a tokenizer_config\.json") as error:
        tokenizer_of(tmp_path, byte_level())
    assert error.value.where == str(tmp_path / "tokenizer_config.json")


def test_the_largest_id_counts_not_the_number_of_tokens(tmp_path):
    description = json.loads(byte_level([END]))
    description["added_tokens"][0]["id"] = 300
    description["model"]["vocab"][END] = 300
    found = tokenizer_of(tmp_path, json.dumps(description).encode())
    assert len(found.vocabulary) == 257
    assert found.largest_id == 300


def test_the_end_of_documents_as_asked_for(tmp_path):
    found = tokenizer_of(tmp_path, byte_level([END, "<stop>"]))
    assert found.choose_eos("<stop>") == ("<stop>", None)
    token, warning = found.choose_eos("a")
    assert token == "a" and "'a', which is no special token" in str(warning)
    with pytest.raises(UsageError) as error:
        found.choose_eos("<sotp>")
    assert str(error.value) == (
        "the vocabulary has no token '<sotp>'\n"
        f"  where:    {tmp_path / 'tokenizer.json'}\n"
        f"  expected: one of its special tokens: {END}, <stop>\n"
        "  fix:      name it with --eos-token"
    )


@pytest.mark.parametrize("token", [END, "<|end_of_text|>"])
def test_the_end_of_documents_by_its_usual_names(tmp_path, token):
    found = tokenizer_of(tmp_path, byte_level(["<|im_end|>", token]), eos_token="<|im_end|>")
    assert found.choose_eos(None) == (token, None)


@pytest.mark.parametrize("eos", ["<turn>", {"content": "<turn>", "special": True}])
def test_the_end_of_documents_by_the_config_is_doubtful(tmp_path, eos):
    found = tokenizer_of(tmp_path, byte_level(["<turn>"]), eos_token=eos)
    token, warning = found.choose_eos(None)
    assert token == "<turn>"
    assert "'<turn>', the eos_token of tokenizer_config.json" in warning
    assert "see --eos-token" in warning


@pytest.mark.parametrize("config", [{}, {"eos_token": None}, {"eos_token": "<unknown>"}])
def test_without_an_end_of_documents(tmp_path, config):
    found = tokenizer_of(tmp_path, byte_level([f"<{i}>" for i in range(14)]), **config)
    with pytest.raises(UsageError, match="nothing says which token ends a document") as error:
        found.choose_eos(None)
    assert "<0>, <1>" in error.value.expected
    assert error.value.expected.endswith("<11> and 2 more")


def test_without_any_special_token(tmp_path):
    with pytest.raises(UsageError) as error:
        tokenizer_of(tmp_path, byte_level()).choose_eos(None)
    assert error.value.expected == "a token of the vocabulary; no token is marked as special"


def test_the_beginning_of_documents_by_the_template(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>", "</s>"], "<s> $A </s>"))
    assert found.choose_bos(None) == found.choose_bos(True) == found.id_of("<s>")
    assert found.choose_bos(False) is None


def test_a_template_that_only_ends_texts(tmp_path):
    assert tokenizer_of(tmp_path, byte_level(["</s>"], "$A </s>")).choose_bos(None) is None


def test_a_template_that_begins_with_several_tokens(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>", "<lang>"], "<s> <lang> $A"))
    for wanted in (None, True):
        with pytest.raises(UsageError, match="puts 2 tokens before a text"):
            found.choose_bos(wanted)
    assert found.choose_bos(False) is None


def test_the_beginning_of_documents_by_the_config(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>"]), bos_token={"content": "<s>"})
    assert found.choose_bos(None) is None
    assert found.choose_bos(True) == found.id_of("<s>")


@pytest.mark.parametrize("config", [{}, {"bos_token": None}, {"bos_token": "<unknown>"}])
def test_a_beginning_that_nothing_names(tmp_path, config):
    with pytest.raises(UsageError, match="nothing says which token begins a document"):
        tokenizer_of(tmp_path, byte_level(["<s>"]), **config).choose_bos(True)


def test_padding_is_the_pad_token_or_the_end_of_documents(tmp_path):
    named = tokenizer_of(tmp_path, byte_level(["<pad>"]), pad_token="<pad>")
    assert named.choose_pad(7) == named.id_of("<pad>")
    unknown = tokenizer_of(tmp_path, byte_level(["<pad>"]), pad_token="<unknown>")
    assert unknown.choose_pad(7) == 7
    assert tokenizer_of(tmp_path, byte_level(), pad_token=None).choose_pad(7) == 7


@pytest.mark.parametrize(
    ("name", "eos", "bos", "pad", "largest"),
    [
        ("qwen2_5", "<|endoftext|>", None, 151643, 151664),
        ("llama3_1", "<|end_of_text|>", 128000, 128001, 128255),
        ("gpt2", "<|endoftext|>", None, 50256, 50256),
    ],
)
def test_choices_for_well_known_tokenizers(shared, name, eos, bos, pad, largest):
    found = load_tokenizer(str(shared / "tokenizers" / name))
    assert found.choose_eos(None) == (eos, None)
    assert found.choose_bos(None) == bos
    assert found.choose_bos(False) is None
    assert found.choose_pad(found.id_of(eos)) == pad
    assert found.largest_id == largest
