"""What tokens do not say of their text: unknown tokens, ends inside documents, lost characters.

Unknown tokens and ends are counted over all tokens. Characters that the tokens cannot give back are
counted over a sample: its tokens are decoded and compared with the text. A normalizer changes text
on purpose (Qwen's composes characters), so what the normalizer makes of the text is as good as the
text itself. White space counts too: where line breaks are gone, a model cannot learn them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import numpy as np

from ...schemas.manifest import Encoding
from ...schemas.rust import is_of_library
from ...schemas.sizes import plural
from ..sources.records import Strings
from .encoders import tokenizer_json
from .tokenizer import TokenizerSpec, reference_tokenizer

__all__ = ["Fidelity", "fidelity_warnings", "total"]

MOST_UNKNOWN = 1e-3
"""Share of unknown tokens above which a person is warned. A vocabulary that suits its corpus gives
none or nearly none (byte-level and byte-fallback ones none at all); one in a thousand is about one
in every page of text."""
MOST_LOST = 1e-3
"""Share of sampled characters that may get lost without a warning. A tokenizer that puts a space
before every text takes one away from texts that begin with one; real losses are far larger."""
DECODED_PART, DECODED_LEAST_BYTES = 4, 4 << 10
"""One in four bytes of a larger sample is decoded: decoding is slow, and a fraction shows as well
what a vocabulary lacks."""
NAMED = 5
"""Lost characters that a warning names."""
WORD_START = "\u2581"
"""What SentencePiece writes for a space; some normalizers put it into the text."""


@dataclass
class Fidelity:
    """What tokens do not say of the text of some documents.

    Attributes:
        unknown_tokens: tokens that stand for what the vocabulary lacks.
        inner_ends: EOS tokens that are not the last token of their document.
        documents_with_inner_ends: documents that have some.
        sampled_characters: characters of the sample.
        lost: the characters of the sample that its tokens cannot give back, and how often.
    """

    unknown_tokens: int = 0
    inner_ends: int = 0
    documents_with_inner_ends: int = 0
    sampled_characters: int = 0
    lost: Counter[str] = field(default_factory=Counter)

    def count(self, tokens: Strings, spec: TokenizerSpec, *, ends_only: bool = False) -> None:
        """Counts documents, each of which ends with EOS.

        Args:
            tokens: of the documents.
            spec: the tokenizer.
            ends_only: whether it is known that EOS is nowhere else.
        """
        if spec.unk_id is not None:
            self.unknown_tokens += int(np.count_nonzero(tokens.data == spec.unk_id))
        if ends_only:
            return
        is_end = tokens.data == spec.eos_id
        inner = int(np.count_nonzero(is_end)) - len(tokens)
        if inner:
            is_end[tokens.offsets[1:] - 1] = False
            documents = np.searchsorted(tokens.offsets, np.flatnonzero(is_end), "right")
            self.inner_ends += inner
            self.documents_with_inner_ends += len(np.unique(documents))

    def compare(self, texts: Strings, ids: Strings, spec: TokenizerSpec) -> None:
        """Decodes the tokens of some of the texts, and counts the characters that they lack."""
        tokenizer = _decoder(spec.url, spec.sha256)
        most = max(DECODED_LEAST_BYTES, texts.nbytes // DECODED_PART)
        some = int(np.searchsorted(texts.offsets, texts.offsets[0] + most, "right")) - 1
        known = [[i for i in ids[at].tolist() if i != spec.unk_id] for at in range(some)]
        try:
            decoded = tokenizer.decode_batch(known, skip_special_tokens=False)
        except BaseException as error:
            if is_of_library(error):
                return  # a decoder that fails says nothing about the tokens
            raise
        for at, back in enumerate(decoded):
            text = texts[at].tobytes().decode()
            self.sampled_characters += len(text)
            if back != text:
                self.lost += _lacking(back, text, tokenizer.normalizer)

    def to_json(self) -> dict[str, Any]:
        """The counts for a part's summary."""
        return asdict(self) | {"lost": dict(sorted(self.lost.items()))}

    def to_manifest(self) -> Encoding:
        """The counts for the manifest."""
        return {
            "unknown_tokens": self.unknown_tokens,
            "inner_ends": self.inner_ends,
            "documents_with_inner_ends": self.documents_with_inner_ends,
            "sampled_characters": self.sampled_characters,
            "lost_characters": self.lost.total(),
        }


@cache
def _decoder(url: str, sha256: str) -> Any:
    """The tokenizer as it is, with all its names; the file is large to compare every time."""
    return reference_tokenizer(tokenizer_json(url, sha256), False)


def _lacking(back: str, text: str, normalizer: Any) -> "Counter[str]":
    """The characters that a decoded text lacks of its text, or else of the normalized text."""
    lost = Counter(text) - Counter(back)
    if not lost or normalizer is None:
        return lost
    wanted = Counter(normalizer.normalize_str(text).replace(WORD_START, " "))
    of_normalized = wanted - Counter(back.replace(WORD_START, " "))
    return min(lost, of_normalized, key=Counter.total)


def total(parts: Iterable[Mapping[str, Any]]) -> Fidelity:
    """The sum over parts, from what their summaries have of `Fidelity.to_json`."""
    found = Fidelity()
    for part in parts:
        found.unknown_tokens += part["unknown_tokens"]
        found.inner_ends += part["inner_ends"]
        found.documents_with_inner_ends += part["documents_with_inner_ends"]
        found.sampled_characters += part["sampled_characters"]
        found.lost.update(part["lost"])
    return found


def fidelity_warnings(source: str, found: Fidelity, tokens: int, eos_token: str) -> list[str]:
    """Warnings about the tokens of a source.

    Args:
        source: its name.
        found: what its tokens do not say.
        tokens: how many it has.
        eos_token: the text of EOS.
    """
    warnings: list[str] = []
    if found.inner_ends:
        warnings.append(
            f"source {source!r}: {eos_token!r} is inside "
            f"{plural(found.documents_with_inner_ends, 'document')} "
            f"({plural(found.inner_ends, 'time')}): each of them is packed as one document, and "
            "what follows the token is trained to see what precedes it; if the rows were packed "
            "before, give every document a row of its own"
        )
    if found.unknown_tokens > MOST_UNKNOWN * tokens:
        warnings.append(
            f"source {source!r}: {found.unknown_tokens:,} of {tokens:,} tokens "
            f"({found.unknown_tokens / tokens:.2%}) are the unknown token: the vocabulary lacks "
            "that text, and it is lost; a tokenizer of bytes lacks none"
        )
    lost = found.lost.total()
    if lost > MOST_LOST * found.sampled_characters:
        common = sorted(found.lost.items(), key=lambda each: (-each[1], each[0]))[:NAMED]
        warnings.append(
            f"source {source!r}: the tokens cannot give back {lost:,} of "
            f"{found.sampled_characters:,} sampled characters "
            f"({lost / found.sampled_characters:.2%}), such as "
            f"{', '.join(repr(character) for character, _ in common)}: the tokenizer drops them"
        )
    return warnings
