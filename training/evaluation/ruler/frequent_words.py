"""Frequent words of a coded text (RULER's `fwe`): random letters, with frequencies of Zipf's kind.

    Text: ... ... kqzwea ... pfoqmd kqzwea ...
    \\n\\nQuestion: Which 3 words does the coded text have most often? Dots are no word.
    \\nAnswer: The 3 words that the coded text has most often are| kqzwea, pfoqmd, ...

In a text of n words, the word of rank k stands floor(n k^-2 / zeta(2)) times. The word of the first
rank is a row of dots and does not count.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ..draws import Draws
from . import names
from .drafts import Draft, Page, Piece, joined, largest

__all__ = ["frequent_words"]

DOTS = "..."
ASKED_FOR = 3
ZETA = math.pi**2 / 6
"""The sum of k^-2 over all k: zeta(2)."""
TOKENS_PER_WORD = 50
"""Tokens of the length for each word of the vocabulary."""

TEXT = "The coded text below has words that are none. Count how often it has each of them.\n\nText:"
MOST_FREQUENT = (
    "\n\nQuestion: Which 3 words does the coded text have most often? Dots are no word.\n"
    "Answer: The 3 words that the coded text has most often are"
)


def frequent_words(page: Page, draws: Draws) -> Draft | None:
    """Draws a coded text; None if the length has no room for one."""
    taken = set[str]()
    count = page.length // TOKENS_PER_WORD
    words = [DOTS, *(names.fresh(names.letters, draws, taken) for _ in range(count - 1))]
    if count < ASKED_FOR + 2:
        return None
    encode = page.encode
    head, tail = encode(TEXT), encode(MOST_FREQUENT)
    gold = tuple(words[1 : 1 + ASKED_FOR])
    answer = joined(encode, gold)
    room = page.room(head, tail, answers=[answer])
    pieces = [Piece(encode(f" {word}")) for word in words]
    lengths = np.array([len(piece.ids) for piece in pieces])
    n = largest(lambda n: int(lengths @ _times(n, count)), room, 1, 2 * max(1, room))
    if n is None or len(set(_times(n, count)[1 : ASKED_FOR + 2].tolist())) <= ASKED_FOR:
        return None
    times = _times(n, count).tolist()
    body = [piece for piece, often in zip(pieces, times, strict=True) for _ in range(often)]
    return Draft(head=head, body=draws.shuffled(body), tail=tail, gold=gold, answers=(answer,))


def _times(n: int, words: int) -> NDArray[np.int64]:
    """How often a text of n words has the word of each rank."""
    ranks = np.arange(1, words + 1, dtype=np.float64)
    return np.floor(n / (ZETA * ranks * ranks)).astype(np.int64)
