"""Tokenization: text in, token ids out, with two backends of which one has to earn its trust.

`tokenizers` is the reference. `gigatoken` is some fifty times as fast and is used where it encodes
a torture set, documents of every source, and a sample of every part exactly as the reference does.
One difference, and the whole job falls back to the reference.

By default the text of a special token inside a document is encoded like any other text, so no
document can forge the end of itself. gigatoken always reads it as the special token; given the
same tokenizer.json without its special added tokens, it does not.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import PurePosixPath
from queue import Empty, SimpleQueue
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ..schemas.errors import ExactcptError, UsageError
from .jsonl import Strings
from .storage import open_input, resolve

__all__ = [
    "BACKENDS",
    "SAMPLE_BYTES",
    "TORTURE_TEXTS",
    "Backend",
    "BackendDifferenceError",
    "Encoder",
    "TokenizerFile",
    "TokenizerSpec",
    "UnsupportedTokenizerError",
    "assemble",
    "borrow_encoder",
    "compare_backends",
    "load_tokenizer",
    "make_encoder",
    "sample",
]

Backend = Literal["gigatoken", "tokenizers"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

SAMPLE_BYTES = 64 << 10
"""How much text of a part both backends encode."""

SAMPLE_DOCUMENT_BYTES = 4 << 10
SAMPLE_LEAST_BYTES = 1 << 8
"""Shorter documents count as that long, so that a sample has a bounded number of them."""

REFERENCE_BATCH_BYTES = 1 << 20

DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>")

TORTURE_TEXTS: tuple[str, ...] = (
    "Café Å \u1e9b\u0323 ﬁ",  # NFC and compatibility characters
    "Cafe\u0301 A\u030a \u1112\u1161\u11ab",  # the same decomposed
    "👩‍👩‍👧‍👦 👍🏽 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️‍🔥",  # joined, modified and tagged emoji
    "a\x00b\x01\x07\x1b[0m\x7f\x80\x85\u200b\u2028\u2029\ufeff\ufffd",
    "1234567890" * 40,
    "3.14159, 1,000,000 0x7fFF 1e-10 ١٢٣ 一二三 Ⅻ ½",
    " " * 300 + "x" + "\t" * 50 + "\n" * 40 + " \n \n\r\n\r\r " + "\u00a0\u3000" * 20,
    "def f(x):\n    return x['a']\t# don't I'LL we've\n\n\n",
    "漢字かなカナ한국어，。「」讀永叔集古錄目",
    "שלום עולם مرحبا بالعالم \u202eabc\u202c",
    "नमस्ते ไทยไม่เว้นวรรค မြန်မာ",
    "ÀÉÎõü ǅ ß ẞ İı ſ",
    "https://example.org/a?b=c&d=%20#e <b>bold</b> user@example.org",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 20,
    "",
    " ",
    "\n",
)


class BackendDifferenceError(Exception):
    """gigatoken encodes a text differently from the reference, or fails on one."""


class UnsupportedTokenizerError(Exception):
    """gigatoken cannot load the tokenizer."""


class Encoder(Protocol):
    """Encodes texts without adding tokens. One instance serves one thread at a time."""

    def encode(self, texts: Strings) -> Strings:
        """UTF-8 texts to token ids, int32."""
        ...


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """What a worker needs to tokenize.

    Attributes:
        url: where its tokenizer.json is.
        sha256: of that file.
        backend: which library encodes.
        special_tokens_in_text: whether the text of a special token becomes that token.
        bos_id: put before every document, or None.
        eos_id: put after every document.
        pad_id: fills windows.
        largest_id: the largest id the vocabulary has.
    """

    url: str
    sha256: str
    backend: Backend
    special_tokens_in_text: bool
    bos_id: int | None
    eos_id: int
    pad_id: int
    largest_id: int


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer.json, with the tokenizer_config.json beside it where there is one."""

    json: bytes
    config: dict[str, Any]
    where: str

    @cached_property
    def sha256(self) -> str:
        """Digest of tokenizer.json."""
        return hashlib.sha256(self.json).hexdigest()

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """All tokens, added ones included, and their ids."""
        return _reference(self.json, False).get_vocab(with_added_tokens=True)

    @property
    def largest_id(self) -> int:
        """The largest id in use; ids may have holes, so it says more than the vocabulary's size."""
        return max(self.vocabulary.values())

    def id_of(self, token: str) -> int | None:
        """The id of a token, or None."""
        return self.vocabulary.get(token)

    def special_tokens(self) -> list[str]:
        """The texts of the special added tokens."""
        added = json.loads(self.json).get("added_tokens") or []
        return [token["content"] for token in added if token.get("special")]

    def choose_eos(self, wanted: str | None) -> tuple[str, str | None]:
        """The token that ends documents, and a warning where the choice is doubtful.

        Raises:
            UsageError: there is none, or the one asked for is not in the vocabulary.
        """
        vocabulary = self.vocabulary
        if wanted is not None:
            if wanted not in vocabulary:
                raise self._no_token(f"the vocabulary has no token {wanted!r}")
            if wanted in self.special_tokens():
                return wanted, None
            return wanted, (
                f"documents end with {wanted!r}, which is no special token: a document that "
                "contains it looks like several"
            )
        for token in DOCUMENT_ENDS:
            if token in vocabulary:
                return token, None
        named = _config_token(self.config, "eos_token")
        if named is None or named not in vocabulary:
            raise self._no_token("nothing says which token ends a document")
        warning = (
            f"documents end with {named!r}, the eos_token of tokenizer_config.json; in chat models "
            "that ends a turn, not a document: see --eos-token"
        )
        return named, warning

    def choose_bos(self, wanted: bool | None) -> int | None:
        """The id put before documents: what the tokenizer's own template adds, unless told.

        Raises:
            UsageError: a BOS is wanted, but nothing says which, or the template adds several.
        """
        if wanted is False:
            return None
        prefix = self._template_prefix()
        if len(prefix) == 1:
            return prefix[0]
        if len(prefix) > 1:
            raise UsageError(
                f"the tokenizer's template puts {len(prefix)} tokens before a text",
                where=self.where,
                expected="at most one",
                fix="use --no-bos",
            )
        if wanted is None:
            return None
        named = _config_token(self.config, "bos_token")
        if named is None or self.id_of(named) is None:
            raise UsageError(
                "--bos: nothing says which token begins a document",
                where=self.where,
                expected="a template that adds one, or a bos_token in tokenizer_config.json",
            )
        return self.id_of(named)

    def choose_pad(self, eos_id: int) -> int:
        """The id that fills windows: the pad token of tokenizer_config.json, else EOS."""
        named = _config_token(self.config, "pad_token")
        found = self.id_of(named) if named is not None else None
        return eos_id if found is None else found

    def _template_prefix(self) -> list[int]:
        tokenizer = _reference(self.json, False)
        bare = tokenizer.encode("a", add_special_tokens=False).ids
        full = tokenizer.encode("a", add_special_tokens=True).ids
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start]
        return []

    def _no_token(self, found: str) -> UsageError:
        shown = self.special_tokens()
        more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
        return UsageError(
            found,
            where=self.where,
            expected=(
                f"one of its special tokens: {', '.join(shown[:12])}{more}"
                if shown
                else "a token of the vocabulary; no token is marked as special"
            ),
            fix="name it with --eos-token",
        )


