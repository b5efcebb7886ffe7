"""Common words of a list (RULER's `cwe`): ten that it has often, among others.

    List: 1. lantern 2. otter 3. lantern ...
    \\n\\nQuestion: Which 10 words does the list have most often?
    \\nAnswer: The 10 words that the list has most often are| lantern, ...

A short list with its answer stands before it, as an example.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..draws import Draws
from ..vocabulary import Encode
from . import names
from .drafts import Draft, Page, Piece, joined, largest

__all__ = ["COMMON", "common_words"]

COMMON = 10
"""Words that a list has often."""


@dataclass(frozen=True, kw_only=True)
class Frequencies:
    """How often a list has its words, and the example before it.

    Attributes:
        common, rare: times that it has each common word, and each other one.
        example: different words of the example.
        example_common, example_rare: the times of the example.
    """

    common: int
    rare: int
    example: int
    example_common: int
    example_rare: int


LONG = Frequencies(common=30, rare=3, example=40, example_common=10, example_rare=3)
SHORT = Frequencies(common=6, rare=1, example=20, example_common=3, example_rare=1)
TOKENS = 4
"""That a pair of words and its number have at least. (If not, lists of pairs are shorter.)"""
LONG_FROM = 4096
"""Tokens from which on the list has the frequencies `LONG`."""

LIST = "The numbered list below has some words often, and others a few times.\n\nList:"
ASKED = (
    f"\n\nQuestion: Which {COMMON} words does the list have most often?\n"
    f"Answer: The {COMMON} words that the list has most often are"
)


def common_words(page: Page, draws: Draws) -> Draft | None:
    """Draws a list of words; None if the length has no room for it.

    Its words are single ones, or, where a longer list has room for more than there are, pairs.
    """
    times = LONG if page.length >= LONG_FROM else SHORT
    words = draws.shuffled(names.WORDS)
    found = _common(words, page, times, draws)
    if found is None or found[1] < len(words) - times.example:
        return found and found[0]
    taken = set[str]()
    count = page.length // (TOKENS * times.rare) + times.example
    pairs = [names.fresh(names.pair, draws, taken) for _ in range(count)]
    found = _common(pairs, page, times, draws)
    return found and found[0]


def _common(
    words: Sequence[str], page: Page, times: Frequencies, draws: Draws
) -> tuple[Draft, int] | None:
    """A list of the first words, as many as fit, and how many they are."""
    encode = page.encode
    shown = words[len(words) - times.example :]
    example = _example(shown, times, encode, draws)
    head, tail = (*example, *encode(LIST)), encode(ASKED)
    room = page.room(head, tail, answers=[joined(encode, words[:COMMON])])
    most = len(words) - times.example
    tokens = _tokens_of_list(words[:most], times, encode, room)
    count = largest(tokens, room, COMMON + 1, most)
    if count is None:
        return None
    entries = _entries(words[:count], times.common, times.rare, draws)
    common = set(words[:COMMON])
    gold = tuple(dict.fromkeys(word for word in entries if word in common))
    draft = Draft(
        head=head,
        body=[Piece(ids) for ids in _list(entries, encode)],
        tail=tail,
        gold=gold,
        answers=(joined(encode, gold),),
    )
    return draft, count


def _example(
    words: Sequence[str], times: Frequencies, encode: Encode, draws: Draws
) -> tuple[int, ...]:
    """A short list with its answer."""
    entries = _entries(words, times.example_common, times.example_rare, draws)
    common = set(words[:COMMON])
    gold = list(dict.fromkeys(word for word in entries if word in common))
    parts = (encode(LIST), *_list(entries, encode), encode(ASKED), joined(encode, gold))
    return tuple(i for part in (*parts, encode(".\n\n")) for i in part)


def _entries(words: Sequence[str], common: int, rare: int, draws: Draws) -> list[str]:
    """The words, each as often as it should be, in an order that is drawn."""
    return draws.shuffled(
        [w for i, word in enumerate(words) for w in [word] * (common if i < COMMON else rare)]
    )


def _list(entries: Sequence[str], encode: Encode) -> list[tuple[int, ...]]:
    return [(*encode(f" {number}."), *encode(f" {word}")) for number, word in enumerate(entries, 1)]


def _tokens_of_list(
    words: Sequence[str], times: Frequencies, encode: Encode, room: int
) -> Callable[[int], int]:
    """How many tokens the list of the first words has, by their number, at least 10."""
    numbers, words_ = [0], np.cumsum([0, *(len(encode(f" {word}")) for word in words)])
    while numbers[-1] <= room:
        numbers.append(numbers[-1] + len(encode(f" {len(numbers)}.")))

    def tokens(count: int) -> int:
        entries = COMMON * times.common + (count - COMMON) * times.rare
        common = times.common * int(words_[COMMON])
        rare = times.rare * int(words_[count] - words_[COMMON])
        return numbers[min(entries, len(numbers) - 1)] + common + rare

    return tokens
