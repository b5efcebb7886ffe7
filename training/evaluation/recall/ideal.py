"""The loss of a model that knows a world: what no training can get below.

Documents are independent, and what comes next depends on the slots so far only through

    m    how many keys the document has had
    s    tokens of the slot that has just ended: 0 at the start, 1 for a filler, 2 for a pair
    t    tokens so far

With n the length that is drawn for a document (see `lengths`), K, V and F the numbers of keys,
values and fillers, and H the entropy of `CHAIN`, the loss of the best prediction is

    the end          h = P(t - s < n <= t) / P(n > t - s):  -log h, and -log(1 - h) if it goes on
    a filler         -log(1 - PAIRS) + (log F if s = 0 else H)
    a known key      -log(PAIRS (1 - NEW) / m)                   (with m = K: -log(PAIRS / m))
    a new key        -log(PAIRS NEW / (K - m))                   (with m = 0: -log(PAIRS / K))
    its value        0 after a known key, log V after a new one

The probabilities of all (t, s, m) follow from those of smaller t. So the expected loss at every
effective context is a finite sum, without a sample.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .lengths import Lengths
from .world import CHAIN, NEW, PAIRS, World

__all__ = ["Ideal", "ideal_loss"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ideal:
    """What is expected of a document, by the effective context of its targets.

    Attributes:
        targets: how many there are, float64 [window].
        losses: the sum of their losses in nats, float64 [window].
    """

    targets: Floats
    losses: Floats

    @property
    def loss(self) -> float:
        """The mean loss of a target, in nats."""
        return float(self.losses.sum() / self.targets.sum())

    def share_from(self, context: int) -> float:
        """The share of the targets whose effective context is at least this."""
        return float(self.targets[context:].sum() / self.targets.sum())


def ideal_loss(world: World, lengths: Lengths) -> Ideal:
    """The expected targets and losses of one document.

    Args:
        world: the language.
        lengths: of its documents.
    """
    window = lengths.window
    # A slot leads from t tokens to t + 1 or t + 2, so no more than three numbers are held at once.
    reached = np.zeros((3, 3, world.keys + 1))
    reached[0, 0, 0] = 1
    targets, losses = np.zeros(window + 2), np.zeros(window + 2)
    at_least = np.cumsum(lengths.probabilities()[::-1])[::-1]
    slots = _Slots(world)
    for t in range(window):
        now, next_one, next_two = (reached[(t + ahead) % 3] for ahead in range(3))
        for s in range(3):
            here = now[s]
            if not here.any():
                continue
            end = _end(at_least, t, s)
            targets[t] += here.sum()
            losses[t] += here.sum() * _entropy(end)
            goes_on = here * (1 - end)
            losses[t] += (goes_on * slots.first_token(s)).sum()
            pair, new = goes_on * PAIRS, goes_on * PAIRS * slots.new
            targets[t + 1] += pair.sum()
            losses[t + 1] += new.sum() * np.log(world.values)
            next_one[1] += goes_on * (1 - PAIRS)
            next_two[2] += pair - new
            next_two[2, 1:] += new[:-1]
        now[:] = 0
    # The first token of a document has no context, and is no target.
    return Ideal(
        targets=np.concatenate([[0.0], targets[1:window]]),
        losses=np.concatenate([[0.0], losses[1:window]]),
    )


def _end(at_least: Floats, t: int, s: int) -> float:
    """The probability that a document that has reached t tokens ends there.

    Args:
        at_least: the probability that n is at least as large as each number.
        t: tokens so far.
        s: tokens of the last slot; 0 if there is none.
    """
    if s == 0:
        return 0.0
    longer = at_least[t + 1] if t + 1 < len(at_least) else 0.0
    return 1 - longer / at_least[t - s + 1]


class _Slots:
    """Probabilities and losses of the next slot, by the number of known keys, float64 [K + 1]."""

    def __init__(self, world: World) -> None:
        known = np.arange(world.keys + 1)
        self.new = np.full(world.keys + 1, NEW)
        self.new[0], self.new[-1] = 1, 0
        asks = 1 - self.new
        key = self.new * np.log(np.maximum(world.keys - known, 1)) + asks * np.log(
            np.maximum(known, 1)
        )
        self._pair = PAIRS * (key + np.array([_entropy(new) for new in self.new]))
        self._any_filler = (1 - PAIRS) * np.log(world.fillers)
        self._successor = -(1 - PAIRS) * sum(p * np.log(p) for p in CHAIN)

    def first_token(self, s: int) -> Floats:
        """The expected loss of the first token of a slot after one of s tokens."""
        return _entropy(PAIRS) + self._pair + (self._successor if s else self._any_filler)


def _entropy(p: float) -> float:
    """Of a choice between two with probability p for one, in nats."""
    return -float(sum(q * np.log(q) for q in (p, 1 - p) if q > 0))