def load_tokenizer(path: str) -> TokenizerFile:
    """Reads a tokenizer.json, or the one in a folder.

    Raises:
        ExactcptError: no such file, not a tokenizer, or a damaged tokenizer_config.json beside it.
    """
    fs, plain = resolve(path)
    url = f"{path.rstrip('/')}/tokenizer.json" if fs.isdir(plain) else path
    data = _read_if_there(url)
    if data is None:
        raise ExactcptError(
            "there is no such tokenizer",
            where=url,
            expected="a tokenizer.json of the tokenizers library, or a folder that has one",
        )
    beside = (
        str(PurePosixPath(url).with_name("tokenizer_config.json"))
        if "://" not in url
        else (url.rpartition("/")[0] + "/tokenizer_config.json")
    )
    try:
        _reference(data, False)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise ExactcptError(
            f"this is not a tokenizer: {' '.join(str(error).split())[:200]}",
            where=url,
            expected="a tokenizer.json of the tokenizers library",
        ) from None
    return TokenizerFile(data, _parse_config(_read_if_there(beside), beside), url)


def _parse_config(data: bytes | None, where: str) -> dict[str, Any]:
    try:
        config = json.loads(data) if data is not None else {}
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ExactcptError("this is not a tokenizer_config.json", where=where, expected="JSON")
    return config


