"""The scores of `standard`, arm against baseline, from the folders of the runs.

The same items were put to all runs, so a difference is taken item by item and seed by seed before
anything is averaged.

    task     the mean over the items of one task; of others than the six, of each of its metrics
    macro    the mean of the six tasks: an item counts 1 / (6 n) in a task of n items
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...schemas.manifest import Manifest
from ..evaluation.results import ITEMS, SCORES
from ..evaluation.standard.tasks import MACRO, SIX
from .endpoints import Finding, findings, floor_of
from .evaluated import read_suite

__all__ = ["STANDARD", "StandardArm", "StandardEndpoint", "read_standard", "standard_endpoints"]

STANDARD = "standard"

MARGIN = 0.01
"""How far from 0 the macro may be and still count as unchanged: one point of a hundred."""


class StandardKey(NamedTuple):
    """What the same scores of the same items have in common; `items` is their digest."""

    task: str
    metric: str
    items: str


@dataclass(frozen=True, kw_only=True)
class StandardScores:
    """One score of the items of a task.

    Attributes:
        step: of the checkpoint that was evaluated.
        values: of every item that has the score, in the order of the items.
    """

    step: int
    values: NDArray[np.float64]


StandardArm = Sequence[Mapping[StandardKey, StandardScores]]
"""What was found of each run of an arm, in the order of the seeds, the same for all arms."""


@dataclass(frozen=True, kw_only=True)
class StandardEndpoint:
    """One figure of all arms.

    Attributes:
        name: of the task, or "macro".
        metric: the score of an item; None for the macro.
        primary: whether it was named before; all others are exploratory.
        items: number of items.
        baseline: mean of the baseline over seeds and items.
        floor: how far an arm is from the baseline that differs from it in the scale of the loss
            alone: a smaller difference is not a finding. None without such an arm.
        arms: name of another arm -> what was found.
    """

    name: str
    metric: str | None
    primary: bool
    items: int
    baseline: float
    floor: float | None
    arms: dict[str, Finding]


def read_standard(run: Path) -> dict[StandardKey, StandardScores]:
    """Reads what `standard` found of a run, at the last step that was evaluated with each items.

    Raises:
        FormatError: a file is damaged.
    """
    return read_suite(run, STANDARD, _read)


def _read(folder: Path, manifest: Manifest) -> Iterator[tuple[StandardKey, StandardScores]]:
    (task,) = manifest["tasks"]
    count = pq.read_metadata(folder / ITEMS).num_rows
    scores = pq.read_table(folder / SCORES, columns=["item", "metric", "score"]).sort_by("item")
    metrics: list[Any] = scores["metric"].unique().to_pylist()
    for metric in [SIX[task].metric] if task in SIX else sorted(metrics):
        of_metric = scores.filter(pc.field("metric") == metric)
        if task in SIX and of_metric["item"].to_pylist() != [*range(count)]:
            raise ValueError("the scores are not of these items")
        yield (
            StandardKey(task, metric, manifest["items"]),
            StandardScores(step=manifest["step"] or 0, values=of_metric["score"].to_numpy()),
        )


def standard_endpoints(
    arms: Mapping[str, StandardArm],
    baseline: str,
    *,
    floor: str | None = None,
    primary: bool = False,
) -> list[StandardEndpoint]:
    """The scores of all items that were put to all runs: of the six, of other tasks, the macro.

    Args:
        arms: name -> what was found of its runs.
        baseline: name of the arm that others are compared with.
        floor: name of the arm that differs from it in the scale of the loss alone.
        primary: whether the macro was named before the runs were trained.
    """
    runs = [run for arm in arms.values() for run in arm]
    shared = set.intersection(*(set(run) for run in runs)) if runs else set[StandardKey]()
    order = [*SIX]
    keys = sorted(
        shared, key=lambda key: (order.index(key.task) if key.task in SIX else len(SIX), key)
    )
    values = {
        key: {name: np.stack([run[key].values for run in of_arm]) for name, of_arm in arms.items()}
        for key in keys
    }
    found = [
        _endpoint(key.task, key.metric, values[key], baseline, floor, primary=False) for key in keys
    ]
    six = _largest(values, baseline)
    if len(six) == len(SIX):
        count = sum(each[baseline].shape[1] for each in six.values())
        scaled = {
            arm: np.concatenate(
                [each[arm] * (count / (len(SIX) * each[arm].shape[1])) for each in six.values()],
                axis=1,
            )
            for arm in arms
        }
        found.append(_endpoint(MACRO, None, scaled, baseline, floor, primary=primary))
    return found


Values = Mapping[str, NDArray[np.float64]]


def _largest(values: Mapping[StandardKey, Values], baseline: str) -> dict[str, Values]:
    """Of each of the six tasks that were evaluated, the scores of most items."""
    found: dict[str, Values] = {}
    for key, each in values.items():
        known = found.get(key.task)
        if key.task in SIX and (
            known is None or known[baseline].shape[1] < each[baseline].shape[1]
        ):
            found[key.task] = each
    return found


def _endpoint(
    name: str,
    metric: str | None,
    values: Values,
    baseline: str,
    floor: str | None,
    *,
    primary: bool,
) -> StandardEndpoint:
    return StandardEndpoint(
        name=name,
        metric=metric,
        primary=primary,
        items=values[baseline].shape[1],
        baseline=float(values[baseline].mean()),
        floor=floor_of(values, baseline, floor),
        arms=findings(values, baseline, MARGIN if name == MACRO else None),
    )
