"""How the items of `standard` are scored, and the tables that they become.

A row of the journal is a leaf: a task of lm-eval without others below it, such as a subject of
mmlu. Every task is an evaluation of its own, so that one can be added later.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from ..models import FolderModel
from ..results import ITEMS, SCORES, Journal
from ..scoring import run_batches
from .harness import Harness, Leaf, Sample, open_harness

__all__ = ["StandardSuite"]

VERSION = 1

ITEM_TABLE = pa.schema(
    [
        ("item", pa.int64()),
        ("task", pa.string()),
        ("number", pa.int32()),
        ("doc", pa.string()),
        ("prompt", pa.string()),
        ("target", pa.string()),
    ]
)

SCORE_TABLE = pa.schema(
    [
        ("item", pa.int64()),
        ("metric", pa.string()),
        ("score", pa.float64()),
        ("output", pa.string()),
    ]
)


class StandardSuite:
    """A task of lm-eval.

    Args:
        harness: runs it.
        leaves: the tasks that it consists of, with their data.
        identity: the fields of the manifest that say which items they are; `asked` and `shots` are
            among them.
    """

    noun = "task"
    tokens = None
    """lm-eval does not say how many a model reads."""

    def __init__(
        self, harness: Harness, leaves: Mapping[str, Leaf], identity: dict[str, Any]
    ) -> None:
        self._harness, self._leaves = harness, leaves
        self.identity = identity
        self.rows = len(leaves)

    def score(
        self, model: FolderModel, batch_tokens: int, journal: Journal, done: Callable[[int], None]
    ) -> None:
        """Scores leaf by leaf."""
        lm = open_harness(model, batch_tokens)
        run_batches(
            [[name] for name in self._leaves],
            str,
            lambda names: [self._samples(lm, name) for name in names],
            journal,
            done,
        )

    def _samples(self, lm: Any, name: str) -> list[Sample]:
        return self._harness.evaluate(
            lm,
            self._leaves[name],
            shots=self.identity["shots"],
            limit=self.identity["asked"],
            seed=self.identity["seed"],
        )

    def tables(self, scores: Mapping[str, Any]) -> dict[str, pa.Table]:
        """The items and their scores."""
        found = [(leaf, Sample(*each)) for leaf in self._leaves for each in scores[leaf]]
        items = [
            (number, leaf, sample.number, sample.doc, sample.prompt, sample.target)
            for number, (leaf, sample) in enumerate(found)
        ]
        values = [
            (number, metric, value, sample.output)
            for number, (_, sample) in enumerate(found)
            for metric, value in sample.scores.items()
        ]
        return {ITEMS: _table(items, ITEM_TABLE), SCORES: _table(values, SCORE_TABLE)}


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table(
        {field.name: pa.array(c, field.type) for field, c in zip(schema, columns, strict=True)}
    )
