"""Items of the probe as questions with answers, to be trained on.

    {"id": "place-3-fixed-1024", "fact": "5f...", "prompt": "... lives is", "answer": " Kleimowick"}

A model that was trained on the fact of an item would know its answer without the evidence. So
questions of one seed are refused beside those of another that have a fact in common: a key with the
same value, asked for in the same words.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ...schemas.errors import ExactcptError, FormatError
from ...schemas.json_text import parse_json
from ...schemas.regular import read_regular
from .inputs import Inputs, ItemSet
from .natural import NATURAL
from .probe import Item

__all__ = ["questions", "refuse_shared_facts"]


def questions(inputs: Inputs, item_set: ItemSet) -> Iterator[dict[str, Any]]:
    """Yields a record for every item that asks for a fact: id, fact, prompt, answer.

    The items of the task `natural` ask nothing: they are real text.
    """
    decode = inputs.vocabulary.tokenizer.decode
    for item in item_set.items:
        prompt = item.prompt
        if item.task == NATURAL:
            continue
        ids = prompt.ids(ablated=False)[len(prompt.bos) :].tolist()
        yield {
            "id": f"{item.task}-{item.number}-{item.context}-{prompt.distance}",
            "fact": _fact(item),
            "prompt": decode(ids, skip_special_tokens=False),
            "answer": decode(list(prompt.fact.gold), skip_special_tokens=False),
        }


def _fact(item: Item) -> str:
    """xxh3-64 of what is asked, and of the answer."""
    fact = item.prompt.fact
    found = xxhash.xxh3_64()
    for ids in (fact.question, fact.gold):
        found.update(np.array([len(ids), *ids], "<i4").tobytes())
    return found.hexdigest()


def refuse_shared_facts(records: Iterable[dict[str, Any]], others: Iterable[Path]) -> None:
    """Compares the facts of questions with those of other files of questions.

    Raises:
        ExactcptError: they have one in common.
        FormatError: a file has something else.
    """
    own = {record["fact"]: record["id"] for record in records}
    for path in others:
        for number, line in enumerate(read_regular(path).splitlines(), 1):
            fact = _fact_of(line, f"{path}, line {number:,}")
            if fact in own:
                raise ExactcptError(
                    f"the item {own[fact]} asks for a fact that another seed asks for too",
                    where=f"{path}, line {number:,}",
                    expected="items to train on and items to test with that share no fact",
                    fix="give another --seed, or another --out if neither is trained on",
                )


def _fact_of(line: bytes, where: str) -> str:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise FormatError(f"the line is not JSON: {error}", where=where) from None
    fact = record.get("fact") if isinstance(record, dict) else None
    if not isinstance(fact, str):
        raise FormatError(
            "the line is no question of the probe",
            where=where,
            expected="id, fact, prompt and answer",
            fix="remove the folder: the same command writes it again",
        )
    return fact
