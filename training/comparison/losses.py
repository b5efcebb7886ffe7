"""The losses of arms on the same windows, and the differences between them."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .intervals import half_width
from .recorded import Arm, RecordedRun

__all__ = ["Delta", "Losses", "Row", "losses_of", "unlike_sets"]

TRAINING = "training windows"

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A loss of an arm and its difference from the baseline's, as means over seeds.

    Attributes:
        loss: of the arm, in nats per target.
        delta: the arm's loss minus the baseline's; below 0 the arm is better.
        interval: half the width of the 95% interval of `delta`; None with one seed.
    """

    loss: float
    delta: float
    interval: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table of losses: a bucket of effective contexts, or all targets.

    Attributes:
        contexts: smallest and largest effective context of the bucket; None for all targets.
        in_tail: whether the bucket is in the tail of the training set.
        targets: number of targets, as the mean over the baseline's runs.
        baseline: mean loss of the baseline's runs.
        arms: name of another arm -> its loss and difference.
    """

    contexts: tuple[int, int] | None
    in_tail: bool
    targets: int
    baseline: float
    arms: dict[str, Delta]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The losses on one set of windows.

    Attributes:
        name: of the set.
        first_step, step: the first and the last of the steps that the losses are from.
        rows: first all targets, then one row per bucket that has targets.
    """

    name: str
    first_step: int
    step: int
    rows: list[Row]

    @property
    def title(self) -> str:
        """The set and the steps, as a heading."""
        if self.first_step == self.step:
            return f"{self.name}, step {self.step:,}"
        return f"{self.name}, steps {self.first_step:,} to {self.step:,}"


def unlike_sets(runs: Iterable[RecordedRun]) -> list[str]:
    """Names of eval sets that were not the same windows in all runs after some step."""
    seen: dict[tuple[str, int], set[Any]] = {}
    for run in runs:
        for name, records in run.evals.items():
            for step, record in records.items():
                seen.setdefault((name, step), set()).add(_measured(record))
    return sorted({name for (name, _), sets in seen.items() if len(sets) > 1})


def _measured(record: Record) -> tuple[Any, ...]:
    """What identifies the windows of an evaluation."""
    counts = tuple(record["bucket_targets"])
    return record.get("shards"), record.get("window"), record.get("windows"), counts


def losses_of(arms: dict[str, Arm], baseline: str, unlike: Sequence[str]) -> list[Losses]:
    """The losses on each set of windows that all arms were measured on.

    Args:
        arms: name -> runs; every arm has the same seeds. Empty if no seed is in common.
        baseline: name of the arm that others are compared with.
        unlike: names of eval sets to leave out.
    """
    if not arms:
        return []
    table = _Table(
        baseline=arms[baseline],
        others={name: arm for name, arm in arms.items() if name != baseline},
    )
    runs = [run for arm in arms.values() for run in arm.values()]
    names = [name for name in table.first.evals if name not in unlike]
    evaluated = [_evaluated(table, runs, name) for name in names]
    return [found for found in (*evaluated, _trained(table, runs)) if found is not None]


def _evaluated(table: "_Table", runs: Sequence[RecordedRun], name: str) -> Losses | None:
    """The losses on an eval set at the last step that all runs have evaluated, if there is one."""
    steps = set.intersection(*(set(run.evals.get(name, {})) for run in runs))
    if not steps:
        return None
    step = max(steps)
    records = {run.path: run.evals[name][step] for run in runs}
    return Losses(name=name, first_step=step, step=step, rows=table.rows(records))


