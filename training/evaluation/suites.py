"""How the items of each suite are scored: batches, their scores, and the tables they become."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from . import buckets, probe
from .inputs import Inputs, ItemSet
from .models import FolderModel, Model
from .results import ITEMS, SCORES, Journal
from .scoring import Halving, answer_scores, batches, losses, run_batches

__all__ = ["BucketsSuite", "ProbeSuite", "SuiteOfLength"]


class SuiteOfLength(Protocol):
    """A suite with one length, ready to be scored."""

    @property
    def identity(self) -> dict[str, Any]:
        """The fields of the manifest that do not depend on the model; without `items` if it takes
        scoring to know them."""
        ...

    @property
    def rows(self) -> int:
        """How many rows there are to score."""
        ...

    @property
    def noun(self) -> str:
        """What a row is called."""
        ...

    @property
    def tokens(self) -> int | None:
        """Tokens that a model reads for all rows; None if that is not known."""
        ...

    def score(
        self, model: FolderModel, batch_tokens: int, journal: Journal, done: Callable[[int], None]
    ) -> None:
        """Scores all rows that the journal does not have; reports the rows of every batch."""
        ...

    def tables(self, scores: Mapping[str, Any]) -> dict[str, pa.Table]:
        """The files of the folder, from the scores of all rows."""
        ...


class ProbeSuite:
    """The probe: a row is an item with the evidence or without it.

    Args:
        inputs: what the items were made from.
        item_set: the items of one length.
    """

    noun = "prompt"

    def __init__(self, inputs: Inputs, item_set: ItemSet) -> None:
        self._items = item_set.items
        self._table = item_set.table
        self.identity = inputs.identity(item_set)
        self._rows = [(i, c) for i in range(len(self._items)) for c in probe.CONDITIONS]
        self.rows = len(self._rows)
        self.tokens = sum(map(self._tokens, self._rows))

    def _tokens(self, row: tuple[int, str]) -> int:
        prompt = self._items[row[0]].prompt
        answers = 1 + len(prompt.fact.alternatives)
        return prompt.n_tokens + answers * (len(prompt.fact.gold) - 1)

    def score(
        self, model: Model, batch_tokens: int, journal: Journal, done: Callable[[int], None]
    ) -> None:
        """Scores the gold and the alternatives after every prompt."""
        halving = Halving()
        run_batches(
            batches(self._rows, self._shape, batch_tokens),
            _name,
            lambda batch: halving(lambda part: self._scores(model, part), batch),
            journal,
            done,
        )

    def _shape(self, row: tuple[int, str]) -> tuple[int, int]:
        prompt = self._items[row[0]].prompt
        return prompt.n_tokens, len(prompt.fact.gold)

    def _scores(self, model: Model, rows: Sequence[tuple[int, str]]) -> list[list[float]]:
        prompts = [self._items[i].prompt for i, _ in rows]
        ids = [
            prompt.ids(ablated=condition == probe.ABLATED)
            for prompt, (_, condition) in zip(prompts, rows, strict=True)
        ]
        answers = [[prompt.fact.gold, *prompt.fact.alternatives] for prompt in prompts]
        return [[row[0], row[1:].max()] for row in answer_scores(model, ids, answers)]

    def tables(self, scores: Mapping[str, Any]) -> dict[str, pa.Table]:
        """The items and their scores."""
        by_row = {row: scores[_name(row)] for row in self._rows}
        return {ITEMS: self._table, SCORES: probe.score_table(self._items, by_row)}


def _name(row: tuple[int, str]) -> str:
    number, condition = row
    return f"{number} {condition}"


class BucketsSuite:
    """The losses on validation windows: a row is a window.

    Args:
        inputs: names the shard set, the number of windows and the tables.
    """

    noun = "window"

    def __init__(self, inputs: Inputs) -> None:
        config, shards = inputs.config, inputs.shards
        assert shards is not None
        self._windows = buckets.open_windows(shards, config.count, config.seed)
        self._tasks = config.tasks["buckets"]
        self._gains = buckets.horizons(self._tasks, shards)
        self._longest = shards.window
        self.identity = {
            "suite": "buckets",
            "suite_version": buckets.VERSION,
            "length": shards.window,
            "tasks": list(self._tasks),
            "seed": config.seed,
            "ablation": None,
            "haystack": shards.fingerprint,
            "tokenizer": inputs.vocabulary.digest,
            "items": self._windows.digest,
        }
        self.rows = len(self._windows.numbers)
        self.tokens = sum(map(self._tokens, self._windows.numbers))

    def _tokens(self, number: int) -> int:
        lengths = [len(ids) for ids in self._windows.segments(number)]
        return sum(lengths) + sum(
            min(2 * horizon, length - start)
            for horizon in {*self._gains.values()}
            for length in lengths
            for start in buckets.pieces(length, horizon)
        )

    def score(
        self, model: Model, batch_tokens: int, journal: Journal, done: Callable[[int], None]
    ) -> None:
        """Reads every window, whole and in pieces."""
        halving = Halving()
        run_batches(
            batches(self._windows.numbers, lambda _: (self._longest,), batch_tokens),
            str,
            lambda batch: buckets.window_rows(
                [self._windows.segments(number) for number in batch],
                lambda sequences: losses(model, sequences, batch_tokens, halving),
                tasks=self._tasks,
                gains=self._gains,
                longest=self._longest,
            ),
            journal,
            done,
        )

    def tables(self, scores: Mapping[str, Any]) -> dict[str, pa.Table]:
        """The losses by window, table and bucket."""
        numbers = self._windows.numbers
        rows = [[tuple(row) for row in scores[str(number)]] for number in numbers]
        return {SCORES: buckets.score_table(numbers, rows)}
