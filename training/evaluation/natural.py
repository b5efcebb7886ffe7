"""The probe's task `natural`: a rare sequence of tokens of a real document, which comes back.

Nothing is inserted. The prompt is the document itself, up to where the sequence stands again:

    [bos?] document | first occurrence | document | second occurrence
                      evidence                      answer

    gold          the sequence: it stands exactly twice in the whole haystack
    alternatives  sequences of as many tokens, each of which stands once, elsewhere in the haystack

A document that is longer than the prompt may be is cut at its beginning. The ablated prompt has as
many other tokens in the place of the first occurrence:

    replace  a sequence that stands once, elsewhere in the haystack, as the alternatives do
    swap     one that stands there after the same token as the evidence: what else could follow
    remove   any tokens of the haystack that follow each other

A place has one distance. It counts as one of the nearest distance of the grid, and every distance
has as many places, if the haystack has as many. The text around the answer speaks for it too, so
even without the evidence it is preferred more often than by chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from .assemble import Prompt, distances, nearest
from .config import Ablation
from .draws import Draws
from .facts import ALTERNATIVES, Fact
from .haystack import Haystack

__all__ = ["NATURAL", "natural_prompts"]

NATURAL = "natural"

TRIES = 2000
"""Draws of the sequences of one prompt before its place is passed over."""

Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a sequence comes back.

    Attributes:
        start: where the prompt begins in the haystack.
        first, second: where the occurrences of the sequence begin.
        size: tokens of the sequence.
    """

    start: int
    first: int
    second: int
    size: int


def natural_prompts(
    haystack: Haystack, *, length: int, count: int, seed: int, ablation: Ablation
) -> Iterator[tuple[int, Prompt]]:
    """Yields the prompts with their numbers: by number, distance on the grid.

    Args:
        haystack: the documents.
        length: tokens of the longest prompt with its answer.
        count: prompts for each distance of the grid, if there are as many.
        seed: of the draws.
        ablation: what the ablated prompt has in the place of the evidence.
    """
    columns = [
        _prompts_at(haystack, length, distance, seed, ablation) for distance in distances(length)
    ]
    for number in range(count):
        for column in columns:
            prompt = next(column, None)
            if prompt is not None:
                yield number, prompt


def _prompts_at(
    haystack: Haystack, length: int, distance: int, seed: int, ablation: Ablation
) -> Iterator[Prompt]:
    """Yields the prompts about one distance of the grid, in an order that is drawn."""
    for draws, place in _places(haystack, length, distance, seed):
        prompt = _prompt(haystack, place, ablation, draws)
        if prompt is not None:
            yield prompt


def _places(
    haystack: Haystack, length: int, distance: int, seed: int
) -> Iterator[tuple[Draws, _Place]]:
    """Yields the places about one distance in the order of a drawn permutation, each with draws."""
    found = haystack.repeats
    before_answer = length - len(haystack.bos) - found.size
    about = nearest(found.second - found.first - found.size + 1, length) == distance
    left = np.flatnonzero(about & (found.second - found.first <= before_answer))
    order = Draws(seed, NATURAL, length, distance)
    for drawn in range(len(left)):
        other = drawn + order.below(len(left) - drawn)
        left[[drawn, other]] = left[[other, drawn]]
        row = left[drawn]
        start = max(found.begin[row], found.second[row] - before_answer[row])
        ends = (start, found.first[row], found.second[row], found.size[row])
        start, first, second, size = map(int, ends)
        yield (
            Draws(seed, NATURAL, length, distance, drawn),
            _Place(start=start, first=first, second=second, size=size),
        )


def _prompt(haystack: Haystack, place: _Place, ablation: Ablation, draws: Draws) -> Prompt | None:
    """The prompt of a place; None if the haystack has too few other sequences of its size."""
    ids, size = haystack.ids, place.size
    elsewhere = _sequences(haystack, place, draws)
    gold = _tuple(ids[place.first : place.first + size])
    alternatives = tuple(_tuple(ids[at : at + size]) for at in islice(elsewhere, ALTERNATIVES))
    if len(alternatives) < ALTERNATIVES:
        return None
    answers = {gold, *alternatives}
    others = {
        "replace": elsewhere,
        "swap": _after_the_same(haystack, place, draws),
        "remove": _anywhere(haystack, place, draws),
    }[ablation]
    fitting = (at for at in others if not _states(haystack, place, at, answers))
    other = next(fitting, None)
    if other is None:
        return None
    stated = ids[other : other + size]
    replacement = None if ablation == "remove" else _tuple(stated)
    return Prompt(
        fact=Fact(
            evidence=gold,
            value_stop=size,
            replacement=replacement,
            question=(),
            gold=gold,
            alternatives=alternatives,
            foreign=replacement,
        ),
        bos=haystack.bos,
        before=ids[place.start : place.first],
        between=ids[place.first + size : place.second],
        removed=stated,
    )


def _sequences(haystack: Haystack, place: _Place, draws: Draws) -> Iterator[int]:
    """Yields where sequences begin that stand once, outside of the prompt, each once."""
    seen: set[int] = set()
    for at in _anywhere(haystack, place, draws):
        if at not in seen and haystack.repeats.is_once(at, place.size):
            seen.add(at)
            yield at


def _after_the_same(haystack: Haystack, place: _Place, draws: Draws) -> Iterator[int]:
    """Yields where such sequences begin after the same token as the evidence; some repeatedly."""
    ids, room = haystack.ids, haystack.repeats.room
    if place.first == place.start:
        return
    before = np.flatnonzero(ids[:-1] == ids[place.first - 1])
    found = before[room[before + 1] == room[before] - 1] + 1
    for _ in range(TRIES if len(found) else 0):
        at = int(found[draws.below(len(found))])
        if _is_elsewhere(haystack, place, at) and haystack.repeats.is_once(at, place.size):
            yield at


def _anywhere(haystack: Haystack, place: _Place, draws: Draws) -> Iterator[int]:
    """Yields places of the haystack, outside of the prompt, with room for a sequence."""
    for _ in range(TRIES):
        at = draws.below(len(haystack.ids))
        if _is_elsewhere(haystack, place, at):
            yield at


def _is_elsewhere(haystack: Haystack, place: _Place, at: int) -> bool:
    """Whether a sequence from a place on is of one document, and not of the prompt or answer."""
    apart = at + place.size <= place.start or at >= place.second + place.size
    return apart and place.size <= haystack.repeats.room[at]


def _states(haystack: Haystack, place: _Place, at: int, answers: set[tuple[int, ...]]) -> bool:
    """Whether some answer stands in the ablated prompt if what begins `at` is its evidence."""
    ids, size, stop = haystack.ids, place.size, place.first + place.size
    around = (
        ids[max(place.start, place.first - size + 1) : place.first],
        ids[at : at + size],
        ids[stop : min(stop + size - 1, place.second)],
    )
    text = _tuple(np.concatenate(around))
    return any(text[i : i + size] in answers for i in range(len(text) - size + 1))


def _tuple(ids: Ids) -> tuple[int, ...]:
    return tuple(ids.tolist())