def _read_if_there(url: str) -> bytes | None:
    try:
        with open_input(url) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _config_token(config: dict[str, Any], name: str) -> str | None:
    """A token named in tokenizer_config.json, as text or as an added token's description."""
    token = config.get(name)
    return token.get("content") if isinstance(token, dict) else token


@cache
def _reference(data: bytes, special_tokens_in_text: bool) -> Any:
    """One shared instance a mode: `tokenizers` encodes from several threads at once."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_buffer(data)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = not special_tokens_in_text
    return tokenizer


class _Reference:
    def __init__(self, data: bytes, special_tokens_in_text: bool) -> None:
        self._tokenizer = _reference(data, special_tokens_in_text)

    def encode(self, texts: Strings) -> Strings:
        ids: list[NDArray[np.int32]] = []
        for batch in _batches(texts, REFERENCE_BATCH_BYTES):
            encoded = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            ids += [np.array(one.ids, np.int32) for one in encoded]
        ends = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        return Strings(ends, np.concatenate(ids) if ids else np.empty(0, np.int32))


def _batches(texts: Strings, size: int) -> Iterator[list[str]]:
    """The texts as Python strings, about `size` bytes at a time."""
    batch: list[str] = []
    filled = 0
    for i in range(len(texts)):
        text = texts[i].tobytes().decode()
        batch.append(text)
        filled += len(text)
        if filled >= size:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch


class _Gigatoken:
    def __init__(self, data: bytes, special_tokens_in_text: bool) -> None:
        import gigatoken

        self._tokenizer = gigatoken.Tokenizer.from_json(
            data if special_tokens_in_text else _without_special_tokens(data)
        )

    def encode(self, texts: Strings) -> Strings:
        if not len(texts):
            return Strings(np.zeros(1, np.int64), np.empty(0, np.int32))
        import awkward as ak

        contents: Any = ak.contents
        characters = contents.NumpyArray(texts.data, parameters={"__array__": "char"})
        layout = contents.ListOffsetArray(
            ak.index.Index64(texts.offsets), characters, parameters={"__array__": "string"}
        )
        try:
            encoded: Any = self._tokenizer.encode_batch(ak.Array(layout), parallel=False).layout
        except BaseException as error:
            if _is_of_library(error):
                raise BackendDifferenceError(f"gigatoken failed: {error}") from None
            raise
        ids = np.asarray(encoded.content.data).view(np.int32)
        return Strings(np.asarray(encoded.offsets.data).astype(np.int64), ids)


@cache
def _without_special_tokens(data: bytes) -> bytes:
    tokenizer = json.loads(data)
    added = tokenizer.get("added_tokens") or []
    tokenizer["added_tokens"] = [token for token in added if not token.get("special")]
    return json.dumps(tokenizer, ensure_ascii=False).encode()


def make_encoder(backend: Backend, data: bytes, special_tokens_in_text: bool) -> Encoder:
    """An encoder from the bytes of a tokenizer.json.

    Raises:
        UnsupportedTokenizerError: gigatoken does not support the tokenizer.
    """
    if backend == "tokenizers":
        return _Reference(data, special_tokens_in_text)
    try:
        return _Gigatoken(data, special_tokens_in_text)
    except BaseException as error:
        if _is_of_library(error):
            raise UnsupportedTokenizerError(" ".join(str(error).split())[:200]) from None
        raise


def _is_of_library(error: BaseException) -> bool:
    """Whether it is an error of a library in Rust, whose panics are no Exceptions."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@cache
