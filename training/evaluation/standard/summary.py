"""The means of `standard`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .tasks import SIX

__all__ = ["standard_rows"]

Row = dict[str, Any]


def standard_rows(items: pa.Table, scores: pa.Table, task: str) -> Iterator[Row]:
    """Yields the means of a task: one of the six has one score, others have all of theirs.

    mmlu is divided into subjects; its mean is over all items, as lm-eval has it.

    Args:
        items, scores: the two files of the evaluation.
        task: its name.
    """
    metrics = scores["metric"].unique().to_pylist()
    for metric in metrics if task not in SIX else [SIX[task].metric]:
        values = scores.filter(pc.field("metric") == metric)["score"].to_numpy()
        yield {
            "task": task,
            "metric": metric,
            "items": len(items) if task in SIX else len(values),
            "score": float(np.mean(values)),
        }
