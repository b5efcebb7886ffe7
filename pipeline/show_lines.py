"""Tokens laid out as lines, each of one weight, for a terminal or a page.

    context  weight
          0       1 │ It was a bright cold day in April, and
          9       1 │ the clocks were striking thirteen.↵
         16   1.166 │ Winston Smith

A line begins where the text's own line does, where the weight changes, or where there is no more
room. Its margin has the effective context and the weight of its first target.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .decoding import Piece, visible_character

__all__ = ["Block", "Line", "View", "lay_out", "shade"]

NEWLINE = "↵"
TAB = "    "

LIGHTEST = {"more": (254, 224, 182), "less": (216, 218, 235)}
DARKEST = {"more": (179, 88, 6), "less": (84, 39, 136)}
"""Orange and purple of ColorBrewer's PuOr, which the colour-blind can tell apart."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Tokens of one segment, under a heading.

    Attributes:
        heading: where they come from.
        detail: more of that.
        ids: int32[n].
        weights: float32[n].
        supervised: bool[n].
        first: effective context of the first of them.
    """

    heading: str
    detail: str
    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    supervised: NDArray[np.bool_]
    first: int = 0


@dataclass(frozen=True, kw_only=True)
class View:
    """What is shown: a title, what there is to say of it, and blocks.

    Attributes:
        title: one line.
        notes: further lines.
        blocks: read when they are needed.
        weights: all that the set has, rising.
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
        weight: of its targets; None where it has none.
        parts: text, with the number of the token it belongs to.
    """

    context: int
    weight: float | None
    parts: list[tuple[str, int]]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(text for text, _ in self.parts)


class _Open:
    """A line that is being filled: characters with their widths and tokens."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.weight: float | None = None
        self.characters: list[tuple[str, int, int]] = []
        self.width = 0

    def add(self, text: str, width: int, token: int) -> None:
        self.characters.append((text, width, token))
        self.width += width

    def break_at_space(self) -> "_Open":
        """Cuts off what comes after the last space, if that is in the line's second half."""
        n = len(self.characters)
        spaces = (i for i in range(n - 1, n // 2, -1) if self.characters[i][0] == " ")
        cut = next(spaces, n - 1) + 1
        rest = self.characters[cut:]
        self.characters = self.characters[:cut]
        following = _Open(rest[0][2] if rest else self.token)
        for character in rest:
            following.add(*character)
        following.weight = self.weight if rest else None
        return following

    def close(self, first: int) -> Line:
        parts: list[tuple[str, int]] = []
        for text, _, token in self.characters:
            if parts and parts[-1][1] == token:
                parts[-1] = (parts[-1][0] + text, token)
            else:
                parts.append((text, token))
        return Line(context=first + self.token, weight=self.weight, parts=parts)


def lay_out(block: Block, pieces: Iterable[Piece], width: int | None) -> Iterator[Line]:
    """The lines of a block.

    Args:
        block: the tokens.
        pieces: their text.
        width: cells of a terminal's line, or None for no limit.
    """
    from rich.cells import get_character_cell_size

    line: _Open | None = None
    for piece in pieces:
        token = piece.stop - 1
        weight = float(block.weights[token]) if block.supervised[token] else None
        if line is not None and None not in (weight, line.weight) and weight != line.weight:
            yield line.close(block.first)
            line = None
        for character in piece.text:
            line = line or _Open(piece.start)
            line.weight = weight if line.weight is None else line.weight
            if character == "\n":
                line.add(NEWLINE, 1, token)
                yield line.close(block.first)
                line = None
                continue
            shown = TAB if character == "\t" else visible_character(character)
            size = sum(map(get_character_cell_size, shown))
            if width is not None and line.characters and line.width + size > width:
                following = line.break_at_space()
                yield line.close(block.first)
                line = following
                line.token = line.characters[0][2] if line.characters else piece.start
                line.weight = weight if line.weight is None else line.weight
            line.add(shown, size, token)
    if line is not None:
        yield line.close(block.first)


def shade(weight: float, largest: float, smallest: float) -> tuple[str, str] | None:
    """Background and foreground of a weight, as #rrggbb; None for weight 1.

    Args:
        weight: above 0.
        largest, smallest: of all weights of the set.
    """
    if weight == 1:
        return None
    kind, end = ("more", largest) if weight > 1 else ("less", smallest)
    part = math.log(weight) / math.log(end)
    low, high = LIGHTEST[kind], DARKEST[kind]
    back = [round(a + part * (b - a)) for a, b in zip(low, high, strict=True)]
    bright = 0.299 * back[0] + 0.587 * back[1] + 0.114 * back[2]
    return "#{:02x}{:02x}{:02x}".format(*back), "#000000" if bright > 128 else "#ffffff"
