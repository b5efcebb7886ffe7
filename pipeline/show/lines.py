"""Tokens laid out as lines, each of one weight, for a terminal or a page.

    context  weight
          0       1 │ It was a bright cold day in April, and
          9       1 │ the clocks were striking thirteen.↵
         16   1.166 │ Winston Smith

A line ends where the text's own line does, before the weight changes, before text that is
supervised or no longer is, and where the room runs out. The first token of a document is never a
target, and does not begin a line of its own. The margin has the effective context and the weight of
a line's first target.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...schemas.printable import printable_character
from .decoding import Piece

__all__ = ["INK", "Block", "Line", "View", "lay_out", "shade"]

NEWLINE = "↵"
TAB = "    "
LIGHTEST = {"more": (254, 237, 211), "less": (232, 233, 244)}
STRONGEST = {"more": (237, 149, 53), "less": (146, 131, 194)}
"""Orange and purple can be told apart by the colour-blind, and black can be read on all of them."""
INK = "#000000"


@dataclass(frozen=True, kw_only=True)
class Block:
    """Tokens of one segment, under a heading.

    Attributes:
        heading: where the tokens come from, in phrases.
        ids: int32[n].
        weights: float32[n].
        supervised: bool[n].
        first: effective context of the first token.
    """

    heading: tuple[str, ...]
    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    supervised: NDArray[np.bool_]
    first: int = 0


@dataclass(frozen=True, kw_only=True)
class View:
    """What is shown: a title, notes, and blocks.

    Attributes:
        title: one line.
        notes: lines below the title.
        blocks: the tokens, read when they are needed.
        weights: all weights of the set, rising.
    """

    title: str
    notes: tuple[str, ...]
    blocks: Iterable[Block]
    weights: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line.

    Attributes:
        context: effective context of its first token.
        weight: the weight of its targets; None where it has none.
        parts: pieces of text, each with the number of its token.
    """

    context: int
    weight: float | None
    parts: list[tuple[str, int]]

    @property
    def text(self) -> str:
        """The whole line."""
        return "".join(text for text, _ in self.parts)


class _Character(NamedTuple):
    """How a character is shown, and the piece it is from."""

    text: str
    width: int
    piece: Piece
    weight: float | None

    @property
    def token(self) -> int:
        return self.piece.stop - 1


class _Open:
    """A line that is being filled."""

    def __init__(self, characters: Iterable[_Character] = ()) -> None:
        self.characters: list[_Character] = []
        self.weight: float | None = None
        self.width = 0
        for character in characters:
            self.add(character)

    def add(self, character: _Character) -> None:
        self.characters.append(character)
        self.width += character.width
        self.weight = character.weight if self.weight is None else self.weight

    def split(self) -> tuple["_Open", "_Open"]:
        """Splits after the last space in the line's second half, or at the end of the line."""
        n = len(self.characters)
        spaces = (i for i in range(n - 1, n // 2, -1) if self.characters[i].text == " ")
        cut = next(spaces, n - 1) + 1
        return _Open(self.characters[:cut]), _Open(self.characters[cut:])

    def close(self, first: int) -> Line:
        parts = [
            ("".join(character.text for character in characters), token)
            for token, characters in groupby(self.characters, lambda c: c.token)
        ]
        context = first + self.characters[0].piece.start
        return Line(context=context, weight=self.weight, parts=parts)


def lay_out(block: Block, pieces: Iterable[Piece], width: int | None) -> Iterator[Line]:
    """The lines of a block.

    Args:
        block: the tokens.
        pieces: their text.
        width: cells of a terminal's line, or None for no limit.
    """
    from rich.cells import get_character_cell_size

    line = _Open()
    for piece in pieces:
        token = piece.stop - 1
        weight = float(block.weights[token]) if block.supervised[token] else None
        if line.characters and _differs(line.weight, weight, block.first + piece.start):
            yield line.close(block.first)
            line = _Open()
        for character in piece.text:
            if character == "\n":
                line.add(_Character(NEWLINE, 1, piece, weight))
                yield line.close(block.first)
                line = _Open()
                continue
            shown = TAB if character == "\t" else printable_character(character)
            size = sum(map(get_character_cell_size, shown))
            if width is not None and line.characters and line.width + size > width:
                full, line = line.split()
                yield full.close(block.first)
            line.add(_Character(shown, size, piece, weight))
    if line.characters:
        yield line.close(block.first)


def _differs(before: float | None, weight: float | None, context: int) -> bool:
    """Whether a token of some effective context is weighed otherwise than what precedes it."""
    return before != weight and (before is not None or context > 1)


def shade(weight: float, largest: float, smallest: float) -> str | None:
    """Background of a weight, for text in INK, as #rrggbb; None for weight 1.

    Args:
        weight: above 0.
        largest, smallest: the extremes of all weights of the set.
    """
    weight = min(max(weight, smallest), largest)
    if weight == 1:
        return None
    kind, end = ("more", largest) if weight > 1 else ("less", smallest)
    part = math.log(weight) / math.log(end)
    low, high = LIGHTEST[kind], STRONGEST[kind]
    back = [round(a + part * (b - a)) for a, b in zip(low, high, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*back)
