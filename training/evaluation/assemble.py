"""Prompts in token ids, exact in length and distance.

    prompt  = [bos?] before | evidence    | between | question
    ablated = [bos?] before | replacement | between | question
    answer  = the gold, or an alternative of as many tokens

`before` and `between` are one stretch of filler, cut where the evidence stands. The *distance* is
the position of the answer's first token minus that of the value's last token in the evidence: what
attention has to bridge. In the context

    fixed      prompt and answer have the item's length at every distance: only the place of the
               evidence moves through the same filler
    minimal    prompt and answer have distance + MARGIN tokens: little stands before the evidence,
               as before a target of that effective context
    document   nothing is placed: evidence, text and answer are a real document (`natural.py`)

At one distance, `between` is the same in both, and all prompts of a context are equally long.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .facts import Fact

__all__ = [
    "CONTEXTS",
    "DOCUMENT",
    "MARGIN",
    "Context",
    "Prompt",
    "distances",
    "nearest",
    "place",
    "shown_distances",
]

Context = Literal["fixed", "minimal", "document"]

CONTEXTS: tuple[Context, ...] = ("fixed", "minimal")
"""Those of facts that are placed in filler."""

DOCUMENT: Context = "document"
"""That of the task `natural`, whose evidence is a part of the text."""

MARGIN = 64
"""Tokens of the shortest prompt and answer at a distance, less the distance: for the evidence up to
its value, the answer, and the filler before."""

Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A fact at one place of one context.

    Attributes:
        fact: what is stated, asked for and answered.
        bos: the token that begins every document, or none.
        before, between: filler before and after the evidence, int32.
        removed: filler in the place of the evidence, for facts without a replacement, int32.
    """

    fact: Fact
    bos: tuple[int, ...]
    before: Ids
    between: Ids
    removed: Ids

    @property
    def evidence(self) -> tuple[int, int]:
        """Where the evidence begins and ends in the prompt."""
        start = len(self.bos) + len(self.before)
        return start, start + len(self.fact.evidence)

    @property
    def n_tokens(self) -> int:
        """Tokens of the prompt, without the answer."""
        return self.evidence[1] + len(self.between) + len(self.fact.question)

    @property
    def distance(self) -> int:
        """From the last token of the value in the evidence to the first one of the answer."""
        return self.n_tokens - (self.evidence[0] + self.fact.value_stop - 1)

    def ids(self, *, ablated: bool) -> Ids:
        """The prompt, int32 [n_tokens]."""
        fact = self.fact
        if not ablated:
            stated: Ids = np.array(fact.evidence, np.int32)
        elif fact.replacement is None:
            stated = self.removed
        else:
            stated = np.array(fact.replacement, np.int32)
        parts = (self.bos, self.before, stated, self.between, fact.question)
        return np.concatenate([np.asarray(part, np.int32) for part in parts])


def distances(length: int, shortest: int = 32) -> list[int]:
    """The grid: powers of 2 from the shortest, such as 32, 64, 128, up to length - MARGIN, and that
    itself."""
    last = length - MARGIN
    powers = [1 << k for k in range(shortest.bit_length() - 1, last.bit_length())]
    return sorted({*(d for d in powers if d < last), last})


def nearest(exact: NDArray[np.integer], length: int) -> NDArray[np.int64]:
    """The distance of the grid whose logarithm is nearest to that of each; any shape.

    The edges between two distances of the grid are their geometric means; the first one reaches as
    far down as up, to sqrt(2) times less. Below that the result is 0.
    """
    grid = np.array([0, *distances(length)])
    squared_edges = np.concatenate([[grid[1] ** 2 // 2], grid[1:-1] * grid[2:]])
    return grid[np.searchsorted(squared_edges, np.asarray(exact, np.int64) ** 2)]


def shown_distances(
    exact: NDArray[np.integer], context: NDArray[Any], length: int
) -> NDArray[np.int64]:
    """The distances of the grid that items are counted at in figures.

    Args:
        exact: distance of each item.
        context: of each item.
        length: tokens of the longest prompt with its answer.
    """
    return np.where(context == DOCUMENT, nearest(exact, length), exact)


def place(
    fact: Fact, filler: Ids, *, bos: tuple[int, ...], length: int, distance: int, context: Context
) -> Prompt | None:
    """Places a fact at a distance from its answer.

    Args:
        fact: the fact.
        filler: at least `length` tokens, int32.
        bos: the token that begins every document, or none.
        length: tokens of the longest prompt with its answer.
        distance: from the value to the answer.
        context: what stands before the evidence.

    Returns:
        The prompt; None if the fact does not fit: its question is longer than the distance, or its
        evidence longer than what is left of the length.
    """
    fixed = (*bos, *fact.evidence, *fact.question, *fact.gold)
    filled = length - len(fixed)
    after_value = len(fact.evidence) - fact.value_stop
    between = distance - 1 - after_value - len(fact.question)
    before = filled - between
    cut = before
    if context == "minimal":
        before -= length - MARGIN - distance
    if between < 0 or before < 0:
        return None
    return Prompt(
        fact=fact,
        bos=bos,
        before=filler[cut - before : cut],
        between=filler[cut:filled],
        removed=filler[filled : filled + len(fact.evidence)],
    )
