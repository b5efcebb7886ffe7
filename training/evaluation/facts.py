"""Facts of the probe: a sentence that states one, a question that asks for it, and alternatives.

A fact gives a key a value. It is made in token ids from pieces that are tokenized apart, so that
the value has the same tokens in the sentence and as an answer, and every count is exact:

    evidence     \\nThe home of| Drouvast| is the town of| Kleimowick|.\\n
    replacement  \\nThe home of| Flairk| is the town of| Trounoham|.\\n        as many tokens
    question     \\nThe town where| Drouvast| lives is
    gold         | Kleimowick
    alternatives | Vougrestead, ...                                           each as many tokens

Gold, alternatives and the replacement's value are draws of one kind, all different. So a model that
has not seen the evidence prefers the gold no more often than any alternative.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import words
from .config import Ablation
from .draws import Draws
from .vocabulary import Encode

__all__ = ["ALTERNATIVES", "FAMILIES", "Fact", "Family", "draw_fact"]

ALTERNATIVES = 7

TRIES = 20
"""Draws of a replacement with as many tokens as the evidence, and of each alternative."""

Ids = tuple[int, ...]

KEY, VALUE, CATEGORY = "key", "value", "category"
SLOT = re.compile(r"( ?)\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of fact.

    Attributes:
        evidence: the sentence, with {key} and {value}.
        question: ends where the value would follow; with {key}, or with {category}, which stands
            for the key without naming it.
        key, value: draw a key and a value.
        lead: what precedes a value: a space, or nothing where it is quoted.
    """

    evidence: str
    question: str
    key: Callable[[Draws], str]
    value: Callable[[Draws], str]
    lead: str = " "


FAMILIES: Mapping[str, Family] = {
    "number": Family(
        evidence="\nThe locker of {key} has the number {value}.\n",
        question="\nThe number of the locker of {key} is",
        key=words.person,
        value=words.number,
    ),
    "place": Family(
        evidence="\nThe home of {key} is the town of {value}.\n",
        question="\nThe town where {key} lives is",
        key=words.person,
        value=words.town,
    ),
    "code": Family(
        evidence='\n{key} = "{value}"\n',
        question='\nprint({key})  # "',
        key=words.constant,
        value=words.word,
        lead="",
    ),
    "alias": Family(
        evidence="\nLast week {value} bought this {key}.\n",
        question="\nThe only person who owns {category} is",
        key=words.kind,
        value=words.person,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact in token ids.

    Attributes:
        evidence: the sentence that states it.
        value_stop: where the value ends inside the evidence.
        replacement: what the ablated prompt has in its place, as many tokens; None for filler.
        question: ends where the answer begins.
        gold: the value.
        alternatives: other values, each with as many tokens as the gold.
        foreign: the replacement's value, which must not be an alternative; None without one.
    """

    evidence: Ids
    value_stop: int
    replacement: Ids | None
    question: Ids
    gold: Ids
    alternatives: tuple[Ids, ...]
    foreign: Ids | None

    @property
    def values(self) -> tuple[Ids, ...]:
        """All values that no other place of a prompt may have."""
        return (self.gold, *self.alternatives, *([self.foreign] if self.foreign else []))


def draw_fact(family: Family, ablation: Ablation, encode: Encode, draws: Draws) -> Fact | None:
    """Draws a fact; None if no replacement or too few alternatives of its length were found.

    Args:
        family: its kind.
        ablation: what the replacement is: `replace` for another key with another value, `swap` for
            the same key with another value, `remove` for none.
        encode: gives the ids of each piece.
        draws: where the draws come from.
    """
    key = family.key(draws)
    gold = _value(family, encode, draws)
    others = _others(family, gold, encode, draws)
    if others is None:
        return None
    *alternatives, foreign = others
    evidence, value_stop = _sentence(family, key, gold, encode)
    replacement = None
    if ablation == "swap":
        replacement, _ = _sentence(family, key, foreign, encode)
    elif ablation == "replace":
        replacement = _replacement(family, key, foreign, len(evidence), encode, draws)
        if replacement is None:
            return None
    question = family.question
    named = {KEY: key, CATEGORY: _category(key)}
    return Fact(
        evidence=evidence,
        value_stop=value_stop,
        replacement=replacement,
        question=tuple(i for piece in _pieces(question, named) for i in encode(piece)),
        gold=gold,
        alternatives=tuple(alternatives),
        foreign=foreign if replacement else None,
    )


def _value(family: Family, encode: Encode, draws: Draws) -> Ids:
    return tuple(encode(family.lead + family.value(draws)))


def _others(family: Family, gold: Ids, encode: Encode, draws: Draws) -> list[Ids] | None:
    """Values for the alternatives and for the replacement, different, with as many tokens."""
    found: list[Ids] = []
    for _ in range(TRIES * (ALTERNATIVES + 1)):
        value = _value(family, encode, draws)
        if len(value) == len(gold) and value != gold and value not in found:
            found.append(value)
        if len(found) == ALTERNATIVES + 1:
            return found
    return None


def _replacement(
    family: Family, key: str, foreign: Ids, length: int, encode: Encode, draws: Draws
) -> Ids | None:
    """A sentence of some length that gives another key the foreign value."""
    for _ in range(TRIES):
        other = family.key(draws)
        if other == key or (_category(other) and _category(other) == _category(key)):
            continue
        sentence, _ = _sentence(family, other, foreign, encode)
        if len(sentence) == length:
            return sentence
    return None


def _sentence(family: Family, key: str, value: Ids, encode: Encode) -> tuple[Ids, int]:
    """The ids of a sentence that gives a key a value, and where the value ends in them."""
    ids: list[int] = []
    value_stop = 0
    for piece in _pieces(family.evidence, {KEY: key}):
        if piece == family.lead + _slot(VALUE):
            ids += value
            value_stop = len(ids)
        else:
            ids += encode(piece)
    return tuple(ids), value_stop


def _pieces(template: str, named: Mapping[str, str]) -> list[str]:
    """The template cut around its slots, with the names put in; a slot keeps the space before it.

    Slots that are not named stay as they are.
    """
    pieces: list[str] = []
    at = 0
    for slot in SLOT.finditer(template):
        pieces += [template[at : slot.start()], slot[1] + named.get(slot[2], _slot(slot[2]))]
        at = slot.end()
    return [piece for piece in [*pieces, template[at:]] if piece]


def _slot(name: str) -> str:
    return "{" + name + "}"


def _category(key: str) -> str:
    """The category of a kind of thing; empty for other keys."""
    return next((name for name, kinds in words.CATEGORIES.items() if key in kinds), "")
