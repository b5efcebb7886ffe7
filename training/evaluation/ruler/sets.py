"""The items of `ruler` of every length, from what an evaluation reads."""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ....schemas.errors import UsageError
from ....schemas.sizes import plural
from ..config import Suite
from ..inputs import Inputs
from ..results import content_digest
from ..vocabulary import Vocabulary
from .drafts import Page
from .items import VERSION, RulerItem, item_table, ruler_items
from .passages import Passages, read_hotpotqa, read_squad
from .prose import NO_PROSE, Prose, prose_of
from .tasks import read_prose

__all__ = ["RulerSet", "check_writes", "item_set", "ruler_sets"]

CHARACTERS = (string.digits, string.ascii_lowercase, string.ascii_uppercase)

FULL = 0.95
"""Share of the length that the prompts of a task and their answers should have on average."""


@dataclass(frozen=True, kw_only=True)
class RulerSet:
    """The items of one length.

    Attributes:
        items: the items, by number.
        table: the rows of `items.parquet`.
        identity: the fields of a manifest that say which items they are.
    """

    items: tuple[RulerItem, ...]
    table: pa.Table
    identity: dict[str, Any]


def ruler_sets(inputs: Inputs, say: Callable[[str], None]) -> list[RulerSet]:
    """Makes the items of every length.

    Args:
        inputs: what they are made from.
        say: takes a line for a person.

    Raises:
        UsageError: the tokenizer has too few tokens, the haystack is too small, a length has no
            room for an item, or a file has too few questions.
        FormatError: a file of questions is something else.
    """
    config, tasks = inputs.config, inputs.config.tasks["ruler"]
    check_writes(inputs.vocabulary)
    passages = _passages({"qa_1": config.squad, "qa_2": config.hotpotqa}, tasks)
    prose = NO_PROSE
    if read_prose(tasks):
        prose = prose_of(inputs.haystack, inputs.vocabulary)
        prose.check_holds(max(inputs.lengths))
    return [_set(inputs, length, prose, passages, say) for length in inputs.lengths]


def check_writes(vocabulary: Vocabulary) -> None:
    """Checks that a tokenizer tells letters and digits apart: keys and values are made of them.

    Raises:
        UsageError: it has no tokens for some, or one for several.
    """
    for kind in CHARACTERS:
        pieces = {vocabulary.piece(f" {character}") for character in kind}
        if len(pieces) < len(kind) or () in pieces:
            raise UsageError(
                f"the tokenizer does not tell all of the characters {kind} apart",
                where=str(vocabulary.path),
                expected="a vocabulary that can write any word and any number",
                fix="leave ruler out of --suite",
            )


def _passages(files: Mapping[str, str | None], tasks: tuple[str, ...]) -> dict[str, Passages]:
    """The documents and questions of the tasks that read some."""
    readers = {"qa_1": read_squad, "qa_2": read_hotpotqa}
    return {
        task: readers[task](Path(file))
        for task, file in files.items()
        if task in tasks and file is not None
    }


def _set(
    inputs: Inputs,
    length: int,
    prose: Prose,
    passages: Mapping[str, Passages],
    say: Callable[[str], None],
) -> RulerSet:
    config, tasks = inputs.config, inputs.config.tasks["ruler"]
    page = Page(
        encode=inputs.vocabulary.piece,
        bos=inputs.haystack.bos,
        length=length,
        budget=0,
        prose=prose,
    )
    items = tuple(ruler_items(tasks, page, passages, count=config.count, seed=config.seed))
    return item_set("ruler", VERSION, inputs, length, items, say)


def item_set(
    suite: Suite,
    version: int,
    inputs: Inputs,
    length: int,
    items: tuple[RulerItem, ...],
    say: Callable[[str], None],
) -> RulerSet:
    """The items of one length, with what a manifest says of them.

    Args:
        suite, version: that made them.
        inputs: what they were made from.
        length: tokens of the longest prompts with their answers.
        items: the items.
        say: is told how full they are.
    """
    tasks = inputs.config.tasks[suite]
    say(f"{suite} {length:,}: {plural(len(items), 'item')}, {_fullness(items, length):.1%} full")
    for task in tasks:
        share = _fullness([item for item in items if item.task == task], length)
        if share < FULL:
            say(
                f"caution: the prompts of {task} and their answers fill {share:.1%} of {length:,} "
                "tokens on average: their parts are too long for it, or too few"
            )
    table = item_table(items, length)
    return RulerSet(
        items=items,
        table=table,
        identity={
            "suite": suite,
            "suite_version": version,
            "length": length,
            "tasks": list(tasks),
            "seed": inputs.config.seed,
            "ablation": None,
            "haystack": inputs.haystack.digest,
            "tokenizer": inputs.vocabulary.digest,
            "items": content_digest(table),
        },
    )


def _fullness(items: Sequence[RulerItem], length: int) -> float:
    """Mean share of the length that prompts and their answers have."""
    return sum(len(item.ids) + item.budget for item in items) / (len(items) * length)
