"""Text of a world, slot by slot."""

from collections.abc import Iterable

from ..draws import Draws
from .world import CHAIN, NEW, PAIRS, World

__all__ = ["Stream"]

EXACT = 3 << 16
"""Every probability is a multiple of 1 / EXACT."""


class Stream:
    """The slots of one document.

    Args:
        world: the language.
        draws: where the draws come from.
        keys, values: numbers of those that may occur; all of the world by default.
    """

    def __init__(
        self,
        world: World,
        draws: Draws,
        *,
        keys: Iterable[int] | None = None,
        values: Iterable[int] | None = None,
    ) -> None:
        self._world, self._draws = world, draws
        self._new = list(range(world.keys) if keys is None else keys)
        self._values = list(range(world.values) if values is None else values)
        self._known: list[tuple[int, int]] = []
        self._last: int | None = None  # a row of the successors

    def slot(self) -> list[int]:
        """The ids of the next slot."""
        return self.pair() if self._draws.below(EXACT) < PAIRS * EXACT else self.filler()

    def pair(self) -> list[int]:
        """The ids of a key and its value, as the next slot."""
        asks = self._draws.below(EXACT) >= NEW * EXACT
        if self._known and (asks or not self._new):
            key, value = self._draws.choice(self._known)
        else:
            key = self._new.pop(self._draws.below(len(self._new)))
            value = self._draws.choice(self._values)
            self._known.append((key, value))
        self._last = self._world.fillers + key
        return [self._world.key(key), self._world.value(value)]

    def filler(self) -> list[int]:
        """The id of a filler, as the next slot."""
        if self._last is None:
            number = self._draws.below(self._world.fillers)
        else:
            number = self._world.successors[self._last][self._rank()]
        self._last = number
        return [self._world.filler(number)]

    def _rank(self) -> int:
        """Which of the successors comes next."""
        draw, rank = self._draws.below(EXACT), 0
        while draw >= CHAIN[rank] * EXACT:
            draw -= int(CHAIN[rank] * EXACT)
            rank += 1
        return rank
