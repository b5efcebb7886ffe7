"""Encoders: text in, token ids out, by one of two libraries.

`tokenizers` is the reference. `gigatoken` is about fifty times as fast and is used as long as it
encodes a torture set, documents of every source, and a sample of every part exactly as the
reference does (parity.py). After a single difference the whole job falls back to the reference
(backend.py).

By default the text of a special token inside a document is encoded like any other text, so no
document can forge its own end. gigatoken always reads it as the special token, unless it is given
the tokenizer.json without its special added tokens; encoding.py has what else has to change in it.
"""

from functools import cache
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import BackendDifferenceError
from ...schemas.runs import runs
from ...schemas.rust import is_of_library
from ..core.choices import Backend
from ..files.storage import open_input
from ..job.interruption import raise_if_interrupted
from ..sources.records import Strings
from . import cores
from .encoding import encoding_json
from .tokenizer import TokenizerSpec, reference_tokenizer

__all__ = [
    "Encoder",
    "UnencodableTextError",
    "UnsupportedTokenizerError",
    "assemble",
    "begins_bare",
    "make_encoder",
    "shared_encoder",
    "tokenizer_json",
]

REFERENCE_BATCH_BYTES = 1 << 20
"""Bytes of text that the reference is given at a time, as Python strings."""


class UnsupportedTokenizerError(Exception):
    """gigatoken cannot load the tokenizer."""


class UnencodableTextError(Exception):
    """The tokenizer itself fails on a text: number `at` of those it was given, counted from 0."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at = at


def _has_failed(error: BaseException) -> bool:
    """Whether a library failed by itself.

    Raises:
        KeyboardInterrupt: the job was interrupted. gigatoken calls Python, and takes the exception
            that a signal raises there for a text that it cannot read.
    """
    if not is_of_library(error):
        return False
    raise_if_interrupted()
    return True


class Encoder(Protocol):
    """Encodes texts without adding tokens, for any number of threads."""

    def encode(self, texts: Strings) -> Strings:
        """The token ids of UTF-8 texts, int32."""
        ...


class Reference:
    """The encoder of `tokenizers`, which defines what is right."""

    def __init__(self, data: bytes, special_tokens_in_text: bool) -> None:
        self._tokenizer = reference_tokenizer(data, special_tokens_in_text)

    def encode(self, texts: Strings) -> Strings:
        """See `Encoder`.

        Raises:
            UnencodableTextError: the library fails on a text.
        """
        ids: list[NDArray[np.int32]] = []
        decoded = (texts[i].tobytes().decode() for i in range(len(texts)))
        for batch in runs(decoded, len, REFERENCE_BATCH_BYTES):
            ids += self._encode(batch, len(ids))
        ends = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        return Strings(ends, np.concatenate(ids) if ids else np.empty(0, np.int32))

    def _encode(self, texts: list[str], first: int) -> list[NDArray[np.int32]]:
        """Encodes texts of which the first has this number."""
        try:
            encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        except BaseException as error:
            if not _has_failed(error):
                raise
            if len(texts) == 1:
                raise UnencodableTextError(first, " ".join(str(error).split())[:200]) from None
            # One after the other, to find out which.
            return [self._encode([text], first + i)[0] for i, text in enumerate(texts)]
        return [np.array(one.ids, np.int32) for one in encoded]


class Gigatoken:
    """The encoder of `gigatoken`.

    An object of the library serves one thread at a time, and a large one takes a second to load, in
    which no other thread gets anywhere. cores.py says whether a thread that finds none idle waits
    or loads another.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._idle: SimpleQueue[Any] = SimpleQueue()
        self._idle.put(self._load())

    def _load(self) -> Any:
        import gigatoken

        return gigatoken.Tokenizer.from_json(self._data)

    def encode(self, texts: Strings) -> Strings:
        """See `Encoder`.

        Raises:
            BackendDifferenceError: the library fails on a text.
        """
        if not len(texts):
            return Strings(np.zeros(1, np.int64), np.empty(0, np.int32))
        import awkward as ak

        contents: Any = ak.contents
        characters = contents.NumpyArray(texts.data, parameters={"__array__": "char"})
        layout = contents.ListOffsetArray(
            ak.index.Index64(texts.offsets), characters, parameters={"__array__": "string"}
        )
        try:
            encoded: Any = self._encode(ak.Array(layout)).layout
        except BaseException as error:
            if _has_failed(error):
                raise BackendDifferenceError(f"gigatoken failed: {error}") from None
            raise
        ids = np.asarray(encoded.content.data).view(np.int32)
        return Strings(np.asarray(encoded.offsets.data).astype(np.int64), ids)

    def _encode(self, texts: Any) -> Any:
        library = self._take(wait=cores.shares_one_object())
        try:
            library = library or self._load()
            return library.encode_batch(texts, parallel=None if cores.uses_several() else False)
        except BaseException as error:
            if not isinstance(error, Exception):
                library = None  # what was interrupted is not used again
            raise
        finally:
            self._idle.put(library)

    def _take(self, *, wait: bool) -> Any:
        """An idle object; None if it has to be loaded anew."""
        try:
            return self._idle.get(block=wait)
        except Empty:
            return None


