"""A language of pairs among filler, in which nothing but recall needs a long context.

A document is a sequence of *slots*, each a filler or a pair of a key and a value:

    f3 f9 k7 v2 f1 k4 v11 f5 f0 k7 v2 f8 ...      then the end token

    filler      one of the four successors of the filler, or of the key of the pair, before it, with
                probabilities 1/2, 1/4, 1/8, 1/8; at the start any filler
    pair        with probability PAIRS. With probability NEW its key is one that the document has
                not had, and its value any of the V values; otherwise it is a key that the document
                has had, with the value it has there. All choices are equally likely

A model that recalls the pair is certain of the value after a key that the document has had; for one
that does not, all are equally likely. So recall is worth log V nats, at every distance.

A pair is recalled in two steps: a value takes up which key stands before it, and that key, when it
comes again, finds the value. What follows a pair depends on its key, so the first step is of use by
itself. Without that, small models take several times as long to recall anything.

Token ids: 0 is the end token, then come the fillers, the keys, the values and the unknown token.
"""

import json
from dataclasses import dataclass

import xxhash

from ....schemas.settings import check_range
from ..draws import Draws

__all__ = ["CHAIN", "END", "NEW", "PAIRS", "UNKNOWN", "World", "draw_world"]

END = "<|endoftext|>"
UNKNOWN = "<unk>"
"""Stands for what the language lacks; no document has it."""

CHAIN = (1 / 2, 1 / 4, 1 / 8, 1 / 8)
"""Probabilities of the successors of a filler or key."""

PAIRS = 1 / 3
"""Of the slots, those that are pairs."""

NEW = 1 / 4
"""Of the pairs, those whose key is new to the document."""

FEWEST_FILLERS = 1 + len(CHAIN)
FEWEST_KEYS = 3
"""The probe needs one for the fact, one for the replacement, and one for the filler."""
FEWEST_VALUES = 10
"""The probe needs nine, and one for the filler."""
MOST = 1 << 20
"""Of each kind of token."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A language.

    Attributes:
        fillers, keys, values: how many tokens of each kind there are.
        successors: for each filler, and then for each key, the four fillers that may follow it, by
            their numbers, the likeliest first.
    """

    fillers: int
    keys: int
    values: int
    successors: tuple[tuple[int, ...], ...]

    @property
    def words(self) -> list[str]:
        """The text of every token, by its id."""
        kinds = (("f", self.fillers), ("k", self.keys), ("v", self.values))
        return [END, *(f"{kind}{i}" for kind, count in kinds for i in range(count)), UNKNOWN]

    def filler(self, number: int) -> int:
        """The id of a filler."""
        return 1 + number

    def key(self, number: int) -> int:
        """The id of a key."""
        return 1 + self.fillers + number

    def value(self, number: int) -> int:
        """The id of a value."""
        return 1 + self.fillers + self.keys + number

    @property
    def digest(self) -> str:
        """The xxh3-128 of all that its text depends on."""
        known = [self.fillers, self.keys, self.values, self.successors, CHAIN, PAIRS, NEW]
        return xxhash.xxh3_128_hexdigest(json.dumps(known).encode())


def draw_world(*, fillers: int, keys: int, values: int, seed: int) -> World:
    """Draws the successors of every filler and key; no filler is one of its own.

    Raises:
        UsageError: there are too few or too many tokens of a kind.
    """
    check_range("fillers", fillers, FEWEST_FILLERS, MOST)
    check_range("keys", keys, FEWEST_KEYS, MOST)
    check_range("values", values, FEWEST_VALUES, MOST)
    draws = Draws(seed, "chain")
    successors: list[tuple[int, ...]] = []
    for row in range(fillers + keys):
        chosen: list[int] = []
        while len(chosen) < len(CHAIN):
            filler = draws.below(fillers)
            if filler != row and filler not in chosen:
                chosen.append(filler)
        successors.append(tuple(chosen))
    return World(fillers=fillers, keys=keys, values=values, successors=tuple(successors))
