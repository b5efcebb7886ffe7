"""The means of an evaluation: by distance for the probe, by bucket for losses, else by task.

With log-probabilities of whole answers, in nats, for an item with the evidence and without it:

    gain         log p(gold | evidence) - log p(gold | ablated)
    preference   whether the gold is likelier than every alternative, with the evidence
    control      the same without it: at chance, 1 / (alternatives + 1), unless the item leaks
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.manifest import Manifest
from ...schemas.weights import bucket_ranges
from .assemble import shown_distances
from .config import ANSWERED
from .job import Evaluation
from .probe import ABLATED, EVIDENCE
from .ruler.summary import ruler_rows
from .standard.summary import standard_rows

__all__ = ["summary"]

COPIED = (
    "suite", "length", "ablation", "step", "tau", "window", "positions", "extrapolated",
    "precision", "device", "seconds", "tokens",
)  # fmt: skip


RECURRENCE = "recurrence"

Row = dict[str, Any]


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON values: what it is of, and its means as `rows`.

    The rows of the probe have a task (None for all), context, distance on the grid, the number of
    items, gain, preference and control. Those of the buckets have a table, the range of effective
    contexts or distances, targets and mean. Those of ruler, latent and nolima are as in
    `ruler_rows`, and those of standard as in `standard_rows`.
    """
    manifest = evaluation.manifest
    items = evaluation.items
    if items is not None and manifest["suite"] == "standard":
        rows = list(standard_rows(items, evaluation.scores, manifest["tasks"][0]))
    elif items is not None and manifest["suite"] in ANSWERED:
        rows = list(ruler_rows(items, evaluation.scores, manifest["tasks"]))
    elif items is not None:
        rows = list(_probe_rows(items, evaluation.scores, manifest))
    else:
        rows = list(_bucket_rows(evaluation.scores, manifest["tasks"], manifest["length"]))
    return {
        "model": evaluation.model,
        "folder": str(evaluation.folder),
        **{name: manifest[name] for name in COPIED},
        **_of_standard(manifest),
        "rows": rows,
    }


def _of_standard(manifest: Manifest) -> Row:
    """What only summaries of `standard` have: how the items were asked, and where they are from."""
    if manifest["suite"] != "standard":
        return {}
    asked = {name: manifest[name] for name in ("shots", "asked", "harness")}
    return asked | {"is_local": manifest["haystack"] is not None}


def _probe_rows(items: pa.Table, scores: pa.Table, manifest: Manifest) -> Iterator[Row]:
    with_evidence, ablated = (_of(scores, condition) for condition in (EVIDENCE, ABLATED))
    gain = _column(with_evidence, "logp_gold") - _column(ablated, "logp_gold")
    preference, control = (_column(table, "correct") for table in (with_evidence, ablated))
    task, context, exact = (_column(items, n) for n in ("task", "context", "distance"))
    distance = shown_distances(exact, context, manifest["length"])
    for name in (None, *manifest["tasks"]):
        of_task = np.ones(len(task), bool) if name is None else task == name
        for where in dict.fromkeys(context.tolist()):
            chosen = of_task & (context == where)
            for d in np.unique(distance[chosen]).tolist():
                here = chosen & (distance == d)
                yield {
                    "task": name,
                    "context": where,
                    "distance": d,
                    "items": int(here.sum()),
                    "gain": float(gain[here].mean()),
                    "preference": float(preference[here].mean()),
                    "control": float(control[here].mean()),
                }


def _of(scores: pa.Table, condition: str) -> pa.Table:
    """The scores of one condition, in the order of the items."""
    mask = _column(scores, "condition") == condition
    return scores.filter(pa.array(mask)).sort_by("item")


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    return table[name].to_numpy()


def _bucket_rows(scores: pa.Table, tables: list[str], window: int) -> Iterator[Row]:
    ranges = bucket_ranges(window)
    table, bucket = _column(scores, "table"), _column(scores, "bucket")
    targets, total = _column(scores, "targets"), _column(scores, "ce_sum")
    for name in tables:
        for number in np.unique(bucket[table == name]).tolist():
            here = (table == name) & (bucket == number)
            if name == RECURRENCE:
                low, high = (None, None) if number < 0 else (1 << number, (2 << number) - 1)
            else:
                low, high = ranges[number]
            yield {
                "table": name,
                "low": low,
                "high": high,
                "targets": int(targets[here].sum()),
                "mean": float(total[here].sum() / targets[here].sum()),
            }
