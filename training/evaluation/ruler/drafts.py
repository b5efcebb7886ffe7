"""Prompts that are put together from pieces, as long as a length allows.

    prompt = [bos?] head | body | tail        prompt + answer budget <= length
    answer = what is wanted after the tail

Pieces are tokenized apart. So the answer has the same tokens in the body as after the tail, the
length of any body is a sum, and the longest one that fits is found by binary search.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..draws import Draws
from ..vocabulary import Encode
from .prose import Prose

__all__ = ["Draft", "Evidence", "Ids", "Make", "Page", "Piece", "hidden", "joined", "largest"]

Ids = Sequence[int] | NDArray[np.int32]

DEPTHS = 40
"""Equally spaced places for needles, from the first sentence to the last."""


class Piece(NamedTuple):
    """A part of a body.

    Attributes:
        ids: its tokens.
        answer_stop: where what the answer repeats ends in them; None for what is no evidence.
    """

    ids: Ids
    answer_stop: int | None = None


class Evidence(NamedTuple):
    """Where a prompt says what its answer repeats, in tokens.

    Attributes:
        start, stop: of the piece.
        distance: position of the answer's first token minus that of the last token that it repeats.
    """

    start: int
    stop: int
    distance: int


@dataclass(frozen=True, kw_only=True)
class Page:
    """What all prompts of a task and a length have in common.

    Attributes:
        encode: gives the ids of a piece of text.
        bos: the token that begins every document, or none.
        length: tokens that a prompt and its answer may have.
        budget: tokens of them for the answer.
        prose: sentences to hide needles in.
    """

    encode: Encode
    bos: tuple[int, ...]
    length: int
    budget: int
    prose: Prose

    def room(self, *fixed: Ids, answers: Sequence[Ids] = ()) -> int:
        """Tokens that are left for the body beside what is fixed and the longest answer."""
        answer = max([self.budget, *map(len, answers)])
        return self.length - answer - len(self.bos) - sum(map(len, fixed))


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A prompt in pieces, and its answers.

    Attributes:
        head, body, tail: the pieces.
        gold: the strings that an output must have.
        answers: the tokens of the right answer, then those of the wrong ones.
    """

    head: Ids
    body: Sequence[Piece]
    tail: Ids
    gold: tuple[str, ...]
    answers: tuple[Ids, ...]

    def ids(self, bos: tuple[int, ...]) -> NDArray[np.int32]:
        """The prompt, int32."""
        parts = (bos, self.head, *(piece.ids for piece in self.body), self.tail)
        return np.concatenate([np.asarray(part, np.int32) for part in parts])

    def evidence(self, bos: tuple[int, ...]) -> tuple[Evidence, ...]:
        """Where the evidence stands in the prompt, in its order."""
        found: list[tuple[int, int, int]] = []
        at = len(bos) + len(self.head)
        for piece in self.body:
            if piece.answer_stop is not None:
                found.append((at, at + len(piece.ids), at + piece.answer_stop - 1))
            at += len(piece.ids)
        answer = at + len(self.tail)
        return tuple(Evidence(start, stop, answer - last) for start, stop, last in found)


Make = Callable[[Page, Draws], Draft | None]
"""Makes the draft of an item; None if the length has no room for one."""


def largest(tokens: Callable[[int], int], room: int, least: int, most: int) -> int | None:
    """The largest number of least .. most that has at most `room` tokens; None if there is none.

    Args:
        tokens: of a number; they never fall when it rises.
        room: how many tokens there may be.
        least, most: the numbers to try.
    """
    fitting = bisect_right(range(least, most + 1), room, key=tokens)
    return least + fitting - 1 if fitting else None


def hidden(sentences: Sequence[Piece], needles: Sequence[Piece], draws: Draws) -> list[Piece]:
    """Sentences with needles between them, in their order, at depths that are drawn.

    The depths are different ones of 40, from before the first sentence to behind the last one.
    """
    depths = sorted(draws.shuffled(range(DEPTHS))[: len(needles)])
    body: list[Piece] = []
    done = 0
    for depth, needle in zip(depths, needles, strict=True):
        at = len(sentences) * depth // (DEPTHS - 1)
        body += [*sentences[done:at], needle]
        done = at
    return [*body, *sentences[done:]]


def joined(encode: Encode, strings: Sequence[str]) -> tuple[int, ...]:
    """The ids of strings as an answer: each after a space, with commas between them."""
    ids = list(encode(f" {strings[0]}"))
    for each in strings[1:]:
        ids += [*encode(","), *encode(f" {each}")]
    return tuple(ids)