def make_encoder(
    backend: Backend,
    data: bytes,
    special_tokens_in_text: bool,
    boundaries: frozenset[int] = frozenset(),
) -> Encoder:
    """An encoder from the bytes of a tokenizer.json.

    Args:
        backend: which library encodes.
        data: the bytes of tokenizer.json.
        special_tokens_in_text: whether the text of a special token becomes that token.
        boundaries: ids that begin or end documents, see `encoding_json`.

    Raises:
        UnsupportedTokenizerError: gigatoken does not support the tokenizer.
    """
    named = backend == "tokenizers"
    data = encoding_json(data, special_tokens_in_text, boundaries, named=named)
    if backend == "tokenizers":
        return Reference(data, special_tokens_in_text)
    try:
        return Gigatoken(data)
    except BaseException as error:
        if _has_failed(error):
            reason = str(error).partition("\n\nLocation:")[0]  # in its source code
            raise UnsupportedTokenizerError(" ".join(reason.split())[:200]) from None
        raise


_loading = Lock()
_encoders: dict[tuple[str, Backend, bool, frozenset[int]], Encoder] = {}


def shared_encoder(spec: TokenizerSpec, backend: Backend | None = None) -> Encoder:
    """The encoder of this process for a tokenizer. It is kept, since its caches are warm.

    Args:
        spec: the tokenizer.
        backend: which library encodes; that of `spec` if it is None.

    Raises:
        UnsupportedTokenizerError: gigatoken does not support the tokenizer.
    """
    chosen = backend or spec.backend
    key = spec.sha256, chosen, spec.special_tokens_in_text, spec.boundaries
    with _loading:
        if key not in _encoders:
            data = tokenizer_json(spec.url, spec.sha256)
            _encoders[key] = make_encoder(
                chosen, data, spec.special_tokens_in_text, spec.boundaries
            )
        return _encoders[key]


@cache
def tokenizer_json(url: str, sha256: str) -> bytes:
    """The bytes of a tokenizer.json with that digest, read once."""
    with open_input(url) as file:
        return file.read()


def begins_bare(ids: Strings, bos_id: int | None) -> NDArray[np.bool_]:
    """Which documents do not begin with BOS and get it, shape [documents]."""
    bare = np.full(len(ids), bos_id is not None)
    if bos_id is not None:
        filled = ids.lengths > 0
        bare[filled] = ids.data[ids.offsets[:-1][filled]] != bos_id
    return bare


def assemble(ids: Strings, bos_id: int | None, eos_id: int) -> Strings:
    """Adds BOS before and EOS after every document that does not begin and end with them."""
    filled = ids.lengths > 0
    starts_bare, ends_bare = begins_bare(ids, bos_id), np.ones(len(ids), bool)
    ends_bare[filled] = ids.data[ids.offsets[1:][filled] - 1] != eos_id
    offsets = np.concatenate(([0], np.cumsum(ids.lengths + starts_bare + ends_bare)))
    data = np.empty(offsets[-1], np.int32)
    own = np.ones(len(data), bool)
    begins, ends = offsets[:-1][starts_bare], offsets[1:][ends_bare] - 1
    own[begins] = own[ends] = False
    data[own] = ids.data[ids.offsets[0] : ids.offsets[-1]]
    data[ends] = eos_id
    if bos_id is not None:
        data[begins] = bos_id
    return Strings(offsets, data)
