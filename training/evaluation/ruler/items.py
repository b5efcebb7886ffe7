"""The items of the suite `ruler`, and of those that are scored alike, as data.

Item number n of a task and a length is drawn with a key of its own, so it is the same however many
items there are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from ....schemas.errors import UsageError
from ..draws import Draws
from .drafts import Draft, Evidence, Page
from .matching import match
from .passages import Passages
from .questions import check_has, question
from .tasks import BUDGETS, MAKERS, QUESTIONS

__all__ = [
    "ITEMS", "SCORES", "VERSION", "RulerItem", "item_of", "item_table", "ruler_items",
    "score_table",
]  # fmt: skip

VERSION = 1

ITEMS = pa.schema(
    [
        ("item", pa.int64()),
        ("task", pa.string()),
        ("number", pa.int32()),
        ("length", pa.int32()),
        ("n_tokens", pa.int32()),
        ("answer_budget", pa.int32()),
        ("prompt", pa.string()),
        ("evidence_start", pa.list_(pa.int32())),
        ("evidence_stop", pa.list_(pa.int32())),
        ("distance", pa.list_(pa.int32())),
        ("gold", pa.list_(pa.string())),
        ("answer", pa.list_(pa.int32())),
        ("alternatives", pa.list_(pa.list_(pa.int32()))),
    ]
)


SCORES = pa.schema(
    [
        ("item", pa.int64()),
        ("logp_gold", pa.float64()),
        ("n_answer_tokens", pa.int32()),
        ("mean_logp_best_other", pa.float64()),
        ("correct", pa.bool_()),
        ("output", pa.string()),
        ("match", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class RulerItem:
    """A prompt with its answers.

    Attributes:
        task: its name.
        number: of the item in its task.
        ids: the prompt, int32.
        budget: tokens for the answer.
        any_of: whether one of the gold strings is enough.
        evidence: where it says what the answer repeats; empty for words that are counted.
        gold: the strings that an output must have.
        answers: the tokens of the right answer, then those of the wrong ones.
    """

    task: str
    number: int
    ids: NDArray[np.int32]
    budget: int
    any_of: bool
    evidence: tuple[Evidence, ...]
    gold: tuple[str, ...]
    answers: tuple[tuple[int, ...], ...]


def ruler_items(
    tasks: Sequence[str],
    page: Page,
    passages: Mapping[str, Passages],
    *,
    count: int,
    seed: int,
) -> Iterator[RulerItem]:
    """Yields the items of some tasks, by task and number.

    Args:
        tasks: their names.
        page: of the length; its budget does not matter.
        passages: documents and questions of the tasks that read some.
        count: items per task.
        seed: of the draws.

    Raises:
        UsageError: a length has no room for an item, or a file has too few questions.
    """
    for task in tasks:
        own = replace(page, budget=BUDGETS[task])
        order: list[int] = []
        if task in passages:
            check_has(passages[task], count)
            order = Draws(seed, task).shuffled(range(len(passages[task].questions)))
        for number in range(count):
            draws = Draws(seed, task, page.length, number)
            if task in passages:
                read = passages[task]
                draft = question(read.questions[order[number]], read.documents, own, draws)
            else:
                draft = MAKERS[task](own, draws)
            if draft is None:
                raise UsageError(
                    f"no item of the task {task} fits into {page.length:,} tokens, of which "
                    f"{own.budget} are for the answer",
                    fix=f"give longer --lengths, or --tasks without {task}",
                )
            yield item_of(task, number, draft, own)


def item_of(task: str, number: int, draft: Draft, page: Page) -> RulerItem:
    """A draft as an item of a task, on a page with the task's budget."""
    bos = page.bos
    return RulerItem(
        task=task,
        number=number,
        ids=draft.ids(bos),
        budget=page.budget,
        any_of=task in QUESTIONS,
        evidence=draft.evidence(bos),
        gold=draft.gold,
        answers=tuple(tuple(map(int, answer)) for answer in draft.answers),
    )


def item_table(items: Sequence[RulerItem], length: int) -> pa.Table:
    """The items as the rows of `items.parquet`."""
    columns = {
        "item": range(len(items)),
        "task": [item.task for item in items],
        "number": [item.number for item in items],
        "length": [length] * len(items),
        "n_tokens": [len(item.ids) for item in items],
        "answer_budget": [item.budget for item in items],
        "prompt": [xxhash.xxh3_128_hexdigest(item.ids.astype("<i4").tobytes()) for item in items],
        "evidence_start": [[each.start for each in item.evidence] for item in items],
        "evidence_stop": [[each.stop for each in item.evidence] for item in items],
        "distance": [[each.distance for each in item.evidence] for item in items],
        "gold": [item.gold for item in items],
        "answer": [item.answers[0] for item in items],
        "alternatives": [item.answers[1:] for item in items],
    }
    return pa.table({name: pa.array(columns[name], ITEMS.field(name).type) for name in columns})


def score_table(
    items: Sequence[RulerItem],
    answers: Mapping[int, Sequence[float]],
    outputs: Mapping[int, str],
) -> pa.Table:
    """The rows of `scores.parquet`.

    Args:
        items: of the evaluation.
        answers: number of an item -> the log-probability of the gold, and, where alternatives were
            scored, that of the best one per token; empty if nothing was scored so.
        outputs: number of an item -> what the model wrote; empty if it wrote nothing.
    """
    rows: list[tuple[Any, ...]] = []
    for number, item in enumerate(items):
        gold, best = [*answers.get(number, ()), None, None][:2]
        size, output = len(item.answers[0]), outputs.get(number)
        tokens = None if gold is None else size
        correct = None if gold is None or best is None else gold / size > best
        found = None if output is None else match(output, item.gold, any_of=item.any_of)
        rows.append((number, gold, tokens, best, correct, output, found))
    columns = zip(*rows, strict=True)
    return pa.table(
        {field.name: pa.array(c, field.type) for field, c in zip(SCORES, columns, strict=True)}
    )
