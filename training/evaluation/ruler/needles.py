"""Needles in a haystack: sentences that give values to keys, and a question for some of the values.

needle     The secret number of quiet-lantern is| 4318702|.
question   \\n\\nQuestion: What is the secret number of quiet-lantern?
           \\nAnswer: The secret number of quiet-lantern is
answer     | 4318702
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..draws import Draws
from ..facts import ALTERNATIVES
from ..vocabulary import Encode
from . import names
from .drafts import Draft, Page, Piece, hidden, joined

__all__ = ["CODE", "NUMBER", "PARAGRAPH", "WORD", "Needles", "repeated"]

PARAGRAPH = (
    " The rain fell softly. The road was long and wet. The lamps went out one by one. "
    "Nobody came by. The clock struck ten."
)
"""What is repeated where there is no prose."""


class Kind(NamedTuple):
    """What keys or values are, and how one is drawn."""

    noun: str
    draw: Callable[[Draws], str]


WORD = Kind("name", names.pair)
NUMBER = Kind("number", names.number)
CODE = Kind("code", names.code)


class Needle(NamedTuple):
    """What one sentence states."""

    key: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Needles:
    """A task with needles; makes the drafts of its items.

    Attributes:
        haystack: what the needles are hidden in: one short paragraph, repeated; prose; or needles
            for other keys, and nothing else.
        keys: how many keys there are, without those of a haystack of needles.
        values: how many values each of them has.
        asked: how many of the keys are asked for.
        key, value: what they are.
    """

    haystack: Literal["paragraph", "prose", "needles"]
    keys: int = 1
    values: int = 1
    asked: int = 1
    key: Kind = WORD
    value: Kind = NUMBER

    def __call__(self, page: Page, draws: Draws) -> Draft | None:
        """Draws an item; None if the length has no room for it."""
        taken = set[str]()
        keys = [names.fresh(self.key.draw, draws, taken) for _ in range(self.keys)]
        needles = draws.shuffled(
            [self._needle(key, draws, taken) for key in keys for _ in range(self.values)]
        )
        wanted = [needle for needle in needles if needle.key in keys[: self.asked]]
        gold = tuple(needle.value for needle in wanted)
        answer = joined(page.encode, gold)
        head = page.encode(self._instruction())
        tail = page.encode(self._question(list(dict.fromkeys(n.key for n in wanted))))
        pieces = [self._piece(page.encode, needle, needle in wanted) for needle in needles]
        room = page.room(head, tail, *(piece.ids for piece in pieces), answers=[answer])
        if room <= 0:
            return None
        others = [needle.value for needle in needles if needle not in wanted]
        if self.haystack == "needles":
            around = self._others(page.encode, room, draws, taken)
            others += [needle.value for needle in around]
            filling = [self._piece(page.encode, needle, False) for needle in around]
            at = draws.below(len(filling) + 1)
            body = [*filling[:at], *pieces, *filling[at:]]
        else:
            filling = _filling(self.haystack, page, room, draws)
            body = hidden(filling, pieces, draws)
        if not filling:
            return None
        wrong = self._wrong(others, draws, taken) if len(gold) == 1 else []
        return Draft(
            head=head,
            body=body,
            tail=tail,
            gold=gold,
            answers=(answer, *(joined(page.encode, [each]) for each in wrong)),
        )

    def _needle(self, key: str, draws: Draws, taken: set[str]) -> Needle:
        return Needle(key, names.fresh(self.value.draw, draws, taken))

    def _others(self, encode: Encode, room: int, draws: Draws, taken: set[str]) -> list[Needle]:
        """Needles for other keys, as many as there is room for."""
        found: list[Needle] = []
        while True:
            key = names.fresh(self.key.draw, draws, taken)
            needle = self._needle(key, draws, taken)
            room -= len(self._piece(encode, needle, False).ids)
            if room < 0:
                return found
            found.append(needle)

    def _wrong(self, others: Sequence[str], draws: Draws, taken: set[str]) -> list[str]:
        """Other values: those of the prompt first, then some that it has not."""
        found = draws.shuffled(others)[:ALTERNATIVES]
        while len(found) < ALTERNATIVES:
            found.append(names.fresh(self.value.draw, draws, taken))
        return found

    def _piece(self, encode: Encode, needle: Needle, is_evidence: bool) -> Piece:
        said = [
            *encode(f" The secret {self.value.noun} of {needle.key} is"),
            *encode(f" {needle.value}"),
        ]
        return Piece([*said, *encode(".")], len(said) if is_evidence else None)

    def _instruction(self) -> str:
        return (
            f"The text below gives secret {self.value.noun}s. Remember them: they are asked for "
            "at the end.\n\nText:"
        )

    def _question(self, keys: Sequence[str]) -> str:
        owners = keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} and {keys[-1]}"
        count = self.values * self.asked
        many, noun = count > 1, f"secret {self.value.noun}"
        subject = f"{count} {noun}s of {owners}" if many else f"{noun} of {owners}"
        verb = "are" if many else "is"
        return f"\n\nQuestion: What {verb} the {subject}?\nAnswer: The {subject} {verb}"


def repeated(encode: Encode, room: int) -> list[Piece]:
    """The short paragraph, as often as there is room for it."""
    paragraph = Piece(encode(PARAGRAPH))
    return [paragraph] * max(0, room // len(paragraph.ids))


def _filling(haystack: str, page: Page, room: int, draws: Draws) -> list[Piece]:
    if haystack == "prose":
        return [Piece(ids) for ids in page.prose.stretch(draws, room)]
    return repeated(page.encode, room)
