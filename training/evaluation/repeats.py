"""Sequences of tokens that some documents have exactly twice, both times in one document.

Such a sequence is rare, and its second occurrence is what a model can know from the first:

    ... had come to| Ravenshaw Hall|, where ... and so he left| Ravenshaw Hall| before ...
                     first                                      second

A sequence has 2 to LONGEST tokens. It begins where the repetition begins: the tokens before its two
occurrences differ. It has as many tokens as the repetition lasts, but at most LONGEST.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LONGEST", "Repeats", "repeats_of"]

LONGEST = 6

Ids = NDArray[np.int32]
Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Repeats:
    """The sequences that stand exactly twice, by their second occurrence.

    Attributes:
        first, second: where the two occurrences begin in the stream, int64 [repeats].
        size: tokens of each, int64 [repeats].
        begin: where their document begins, int64 [repeats].
        repeated: tokens of the longest sequence from a place on, up to LONGEST, that also begins at
            another place; 0 if there is none; int8 [tokens].
        room: tokens of the document from a place on; 0 between documents; int64 [tokens].
    """

    first: Places
    second: Places
    size: Places
    begin: Places
    repeated: NDArray[np.int8]
    room: Places

    def is_once(self, place: int, size: int) -> bool:
        """Whether the tokens from a place on are of one document, and stand nowhere else."""
        return self.repeated[place] < size <= self.room[place]


def repeats_of(ids: Ids, spans: Places) -> Repeats:
    """Finds the sequences that stand exactly twice in some documents, both times in one of them.

    Args:
        ids: a stream of tokens, int32 [tokens].
        spans: where every document begins and ends in it, ascending, int64 [documents, 2].
    """
    room = _room(len(ids), spans)
    repeated = np.zeros(len(ids), np.int8)
    found = [np.empty((0, 3), np.int64)]
    for size, places, counts in _alike(ids, room):
        repeated[places] = size
        pairs = np.sort(places[np.repeat(counts == 2, counts)].reshape(-1, 2), axis=1)
        found.append(np.insert(pairs, 2, size, axis=1))
    first, second, size = np.concatenate(found).T
    begin, begin_of_second = (_begin(places, spans) for places in (first, second))
    starts_there = (first == begin) | (ids[first - 1] != ids[second - 1])
    is_whole = (repeated[first] == size) & (second - first >= size)
    kept = np.flatnonzero((begin == begin_of_second) & starts_there & is_whole)
    kept = kept[np.argsort(second[kept])]
    return Repeats(
        first=first[kept],
        second=second[kept],
        size=size[kept],
        begin=begin[kept],
        repeated=repeated,
        room=room,
    )


def _room(count: int, spans: Places) -> Places:
    room = np.zeros(count, np.int64)
    for start, stop in spans.tolist():
        room[start:stop] = np.arange(stop - start, 0, -1)
    return room


def _begin(places: Places, spans: Places) -> Places:
    starts = spans[spans[:, 0] < spans[:, 1], 0]
    return starts[np.searchsorted(starts, places, side="right") - 1]


def _alike(ids: Ids, room: Places) -> Iterator[tuple[int, Places, Places]]:
    """Yields for every size the places of equal sequences, side by side, and how many are equal.

    A sequence is named by a number. That of a longer one follows from the number of all its tokens
    but the last, and the last one. So equal numbers are equal sequences, and only the places of
    equal sequences need to be looked at for the next size.
    """
    vocabulary = int(ids.max(initial=0)) + 1
    places = np.arange(len(ids))
    number = ids.astype(np.int64)
    for size in range(2, LONGEST + 1):
        places = places[room[places] >= size]
        key = number[places] * vocabulary + ids[places + size - 1]
        order = np.argsort(key)
        places, key = places[order], key[order]
        edges = np.flatnonzero(np.diff(key, prepend=-1, append=-1))
        counts = np.diff(edges)
        places = places[np.repeat(counts > 1, counts)]
        counts = counts[counts > 1]
        number[places] = np.repeat(np.arange(len(counts)), counts)
        yield size, places, counts
