"""The tokenizer of the models that are evaluated, and what it is recognized by."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import xxhash
from tokenizers import Tokenizer

from ...schemas.errors import FormatError
from ...schemas.regular import read_regular
from ..windows.agreement import PROBE

__all__ = ["Encode", "Vocabulary", "read_vocabulary"]

NAME = "tokenizer.json"

Encode = Callable[[str], Sequence[int]]
"""Gives the token ids of a text, without special tokens."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer that reads every text as plain text.

    Attributes:
        path: its file.
        tokenizer: of the `tokenizers` library.
        digest: xxh3-128 of its vocabulary and of how it encodes a text of many scripts: saving a
            tokenizer again changes its file.
    """

    path: Path
    tokenizer: Tokenizer
    digest: str

    @property
    def largest_id(self) -> int:
        """The largest id that the tokenizer can give."""
        return max(self.tokenizer.get_vocab(True).values())

    def encode(self, text: str) -> Sequence[int]:
        """The ids of a text, without special tokens."""
        return _encode(self, text)


@lru_cache(maxsize=1 << 14)
def _encode(vocabulary: Vocabulary, text: str) -> tuple[int, ...]:
    return tuple(vocabulary.tokenizer.encode(text, add_special_tokens=False).ids)


def read_vocabulary(path: Path) -> Vocabulary:
    """Reads a tokenizer.json, or that of a folder.

    Raises:
        FormatError: there is none, or it cannot be read.
    """
    file = path / NAME if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_str(read_regular(file).decode())
    except Exception as error:  # the library raises bare Exceptions
        raise FormatError(
            f"the tokenizer cannot be read: {error}",
            where=str(file),
            expected="a tokenizer.json",
            fix="save the model's tokenizer beside it: AutoTokenizer...save_pretrained(FOLDER)",
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    known = [
        sorted(tokenizer.get_vocab(True).items()),
        tokenizer.encode(PROBE, add_special_tokens=False).ids,
    ]
    digest = xxhash.xxh3_128_hexdigest(json.dumps(known).encode(errors="backslashreplace"))
    return Vocabulary(path=file, tokenizer=tokenizer, digest=digest)
