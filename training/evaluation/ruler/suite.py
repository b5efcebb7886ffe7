"""How the items of `ruler`, `latent` and `nolima` are scored.

loglik      log p(gold | prompt), per token
choice      whether the gold is likelier per token than every alternative, if the task has some
generate    what the model writes after the prompt, and how much of the gold it has
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from ..config import Score
from ..models import FolderModel, Model, Writer
from ..results import ITEMS, SCORES, Journal
from ..scoring import PADDED, Halving, answer_scores, nearly_alike, run_batches
from .items import score_table
from .sets import RulerSet

__all__ = ["RulerSuite"]


class RulerSuite:
    """Items of one length: a row is an item whose answers are scored, or whose prompt is
    written on.

    Args:
        item_set: the items.
        score: how they are scored.
        tokenizer: makes text of what a model writes.
    """

    noun = "prompt"

    def __init__(self, item_set: RulerSet, score: Sequence[Score], tokenizer: Tokenizer) -> None:
        self._items = item_set.items
        self._table = item_set.table
        self._decode = tokenizer.decode
        self._chooses = "choice" in score
        self.identity = item_set.identity | {"score": list(score)}
        numbers = range(len(self._items))
        self._scored = numbers if {*score} & {"loglik", "choice"} else range(0)
        self._written = numbers if "generate" in score else range(0)
        self.rows = len(self._scored) + len(self._written)
        self.tokens = sum(map(self._tokens_scored, self._scored)) + sum(
            len(self._items[number].ids) + self._items[number].budget for number in self._written
        )

    def _answers(self, number: int) -> tuple[tuple[int, ...], ...]:
        answers = self._items[number].answers
        return answers if self._chooses else answers[:1]

    def _tokens_scored(self, number: int) -> int:
        answers = self._answers(number)
        return len(self._items[number].ids) + sum(len(answer) - 1 for answer in answers)

    def score(
        self, model: FolderModel, batch_tokens: int, journal: Journal, done: Callable[[int], None]
    ) -> None:
        """Scores the answers of all items, then writes their outputs."""
        halving = Halving()
        run_batches(
            nearly_alike(
                self._scored, self._shape, batch_tokens, slack=PADDED * model.pads_prompts
            ),
            _scored,
            lambda batch: halving(lambda part: self._scores(model, part), batch),
            journal,
            done,
        )
        run_batches(
            nearly_alike(self._written, self._room, batch_tokens, slack=PADDED * model.pads),
            _written,
            lambda batch: halving(lambda part: self._outputs(model, part), batch),
            journal,
            done,
        )

    def _shape(self, number: int) -> tuple[int, int]:
        return len(self._items[number].ids), len(self._answers(number))

    def _room(self, number: int) -> tuple[int, int]:
        item = self._items[number]
        return len(item.ids) + item.budget, item.budget

    def _scores(self, model: Model, numbers: Sequence[int]) -> list[list[float]]:
        answers = [self._answers(number) for number in numbers]
        found = answer_scores(model, [self._items[number].ids for number in numbers], answers)
        rows: list[list[float]] = []
        for row, tried in zip(found, answers, strict=True):
            others = row[1:] / np.array([len(answer) for answer in tried[1:]])
            rows.append([float(row[0]), *([float(others.max())] if others.size else [])])
        return rows

    def _outputs(self, model: Writer, numbers: Sequence[int]) -> list[str]:
        items = [self._items[number] for number in numbers]
        written = model.write([item.ids for item in items], items[0].budget)
        return [self._decode(ids) for ids in written]

    def tables(self, scores: Mapping[str, Any]) -> dict[str, pa.Table]:
        """The items and their scores."""
        answers = {number: scores[_scored(number)] for number in self._scored}
        outputs = {number: scores[_written(number)] for number in self._written}
        return {ITEMS: self._table, SCORES: score_table(self._items, answers, outputs)}


def _scored(number: int) -> str:
    return f"{number} scored"


def _written(number: int) -> str:
    return f"{number} written"
