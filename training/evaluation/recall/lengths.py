"""How long the documents of a corpus are.

A document ends at the first end of a slot at which it has at least n tokens, so that no slot is cut
and nothing but its length tells where it ends. n is drawn:

    short    tau / 4 .. tau - 2         with the end token at most tau tokens: nothing in the tail
    long     tau .. window - 2          more than tau tokens, at most a window
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....schemas.errors import UsageError
from ....schemas.settings import check_range
from ..draws import Draws

__all__ = ["Lengths"]

EXACT = 1 << 32


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long documents are.

    Attributes:
        tau: the smallest effective context of the tail.
        window: tokens of the longest documents.
        long_share: share of the documents that are long.
    """

    tau: int
    window: int
    long_share: float

    def __post_init__(self) -> None:
        check_range("tau", self.tau, 16, 1 << 20)
        check_range("window", self.window, 128, 1 << 20)
        check_range("long_share", self.long_share, 0, 1)
        if self.window < self.tau + 2:
            raise UsageError(
                f"tau is {self.tau:,}, window is {self.window:,}",
                expected="a window of at least tau + 2 tokens: long documents are longer than tau",
            )

    def draw(self, draws: Draws) -> int:
        """A document's n."""
        is_long = draws.below(EXACT) < self.long_share * EXACT
        first, stop = self._long if is_long else self._short
        return first + draws.below(stop - first)

    def probabilities(self) -> NDArray[np.float64]:
        """The probability of every n, float64 [window - 1]."""
        found = np.zeros(self.window - 1)
        for (first, stop), share in (
            (self._short, 1 - self.long_share),
            (self._long, self.long_share),
        ):
            found[first:stop] += share / (stop - first)
        return found

    @property
    def _short(self) -> tuple[int, int]:
        return self.tau // 4, self.tau - 1

    @property
    def _long(self) -> tuple[int, int]:
        return self.tau, self.window - 1
