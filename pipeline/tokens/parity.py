"""Parity: whether two encoders give the same ids, and the texts on which they are compared.

The torture set is encoded before the job begins, a sample of its documents for every part.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import BackendDifferenceError
from ..sources.records import Strings
from .encoders import Encoder, UnencodableTextError

__all__ = ["PART_BYTES", "compare_backends", "quoted", "sample", "torture_set"]

SAMPLE_BYTES = 64 << 10
"""Bytes of text of a source that both encoders get before the job begins."""
PART_BYTES = 16 << 10
"""Bytes of text of a part that both encoders get; the reference takes as long for them as gigatoken
for a thirtieth of the part."""
SAMPLE_DOCUMENT_BYTES = 4 << 10
"""Longer documents are truncated."""
WHITE_SPACE = np.frombuffer(b"\t\n\r ", np.uint8)
SAMPLE_LEAST_BYTES = 1 << 8
"""Shorter documents count as this long, which bounds the number of documents in a sample."""


def compare_backends(one: Encoder, other: Encoder, texts: Strings) -> Strings:
    """Encodes texts with both encoders and compares the ids; returns them.

    Raises:
        BackendDifferenceError: they differ, or the other one fails; it quotes the first such text.
    """
    a = one.encode(texts)
    try:
        b = other.encode(texts)
    except UnencodableTextError as error:
        raise BackendDifferenceError(f"{quoted(texts, error.at)}: {error}") from None
    if np.array_equal(a.offsets, b.offsets) and np.array_equal(a.data, b.data):
        return b
    at = next(i for i in range(len(texts)) if not np.array_equal(a[i], b[i]))
    raise BackendDifferenceError(quoted(texts, at))


def quoted(texts: Strings, at: int) -> str:
    """The beginning of a text, in quotation marks."""
    text = texts[at].tobytes().decode(errors="replace")
    return repr(text if len(text) <= 80 else text[:80] + "...")


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


def torture_set(special_tokens: Sequence[str]) -> Strings:
    """The torture texts, and one text per special token that has it in several places."""
    specials = [f"x{token}y {token}\n{token}{token}" for token in special_tokens]
    return Strings.of_texts([text.encode() for text in (*TORTURE_TEXTS, *specials)])


def sample(texts: Strings, hashes: NDArray[np.uint64], size: int = SAMPLE_BYTES) -> Strings:
    """Draws the texts with the smallest hashes; long ones are truncated.

    Args:
        texts: UTF-8 texts.
        hashes: one content hash per text, shape [len(texts)].
        size: how many bytes to draw at most.
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
    """A prefix of at most `size` bytes that ends before white space, or with a whole character.

    A tokenizer of words that can encode the text may not know the beginning of a word.
    """
    if len(text) <= size:
        return text.tobytes()
    spaces = np.flatnonzero(np.isin(text[: size + 1], WHITE_SPACE))
    if len(spaces) and spaces[-1] > 0:
        return text[: spaces[-1]].tobytes()
    return text[:size].tobytes().decode(errors="ignore").encode()