def _trained(table: "_Table", runs: Sequence[RecordedRun]) -> Losses | None:
    """The losses on the training windows over the last tenth of the common steps.

    A step that some run has skipped does not count: its losses there are not finite.
    """
    common = sorted(set.intersection(*({*run.steps} - {*run.skipped} for run in runs)))
    # Windows of other lengths have other buckets; the shards are named as different.
    if not common or len({len(run.buckets) for run in runs}) > 1:
        return None
    last = common[-max(1, len(common) // 10) :]
    records = {run.path: _added(run.steps[step] for step in last) for run in runs}
    return Losses(name=TRAINING, first_step=last[0], step=last[-1], rows=table.rows(records))


def _added(records: Iterable[Record]) -> Record:
    """The losses of some steps as one record."""
    ce: list[float] = []
    targets: list[int] = []
    for record in records:
        counts = record["bucket_targets"]
        ce = ce or [0.0] * len(counts)
        targets = targets or [0] * len(counts)
        for b, (loss, n) in enumerate(zip(record["bucket_loss"], counts, strict=True)):
            ce[b] += (loss or 0.0) * n
            targets[b] += n
    return {
        "bucket_loss": [c / n if n else None for c, n in zip(ce, targets, strict=True)],
        "bucket_targets": targets,
    }


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Makes the rows of a table: the baseline beside the other arms, all with the same seeds."""

    baseline: Arm
    others: dict[str, Arm]

    @property
    def first(self) -> RecordedRun:
        """The run of the baseline that says which rows there are."""
        return next(iter(self.baseline.values()))

    def rows(self, records: dict[str, Record]) -> list[Row]:
        """The rows of the buckets in which every run of the baseline has a loss.

        Args:
            records: run -> its record with `bucket_loss` and `bucket_targets`.
        """
        buckets = range(len(records[self.first.path]["bucket_targets"]))
        found = (self._row(records, bucket) for bucket in (None, *buckets))
        return [row for row in found if row is not None]

    def _row(self, records: dict[str, Record], bucket: int | None) -> Row | None:
        losses = {path: _loss(record, bucket) for path, record in records.items()}
        ours = [losses[run.path] for run in self.baseline.values()]
        known = [loss for loss in ours if loss is not None]
        if len(known) < len(ours):
            return None
        deltas = {name: _delta(arm, self.baseline, losses) for name, arm in self.others.items()}
        counts = [_targets(records[run.path], bucket) for run in self.baseline.values()]
        buckets = self.first.buckets
        window = records[self.first.path].get("window", buckets[-1]["high"] + 1)
        return Row(
            contexts=None if bucket is None else _contexts(bucket, window),
            in_tail=bucket is not None and bucket < len(buckets) and buckets[bucket]["in_tail"],
            targets=round(statistics.mean(counts)),
            baseline=statistics.mean(known),
            arms={name: delta for name, delta in deltas.items() if delta is not None},
        )


def _targets(record: Record, bucket: int | None) -> int:
    counts = record["bucket_targets"]
    return sum(counts) if bucket is None else counts[bucket]


def _loss(record: Record, bucket: int | None) -> float | None:
    """The loss of one bucket, or of all targets; None where there are none."""
    if bucket is not None:
        return record["bucket_loss"][bucket]
    counts = record["bucket_targets"]
    ce = sum((x or 0.0) * n for x, n in zip(record["bucket_loss"], counts, strict=True))
    return ce / sum(counts) if sum(counts) else None


def _contexts(bucket: int, window: int) -> tuple[int, int]:
    """The effective contexts of a bucket: 0 to 7, 8 to 15, 16 to 31, ..."""
    low = 0 if bucket == 0 else 4 << bucket
    return low, min((8 << bucket) - 1, window - 1)


def _delta(arm: Arm, baseline: Arm, losses: dict[str, float | None]) -> Delta | None:
    """An arm against the baseline, seed by seed; None if no seed has a loss in both."""
    known = [loss for run in arm.values() if (loss := losses[run.path]) is not None]
    differences = [
        ours - theirs
        for seeds, run in arm.items()
        if seeds in baseline
        and (ours := losses[run.path]) is not None
        and (theirs := losses[baseline[seeds].path]) is not None
    ]
    if not differences:
        return None
    return Delta(
        loss=statistics.mean(known),
        delta=statistics.mean(differences),
        interval=half_width(differences),
    )
