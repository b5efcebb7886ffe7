"""What `exactcpt evaluate` found of a run with `ruler`, `latent` and `nolima`, from its folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...schemas.manifest import Manifest
from ..evaluation.config import ANSWERED
from ..evaluation.ruler.summary import measures
from .evaluated import read_suite

__all__ = ["RULER", "RulerKey", "RulerScores", "Series", "read_ruler"]

RULER = "ruler"


class Series(NamedTuple):
    """What items of several lengths have in common."""

    suite: str
    tasks: tuple[str, ...]
    per_task: int
    seed: int
    haystack: str
    tokenizer: str


class RulerKey(NamedTuple):
    """What the same scores of the same items have in common; `items` is their digest."""

    series: Series
    measure: str
    length: int
    items: str


@dataclass(frozen=True, kw_only=True)
class RulerScores:
    """One measure of the items of one length.

    Attributes:
        step: of the checkpoint that was evaluated.
        extrapolated: whether the prompts are longer than the windows of the training.
        values: of every item that has the measure, in the order of the items.
    """

    step: int
    extrapolated: bool
    values: NDArray[np.float64]


def read_ruler(run: Path) -> dict[RulerKey, RulerScores]:
    """Reads what these suites found of a run, at the last step that was evaluated with each items.

    Raises:
        FormatError: a file is damaged.
    """
    return {
        key: scores for suite in ANSWERED for key, scores in read_suite(run, suite, _read).items()
    }


def _read(folder: Path, manifest: Manifest) -> Iterator[tuple[RulerKey, RulerScores]]:
    items = pq.read_table(folder / "items.parquet", columns=["item"])["item"].to_pylist()
    scores = pq.read_table(folder / "scores.parquet").sort_by("item")
    if scores["item"].to_pylist() != items:
        raise ValueError("the scores are not of these items")
    tasks = tuple(manifest["tasks"])
    series = Series(
        suite=manifest["suite"],
        tasks=tasks,
        per_task=len(items) // len(tasks),
        seed=manifest["seed"],
        haystack=manifest["haystack"],
        tokenizer=manifest["tokenizer"],
    )
    for measure, values in measures(scores).items():
        key = RulerKey(series, measure, manifest["length"], manifest["items"])
        yield (
            key,
            RulerScores(
                step=manifest["step"] or 0,
                extrapolated=manifest["length"] > (manifest["window"] or manifest["length"]),
                values=values[~np.isnan(values)],
            ),
        )
