"""Needles whose link with the question is knowledge: a banjo is a musical instrument.

needle     Last week Drouvast bought the banjo.
question   \\n\\nQuestion: Which person owns a musical instrument?
           \\nAnswer: The name of the person is
answer     | Drouvast

    alone    one needle; the other names are nowhere in the prompt
    among    eight needles, of different categories: the other names are those of the other needles,
             so that a name that occurs is no better than another
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .. import words
from ..draws import Draws
from ..facts import ALTERNATIVES
from ..ruler import names
from ..ruler.drafts import Draft, Make, Page, Piece, hidden
from ..vocabulary import Encode
from .kinds import CATEGORIES

__all__ = ["BUDGET", "MAKERS"]

BUDGET = 32
"""Tokens that a prompt leaves for its answer."""

INSTRUCTION = "Read the text below. At the end there is a question about it.\n\nText:"


@dataclass(frozen=True, kw_only=True)
class Purchases:
    """Makes the drafts of a task.

    Attributes:
        needles: how many people have bought something.
    """

    needles: int

    def __call__(self, page: Page, draws: Draws) -> Draft | None:
        """Draws an item; None if the length has no room for it."""
        taken = set[str]()
        people = [names.fresh(words.person, draws, taken) for _ in range(ALTERNATIVES + 1)]
        categories = draws.shuffled([*CATEGORIES])[: self.needles]
        pieces = [
            _needle(page.encode, person, draws.choice(CATEGORIES[category]), is_asked=not number)
            for number, (person, category) in enumerate(zip(people, categories, strict=False))
        ]
        head = page.encode(INSTRUCTION)
        tail = page.encode(
            f"\n\nQuestion: Which person owns {categories[0]}?\nAnswer: The name of the person is"
        )
        answers = tuple(tuple(page.encode(f" {person}")) for person in people)
        room = page.room(head, tail, *(piece.ids for piece in pieces), answers=answers)
        filling = [Piece(ids) for ids in page.prose.stretch(draws, room)] if room > 0 else []
        if not filling:
            return None
        return Draft(
            head=head,
            body=hidden(filling, draws.shuffled(pieces), draws),
            tail=tail,
            gold=(people[0],),
            answers=answers,
        )


def _needle(encode: Encode, person: str, kind: str, *, is_asked: bool) -> Piece:
    said = [*encode(" Last week"), *encode(f" {person}")]
    return Piece([*said, *encode(f" bought the {kind}.")], len(said) if is_asked else None)


MAKERS: Mapping[str, Make] = {
    "alone": Purchases(needles=1),
    "among": Purchases(needles=ALTERNATIVES + 1),
}
"""Task -> makes the drafts of its items."""
