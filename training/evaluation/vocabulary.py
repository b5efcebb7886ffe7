"""The tokenizer of the models that are evaluated, and what it is recognized by."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ...schemas.errors import UsageError
from ...schemas.runs import runs
from ..windows.tokenizer_file import encoded_probe, read_tokenizer

__all__ = ["Encode", "Vocabulary", "read_vocabulary"]

NAME = "tokenizer.json"
LINE_END = "\n"
AT_ONCE = 1 << 24
"""Characters that are encoded in one call, on all cores: the library returns more than ids, and all
of it is in memory until the call's texts are done."""

Ids = tuple[int, ...]

Encode = Callable[[str], Sequence[int]]
"""Gives the token ids of a piece of text, without special tokens."""


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

    def encode(self, text: str) -> Ids:
        """The ids of a text, without special tokens.

        Raises:
            UsageError: the vocabulary has no tokens for it.
        """
        try:
            return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)
        except Exception as error:  # the library raises bare Exceptions
            raise UsageError(
                f"the tokenizer cannot encode {text[:40]!r}: {error}",
                where=str(self.path),
                expected="a vocabulary that can encode any text",
            ) from None

    def encode_all(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The ids of many texts, as `encode` gives them, on all cores; each int32.

        Raises:
            UsageError: as `encode`.
        """
        return [np.array(ids, np.int32) for ids in self._encoded(texts)]

    def _encoded(self, texts: Sequence[str]) -> Iterator[Sequence[int]]:
        for some in runs(texts, len, AT_ONCE):
            try:
                found = self.tokenizer.encode_batch_fast(some, add_special_tokens=False)
            except Exception:  # says not which text
                yield from map(self.encode, some)
            else:
                yield from (each.ids for each in found)

    def piece(self, text: str) -> Ids:
        """The ids of a piece as it stands inside of a text.

        Some tokenizers put a space before every text; it is not part of the piece.

        Raises:
            UsageError: as `encode`.
        """
        return _piece(self, text)

    def pieces(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of many pieces, as `piece` gives them.

        Raises:
            UsageError: as `encode`.
        """
        before = list(self.encode(LINE_END))
        together = self._encoded([LINE_END + text for text in texts])
        return [
            tuple(both[len(before) :]) if both[: len(before)] == before else self.encode(text)
            for both, text in zip(together, texts, strict=True)
        ]


@lru_cache(maxsize=1 << 17)
def _piece(vocabulary: Vocabulary, text: str) -> Ids:
    before, both = vocabulary.encode(LINE_END), vocabulary.encode(LINE_END + text)
    seam = len(before)
    # Where the line's end has joined the piece, which then begins with another, nothing was added.
    return both[seam:] if both[:seam] == before else vocabulary.encode(text)


def read_vocabulary(path: Path) -> Vocabulary:
    """Reads a tokenizer.json, or that of a folder.

    Raises:
        FormatError: there is none, or it cannot be read.
    """
    file = path / NAME if path.is_dir() else path
    tokenizer = read_tokenizer(file)
    tokenizer.encode_special_tokens = True
    known = [sorted(tokenizer.get_vocab(True).items()), encoded_probe(tokenizer)]
    digest = xxhash.xxh3_128_hexdigest(json.dumps(known).encode(errors="backslashreplace"))
    return Vocabulary(path=file, tokenizer=tokenizer, digest=digest)
