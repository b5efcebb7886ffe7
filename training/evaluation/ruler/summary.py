"""The means of `ruler`: by task, and over tasks.

full      share of the length that prompts and their answers have
loglik    log-probability of the gold per token, in nats
choice    share of items whose gold is likelier per token than every alternative
match     share of the gold strings that the outputs have
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .tasks import MAKERS

__all__ = ["MEASURES", "measures", "ruler_rows", "score_name"]

MEASURES = ("loglik", "choice", "match")

Row = dict[str, Any]


def measures(scores: pa.Table) -> dict[str, NDArray[np.float64]]:
    """The measures of every item, NaN where it has none; measures of no item are left out."""
    gold, match = (_floats(scores, name) for name in ("logp_gold", "match"))
    found = {
        "loglik": gold / _floats(scores, "n_answer_tokens"),
        "choice": _floats(scores, "correct"),
        "match": match,
    }
    return {name: values for name, values in found.items() if not np.isnan(values).all()}


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.array(table[name].to_pylist(), np.float64)  # None becomes NaN


def ruler_rows(items: pa.Table, scores: pa.Table, tasks: Sequence[str]) -> Iterator[Row]:
    """Yields the means of every task, then those over the tasks, with the task None."""
    values = measures(scores.sort_by("item"))
    task = np.array(items["task"].to_pylist())
    used = _floats(items, "n_tokens") + _floats(items, "answer_budget")
    values["full"] = used / _floats(items, "length")
    rows: list[Row] = []
    for name in tasks:
        means = {what: _mean(each[task == name]) for what, each in values.items()}
        rows.append({"task": name, "items": int((task == name).sum())} | means)
    yield from rows
    over = {what: _mean([row[what] for row in rows if row[what] is not None]) for what in values}
    yield {"task": None, "score": score_name(tasks), "items": len(task)} | over


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    """The mean; None if there is nothing, or only NaN."""
    found = np.asarray(values, np.float64)
    found = found[~np.isnan(found)]
    return float(found.mean()) if found.size else None


def score_name(tasks: Sequence[str]) -> str | None:
    """What the mean over some tasks is called: `ruler-11` for all tasks that need no file, 12 or 13
    with questions; None if one of the eleven is missing."""
    return f"ruler-{len(tasks)}" if {*MAKERS} <= {*tasks} else None
