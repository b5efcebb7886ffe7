import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import awkward as ak
import numpy as np
import pytest
from batches import END, TEXTS, lists, strings
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.core.choices import Backend
from exactcpt.pipeline.job import interruption
from exactcpt.pipeline.sources.records import Strings
from exactcpt.pipeline.tokens import cores as cores_used
from exactcpt.pipeline.tokens import encoders
from exactcpt.pipeline.tokens.cores import CORES, LOADING_PAYS, encode_on_cores, work_unit
from exactcpt.pipeline.tokens.encoders import (
    UnencodableTextError,
    UnsupportedTokenizerError,
    assemble,
    make_encoder,
    shared_encoder,
)
from exactcpt.pipeline.tokens.tokenizer import TokenizerFile, TokenizerSpec
from exactcpt.schemas.errors import BackendDifferenceError


def library(tokenizer: TokenizerFile):
    """The tokenizer as its own library loads it."""
    import tokenizers

    return tokenizers.Tokenizer.from_buffer(tokenizer.json)


@pytest.mark.slow
@given(st.lists(TEXTS | st.sampled_from([END, f"{END} a", "the end of text"]), max_size=5))
def test_backends_give_what_the_library_gives(bundled, values):
    reference = library(bundled)
    reference.encode_special_tokens = True
    expected = [reference.encode(value, add_special_tokens=False).ids for value in values]
    for backend in ("gigatoken", "tokenizers"):
        encoded = make_encoder(backend, bundled.json, False).encode(strings(*values))
        assert lists(encoded) == expected
        assert encoded.data.dtype == np.int32


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["gigatoken", "tokenizers"])
def test_special_tokens_in_a_text_are_text_unless_allowed(tokenizer, backend):
    ordinary = make_encoder(backend, tokenizer.json, False)
    special = make_encoder(backend, tokenizer.json, True)
    assert tokenizer.facts.special_tokens
    for token in tokenizer.facts.special_tokens[:20]:
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
    monkeypatch.setattr(encoders, "REFERENCE_BATCH_BYTES", 30)
    in_batches = make_encoder("tokenizers", bundled.json, False).encode(strings(*values))
    assert lists(at_once) == lists(in_batches)


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


class Library:
    """Takes the place of gigatoken: gives each text's length, and serves one thread at a time."""

    made: ClassVar[list["Library"]] = []

    def __init__(self) -> None:
        self.busy, self.calls, self.errors = threading.Lock(), 0, []
        self.on_several: list[bool] = []
        self.made.append(self)

    def encode_batch(self, texts: Any, parallel: bool | None) -> Any:
        assert self.busy.acquire(blocking=False)
        time.sleep(0.002)
        self.calls += 1
        self.on_several.append(parallel is not False)
        self.busy.release()
        if self.errors:
            raise self.errors.pop()
        return ak.Array([[len(text)] for text in texts.to_list()])


@pytest.fixture
def libraries(monkeypatch):
    """The objects of the library that are loaded."""
    monkeypatch.setattr(Library, "made", [])
    monkeypatch.setattr(encoders.Gigatoken, "_load", lambda _: Library())
    monkeypatch.setattr(cores_used, "_own_objects", None)
    return Library.made


class PanicException(BaseException):
    """What pyo3 calls a panic."""


@pytest.mark.parametrize("failure", [PanicException("index out of bounds"), ValueError("no")])
def test_gigatoken_that_fails_on_a_text_is_a_difference(libraries, failure):
    encoder = encoders.Gigatoken(b"")
    libraries[0].errors = [failure]
    with pytest.raises(BackendDifferenceError, match=f"gigatoken failed: {failure}"):
        encoder.encode(strings("a"))


def word_level() -> bytes:
    import tokenizers
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    made = tokenizers.Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="there is none"))
    made.pre_tokenizer = WhitespaceSplit()
    return made.to_str().encode()


@pytest.mark.parametrize("size", [1, 8, 1 << 20])
def test_the_reference_names_the_text_on_which_it_fails(monkeypatch, size):
    monkeypatch.setattr(encoders, "REFERENCE_BATCH_BYTES", size)
    encoder = make_encoder("tokenizers", word_level(), False)
    assert lists(encoder.encode(strings("a b", "b"))) == [[0, 1], [1]]
    with pytest.raises(UnencodableTextError, match=r"^WordLevel error: Missing \[UNK\]") as error:
        encoder.encode(strings("a a a", "b b b", "b", "a c", "c"))
    assert error.value.at == 3


def test_a_panic_on_a_text_is_a_failure_and_an_interruption_is_none(bundled):
    class Failing:
        failure: BaseException = PanicException("retry-limit-in-match over")

        def encode_batch_fast(self, *_: object, **__: object) -> None:
            raise self.failure

    encoder = make_encoder("tokenizers", bundled.json, False)
    encoder._tokenizer = Failing()
    with pytest.raises(UnencodableTextError, match=r"^retry-limit-in-match over$"):
        encoder.encode(strings("a"))
    Failing.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(strings("a"))


