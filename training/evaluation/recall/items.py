"""The task `recall`: a pair stated once, at many distances from the question for its value.

    evidence     k v      the only place of the key, and of the value
    question     k
    gold         v        or seven values that occur nowhere

The filler is text of the world in which neither the key, the replacement's key, nor any of these
values occurs. Seven alternatives, the gold and the replacement's value are drawn alike: what is
preferred without the evidence is preferred by chance.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..assemble import CONTEXTS, MARGIN, distances, place
from ..config import RECALL, Ablation
from ..draws import Draws
from ..facts import ALTERNATIVES, Fact
from ..probe import Item
from .stream import Stream
from .world import World

__all__ = ["recall_items"]

SHORTEST = 8
"""The shortest distance."""

BESIDES = 4
"""Tokens of a prompt and its answer besides the filler: the evidence, the question, the answer."""

PAIR = 2


def recall_items(
    world: World, *, length: int, count: int, seed: int, ablation: Ablation
) -> Iterator[Item]:
    """Yields items, by number, context, distance.

    Args:
        world: the language.
        length: tokens of the longest prompt with its answer.
        count: facts.
        seed: of the draws.
        ablation: what the ablated prompt has in the place of the evidence: `replace` for another
            key with another value, `swap` for the key with another value, `remove` for fillers.
    """
    for number in range(count):
        draws = Draws(seed, RECALL, length, number)
        keys = _shuffled(world.keys, draws)
        values = _shuffled(world.values, draws)
        fact = _fact(world, keys, values, ablation, draws)
        stream = Stream(world, draws, keys=keys[2:], values=values[ALTERNATIVES + 2 :])
        filler = _filler(stream, length)
        for context in CONTEXTS:
            for distance in distances(length, SHORTEST):
                prompt = place(
                    fact, filler, bos=(), length=length, distance=distance, context=context
                )
                assert prompt is not None
                yield Item(task=RECALL, number=number, context=context, prompt=prompt)


def _shuffled(count: int, draws: Draws) -> list[int]:
    """The numbers 0 .. count - 1 in an order that is drawn."""
    left = list(range(count))
    return [left.pop(draws.below(len(left))) for _ in range(count)]


def _fact(
    world: World, keys: list[int], values: list[int], ablation: Ablation, draws: Draws
) -> Fact:
    """A fact about the first key; a replacement has the second one."""
    key, other = (world.key(number) for number in keys[:2])
    gold, foreign, *alternatives = (world.value(number) for number in values[: ALTERNATIVES + 2])
    if ablation == "remove":
        removed = Stream(world, draws)
        replacement = (*removed.filler(), *removed.filler())
    else:
        replacement = (key if ablation == "swap" else other, foreign)
    return Fact(
        evidence=(key, gold),
        value_stop=PAIR,
        replacement=replacement,
        question=(key,),
        gold=(gold,),
        alternatives=tuple((value,) for value in alternatives),
        foreign=None if ablation == "remove" else (foreign,),
    )


def _filler(stream: Stream, length: int) -> NDArray[np.int32]:
    """Text in which no pair is cut where the evidence may stand or a prompt may begin.

    A pair follows every place of the evidence: a filler would have to be a successor of its key
    there, and of something else where the evidence stands elsewhere.
    """
    filled = length - BESIDES
    places = {filled - distance + PAIR for distance in distances(length, SHORTEST)}
    begins = {edge + BESIDES - PAIR - MARGIN for edge in places}
    ids: list[int] = []
    for stop in sorted({edge for edge in places | begins | {filled} if edge > 0}):
        if len(ids) in places and stop - len(ids) >= PAIR:
            ids += stream.pair()
        while len(ids) < stop:
            ids += stream.slot() if stop - len(ids) >= PAIR else stream.filler()
    return np.array(ids, np.int32)
