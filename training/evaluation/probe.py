"""The suite `probe`: one fact at many distances from its question, stated or ablated.

Item number n of a task and a length is drawn with a key of its own, so it is the same however many
items there are. Its fact and its filler are the same at every distance and in both contexts. That
makes distances comparable item by item, and models too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.errors import UsageError
from .assemble import CONTEXTS, DOCUMENT, Context, Prompt, distances, place
from .config import Ablation
from .draws import Draws
from .facts import ALTERNATIVES, FAMILIES, Fact, draw_fact
from .haystack import Haystack
from .natural import NATURAL, natural_prompts
from .vocabulary import Encode

__all__ = [
    "CONDITIONS", "ITEMS", "SCORES", "VERSION", "Item", "item_table", "probe_items", "score_table",
]  # fmt: skip

VERSION = 1

EVIDENCE, ABLATED = "evidence", "ablated"
CONDITIONS = (EVIDENCE, ABLATED)
"""What a prompt has: the evidence, or something else in its place."""

TRIES = 50
"""Draws of one item's fact before its task is given up."""

ITEMS = pa.schema(
    [
        ("item", pa.int64()),
        ("task", pa.string()),
        ("number", pa.int32()),
        ("context", pa.string()),
        ("length", pa.int32()),
        ("n_tokens", pa.int32()),
        ("distance", pa.int32()),
        ("evidence_start", pa.int32()),
        ("evidence_stop", pa.int32()),
        ("gold", pa.list_(pa.int32())),
        ("alternatives", pa.list_(pa.list_(pa.int32()))),
    ]
)

SCORES = pa.schema(
    [
        ("item", pa.int64()),
        ("condition", pa.string()),
        ("logp_gold", pa.float64()),
        ("logp_best_other", pa.float64()),
        ("n_answer_tokens", pa.int32()),
        ("correct", pa.bool_()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A prompt, and which one it is.

    Attributes:
        task: name of the family of its fact.
        number: of the fact in its task.
        context: what stands before the evidence.
        prompt: the prompt with its answers.
    """

    task: str
    number: int
    context: Context
    prompt: Prompt


def probe_items(
    tasks: Sequence[str],
    haystack: Haystack,
    encode: Encode,
    *,
    length: int,
    count: int,
    seed: int,
    ablation: Ablation,
) -> Iterator[Item]:
    """Yields the items of some tasks: by task, number, context, distance.

    Args:
        tasks: names of families, or `natural`.
        haystack: where filler comes from.
        encode: gives the ids of a piece of text.
        length: tokens of the longest prompt with its answer.
        count: facts per task; of `natural`, places for each distance, if there are as many.
        seed: of the draws.
        ablation: what the ablated prompt has in the place of the evidence.

    Raises:
        UsageError: the haystack is too small, or no fact of a task fits.
    """
    for task in tasks:
        if task == NATURAL:
            prompts = natural_prompts(
                haystack, length=length, count=count, seed=seed, ablation=ablation
            )
            for number, prompt in prompts:
                yield Item(task=task, number=number, context=DOCUMENT, prompt=prompt)
        else:
            for number in range(count):
                draws = Draws(seed, task, length, number)
                yield from _placed(task, number, haystack, encode, length, ablation, draws)


def _placed(
    task: str,
    number: int,
    haystack: Haystack,
    encode: Encode,
    length: int,
    ablation: Ablation,
    draws: Draws,
) -> Iterator[Item]:
    """Yields the items of one fact: by context, distance."""
    filler = haystack.filler(draws, length)
    fact = _fact(task, filler, haystack.bos, length, ablation, encode, draws)
    for context in CONTEXTS:
        for distance in distances(length):
            prompt = place(
                fact, filler, bos=haystack.bos, length=length, distance=distance, context=context
            )
            if prompt is not None:
                yield Item(task=task, number=number, context=context, prompt=prompt)


def _fact(
    task: str,
    filler: NDArray[np.int32],
    bos: tuple[int, ...],
    length: int,
    ablation: Ablation,
    encode: Encode,
    draws: Draws,
) -> Fact:
    """A fact that fits at every distance, or at most of them; no value occurs in the filler."""
    best: Fact | None = None
    most = 0
    grid: list[tuple[Context, int]] = [
        (context, distance) for context in CONTEXTS for distance in distances(length)
    ]
    for _ in range(TRIES):
        fact = draw_fact(FAMILIES[task], ablation, encode, draws)
        if fact is None or any(_occurs(value, filler) for value in fact.values):
            continue
        fits = sum(
            place(fact, filler, bos=bos, length=length, distance=distance, context=context)
            is not None
            for context, distance in grid
        )
        if fits > most:
            best, most = fact, fits
        if most == len(grid):
            break
    if best is not None:
        return best
    raise UsageError(
        f"no item of the task {task} can be made: in {TRIES} draws, no fact with {ALTERNATIVES} "
        f"alternatives of as many tokens fits into {length:,} tokens of the haystack",
        expected="a tokenizer with few tokens per word, and a haystack without the values",
        fix=f"give longer --lengths, another --haystack, or --tasks without {task}",
    )


def _occurs(value: tuple[int, ...], filler: NDArray[np.int32]) -> bool:
    """Whether a sequence of tokens stands somewhere in the filler."""
    starts = np.flatnonzero(filler[: len(filler) - len(value) + 1] == value[0])
    for offset, token in enumerate(value[1:], 1):
        starts = starts[filler[starts + offset] == token]
    return len(starts) > 0


def item_table(items: Sequence[Item], length: int) -> pa.Table:
    """The items as the rows of `items.parquet`."""
    prompts = [item.prompt for item in items]
    spans = [prompt.evidence for prompt in prompts]
    columns = {
        "item": range(len(items)),
        "task": [item.task for item in items],
        "number": [item.number for item in items],
        "context": [item.context for item in items],
        "length": [length] * len(items),
        "n_tokens": [prompt.n_tokens for prompt in prompts],
        "distance": [prompt.distance for prompt in prompts],
        "evidence_start": [start for start, _ in spans],
        "evidence_stop": [stop for _, stop in spans],
        "gold": [prompt.fact.gold for prompt in prompts],
        "alternatives": [prompt.fact.alternatives for prompt in prompts],
    }
    return pa.table({name: pa.array(columns[name], ITEMS.field(name).type) for name in columns})


def score_table(
    items: Sequence[Item], scores: Mapping[tuple[int, str], Sequence[float]]
) -> pa.Table:
    """The rows of `scores.parquet`.

    Args:
        items: of the evaluation.
        scores: number of an item and condition -> the log-probability of the gold, and that of the
            best alternative.
    """
    rows = [
        (number, condition, gold, other, len(item.prompt.fact.gold), gold > other)
        for number, item in enumerate(items)
        for condition in CONDITIONS
        for gold, other in [scores[number, condition]]
    ]
    columns = zip(*rows, strict=True)
    return pa.table(
        {field.name: pa.array(c, field.type) for field, c in zip(SCORES, columns, strict=True)}
    )