@pytest.mark.parametrize("interrupted", [False, True])
def test_an_interruption_that_the_library_swallows_is_no_difference(
    libraries, monkeypatch, interrupted
):
    """Else the job would go on with the slow backend, and keep that choice."""
    received = threading.Event()
    monkeypatch.setattr(interruption, "_received", received)
    encoder = encoders.Gigatoken(b"")
    libraries[0].errors = [ValueError("awkward input must be an array of strings")]
    if interrupted:
        received.set()
    with pytest.raises(KeyboardInterrupt if interrupted else BackendDifferenceError):
        encoder.encode(strings("a"))


# sharing


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


@pytest.mark.parametrize(("cores", "most"), [("4", 1), ("1", 4), (None, 4)])
def test_threads_wait_for_an_object_that_uses_all_cores_and_for_no_other(
    libraries, monkeypatch, cores, most
):
    monkeypatch.delenv(CORES, raising=False)
    if cores is not None:
        monkeypatch.setenv(CORES, cores)
    encoder = encoders.Gigatoken(b"")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: lists(encoder.encode(strings("a" * n))), range(1, 100)))
    assert found == [[[n]] for n in range(1, 100)]
    assert 1 <= len(libraries) <= most
    assert sum(each.calls for each in libraries) == 99


@pytest.mark.parametrize(("text_bytes", "most"), [(LOADING_PAYS * 12, 1), (LOADING_PAYS * 13, 4)])
def test_threads_of_a_long_job_wait_for_nobody(libraries, monkeypatch, text_bytes, most):
    monkeypatch.delenv(CORES, raising=False)
    encode_on_cores(4, 1, text_bytes)
    assert os.environ[CORES] == "4"
    encoder = encoders.Gigatoken(b"")
    together = threading.Barrier(4)

    def encode(n: int) -> list[list[int]]:
        with work_unit():
            together.wait()  # all have a unit
            found = lists(encoder.encode(strings("a" * n)))
            together.wait()
            return found

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(encode, range(1, 5))) == [[[n]] for n in range(1, 5)]
    assert 1 <= len(libraries) <= most
    calls = [several for each in libraries for several in each.on_several]
    assert calls == [most == 1] * 4
    with work_unit():  # the last one, or the only one: it has the cores of all threads
        encoder.encode(strings("a"))
    calls = [several for each in libraries for several in each.on_several]
    assert sorted(calls) == sorted([most == 1] * 4 + [True])


@pytest.mark.parametrize("cores", ["1", "2"])
@pytest.mark.parametrize(("error", "loaded"), [(RuntimeError(), 1), (KeyboardInterrupt(), 2)])
def test_an_object_survives_an_error_but_not_an_interruption(
    libraries, monkeypatch, cores, error, loaded
):
    monkeypatch.setenv(CORES, cores)
    encoder = encoders.Gigatoken(b"")
    libraries[0].errors = [error]
    with pytest.raises((BackendDifferenceError, KeyboardInterrupt)):
        encoder.encode(strings("a"))
    assert lists(encoder.encode(strings("abc"))) == [[3]]
    assert len(libraries) == loaded


def test_an_encoder_is_made_once_for_all_threads_and_kept(bundled, monkeypatch):
    made: list[Backend] = []

    def make(backend: Backend, *_: object) -> object:
        made.append(backend)
        time.sleep(0.1)
        return object()

    monkeypatch.setattr(encoders, "_encoders", {})
    monkeypatch.setattr(encoders, "make_encoder", make)
    with ThreadPoolExecutor(4) as pool:
        (one,) = set(pool.map(lambda _: shared_encoder(spec(bundled)), range(8)))
    other = shared_encoder(spec(bundled), "tokenizers")
    assert other is not one
    assert shared_encoder(spec(bundled, "tokenizers")) is other
    assert made == ["gigatoken", "tokenizers"]


CORES_USED = """
import os, sys, time
from pathlib import Path
from exactcpt.pipeline.sources.records import Strings
from exactcpt.pipeline.tokens.cores import encode_on_cores
from exactcpt.pipeline.tokens.encoders import make_encoder
if len(sys.argv) > 2:
    encode_on_cores(*map(int, sys.argv[2:]))
encoder = make_encoder("gigatoken", Path(sys.argv[1]).read_bytes(), False)
before = len(os.listdir("/proc/self/task"))
encoder.encode(Strings.of_texts([b"the sea, the sea"] * 1000))
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc")
@pytest.mark.parametrize(
    ("cores", "environment", "threads"),
    [
        ([], {}, 0),
        (["1"], {}, 0),
        (["3"], {}, 3),
        (["3"], {"RAYON_NUM_THREADS": "2"}, 2),
    ],
)
def test_gigatoken_uses_the_cores_it_was_given(data, cores, environment, threads):
    outside = {name: value for name, value in os.environ.items() if name != CORES}
    done = subprocess.run(
        [sys.executable, "-c", CORES_USED, str(data / "tokenizer.json"), *cores],
        env=outside | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == threads


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
