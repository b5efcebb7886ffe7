"""Variables that are traced (RULER's `vt`): a chain of assignments, hidden in a repeated paragraph.

     VAR| KQWOT| = 41872.  ...  VAR| ZPLFA| = VAR KQWOT.  ...
    \\n\\nQuestion: Which 5 variables have the value 41872?
    \\nAnswer: The 5 variables with the value 41872 are| KQWOT, ZPLFA, ...

A smaller item with its answer stands before it, as an example.
"""

from collections.abc import Sequence

from ..draws import Draws
from ..vocabulary import Encode
from . import names
from .drafts import Draft, Page, Piece, hidden, joined
from .needles import repeated

__all__ = ["chain"]

VARIABLES = 5
"""Of the chain: one that is given the value, and four hops."""

EXAMPLE = 500
"""Tokens of the example; not more than a quarter of the length."""

INSTRUCTION = (
    "The text below has assignments of variables. Trace them: a variable has a value if it is "
    "given the value, or another variable that has it.\n\nText:"
)


def chain(page: Page, draws: Draws) -> Draft | None:
    """Draws an item with one chain; None if the length has no room for it."""
    taken = set[str]()
    example = _solved(page, draws, taken)
    if example is None:
        return None
    names_, question, pieces = _chain(page.encode, draws, taken)
    head = (*example, *page.encode(INSTRUCTION))
    answer = joined(page.encode, names_)
    room = page.room(head, question, *(piece.ids for piece in pieces), answers=[answer])
    filling = repeated(page.encode, room)
    if not filling:
        return None
    return Draft(
        head=head,
        body=hidden(filling, pieces, draws),
        tail=question,
        gold=names_,
        answers=(answer,),
    )


def _solved(page: Page, draws: Draws, taken: set[str]) -> tuple[int, ...] | None:
    """A small item with its answer; None if there is no room."""
    encode = page.encode
    names_, question, pieces = _chain(encode, draws, taken)
    head, answer, end = encode(INSTRUCTION), joined(encode, names_), encode(".\n\n")
    fixed = [head, question, answer, end, *(piece.ids for piece in pieces)]
    room = min(EXAMPLE, page.length // 4) - sum(map(len, fixed))
    if room < 0:
        return None
    body = hidden(repeated(encode, room), [Piece(piece.ids) for piece in pieces], draws)
    parts = (head, *(piece.ids for piece in body), question, answer, end)
    return tuple(int(i) for part in parts for i in part)


def _chain(
    encode: Encode, draws: Draws, taken: set[str]
) -> tuple[tuple[str, ...], Sequence[int], list[Piece]]:
    """Names of variables, the question for them, and the assignments in their order."""
    value = names.fresh(names.value, draws, taken)
    variables = tuple(names.fresh(names.variable, draws, taken) for _ in range(VARIABLES))
    given = [value, *(f"VAR {name}" for name in variables)]
    pieces = [_assignment(encode, *each) for each in zip(variables, given, strict=False)]
    asked = f"{VARIABLES} variables"
    question = encode(
        f"\n\nQuestion: Which {asked} have the value {value}?\n"
        f"Answer: The {asked} with the value {value} are"
    )
    return variables, question, pieces


def _assignment(encode: Encode, variable: str, given: str) -> Piece:
    named = [*encode(" VAR"), *encode(f" {variable}")]
    return Piece([*named, *encode(f" = {given}.")], len(named))
