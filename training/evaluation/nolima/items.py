"""The items of `nolima`, by the protocol of its authors.

    prompt = template with {haystack} and {question}, then "\\nAnswer:"
    haystack = the first tokens of a book, with the needle behind the next line end at a depth
    answer = the name in the needle, against all other names of its set

The haystack has `length` tokens *without* the needle, as theirs has; the prompt has some more.
Depths are 26, from 0 to 1. All tests at all depths of all books are thousands of prompts, so the
first items go evenly over tests, depths and books: item n is the same whatever the number of items.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....schemas.errors import UsageError
from ....schemas.sizes import plural
from ..draws import Draws
from ..ruler.drafts import Evidence
from ..ruler.items import RulerItem
from ..vocabulary import Vocabulary
from .data import HAYSTACK, NAME, QUESTION, Books, Test

__all__ = ["BUDGET", "Shelf", "nolima_items", "shelf_of"]

BUDGET = 64
"""Tokens for the answer that a model writes."""
DEPTHS = 26
CUE = "\nAnswer:"
"""What the prompts of base models end with."""


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The books in tokens.

    Attributes:
        vocabulary: of the tokens.
        books: ids of each, int32.
    """

    vocabulary: Vocabulary
    books: tuple[NDArray[np.int32], ...]

    def check_holds(self, length: int) -> None:
        """Checks that every book has so many tokens.

        Raises:
            UsageError: one has fewer.
        """
        shortest = min(map(len, self.books))
        if shortest < length:
            raise UsageError(
                f"a book of the haystack has only {plural(shortest, 'token')}",
                expected=f"at least {length:,}, the length of the longest haystack",
                fix="give shorter --lengths",
            )

    def text(self, book: int, length: int) -> str:
        """The first tokens of a book, as text."""
        ids = self.books[book][:length].tolist()
        return self.vocabulary.tokenizer.decode(ids, skip_special_tokens=False)


def shelf_of(books: Books, vocabulary: Vocabulary, length: int) -> Shelf:
    """The books, up to a length."""
    ids = tuple(ids[:length] for ids in vocabulary.encode_all(books.texts))
    return Shelf(vocabulary=vocabulary, books=ids)


def nolima_items(
    task: str, tests: Sequence[Test], shelf: Shelf, *, length: int, count: int, seed: int
) -> Iterator[RulerItem]:
    """Yields the items of a needle set, by number.

    Args:
        task: name of the needle set.
        tests: its tests.
        shelf: the books.
        length: tokens of the haystack.
        count: number of items; fewer if there are fewer tests, depths and books.
        seed: of the draws.
    """
    order = Draws(seed, f"nolima {task}").shuffled(tests)
    every = len(order) * DEPTHS * len(shelf.books)
    for number in range(min(count, every)):
        which, turn = number % len(order), number // len(order)
        # The second term gives a depth another book when it comes again.
        depth = (which + turn) % DEPTHS
        book = (which + turn + turn // math.lcm(DEPTHS, len(shelf.books))) % len(shelf.books)
        draws = Draws(seed, f"nolima {task}", length, number)
        text = shelf.text(book, length)
        yield _item(task, number, order[which], text, depth / (DEPTHS - 1), shelf, draws)


def _item(
    task: str, number: int, test: Test, text: str, depth: float, shelf: Shelf, draws: Draws
) -> RulerItem:
    name = draws.choice(test.names)
    if test.distractor is not None:
        text, _ = _with(text, test.distractor, draws.below(DEPTHS) / (DEPTHS - 1))
    needle = test.needle.replace(NAME, name)
    text, at = _with(text, needle, depth)
    before, after = test.template.replace(QUESTION, test.question).split(HAYSTACK, 1)
    prompt = before + text + after + CUE
    found = shelf.vocabulary.tokenizer.encode(prompt, add_special_tokens=True)
    named = len(before) + at + test.needle.index(NAME) + len(name)
    start, stop = _tokens(found.offsets, len(before) + at, len(before) + at + len(needle))
    _, last = _tokens(found.offsets, named - 1, named)
    encode = shelf.vocabulary.piece
    others = [each for each in dict.fromkeys(test.names) if each != name]
    return RulerItem(
        task=task,
        number=number,
        ids=np.array(found.ids, np.int32),
        budget=BUDGET,
        any_of=True,
        evidence=(Evidence(start, stop, len(found.ids) - (last - 1)),),
        gold=(name, *test.gold),
        answers=tuple(tuple(encode(f" {each}")) for each in (name, *others)),
    )


def _with(text: str, sentence: str, depth: float) -> tuple[str, int]:
    """A text with a sentence in a line of its own, and where the sentence begins.

    It stands behind the first line end at or after a share of the text, or at the end.
    """
    at = text.find("\n", int(depth * len(text))) + 1
    if at == 0:
        text, at = f"{text}\n", len(text) + 1
    return f"{text[:at]}{sentence}\n{text[at:]}", at


def _tokens(offsets: Sequence[tuple[int, int]], start: int, stop: int) -> tuple[int, int]:
    """The tokens that have characters start .. stop - 1: the first, and the one behind the last."""
    has = [i for i, (low, high) in enumerate(offsets) if low < stop and high > start]
    return has[0], has[-1] + 1
