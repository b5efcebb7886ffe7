"""What `exactcpt evaluate` found of a run, read from the folder `eval` of the run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...schemas.errors import FormatError
from ...schemas.manifest import EVALUATION, MANIFEST, Manifest, parse
from ...schemas.regular import read_regular
from ..evaluation.assemble import shown_distances
from ..evaluation.probe import ABLATED, EVIDENCE
from ..evaluation.results import ITEMS, SCORES
from ..evaluation.subjects import EVAL

__all__ = ["Gains", "ItemsKey", "Probed", "read_probed", "read_suite"]

PROBE = "probe"
COLUMNS = {
    ITEMS: ("item", "task", "number", "context", "distance"),
    SCORES: ("item", "condition", "logp_gold"),
}

ItemsKey = tuple[int, str, str]
"""What the same items have in common: their length, what replaced the evidence, their digest."""


@dataclass(frozen=True, kw_only=True)
class Gains:
    """What the evidence is worth: log p(answer) with it minus log p(answer) without it, in nats.

    Attributes:
        distances: between evidence and answer, in tokens, on the grid, ascending, shape
            [distances].
        exact: the distances themselves, one row per fact, shape [facts, distances]; those of
            natural facts lie beside the grid. NaN where a fact has no such distance.
        values: the gains, in the same shape; NaN where a fact has no such distance.
    """

    distances: NDArray[np.int64]
    exact: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What the probe found of a run.

    Attributes:
        folder: name of the evaluation's folder.
        step: of the checkpoint that was evaluated.
        tau: smallest effective context of the tail; None if unknown.
        extrapolated: whether the prompts are longer than the windows of the training.
        numbered: one more than the largest number of a fact: no fewer were asked for.
        gains: by context: "fixed" and "minimal" of inserted facts, "document" of natural ones.
    """

    folder: str
    step: int
    tau: int | None
    extrapolated: bool
    numbered: int
    gains: dict[str, Gains]


def read_probed(
    run: Path, wanted: Callable[[Path, Manifest], bool] = lambda *_: True
) -> dict[ItemsKey, Probed]:
    """Reads what the probe found of a run, at the last step that was evaluated with each items.

    Args:
        run: its folder.
        wanted: whether an evaluation counts, by its folder and manifest.

    Raises:
        FormatError: a file is damaged.
    """

    def read(folder: Path, manifest: Manifest) -> Iterator[tuple[ItemsKey, Probed]]:
        if wanted(folder, manifest):
            key = (manifest["length"], manifest["ablation"], manifest["items"])
            yield key, _read(folder, manifest)

    return read_suite(run, PROBE, read)


class _OfStep(Protocol):
    @property
    def step(self) -> int: ...


K = TypeVar("K")
V = TypeVar("V", bound=_OfStep)
Read = Callable[[Path, Manifest], Iterator[tuple[K, V]]]
"""Yields what a folder has, by what it has in common with those of other runs."""


def read_suite(run: Path, suite: str, read: Read[K, V]) -> dict[K, V]:
    """Reads what was found of a run with a suite, at the last step that was evaluated.

    Args:
        run: its folder.
        suite: name of the suite; others are left out.
        read: reads one folder.

    Raises:
        FormatError: a file is damaged.
    """
    found: dict[K, V] = {}
    for folder in sorted((run / EVAL).glob("*")):
        if (folder / MANIFEST).is_file():
            for key, value in _of_folder(folder, suite, read):
                if key not in found or found[key].step < value.step:
                    found[key] = value
    return found


def _of_folder(folder: Path, suite: str, read: Read[K, V]) -> Iterator[tuple[K, V]]:
    try:
        manifest = parse(read_regular(folder / MANIFEST), str(folder / MANIFEST), EVALUATION)
        if manifest["suite"] == suite:
            yield from read(folder, manifest)
    except (KeyError, ValueError, pa.ArrowException, FileNotFoundError) as error:
        raise FormatError(
            f"an evaluation cannot be read: {error}",
            where=str(folder),
            fix="remove the folder and evaluate the run again",
        ) from None


def _read(folder: Path, manifest: Mapping[str, Any]) -> Probed:
    items, scores = (
        pq.read_table(folder / name, columns=list(columns)) for name, columns in COLUMNS.items()
    )
    with_it, without = (
        scores.filter(pc.field("condition") == condition).select(["item", "logp_gold"])
        for condition in (EVIDENCE, ABLATED)
    )
    table = (
        items.join(with_it, "item", join_type="inner")
        .join(without, "item", join_type="inner", right_suffix="_ablated")
        .sort_by("item")
    )
    if len(table) != len(items):
        raise ValueError(f"{len(items) - len(table):,} items have no scores")
    gain = table["logp_gold"].to_numpy() - table["logp_gold_ablated"].to_numpy()
    context = np.array(table["context"].to_pylist())
    task_and_number = zip(*_lists(table, "task", "number"), strict=True)
    fact = np.array([f"{task} {number}" for task, number in task_and_number])
    exact = table["distance"].to_numpy()
    shown = shown_distances(exact, context, manifest["length"])
    return Probed(
        folder=folder.name,
        step=manifest["step"] or 0,
        tau=manifest["tau"],
        extrapolated=manifest["length"] > (manifest["window"] or manifest["length"]),
        numbered=int(table["number"].to_numpy().max(initial=-1)) + 1,
        gains={
            name: _gains(fact[own], shown[own], exact[own], gain[own])
            for name in dict.fromkeys(context.tolist())
            for own in [context == name]
        },
    )


def _lists(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]


def _gains(
    fact: NDArray[Any], shown: NDArray[Any], exact: NDArray[Any], gain: NDArray[np.float64]
) -> Gains:
    facts, row = np.unique(fact, return_inverse=True)
    distances, column = np.unique(shown, return_inverse=True)
    found = np.full((2, len(facts), len(distances)), np.nan)
    found[:, row, column] = exact, gain
    return Gains(distances=distances.astype(np.int64), exact=found[0], values=found[1])