def _tokenizer_json(url: str, sha256: str) -> bytes:
    with open_input(url) as file:
        return file.read()


@cache
def _idle(sha256: str, backend: Backend, special_tokens_in_text: bool) -> "SimpleQueue[Encoder]":
    return SimpleQueue()


@contextmanager
def borrow_encoder(spec: TokenizerSpec, backend: Backend | None = None) -> Iterator[Encoder]:
    """An encoder nobody else uses meanwhile. Used ones are kept: their caches are warm.

    One that was interrupted is not used again.
    """
    chosen = backend or spec.backend
    idle = _idle(spec.sha256, chosen, spec.special_tokens_in_text)
    try:
        encoder = idle.get_nowait()
    except Empty:
        data = _tokenizer_json(spec.url, spec.sha256)
        encoder = make_encoder(chosen, data, spec.special_tokens_in_text)
    try:
        yield encoder
    except Exception:
        idle.put(encoder)
        raise
    idle.put(encoder)


def compare_backends(one: Encoder, other: Encoder, texts: Strings) -> None:
    """Encodes texts with both.

    Raises:
        BackendDifferenceError: naming the first text they differ on.
    """
    a, b = one.encode(texts), other.encode(texts)
    if np.array_equal(a.offsets, b.offsets) and np.array_equal(a.data, b.data):
        return
    at = next(i for i in range(len(texts)) if not np.array_equal(a[i], b[i]))
    text = texts[at].tobytes().decode(errors="replace")
    raise BackendDifferenceError(repr(text if len(text) <= 80 else text[:80] + "..."))


def sample(texts: Strings, hashes: NDArray[np.uint64], size: int = SAMPLE_BYTES) -> Strings:
    """Documents for both backends: those of the smallest hashes, long ones truncated.

    Args:
        texts: UTF-8 texts.
        hashes: a content hash of each, shape [len(texts)].
        size: how many bytes at most.
    """
    chosen: list[bytes] = []
    left = size
    most = size // SAMPLE_LEAST_BYTES
    for i in np.argsort(hashes, kind="stable")[:most].tolist():
        piece = _truncate(texts[i], min(left, SAMPLE_DOCUMENT_BYTES))
        left -= len(piece)
        chosen.append(piece)
        if left < 4:
            break
    return Strings.of_texts(chosen)


def _truncate(text: NDArray[np.uint8], size: int) -> bytes:
    """The longest prefix of whole characters of at most `size` bytes."""
    if len(text) <= size:
        return text.tobytes()
    return text[:size].tobytes().decode(errors="ignore").encode()


def assemble(ids: Strings, bos_id: int | None, eos_id: int) -> Strings:
    """Puts `bos_id` before and `eos_id` after every document that does not have them there."""
    count = len(ids)
    filled = ids.lengths > 0
    starts_bare, ends_bare = np.full(count, bos_id is not None), np.ones(count, bool)
    if bos_id is not None:
        starts_bare[filled] = ids.data[ids.offsets[:-1][filled]] != bos_id
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


def torture_set(special_tokens: Sequence[str]) -> Strings:
    """The torture texts, and texts with special tokens in them."""
    specials = [f"x{token}y {token}\n{token}{token}" for token in special_tokens]
    return Strings.of_texts([text.encode() for text in (*TORTURE_TEXTS, *specials)])
