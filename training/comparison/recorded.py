"""A run as its folder records it: its settings, its steps, its evaluations."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...schemas.errors import FormatError, IncompleteError
from ..run.log import LOG, read_log, read_run, stretches

__all__ = ["Arm", "RecordedRun", "Seeds", "read_recorded"]

Seeds = tuple[int, ...]
"""A run's own seed, that of the run its weights came from, and so on."""


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A run as its folder records it.

    Attributes:
        path: its folder.
        recorded: its `identity`, its `stretches` of settings, and `earlier`, the run that its
            weights came from.
        buckets: the table of buckets of its shards.
        steps: step -> its record.
        evals: name of an eval set -> step -> the record of the evaluation.
    """

    path: str
    recorded: dict[str, Any]
    buckets: list[dict[str, Any]]
    steps: dict[int, dict[str, Any]]
    evals: dict[str, dict[int, dict[str, Any]]]

    @property
    def seeds(self) -> Seeds:
        """Its own seed, then that of the run its weights came from, and so on."""
        return tuple(run["stretches"][-1]["settings"]["seed"] for run in self.lineage)

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """What is recorded of the run, of the run its weights came from, and so on."""
        return [*_lineage(self.recorded)]

    @property
    def skipped(self) -> list[int]:
        """The steps that changed no weight: a loss or the gradient was not finite."""
        return [step for step, record in self.steps.items() if record.get("skipped")]

    @property
    def is_plain(self) -> bool:
        """Whether it is standard training: all weights are 1, and no gradient is scaled."""
        settings = self._settings
        return settings["weighting"] == "uniform" and not settings.get("grad_norm_from")

    @property
    def is_floor(self) -> bool:
        """Whether it differs from standard training in the scale of the loss alone."""
        return self._settings["weighting"] == "matched"

    @property
    def name(self) -> str:
        """What the user calls it; otherwise the name of what is special about it."""
        settings = self._settings
        special = "gradnorm" if settings.get("grad_norm_from") else settings["weighting"]
        return settings.get("arm") or special

    @property
    def _settings(self) -> dict[str, Any]:
        """Its last settings."""
        return self.recorded["stretches"][-1]["settings"]


Arm = dict[Seeds, RecordedRun]
"""The runs of an arm, by their seeds."""


def read_recorded(path: Path) -> RecordedRun:
    """Reads a run from its folder.

    Raises:
        UsageError: there is no such folder.
        FormatError: the folder is not a run, or its log is damaged.
        IncompleteError: the run has taken no step.
    """
    recorded = read_run(path)
    records = read_log(path)
    steps = {record["step"]: record for record in records if record["kind"] == "step"}
    if not steps:
        raise IncompleteError("the run has taken no step yet", where=str(path))
    held = stretches(records)
    if not held:
        raise FormatError("the log does not say when the run began", where=str(path / LOG))
    evals: dict[str, dict[int, dict[str, Any]]] = {}
    for record in records:
        if record["kind"] == "eval":
            evals.setdefault(record["name"], {})[record["step"]] = record
    return RecordedRun(
        path=str(path),
        recorded={
            "identity": recorded["identity"],
            "stretches": held,
            "earlier": recorded["earlier"],
        },
        buckets=recorded["buckets"],
        steps=steps,
        evals=evals,
    )


def _lineage(recorded: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yields a run, the run its weights came from, and so on."""
    while recorded is not None:
        yield recorded
        recorded = recorded["earlier"]
