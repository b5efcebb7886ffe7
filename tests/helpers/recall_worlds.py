"""Small recall worlds, and slow ways to say what they are."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from exactcpt.training.evaluation.recall.world import CHAIN, END, NEW, PAIRS, World, draw_world


def small_world(seed: int = 0) -> World:
    return draw_world(fillers=6, keys=5, values=12, seed=seed)


Slot = tuple[int, ...]


def slots_of(world: World, ids: Sequence[int]) -> list[Slot]:
    """The slots of a text, each as the numbers of its filler, or of its key and value."""
    words = world.words
    found: list[Slot] = []
    names = iter(words[i] for i in ids)
    for name in names:
        if name.startswith("f"):
            found.append((int(name[1:]),))
        else:
            value = next(names)
            assert (name[0], value[0]) == ("k", "v"), (name, value)
            found.append((int(name[1:]), int(value[1:])))
    return found


def all_documents(world: World, lengths: Sequence[float]) -> dict[tuple[str, ...], float]:
    """Every document of a world with its probability.

    Args:
        world: a very small one.
        lengths: the probability of every n, where a document ends at n tokens or beyond.
    """
    found: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for n, probability in enumerate(lengths):
        if probability:
            for words, p in _documents(world, n, (), {}, None):
                found[(*words, END)] += probability * p
    return found


def _documents(
    world: World, n: int, words: tuple[str, ...], known: dict[int, int], last: int | None
) -> Iterator[tuple[tuple[str, ...], float]]:
    if len(words) >= n:
        yield words, 1.0
        return
    for filler, p in _fillers(world, last):
        for more, q in _documents(world, n, (*words, f"f{filler}"), known, filler):
            yield more, (1 - PAIRS) * p * q
    for key, value, p in _pairs(world, known):
        after = (*words, f"k{key}", f"v{value}")
        for more, q in _documents(world, n, after, known | {key: value}, world.fillers + key):
            yield more, PAIRS * p * q


def _fillers(world: World, last: int | None) -> list[tuple[int, float]]:
    if last is None:
        return [(filler, 1 / world.fillers) for filler in range(world.fillers)]
    return list(zip(world.successors[last], CHAIN, strict=True))


def _pairs(world: World, known: dict[int, int]) -> list[tuple[int, int, float]]:
    new = [key for key in range(world.keys) if key not in known]
    share = 1.0 if not known else 0.0 if not new else NEW
    fresh = [
        (key, value, share / len(new) / world.values)
        for key in new
        for value in range(world.values)
    ]
    return fresh + [(key, value, (1 - share) / len(known)) for key, value in known.items()]


def conditional_entropies(documents: dict[tuple[str, ...], float]) -> list[tuple[float, float]]:
    """For every place, the probability that there is a token, and the sum of its losses.

    The loss of the best prediction of a token is the logarithm of the probability of what is
    before it, minus that of what is before it and the token.
    """
    prefixes: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for words, p in documents.items():
        for stop in range(len(words) + 1):
            prefixes[words[:stop]] += p
    longest = max(map(len, documents))
    found = [[0.0, 0.0] for _ in range(longest)]
    for prefix, p in prefixes.items():
        if prefix:
            place = found[len(prefix) - 1]
            place[0] += p
            place[1] += p * math.log(prefixes[prefix[:-1]] / p)
    return [(count, loss) for count, loss in found]
